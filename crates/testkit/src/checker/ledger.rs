//! Judges the rows of `raw_cdc` against the truth. Pure: rows in, findings out.

use std::collections::{HashMap, HashSet};

use bson::Document;
use serde::Deserialize;

use super::content;
use super::verdict::{Findings, Rule};
use crate::topics::Topics;
use crate::truth::{Event, MARKERS};
use crate::watch::Watch;

/// A row of `raw_cdc`, as the judge reads it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LedgerRow {
    topic: String,
    partition: u32,
    offset: u64,
    epoch: String,
    op: String,
    ns_db: String,
    ns_coll: String,
    doc_id: String,
    version: String,
    millis: i64,
    event: String,
}

impl LedgerRow {
    /// The select list that gives such rows.
    pub(super) const COLUMNS: &str = "_topic AS topic, _partition AS partition, _offset AS offset, \
         _epoch AS epoch, op, ns_db, ns_coll, doc_id, toString(version) AS version, \
         toUnixTimestamp64Milli(ts) AS millis, event";
}

/// The judge of the ledger.
#[derive(Debug)]
pub(super) struct LedgerJudge<'a> {
    watch: &'a Watch,
    topics: &'a Topics,
    events: &'a [Event],
    by_token: HashMap<&'a str, usize>,
    rows_of: Vec<u32>,
    places: HashSet<(String, u32, u64, String)>,
    rows: u64,
    findings: Findings,
}

impl<'a> LedgerJudge<'a> {
    pub(super) fn new(topics: &'a Topics, watch: &'a Watch, events: &'a [Event]) -> Self {
        let by_token = events.iter().enumerate().map(|(index, event)| (event.token(), index));
        Self {
            watch,
            topics,
            events,
            by_token: by_token.collect(),
            rows_of: vec![0; events.len()],
            places: HashSet::new(),
            rows: 0,
            findings: Findings::default(),
        }
    }

    pub(super) fn row(&mut self, row: &LedgerRow) {
        let LedgerRow { topic, partition, offset, epoch, .. } = row;
        if !self.places.insert((topic.clone(), *partition, *offset, epoch.clone())) {
            self.findings
                .add(Rule::Position, || format!("`{topic}`/{partition} offset {offset} again"));
        }
        if row.ns_db == MARKERS {
            return;
        }
        self.rows += 1;
        let Ok(found) = serde_json::from_str::<Document>(&row.event) else {
            self.findings.add(Rule::Content, || format!("no JSON: {:.200}", row.event));
            return;
        };
        let token = found.get_document("_id").and_then(|id| id.get_str("_data"));
        let index = self.by_token.get(token.unwrap_or_default()).copied();
        let Some(index) = index else {
            self.findings.add(Rule::Extra, || format!("{:.200}", row.event));
            return;
        };
        let event = &self.events[index];
        self.rows_of[index] += 1;
        if self.rows_of[index] > 1 {
            let key = &event.key;
            self.findings.add(Rule::Duplicate, || {
                format!("`{key}` again in `{topic}`/{partition} at offset {offset}")
            });
            return;
        }
        self.identity(row, event);
        let told = content::compare(event, found);
        told.wrong.into_iter().for_each(|it| self.findings.add(Rule::Content, || it));
    }

    fn identity(&mut self, row: &LedgerRow, event: &Event) {
        let topic = self.topics.copies(self.watch, event).into_iter().next();
        let topic = topic.map(|copies| copies.topic).unwrap_or_default();
        let (version, millis) = (event.version.to_string(), event.millis.to_string());
        let expected: [(&str, &str, &str); 7] = [
            ("_topic", &topic, &row.topic),
            ("doc_id", &event.doc_id, &row.doc_id),
            ("version", &version, &row.version),
            ("op", &event.operation, &row.op),
            ("ns_db", &event.database, &row.ns_db),
            ("ns_coll", &event.collection, &row.ns_coll),
            ("ts", &millis, &row.millis.to_string()),
        ];
        for (column, expected, found) in expected {
            if expected != found {
                self.findings.add(Rule::Identity, || {
                    format!("`{}`: {column} is `{found}`, not `{expected}`", event.key)
                });
            }
        }
    }

    pub(super) fn finish(mut self) -> (u64, Findings) {
        for (event, rows) in self.events.iter().zip(&self.rows_of) {
            if *rows == 0 {
                self.findings.add(Rule::Lost, || format!("`{}`", event.key));
            }
        }
        (self.rows, self.findings)
    }
}
