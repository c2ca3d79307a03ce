//! Judges the raw topics against the truth: each change once in each place where it must be, in the
//! order of the stream, and nothing else. Pure: records in, findings out.

use std::collections::{BTreeSet, HashMap};

use bson::{Bson, Document};

use super::values::{self, Chunks};
use super::{Copies, Topics};
use crate::checker::{Findings, Rule, content};
use crate::contract;
use crate::kafka::Record;
use crate::truth::{Event, MARKERS};
use crate::watch::Watch;

/// The judge of the raw topics.
#[derive(Debug)]
pub struct RawJudge<'a> {
    topics: &'a Topics,
    events: &'a [Event],
    by_token: HashMap<&'a str, usize>,
    /// By event.
    expected: Vec<Vec<Copies>>,
    found: HashMap<(usize, String), Found>,
    chunks: HashMap<String, Chunks>,
    /// By topic and partition.
    last: HashMap<(String, u32), usize>,
    /// By topic and `doc_id`.
    documents: HashMap<(String, String), u32>,
    records: u64,
    findings: Findings,
}

/// Copies of an event in a topic.
#[derive(Debug, Default)]
struct Found {
    partitions: BTreeSet<u32>,
    rows: u32,
}

impl<'a> RawJudge<'a> {
    /// A judge who knows the truth of what is watched.
    pub fn new(topics: &'a Topics, watch: &Watch, events: &'a [Event]) -> Self {
        let by_token = events.iter().enumerate().map(|(index, event)| (event.token(), index));
        Self {
            topics,
            events,
            by_token: by_token.collect(),
            expected: events.iter().map(|event| topics.copies(watch, event)).collect(),
            found: HashMap::new(),
            chunks: HashMap::new(),
            last: HashMap::new(),
            documents: HashMap::new(),
            records: 0,
            findings: Findings::default(),
        }
    }

    /// Judges one record. Those of a partition must come in their order.
    pub fn record(&mut self, topic: &str, record: &Record) {
        self.records += 1;
        let place = || format!("`{topic}`/{} at {}", record.partition, record.offset);
        let value =
            match self.chunks.entry(topic.to_owned()).or_insert_with(Chunks::of_one).push(record) {
                Ok(Some(value)) => value,
                Ok(None) => return,
                Err(error) => {
                    self.findings.add(Rule::Content, || format!("{}: {error:#}", place()));
                    return;
                }
            };
        let change = match values::change(record, &value) {
            Ok(change) => change,
            Err(error) => {
                let text = String::from_utf8_lossy(&value);
                self.findings.add(Rule::Content, || format!("{}: {error:#}: {text:.300}", place()));
                return;
            }
        };
        let database = change.get_document("ns").and_then(|ns| ns.get_str("db"));
        if database.is_ok_and(|database| database == MARKERS) {
            return;
        }
        let token = change.get_document("_id").and_then(|id| id.get_str("_data"));
        let Some(index) = self.by_token.get(token.unwrap_or_default()).copied() else {
            self.findings.add(Rule::Extra, || format!("{}: {:.200}", place(), change.to_string()));
            return;
        };
        let event = &self.events[index];
        if self.place(topic, record, index, event) {
            self.identity(record, event);
            let told = content::compare(event, change);
            told.wrong.into_iter().for_each(|it| self.findings.add(Rule::Content, || it));
        }
    }

    /// Whether it is the first copy in its partition.
    fn place(&mut self, topic: &str, record: &Record, index: usize, event: &Event) -> bool {
        let Record { partition, offset, .. } = record;
        let what = || format!("`{}` in `{topic}`/{partition} at {offset}", event.key);
        if *partition >= self.topics.partitions
            || !self.expected[index].iter().any(|copies| copies.topic == topic)
        {
            self.findings.add(Rule::Position, || format!("{} does not belong there", what()));
        }
        let found = self.found.entry((index, topic.to_owned())).or_default();
        if !found.partitions.insert(*partition) {
            self.findings.add(Rule::Duplicate, || format!("{} again", what()));
            return false;
        }
        found.rows += u32::from(record.header("tw-row") != Some(b"0"));
        let last = self.last.insert((topic.to_owned(), *partition), index);
        if last.is_some_and(|last| last > index) {
            self.findings.add(Rule::Order, || format!("{} comes too late", what()));
        }
        if event.concerns_a_document() {
            let document = (topic.to_owned(), event.doc_id.clone());
            let known = *self.documents.entry(document).or_insert(*partition);
            if known != *partition {
                let more = || format!("{}, its document was in partition {known}", what());
                self.findings.add(Rule::Position, more);
            }
        }
        true
    }

    fn identity(&mut self, record: &Record, event: &Event) {
        let namespace = match event.collection.as_str() {
            "" => event.database.clone(),
            _ => event.namespace(),
        };
        let key = match event.document.get_document("documentKey") {
            Ok(key) => contract::canonical_json(&Bson::Document(key.clone())),
            Err(_) => contract::canonical_json(&Bson::Document(token(event))),
        };
        let (version, millis) = (event.version.to_string(), event.millis.to_string());
        let expected: [(&str, &str, Option<&[u8]>); 5] = [
            ("its key", &key, record.key.as_deref()),
            ("tw-op", &event.operation, record.header("tw-op")),
            ("tw-ns", &namespace, record.header("tw-ns")),
            ("tw-version", &version, record.header("tw-version")),
            ("tw-ts", &millis, record.header("tw-ts")),
        ];
        for (what, expected, found) in expected {
            if found != Some(expected.as_bytes()) {
                let found = found.map(String::from_utf8_lossy);
                self.findings.add(Rule::Identity, || {
                    format!("`{}`: {what} is {found:?}, not `{expected}`", event.key)
                });
            }
        }
    }

    /// Names what was lost, and gives the number of records and all findings.
    pub fn finish(mut self) -> (u64, Findings) {
        let all = self.topics.partitions as usize;
        for (index, event) in self.events.iter().enumerate() {
            for Copies { topic, everywhere, row } in &self.expected[index] {
                let found = self.found.remove(&(index, topic.clone())).unwrap_or_default();
                let (expected, there) = (if *everywhere { all } else { 1 }, found.partitions.len());
                let what =
                    || format!("`{}` in `{topic}`: {there} copies, not {expected}", event.key);
                if there < expected {
                    self.findings.add(Rule::Lost, what);
                } else if there > expected {
                    self.findings.add(Rule::Duplicate, what);
                } else if found.rows != u32::from(*row) {
                    let Found { rows, .. } = found;
                    self.findings.add(Rule::Position, || {
                        format!("`{}` in `{topic}`: {rows} copies make rows", event.key)
                    });
                }
            }
        }
        let unfinished: usize = self.chunks.values().map(Chunks::unfinished).sum();
        if unfinished > 0 {
            self.findings.add(Rule::Content, || format!("{unfinished} values are not whole"));
        }
        (self.records, self.findings)
    }
}

/// The key of a change that concerns no document.
fn token(event: &Event) -> Document {
    event.document.get_document("_id").map_or_else(
        |_| Document::new(),
        |token| {
            let data = token.get_str("_data").unwrap_or_default();
            bson::doc! { "_id": { "_data": data } }
        },
    )
}
