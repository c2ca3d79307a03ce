//! Compares what ClickHouse holds with what the server's own stream and collections say, by bytes.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tailwater_testkit::clickhouse::{ClickHouse, identifier};
use tailwater_testkit::tree::{self, Fields, Node};
use tailwater_testkit::{contract, json_column};

/// The judge, and all that it knows.
pub(crate) struct Judge {
    clickhouse: ClickHouse,
    /// Every event of the stream, in its order.
    pub(crate) events: Vec<Fields>,
    /// Large texts that were right when they were judged before: it takes seconds to read them.
    proven: HashMap<u64, String>,
}

/// So many bytes are large.
const LARGE: usize = 1 << 20;

#[derive(Deserialize)]
struct Count {
    count: usize,
}

#[derive(Deserialize)]
struct Record {
    doc_id: String,
    key: String,
    same: (String, String, String, String, String, String, i64, u64),
    superseded: bool,
    raw: String,
    attrs: Box<RawValue>,
}

#[derive(Deserialize)]
struct Current {
    id: String,
    bson: String,
    hash_is_right: u8,
    version: String,
    doc: Box<RawValue>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// The `_id` of the document that an event is about.
pub(crate) fn document_id(event: &Fields) -> Option<&Node> {
    match tree::get(event, "documentKey")? {
        Node::Document(key) => tree::get(key, "_id"),
        _ => None,
    }
}

fn text(fields: &Fields, name: &str) -> String {
    match tree::get(fields, name) {
        Some(Node::Text(_, text)) => String::from_utf8(text.clone()).unwrap(),
        _ => String::new(),
    }
}

fn inner<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    match tree::get(fields, name)? {
        Node::Document(fields) => Some(fields),
        _ => None,
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn namespace(event: &Fields) -> (String, String) {
    let ns = inner(event, "ns").unwrap();
    (text(ns, "db"), text(ns, "coll"))
}

fn token(event: &Fields) -> contract::Token {
    contract::decode_token(&text(inner(event, "_id").unwrap(), "_data")).unwrap()
}

/// An id as its bytes, to look it up.
fn id_bytes(id: &Node) -> Vec<u8> {
    tree::write(&[(Vec::new(), tree::as_id(id))])
}

impl Judge {
    pub(crate) fn new(clickhouse: ClickHouse) -> Self {
        Self { clickhouse, events: Vec::new(), proven: HashMap::new() }
    }

    async fn all<T: serde::de::DeserializeOwned>(&self, sql: &str) -> Vec<T> {
        self.clickhouse.all(sql).await.unwrap()
    }

    /// How many rows the event table has; none as long as it is not there.
    pub(crate) async fn rows(&self) -> usize {
        let count = self.clickhouse.one::<Count>("SELECT count() AS count FROM record_raw").await;
        count.map_or(0, |count| count.count)
    }

    /// Keeps each block a part of its own until [`Judge::merge`].
    pub(crate) async fn stop_merges(&self) {
        self.all::<IgnoredAny>("SYSTEM STOP MERGES").await;
    }

    /// Merges the parts of every table into one.
    pub(crate) async fn merge(&self) {
        let parts = async |condition: &str| {
            let sql = format!(
                "SELECT count() AS count FROM system.parts WHERE active AND {condition} \
                 GROUP BY database, table, partition HAVING count > 1"
            );
            self.all::<Count>(&sql).await.len()
        };
        assert_eq!(parts("table IN ('record_raw', 'every__mixed')").await, 2, "nothing to merge");
        self.all::<IgnoredAny>("SYSTEM START MERGES").await;
        let sql = "SELECT name FROM system.tables WHERE database = 'default' \
                   AND engine LIKE '%MergeTree'";
        for Name { name } in self.all(sql).await {
            self.all::<IgnoredAny>(&format!("OPTIMIZE TABLE {} FINAL", identifier(&name))).await;
        }
        assert_eq!(parts("database = 'default'").await, 0, "not everything was merged");
    }

    /// Judges the event table: one row for each event, in their order.
    pub(crate) async fn records(&mut self) {
        let sql = "SELECT hex(doc_id) AS doc_id, hex(idempotency_key) AS key, \
             (op, event_type, ns_db, ns_coll, toString(version), source, \
             toUnixTimestamp64Milli(ts), _offset) AS same, superseded, raw, attrs \
             FROM record_raw ORDER BY _offset";
        let mut events = (0..).zip(&self.events);
        let judge = |row: Record| {
            let (offset, event) = events.next().unwrap();
            if self.proven.get(&offset) != Some(&row.raw) {
                judge_record(&row, event, offset);
            }
            if row.raw.len() > LARGE {
                self.proven.insert(offset, row.raw);
            }
            Ok(())
        };
        self.clickhouse.each(sql, judge).await.unwrap();
        assert_eq!(events.next(), None, "an event without a row");
    }

    /// Judges the current state of one collection, which holds `documents`.
    pub(crate) async fn current(&self, db: &str, coll: &str, documents: &[Vec<u8>]) {
        let view = identifier(&format!("{db}__{coll}_current"));
        let sql = format!(
            "SELECT hex(_id) AS id, hex(_bson) AS bson, _hash = xxHash64(_bson) AS hash_is_right, \
             toString(_version) AS version, doc FROM {view}"
        );
        let mut versions = HashMap::new();
        for event in self.events.iter().filter(|event| namespace(event).1 == coll) {
            let version = contract::version(token(event)).to_string();
            let own = inner(event, "fullDocument").and_then(|image| tree::get(image, "_id"));
            for id in document_id(event).into_iter().chain(own) {
                versions.insert(id_bytes(id), version.clone());
            }
        }
        let rows: Vec<Current> = self.all(&sql).await;
        assert_eq!(rows.len(), documents.len(), "{coll}");
        let mut rows: HashMap<Vec<u8>, Current> =
            rows.into_iter().map(|row| (from_hex(&row.bson), row)).collect();
        for bytes in documents {
            let row = rows.remove(bytes).unwrap_or_else(|| panic!("{coll}: no row {bytes:.400?}"));
            let document = tree::read(bytes).unwrap();
            let id = tree::get(&document, "_id").unwrap();
            assert_id(&row.id, id);
            assert_eq!(row.hash_is_right, 1, "{coll}: {id:?}");
            if let Some(version) = versions.get(&id_bytes(id)) {
                assert_eq!(row.version, *version, "{coll}: {id:?}");
            }
            let shown: Value = tree::parse(row.doc.get()).unwrap();
            let right = json_column::same_document(&tree::decode(&document).unwrap(), &shown);
            assert!(right, "{coll}: {document:.4000?}\nshows {:.4000}", row.doc.get());
        }
    }
}

fn assert_id(hex: &str, id: &Node) {
    let text = from_hex(hex);
    let read = tree::read_id(&text).unwrap();
    assert_eq!(read, tree::sound(&tree::as_id(id)), "{}", String::from_utf8_lossy(&text));
}

fn judge_record(row: &Record, event: &Fields, offset: u64) {
    let op = text(event, "operationType");
    let (db, coll) = namespace(event);
    let token = token(event);
    let what = format!("{op} in {coll} at {offset}");
    match document_id(event) {
        Some(id) => assert_id(&row.doc_id, id),
        None => assert_eq!(row.doc_id, "", "{what}"),
    }
    // The id may be no text: it comes in after.
    let key = contract::idempotency_key(&format!("{db}.{coll}"), "\0", &op, token);
    let (before, after) = key.split_once('\0').unwrap();
    let key = [before.as_bytes(), &from_hex(&row.doc_id), after.as_bytes()].concat();
    assert!(from_hex(&row.key) == key, "{what}: {}", String::from_utf8_lossy(&key));
    let Some(Node::Scalar(_, wall_time)) = tree::get(event, "wallTime") else {
        panic!("{what}: no time")
    };
    let millis = i64::from_le_bytes(wall_time.as_slice().try_into().unwrap());
    let version = contract::version(token).to_string();
    let same = (op.clone(), op.clone(), db, coll.clone(), version, "mongo".into(), millis, offset);
    assert_eq!(row.same, same);

    let mut image = inner(event, "fullDocument").cloned();
    if !event.iter().any(|(_, node)| tree::has_wrapper(node)) {
        let mut found = tree::read_json(&row.raw).unwrap();
        if op == "update" {
            image = inner(&found, "fullDocument").cloned();
            found.retain(|(name, _)| name != b"fullDocument");
        }
        let expected = tree::lossy(event);
        for (expected, found) in expected.iter().zip(&found) {
            assert!(expected == found, "{what}: {found:.4000?}\nis not {expected:.4000?}");
        }
        assert_eq!(found.len(), expected.len(), "{what}");
    }
    assert_eq!(row.superseded, op == "update" && image.is_none(), "{what}");
    let expected = image.map(|image| tree::decode(&image).unwrap()).unwrap_or_default();
    let expected = json_column::attributes(&expected);
    let attributes: Value = tree::parse(row.attrs.get()).unwrap();
    let right = json_column::same_attributes(&expected, &attributes);
    assert!(right, "{what}: {expected:.4000?}\nshows {attributes:.4000}");
}
