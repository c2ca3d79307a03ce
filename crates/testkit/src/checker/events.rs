//! Judges the rows of `record_raw` against the truth. Pure: rows in, findings out.

use std::collections::HashMap;

use bson::Document;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::content::{self, Told};
use super::places::Places;
use super::verdict::{Findings, Rule};
use crate::json_column;
use crate::mapped::{self, Expected};
use crate::topics::Topics;
use crate::truth::{Event, MARKERS};
use crate::watch::Watch;

/// A row of `record_raw`, as the judge reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// `_topic`.
    pub topic: String,
    /// `_partition`.
    pub partition: u32,
    /// `_offset`.
    pub offset: u64,
    /// `_epoch`.
    pub epoch: String,
    /// `idempotency_key`.
    pub idempotency_key: String,
    /// `doc_id`.
    pub doc_id: String,
    /// `op`.
    pub op: String,
    /// `version` in decimal.
    pub version: String,
    /// `ns_db`.
    pub ns_db: String,
    /// `ns_coll`.
    pub ns_coll: String,
    /// `event_type`.
    pub event_type: String,
    /// `source`.
    pub source: String,
    /// `ts` in milliseconds since 1970.
    pub millis: i64,
    /// `superseded`.
    pub superseded: bool,
    /// `raw`.
    pub raw: String,
    /// `attrs`.
    pub attrs: Value,
    /// `tags`.
    pub tags: Value,
}

impl Row {
    /// The select list that gives such rows.
    pub const COLUMNS: &str = "_topic AS topic, _partition AS partition, _offset AS offset, \
         _epoch AS epoch, idempotency_key, doc_id, op, toString(version) AS version, ns_db, \
         ns_coll, event_type, source, toUnixTimestamp64Milli(ts) AS millis, superseded, raw, \
         attrs, tags";
}

/// The judge of the events. Rows must come by topic and epoch, and in these by offset; those of topics
/// only in each partition.
#[derive(Debug)]
pub struct EventJudge<'a> {
    watch: &'a Watch,
    events: &'a [Event],
    by_key: HashMap<&'a str, usize>,
    rows_of: Vec<u32>,
    places: Places,
    mapped: bool,
    rows: u64,
    findings: Findings,
}

impl<'a> EventJudge<'a> {
    /// A judge of what streams write, who knows the truth of what is watched.
    pub fn new(watch: &'a Watch, events: &'a [Event]) -> Self {
        Self::over(Places::streams(watch, events), watch, events)
    }

    /// A judge of what came through topics, made by the mapping of [`mapped::FILE`] where `mapped` is.
    pub fn of_topics(topics: &Topics, mapped: bool, watch: &'a Watch, events: &'a [Event]) -> Self {
        Self { mapped, ..Self::over(Places::partitions(topics), watch, events) }
    }

    fn over(places: Places, watch: &'a Watch, events: &'a [Event]) -> Self {
        let by_key: HashMap<&str, usize> =
            events.iter().enumerate().map(|(index, event)| (event.key.as_str(), index)).collect();
        let mut findings = Findings::default();
        if by_key.len() < events.len() {
            findings.add(Rule::Identity, || {
                format!("{} events have only {} keys", events.len(), by_key.len())
            });
        }
        let rows_of = vec![0; events.len()];
        Self { watch, events, by_key, rows_of, places, mapped: false, rows: 0, findings }
    }

    /// Judges one row.
    pub fn row(&mut self, row: &Row) {
        let index = self.by_key.get(row.idempotency_key.as_str()).copied();
        self.places.place(row, index, &mut self.findings);
        if row.ns_db == MARKERS {
            return;
        }
        self.rows += 1;
        let Some(index) = index else {
            self.findings.add(Rule::Extra, || {
                let Row { topic, offset, idempotency_key, .. } = row;
                format!("`{idempotency_key}` in `{topic}` at offset {offset}")
            });
            return;
        };
        let event = &self.events[index];
        self.rows_of[index] += 1;
        if self.rows_of[index] > 1 {
            self.findings.add(Rule::Duplicate, || {
                let Row { topic, offset, idempotency_key, .. } = row;
                format!("`{idempotency_key}` again in `{topic}` at offset {offset}")
            });
            return;
        }
        self.places.order(row, index, event, self.watch, &mut self.findings);
        self.identity(row, event);
        self.content(row, event);
    }

    fn identity(&mut self, row: &Row, event: &Event) {
        let (version, millis) = (event.version.to_string(), event.millis.to_string());
        let expected: [(&str, &str, &str); 7] = [
            ("doc_id", &event.doc_id, &row.doc_id),
            ("version", &version, &row.version),
            ("op", &event.operation, &row.op),
            ("ns_db", &event.database, &row.ns_db),
            ("ns_coll", &event.collection, &row.ns_coll),
            ("source", "mongo", &row.source),
            ("ts", &millis, &row.millis.to_string()),
        ];
        for (column, expected, found) in expected {
            if expected != found {
                self.findings.add(Rule::Identity, || {
                    format!("`{}`: {column} is `{found}`, not `{expected}`", row.idempotency_key)
                });
            }
        }
    }

    fn content(&mut self, row: &Row, event: &Event) {
        let key = &row.idempotency_key;
        let found: Document = match serde_json::from_str(&row.raw) {
            Ok(found) => found,
            Err(error) => {
                let raw = &row.raw;
                self.findings.add(Rule::Content, || {
                    format!("`{key}`: raw does not parse: {error}: {raw:.200}")
                });
                return;
            }
        };
        let told = content::compare(event, found);
        if row.superseded != told.is_superseded(event) {
            let superseded = row.superseded;
            self.findings.add(Rule::Superseded, || format!("`{key}`: superseded is {superseded}"));
        }
        let Told { document, wrong } = told;
        wrong.into_iter().for_each(|it| self.findings.add(Rule::Content, || it));
        let mapped = self.mapped.then(|| mapped::expected(event, document.as_ref())).flatten();
        let Expected { event_type, tags, attrs } = mapped.unwrap_or_else(|| Expected {
            event_type: event.operation.clone(),
            tags: Map::new(),
            attrs: document.as_ref().map(json_column::attributes).unwrap_or_default(),
        });
        if row.event_type != event_type {
            self.findings.add(Rule::Identity, || {
                format!("`{key}`: event_type is `{}`, not `{event_type}`", row.event_type)
            });
        }
        if !json_column::same_attributes(&attrs, &row.attrs)
            || !json_column::same_attributes(&tags, &row.tags)
        {
            self.findings.add(Rule::Attributes, || {
                let (found, found_tags) = (&row.attrs, &row.tags);
                let (attrs, tags) = (Value::Object(attrs), Value::Object(tags));
                format!(
                    "`{key}`: expected {attrs:.400} and tags {tags:.100}, found {found:.400} and \
                     tags {found_tags:.100}"
                )
            });
        }
    }

    /// Names what was lost, and gives the number of rows and all findings.
    pub fn finish(mut self) -> (u64, Findings) {
        for (event, rows) in self.events.iter().zip(&self.rows_of) {
            if *rows == 0 {
                self.findings.add(Rule::Lost, || format!("`{}`", event.key));
            }
        }
        (self.rows, self.findings)
    }
}

/// The row that the contract asks for, for the tests of the judge.
#[cfg(test)]
pub(crate) fn perfect_row(event: &Event, offset: u64) -> Row {
    let document = event.document.get_document("fullDocument").ok();
    Row {
        topic: event.namespace(),
        partition: 0,
        offset,
        epoch: "0123456789abcdef0123456789abcdef".into(),
        idempotency_key: event.key.clone(),
        doc_id: event.doc_id.clone(),
        op: event.operation.clone(),
        version: event.version.to_string(),
        ns_db: event.database.clone(),
        ns_coll: event.collection.clone(),
        event_type: event.operation.clone(),
        source: "mongo".into(),
        millis: event.millis,
        superseded: event.operation == "update" && document.is_none(),
        raw: crate::contract::canonical_json(&bson::Bson::Document(event.document.clone())),
        attrs: Value::Object(document.map(json_column::attributes).unwrap_or_default()),
        tags: Value::Object(Map::new()),
    }
}
