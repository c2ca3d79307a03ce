//! What is in topics and tables, against what MongoDB says has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bson::doc;
use tailwater_testkit::contract;
use tailwater_testkit::kafka::Record;
use tailwater_testkit::truth::Event;

use crate::part::Part;
use crate::stage::Stage;
use crate::{DEADLINE, LOOK};

/// A row of the event table, as far as it is judged.
#[derive(Debug, serde::Deserialize)]
struct Row {
    key: String,
    doc_id: String,
    version: String,
    namespace: String,
    lane: String,
    offset: u64,
}

const COLUMNS: &str = "idempotency_key AS key, doc_id, toString(version) AS version, \
     ns_db || '.' || ns_coll AS namespace, \
     _epoch || '/' || _topic || '/' || toString(_partition) AS lane, _offset AS offset";

impl Stage {
    /// The changes so far of what is watched.
    pub(crate) async fn events(&mut self) -> Vec<Event> {
        let mut events = self.truth.up_to_now().await.unwrap();
        let watch = self.watch();
        events.retain(|event| watch.stream_of(event).is_some());
        events
    }

    /// Waits until everything has arrived in ClickHouse, and judges all of it: each change has one
    /// row, in order, and the current state is the collection.
    pub(crate) async fn judge(&mut self, parts: &mut [&mut Part]) {
        let events = self.events().await;
        self.wait_for_rows(events.len() as u64, parts).await;
        self.judge_rows(&events).await;
        assert_eq!(self.rows("tailwater_dead_letters").await, 0);
        for coll in ["files", "jobs"] {
            self.judge_current(coll, parts).await;
        }
    }

    /// Each of the events has one row, and each document's rows are in order.
    pub(crate) async fn judge_rows(&self, events: &[Event]) {
        let sql = format!("SELECT {COLUMNS} FROM record_raw ORDER BY lane, offset");
        let rows: Vec<Row> = self.clickhouse.all(&sql).await.unwrap();
        let expected: BTreeSet<&str> = events.iter().map(|event| event.key.as_str()).collect();
        assert_eq!(expected.len(), events.len(), "two events with one key");
        let found: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let lost: Vec<_> = expected.difference(&found).take(5).collect();
        let extra: Vec<_> = found.difference(&expected).take(5).collect();
        assert!(lost.is_empty() && extra.is_empty(), "lost {lost:?}, extra {extra:?}");
        let mut places = BTreeSet::new();
        let mut last: BTreeMap<(&str, &str, &str), u128> = BTreeMap::new();
        let mut lanes: BTreeMap<(&str, &str, &str), &str> = BTreeMap::new();
        for row in &rows {
            assert!(places.insert((&row.lane, row.offset)), "two rows of one record: {row:?}");
            let (epoch, _) = row.lane.split_once('/').unwrap();
            let document = (epoch, row.namespace.as_str(), row.doc_id.as_str());
            let lane = *lanes.entry(document).or_insert(&row.lane);
            assert_eq!(lane, row.lane, "a document has one partition: {row:?}");
            let version: u128 = row.version.parse().unwrap();
            let before = last.insert(document, version);
            assert!(before.is_none_or(|before| before < version), "out of order: {row:?}");
        }
        assert_eq!(rows.len(), events.len(), "rows that come twice");
    }

    /// Waits until the current state of a collection is the collection.
    pub(crate) async fn judge_current(&self, coll: &str, parts: &mut [&mut Part]) {
        #[derive(serde::Deserialize)]
        struct Row {
            id: String,
            bson: String,
        }
        let mut expected = BTreeMap::new();
        let mut cursor = self.coll(coll).find(doc! {}).await.unwrap();
        while cursor.advance().await.unwrap() {
            let document = cursor.deserialize_current().unwrap();
            let id = contract::doc_id(&doc! { "_id": document.get("_id").unwrap() });
            expected.insert(id, hex(&document.to_vec().unwrap()));
        }
        let sql =
            format!("SELECT _id AS id, hex(_bson) AS bson FROM `{}__{coll}_current`", self.name);
        let started = Instant::now();
        loop {
            // A table is made with its first row.
            let rows: Vec<Row> = self.clickhouse.all(&sql).await.unwrap_or_default();
            let count = rows.len();
            let found: BTreeMap<String, String> =
                rows.into_iter().map(|row| (row.id, row.bson)).collect();
            if found == expected && count == expected.len() {
                return;
            }
            parts.iter_mut().for_each(|part| part.expect_running());
            let differs = |(id, bson): &(&String, &String)| expected.get(*id) != Some(*bson);
            let wrong: Vec<&String> =
                found.iter().filter(differs).map(|(id, _)| id).take(5).collect();
            let lost: Vec<&String> =
                expected.keys().filter(|id| !found.contains_key(*id)).take(5).collect();
            let waited = started.elapsed() > DEADLINE;
            assert!(!waited, "`{coll}`: {count} rows, wrong {wrong:?}, lost {lost:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until everything is in the raw topics, and judges them as a reader of committed records
    /// sees them: each change once, and in order within its partition.
    pub(crate) async fn judge_topics(&mut self, part: &mut Part) {
        let events = self.events().await;
        for coll in ["files", "jobs"] {
            let of_it = |event: &&Event| event.collection == coll;
            let mut expected: Vec<String> = events.iter().filter(of_it).map(told).collect();
            if expected.is_empty() {
                continue;
            }
            let topic = self.topic(coll);
            let started = Instant::now();
            let mut records: Vec<Record> = Vec::new();
            while records.len() < expected.len() {
                part.expect_running();
                if started.elapsed() > DEADLINE {
                    let found: Vec<String> = records.iter().map(written).collect();
                    let (ends, log) = (self.cluster.ends(&topic).await, part.log());
                    panic!("`{topic}`: {found:?}, not {expected:?}; it ends at {ends:?}:\n{log}");
                }
                tokio::time::sleep(LOOK).await;
                records = self.cluster.read_committed(&topic).await.unwrap_or_default();
                records
                    .retain(|record| record.header("tw-version").is_some() && makes_a_row(record));
            }
            let mut found: Vec<String> = records.iter().map(written).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "`{topic}`");
            let order = |record: &Record| (record.partition, version(record));
            assert!(records.is_sorted_by_key(order), "`{topic}` is out of order");
        }
    }
}

/// Whether a record begins an event: copies of markers and all chunks but the first do not.
fn makes_a_row(record: &Record) -> bool {
    let first = record.header("tw-chunk").is_none_or(|chunk| chunk.starts_with(b"0/"));
    record.header("tw-row").is_none() && first
}

fn version(record: &Record) -> u128 {
    std::str::from_utf8(record.header("tw-version").unwrap()).unwrap().parse().unwrap()
}

/// What tells an event: its version and operation.
fn written(record: &Record) -> String {
    let operation = String::from_utf8_lossy(record.header("tw-op").unwrap());
    format!("{operation} {}", version(record))
}

fn told(event: &Event) -> String {
    format!("{} {}", event.operation, event.version)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
