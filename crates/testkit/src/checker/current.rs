//! Judges the current state of one collection against the collection. Pure.
//!
//! ```text
//!   events ─▶ Lives: which documents live, and since which version ─▶ judge ◀─ collection, view
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document};
use serde::Deserialize;
use serde_json::Value;

use super::Flow;
use super::verdict::{Findings, Rule};
use crate::contract;
use crate::json_column;
use crate::truth::Event;
use crate::watch::Watch;

/// A row of `<db>__<coll>_current`, as the judge reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct CurrentRow {
    /// `_id`.
    pub id: String,
    /// `_bson` in upper-case hex.
    pub bson: String,
    /// `_version` in decimal.
    pub version: String,
    /// `doc`.
    pub doc: Value,
    /// Whether `_hash` is `xxHash64(_bson)`, as the server computes it.
    pub hash_is_right: u8,
}

impl CurrentRow {
    /// The select list that gives such rows.
    pub const COLUMNS: &str = "_id AS id, hex(_bson) AS bson, toString(_version) AS version, doc, \
         _hash = xxHash64(_bson) AS hash_is_right";
}

/// The documents of all collections, by their events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lives(BTreeMap<String, Documents>);

/// By `doc_id`.
type Documents = BTreeMap<String, Life>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    /// Of the event that counts.
    version: u128,
    alive: bool,
}

impl Lives {
    /// Follows the events through drops and renames. `dropDatabase` ends nothing: the server drops
    /// each collection before it.
    pub fn follow(watch: &Watch, flow: &Flow, events: &[Event]) -> Self {
        let mut lives: BTreeMap<String, Documents> = BTreeMap::new();
        for event in events {
            let namespace = event.namespace();
            let end = |documents: &mut Documents| {
                documents.values_mut().for_each(|life| life.alive = false);
            };
            match (event.operation.as_str(), event.renamed_to()) {
                ("drop", _) => end(lives.entry(namespace).or_default()),
                ("rename", Some((database, name))) => {
                    let old = lives.entry(namespace).or_default();
                    let moved: Vec<String> = old
                        .iter()
                        .filter(|(_, life)| life.alive)
                        .map(|(id, _)| id.clone())
                        .collect();
                    end(old);
                    let new = lives.entry(format!("{database}.{name}")).or_default();
                    end(new);
                    // A stream follows its own documents; a partition hands its own over.
                    let follows = match flow {
                        Flow::Direct => watch.stream_of(event).into_iter().collect(),
                        Flow::Topics { .. } => watch.streams(),
                    };
                    if follows.iter().any(|stream| stream.covers(database, name)) {
                        let life = Life { version: event.version, alive: true };
                        new.extend(moved.into_iter().map(|id| (id, life)));
                    }
                }
                _ if event.concerns_a_document() => {
                    let alive = event.operation != "delete";
                    let life = Life { version: event.version, alive };
                    lives.entry(namespace).or_default().insert(event.doc_id.clone(), life);
                }
                _ => {}
            }
        }
        lives.retain(|_, documents| !documents.is_empty());
        Self(lives)
    }

    /// The collections that have, or had, a document, `db.coll`.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Compares what the view shows with what the collection holds (`doc_id` and bytes), for the
/// documents that the stream has told of.
pub fn judge_current(
    namespace: &str,
    lives: &Lives,
    collection: &BTreeMap<String, Vec<u8>>,
    view: &[CurrentRow],
) -> Findings {
    let mut findings = Findings::default();
    let lives = lives.0.get(namespace).cloned().unwrap_or_default();
    let mut shown = BTreeSet::new();
    for row in view {
        let id = row.id.as_str();
        let Some(Life { version, alive }) = lives.get(id) else {
            findings.add(Rule::CurrentExtra, || format!("`{namespace}` `{id}` has no event"));
            continue;
        };
        if !shown.insert(id) {
            findings.add(Rule::CurrentExtra, || format!("`{namespace}` `{id}` is shown twice"));
            continue;
        }
        if !alive {
            findings.add(Rule::CurrentExtra, || format!("`{namespace}` `{id}` has ended"));
            continue;
        }
        let Some(bytes) = collection.get(id) else {
            findings.add(Rule::CurrentExtra, || format!("`{namespace}` `{id}` is deleted"));
            continue;
        };
        let mut wrong = Vec::new();
        if row.bson != hex::encode_upper(bytes) {
            wrong.push("_bson is another");
        }
        if row.version != version.to_string() {
            wrong.push("_version is not that of the last event");
        }
        if row.hash_is_right != 1 {
            wrong.push("_hash is not xxHash64(_bson)");
        }
        let document = Document::from_reader(bytes.as_slice());
        if !document.is_ok_and(|document| json_column::same_document(&document, &row.doc)) {
            findings.add(Rule::CurrentDocument, || {
                let document = Document::from_reader(bytes.as_slice()).map(Bson::Document);
                let document = document.as_ref().map(contract::canonical_json);
                let document = document.unwrap_or_default();
                format!("`{namespace}` `{id}`: {:.900} shows {document:.900}", row.doc)
            });
        }
        if !wrong.is_empty() {
            findings
                .add(Rule::CurrentStale, || format!("`{namespace}` `{id}`: {}", wrong.join(", ")));
        }
    }
    for id in collection.keys() {
        if lives.get(id).is_some_and(|life| life.alive) && !shown.contains(id.as_str()) {
            findings.add(Rule::CurrentMissing, || format!("`{namespace}` `{id}`"));
        }
    }
    findings
}
