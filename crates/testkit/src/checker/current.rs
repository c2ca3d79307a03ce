//! Judges the current state of one collection against the collection. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document};
use serde::Deserialize;
use serde_json::Value;

use super::verdict::{Findings, Rule};
use crate::contract;
use crate::json_column;
use crate::truth::Event;

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

/// Compares what the view shows with what the collection holds (`doc_id` and bytes), for the
/// documents that have an event in the truth.
pub fn judge_current(
    namespace: &str,
    events: &[Event],
    collection: &BTreeMap<String, Vec<u8>>,
    view: &[CurrentRow],
) -> Findings {
    let mut findings = Findings::default();
    let versions: BTreeMap<&str, u128> = events
        .iter()
        .filter(|event| event.namespace() == namespace && event.concerns_a_document())
        .map(|event| (event.doc_id.as_str(), event.version))
        .collect();
    let mut shown = BTreeSet::new();
    for row in view {
        let id = row.id.as_str();
        let Some(version) = versions.get(id) else {
            findings.add(Rule::CurrentExtra, || format!("`{namespace}` `{id}` has no event"));
            continue;
        };
        if !shown.insert(id) {
            findings.add(Rule::CurrentExtra, || format!("`{namespace}` `{id}` is shown twice"));
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
        if versions.contains_key(id.as_str()) && !shown.contains(id.as_str()) {
            findings.add(Rule::CurrentMissing, || format!("`{namespace}` `{id}`"));
        }
    }
    findings
}
