//! Judges the rows of `record_raw` against the truth. Pure: rows in, findings out.

use std::collections::HashMap;

use bson::Document;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::verdict::{Findings, Rule};
use crate::contract;
use crate::json_column;
use crate::truth::{Event, MARKERS};
use crate::watch::{Stream, Watch};

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

/// The judge of the events. Rows must come by topic and epoch, and in these by offset.
#[derive(Debug)]
pub struct EventJudge<'a> {
    watch: &'a Watch,
    events: &'a [Event],
    by_key: HashMap<&'a str, usize>,
    rows_of: Vec<u32>,
    /// Topic, partition and epoch that rows come from now.
    lane: Option<(String, u32, String)>,
    /// By stream: how many numbers without a row the events before each one take.
    silent: HashMap<String, Vec<u64>>,
    epochs: HashMap<String, String>,
    next_offset: u64,
    last_event: Option<usize>,
    rows: u64,
    findings: Findings,
}

impl<'a> EventJudge<'a> {
    /// A judge that knows the truth of what is watched.
    pub fn new(watch: &'a Watch, events: &'a [Event]) -> Self {
        let by_key: HashMap<&str, usize> =
            events.iter().enumerate().map(|(index, event)| (event.key.as_str(), index)).collect();
        let mut findings = Findings::default();
        if by_key.len() < events.len() {
            findings.add(Rule::Identity, || {
                format!("{} events have only {} keys", events.len(), by_key.len())
            });
        }
        Self {
            watch,
            events,
            by_key,
            rows_of: vec![0; events.len()],
            lane: None,
            silent: watch
                .streams()
                .iter()
                .map(|it| (it.topic.clone(), silent(it, watch, events)))
                .collect(),
            epochs: HashMap::new(),
            next_offset: 0,
            last_event: None,
            rows: 0,
            findings,
        }
    }

    /// Judges one row.
    pub fn row(&mut self, row: &Row) {
        let index = self.by_key.get(row.idempotency_key.as_str()).copied();
        self.position(row, index);
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
        if self.last_event.is_some_and(|last| last > index) {
            self.findings.add(Rule::Order, || {
                format!("`{}` at offset {} comes too late", row.idempotency_key, row.offset)
            });
        }
        self.last_event = Some(index);
        let stream = self.watch.stream_of(event);
        if stream.is_none_or(|stream| stream.topic != row.topic) {
            self.findings.add(Rule::Position, || {
                format!("`{}` is in the stream `{}`", row.idempotency_key, row.topic)
            });
        }
        self.identity(row, event);
        self.content(row, event);
    }

    fn position(&mut self, row: &Row, index: Option<usize>) {
        let lane = (row.topic.clone(), row.partition, row.epoch.clone());
        if self.lane.as_ref() != Some(&lane) {
            let epoch = self.epochs.entry(row.topic.clone()).or_insert_with(|| row.epoch.clone());
            let sound = row.epoch.len() == 32
                && row.epoch.bytes().all(|byte| byte.is_ascii_hexdigit())
                && row.partition == 0;
            if !sound || *epoch != row.epoch {
                let lane = format!("`{}`/{}/`{}`", row.topic, row.partition, row.epoch);
                self.findings.add(Rule::Position, || format!("a lane that should not be: {lane}"));
            }
            self.lane = Some(lane);
            self.next_offset = 0;
            self.last_event = None;
        }
        let silent = match (self.silent.get(&row.topic), self.last_event, index) {
            (Some(silent), Some(last), Some(index)) => silent[index].saturating_sub(silent[last]),
            _ => 0,
        };
        let expected = self.next_offset + silent;
        if row.offset != expected {
            self.findings.add(Rule::Position, || {
                let Row { topic, offset, idempotency_key, .. } = row;
                format!("`{idempotency_key}` in `{topic}` at offset {offset}, expected {expected}")
            });
        }
        self.next_offset = row.offset + 1;
    }

    fn identity(&mut self, row: &Row, event: &Event) {
        let (version, millis) = (event.version.to_string(), event.millis.to_string());
        let expected: [(&str, &str, &str); 8] = [
            ("doc_id", &event.doc_id, &row.doc_id),
            ("version", &version, &row.version),
            ("op", &event.operation, &row.op),
            ("ns_db", &event.database, &row.ns_db),
            ("ns_coll", &event.collection, &row.ns_coll),
            ("event_type", &event.operation, &row.event_type),
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
        let mut found: Document = match serde_json::from_str(&row.raw) {
            Ok(found) => found,
            Err(error) => {
                let raw = &row.raw;
                self.findings.add(Rule::Content, || {
                    format!("`{key}`: raw does not parse: {error}: {raw:.200}")
                });
                return;
            }
        };
        let document = found.get_document("fullDocument").cloned().ok();
        let looked_up = event.operation == "update";
        if looked_up {
            let same = |document: &Document| {
                event.document.get_document("documentKey").ok().and_then(|key| key.get("_id"))
                    == document.get("_id")
            };
            if document.as_ref().is_some_and(|document| !same(document)) {
                self.findings.add(Rule::Content, || format!("`{key}`: looked up another document"));
            }
            found.remove("fullDocument");
        }
        if bytes(&found) != bytes(&event.document) {
            self.findings.add(Rule::Content, || difference(key, &event.document, &found));
        }
        if row.superseded != (looked_up && document.is_none()) {
            let superseded = row.superseded;
            self.findings.add(Rule::Superseded, || format!("`{key}`: superseded is {superseded}"));
        }
        let expected: Map<String, Value> =
            document.as_ref().map(json_column::attributes).unwrap_or_default();
        if !json_column::same_attributes(&expected, &row.attrs)
            || row.tags != Value::Object(Map::new())
        {
            self.findings.add(Rule::Attributes, || {
                let Row { attrs, tags, .. } = row;
                let expected = Value::Object(expected);
                format!(
                    "`{key}`: expected {expected:.400}, found {attrs:.400} and tags {tags:.100}"
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

/// For each event, how many numbers the events before it take in a stream without a row: what
/// another stream tells, and the `invalidate` behind what ends the stream.
fn silent(stream: &Stream, watch: &Watch, events: &[Event]) -> Vec<u64> {
    let mut count = 0;
    let before = |event: &Event| {
        let before = count;
        if stream.hears(event) {
            let told = watch.stream_of(event).is_some_and(|owner| owner.topic == stream.topic);
            count += u64::from(!told) + u64::from(stream.ends_behind(event));
        }
        before
    };
    events.iter().map(before).collect()
}

/// A document's BSON: two documents are the same when these are.
fn bytes(document: &Document) -> Option<Vec<u8>> {
    document.to_vec().ok()
}

/// The first field that differs, for the reader of the finding.
fn difference(key: &str, expected: &Document, found: &Document) -> String {
    let text = |document: &Document, field: &str| {
        document.get(field).map_or_else(|| "nothing".into(), contract::canonical_json)
    };
    let fields = expected.keys().chain(found.keys());
    for field in fields {
        let (expected, found) = (text(expected, field), text(found, field));
        if expected != found {
            return format!("`{key}`: {field} is {found:.300}, not {expected:.300}");
        }
    }
    let names = |document: &Document| document.keys().cloned().collect::<Vec<_>>().join(",");
    format!("`{key}`: same fields, other order or bytes: {} / {}", names(found), names(expected))
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
        raw: contract::canonical_json(&bson::Bson::Document(event.document.clone())),
        attrs: Value::Object(document.map(json_column::attributes).unwrap_or_default()),
        tags: Value::Object(Map::new()),
    }
}
