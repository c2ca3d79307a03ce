//! Rows of entries: which tables have them, what stands there, and by what they are known.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, doc};
use bytes::Bytes;
use serde_json::{Value as Json, json};
use tailwater_core::config::Secrets;
use tailwater_core::event::ChangeEvent;
use tailwater_core::mapping::{Mapped, Mapping, Outcome};
use tailwater_core::names::CurrentNames;
use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::position::{Epoch, LaneId, Millis, Seq};
use tailwater_core::rows::{
    Append, Block, Content, Entry, Identity, Layout, RecordsFrom, Rejected, Rejection, Rows,
};
use tailwater_core::table::{self, RowsOf, TableName};

use crate::engine::{Engine, engine};

struct NoSecrets;

impl Secrets for NoSecrets {
    fn variable(&self, name: &str) -> Result<String, String> {
        Err(name.to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}

/// Maps `c`, hides `secret`, rejects what has no array `items`, drops `dropped`.
const MAPPING: &str = r#"
defaults: { unmapped: drop, hash_pii: false }
mappings:
  - match: { ns.db: d, ns.coll: c }
    event_type_override: { when: "$eq(status, 'new')", value: "arrived" }
    tags: [status]
    attrs: [{ count: "$size(items)" }]
    pii: [secret]
    ts: at
  - match: { ns.db: d, ns.coll: kept }
    tags: [status]
    raw: true
"#;

fn mapping() -> Mapping {
    Mapping::read("mapping.yaml", MAPPING, &NoSecrets).unwrap()
}

const WALL: i64 = 1_700_000_000_000;
/// What the mapping takes for the time of an event.
const MAPPED: i64 = 1_500_000_000_000;

fn event(coll: &str, op: &str, number: u32, document: Document) -> ChangeEvent {
    let mut event = doc! {
        "_id": { "_data": "8265F1A2B3000000072B022C0100296E5A1004" },
        "operationType": op,
        "clusterTime": Bson::Timestamp(bson::Timestamp { time: 1_700_000_000, increment: number }),
        "wallTime": bson::DateTime::from_millis(WALL + i64::from(number)),
        "ns": { "db": "d", "coll": coll },
    };
    if op != "drop" {
        event.insert("documentKey", doc! { "_id": document.get("_id").unwrap() });
        event.insert("fullDocument", document);
    }
    ChangeEvent::index(event.to_vec().unwrap().into()).unwrap()
}

fn sound(number: u32) -> Document {
    doc! {
        "_id": i64::from(number),
        "status": "new",
        "items": [1, 2],
        "secret": "hush",
        "at": bson::DateTime::from_millis(MAPPED + i64::from(number)),
    }
}

fn layout(name: &str) -> Layout {
    Layout {
        records: TableName::new(format!("{name}_records")),
        records_from: RecordsFrom::Inline,
        raw_cdc: Some(TableName::new(format!("{name}_raw_cdc"))),
        dead_letters: TableName::new(format!("{name}_dead_letters")),
        current: Some(CurrentNames::default()),
    }
}

const TOPIC: &str = "events.d";

fn lane() -> LaneId {
    LaneId::partition_of(TOPIC, 3)
}

fn epoch() -> Epoch {
    Epoch::new([9; 16])
}

fn encode(layout: &Layout, mapping: Option<&Mapping>, entries: Vec<Entry>) -> Rows {
    Rows::encode(layout, mapping, lane(), epoch(), entries).unwrap()
}

fn entry(seq: u64, content: Content) -> Entry {
    Entry { seq: Seq(seq), content }
}

fn unreadable(bytes: &'static [u8]) -> Content {
    let why = Rejection { reason: "unreadable", error: "no JSON".to_owned() };
    Content::Rejected(Rejected { why, ts: Millis(WALL + 50), bytes: Bytes::from_static(bytes) })
}

fn normalized() -> NormalizedEvent {
    let mapped = mapping().apply(&event("c", "insert", 7, sound(7))).unwrap();
    let Mapped { outcome: Outcome::Normalized(it), .. } = mapped else { panic!("{mapped:?}") };
    NormalizedEvent {
        ts: it.ts,
        event_type: it.event_type,
        db: "d".to_owned(),
        coll: "c".to_owned(),
        idempotency_key: "mongo:d.c:7:insert:1700000000.7".to_owned(),
        tags: it.tags,
        attrs: it.attrs,
        doc_id: "7".to_owned(),
        op: "insert".to_owned(),
        version: 1 << 64 | 1,
        raw: None,
        superseded: false,
        mapping: "feedfeedfeedfeed".to_owned(),
    }
}

/// Everything that there is, with holes between the numbers.
fn entries() -> Vec<Entry> {
    let unlisted = event("c", "insert", 5, sound(5)).unlisted();
    vec![
        entry(10, Content::Event(event("c", "insert", 1, sound(1)))),
        // It cannot be mapped.
        entry(
            12,
            Content::Event(event(
                "c",
                "insert",
                2,
                doc! { "_id": 2, "items": 1, "secret": "hush" },
            )),
        ),
        entry(13, unreadable(b"\xff{")),
        entry(20, Content::Event(event("else", "insert", 3, doc! { "_id": 3 }))),
        entry(21, Content::Nothing),
        entry(22, Content::Event(event("kept", "insert", 4, doc! { "_id": 4, "status": "x" }))),
        entry(23, Content::Event(unlisted)),
        entry(24, Content::Normalized(Box::new(normalized()))),
        entry(30, Content::Event(event("c", "drop", 8, doc! {}))),
        entry(31, unreadable(b"")),
    ]
}

fn numbers(rows: &Rows, table: Append) -> Vec<u64> {
    rows.identities(table).unwrap().iter().map(|(seq, _)| seq.0).collect()
}

#[test]
fn each_entry_has_its_rows_and_no_others() {
    let (layout, mapping) = (layout("fate"), mapping());
    let rows = encode(&layout, Some(&mapping), entries());
    assert_eq!(numbers(&rows, Append::Records), [10, 22, 24, 30]);
    assert_eq!(numbers(&rows, Append::RawCdc), [10, 12, 20, 22, 30]);
    assert_eq!(numbers(&rows, Append::DeadLetters), [12, 13, 31]);
    let counts = [("fate_records", 4), ("fate_raw_cdc", 5), ("fate_dead_letters", 3)];
    let counts: BTreeMap<_, _> = counts.map(|(name, rows)| (name.to_owned(), rows)).into();
    assert_eq!(rows.plan.rows, counts);
    assert_eq!(rows.plan.mapping.as_deref(), Some(mapping.hash()));
    // Of the mapped event, and of the last that is no event.
    assert_eq!((rows.plan.ts_min, rows.plan.ts_max), (Millis(MAPPED + 1), Millis(WALL + 50)));
    assert_eq!((rows.len(), rows.dropped()), (10, 2));
    let reasons: Vec<_> = rows.rejections().map(|why| why.reason).collect();
    assert_eq!(reasons, ["expression", "unreadable", "unreadable"]);
    // The current state is that of all events, dropped and rejected ones too.
    let upsert = &rows.stretches[0].upsert;
    let counts: Vec<_> = upsert.iter().map(|(of, block)| (of.coll.as_str(), block.rows)).collect();
    assert_eq!(counts, [("c", 3), ("else", 1), ("kept", 1)]);
    assert_eq!(rows.stretches[0].endings[0].partition, Some(3));
    let hidden = |block: &Block| !block.bytes.windows(4).any(|part| part == b"hush");
    assert!(rows.append.iter().all(hidden) && upsert.iter().all(|(_, block)| hidden(block)));
}

#[test]
fn a_topic_with_normalized_events_beside_it_leaves_the_event_table_alone() {
    let layout = Layout { records_from: RecordsFrom::Normalized, ..layout("beside") };
    let rows = encode(&layout, Some(&mapping()), entries());
    assert_eq!(numbers(&rows, Append::Records), [24]);
    assert_eq!(numbers(&rows, Append::RawCdc), [10, 12, 20, 22, 30]);
    assert_eq!(numbers(&rows, Append::DeadLetters), [13, 31]);
    assert_eq!(rows.stretches[0].upsert.len(), 3);
    assert_eq!(rows.dropped(), 1);
}

#[test]
fn without_a_ledger_and_a_mapping_all_is_as_it_was() {
    let layout = Layout { raw_cdc: None, ..layout("plain") };
    let events = [1, 2].map(|number| event("c", "insert", number, sound(number)));
    let rows = encode(&layout, None, Entry::dense(Seq(5), events));
    assert_eq!(numbers(&rows, Append::Records), [5, 6]);
    assert_eq!(rows.append.len(), 1);
    assert_eq!(rows.plan.mapping, None);
    // A plan of before there were mappings reads, and is written as it was.
    let stored = serde_json::to_value(&rows.plan).unwrap();
    assert_eq!(stored.get("mapping"), None);
    assert_eq!(
        serde_json::from_value::<tailwater_core::position::Plan>(stored).unwrap(),
        rows.plan
    );
}

#[test]
fn a_mapping_changes_the_plan_but_not_by_what_events_are_known_again() {
    let layout = layout("digest");
    let events = || Entry::dense(Seq(0), [event("c", "insert", 1, sound(1))]);
    let (plain, mapped) =
        (encode(&layout, None, events()), encode(&layout, Some(&mapping()), events()));
    assert_ne!(plain.plan, mapped.plan);
    assert_eq!(plain.plan.digest, mapped.plan.digest);
    assert_eq!(
        plain.identities(Append::Records).unwrap(),
        mapped.identities(Append::Records).unwrap()
    );
    // What holds no event is known by its bytes and its place.
    let one = |seq, bytes| encode(&layout, None, vec![entry(seq, unreadable(bytes))]);
    assert_eq!(one(1, b"a").plan.digest, one(1, b"a").plan.digest);
    assert_ne!(one(1, b"a").plan.digest, one(1, b"b").plan.digest);
    let identity = |seq| one(seq, b"a").identities(Append::DeadLetters).unwrap()[0].1;
    assert_ne!(identity(1), identity(2));
}

#[test]
fn all_that_is_held_is_counted() {
    let layout = Layout { current: None, raw_cdc: None, ..layout("held") };
    let blocks = |rows: &Rows| rows.append.iter().map(|block| block.bytes.len()).sum::<usize>();
    let of = |content: Content| {
        let rows = encode(&layout, Some(&mapping()), vec![entry(0, content)]);
        rows.bytes() - blocks(&rows)
    };
    let large = "x".repeat(100_000);
    let mut document = sound(1);
    document.insert("status", &large);
    // The event, and the tag that was made of it.
    assert!(of(Content::Event(event("c", "insert", 1, document))) > 200_000);
    let bytes = Bytes::from(large.clone().into_bytes());
    let why = Rejection { reason: "unreadable", error: large.clone() };
    assert!(of(Content::Rejected(Rejected { why, ts: Millis(0), bytes })) > 200_000);
    let many = NormalizedEvent { raw: Some(large), ..normalized() };
    assert!(of(Content::Normalized(Box::new(many))) > 100_000);
    assert!(of(Content::Nothing) < 1_000);
}

fn insert(engine: &Engine, block: &Block) {
    let file = tempfile::Builder::new().suffix(".native").tempfile().unwrap();
    std::fs::write(file.path(), &block.bytes).unwrap();
    let names: Vec<_> = block.columns.iter().map(|(name, _)| *name).collect();
    let typed: Vec<_> = block.columns.iter().map(|(name, of)| format!("{name} {of}")).collect();
    let (names, structure) = (names.join(", "), typed.join(", ").replace('\'', "\\'"));
    let (table, path) = (&block.table, file.path().display());
    engine.query(
        &format!("INSERT INTO {table} ({names}) SELECT {names} FROM file('{path}', 'Native', '{structure}')"),
        "Null",
    );
}

fn lines(engine: &Engine, sql: &str) -> Vec<Json> {
    let sql = format!("{sql} SETTINGS output_format_json_quote_64bit_integers = 0");
    let lines = String::from_utf8(engine.query(&sql, "JSONEachRow")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Makes the tables, inserts the blocks, and drops the tables when all is seen.
fn with_tables(layout: &Layout, rows: &Rows, look: impl FnOnce(&Engine)) {
    let Some(engine) = engine() else { return };
    let Layout { records, raw_cdc, dead_letters, .. } = layout;
    let raw_cdc = raw_cdc.as_ref().unwrap();
    engine.query(&table::create_records("default", records, 10, None, ""), "Null");
    engine.query(&table::create_raw_cdc("default", raw_cdc, 10, None, ""), "Null");
    engine.query(&table::create_dead_letters("default", dead_letters, 10, ""), "Null");
    rows.append.iter().for_each(|block| insert(&engine, block));
    look(&engine);
    // Nothing of the engine's may be at work when the process ends.
    for table in [records, raw_cdc, dead_letters] {
        engine.query(&format!("DROP TABLE {table} SYNC"), "Null");
    }
}

#[test]
fn the_columns_hold_what_the_mapping_made_and_hides_what_it_hides() {
    let (layout, mapping) = (layout("columns"), mapping());
    let rows = encode(&layout, Some(&mapping), entries());
    with_tables(&layout, &rows, |engine| {
        let records = "SELECT _offset AS n, toUnixTimestamp64Milli(ts) AS ts, event_type, \
                       toString(tags) AS tags, toString(attrs) AS attrs, raw = '' AS bare, _mapping \
                       FROM columns_records ORDER BY n";
        let hash = mapping.hash();
        let record =
            |n: u64, ts: i64, event_type: &str, tags: &str, attrs: &str, bare: u8, by: &str| {
                json!({ "n": n, "ts": ts, "event_type": event_type, "tags": tags, "attrs": attrs,
                    "bare": bare, "_mapping": by })
            };
        let expected = [
            record(10, MAPPED + 1, "arrived", r#"{"status":"new"}"#, r#"{"count":2}"#, 1, hash),
            record(22, WALL + 4, "insert", r#"{"status":"x"}"#, "{}", 0, hash),
            record(
                24,
                MAPPED + 7,
                "arrived",
                r#"{"status":"new"}"#,
                r#"{"count":2}"#,
                1,
                "feedfeedfeedfeed",
            ),
            record(30, WALL + 8, "drop", "{}", "{}", 0, hash),
        ];
        assert_eq!(lines(engine, records), expected);
        let letters = "SELECT _offset AS n, reason, doc_id, op, version > 0 AS known, hex(event) AS event, \
                       _topic, _partition, toUnixTimestamp64Milli(ts) AS ts, _mapping \
                       FROM columns_dead_letters ORDER BY n";
        let letters = lines(engine, letters);
        let text = |row: &Json| hex::decode(row["event"].as_str().unwrap()).unwrap();
        assert_eq!(letters[0]["reason"], "expression");
        let mapped: Json = serde_json::from_slice(&text(&letters[0])).unwrap();
        assert_eq!(
            mapped["fullDocument"],
            json!({ "_id": { "$numberInt": "2" }, "items": { "$numberInt": "1" } })
        );
        assert_eq!(text(&letters[1]), b"\xff{");
        for (letter, (n, op, known, ts)) in letters.iter().zip([
            (12, "insert", 1, WALL + 2),
            (13, "", 0, WALL + 50),
            (31, "", 0, WALL + 50),
        ]) {
            assert_eq!(
                (&letter["n"], &letter["op"], &letter["known"]),
                (&json!(n), &json!(op), &json!(known))
            );
            assert_eq!((&letter["_topic"], &letter["_partition"]), (&json!(TOPIC), &json!(3)));
            assert_eq!((&letter["ts"], &letter["_mapping"]), (&json!(ts), &json!(hash)));
        }
        let ledger = "SELECT _offset AS n, op, doc_id, event, toUnixTimestamp64Milli(ts) AS ts \
                      FROM columns_raw_cdc ORDER BY n";
        let ledger = lines(engine, ledger);
        let seen: Vec<_> = ledger
            .iter()
            .map(|row| (row["n"].as_u64().unwrap(), row["ts"].as_i64().unwrap()))
            .collect();
        assert_eq!(
            seen,
            [(10, WALL + 1), (12, WALL + 2), (20, WALL + 3), (22, WALL + 4), (30, WALL + 8)]
        );
        let first: Json = serde_json::from_str(ledger[0]["event"].as_str().unwrap()).unwrap();
        assert_eq!(
            first["fullDocument"]["items"],
            json!([{ "$numberInt": "1" }, { "$numberInt": "2" }])
        );
        assert_eq!(first["fullDocument"].get("secret"), None);
        assert_eq!(ledger[4]["op"], "drop");
    });
}

/// What the tables say of these events: number and identity.
fn read_back(
    engine: &Engine,
    layout: &Layout,
    table: Append,
    rows: &Rows,
) -> BTreeSet<(Seq, Identity)> {
    let epoch = epoch().to_string();
    let rows_of = RowsOf {
        epoch: &epoch,
        topic: TOPIC,
        partition: 3,
        offsets: (10, 31),
        versions: None,
        ts: (rows.plan.ts_min.0, rows.plan.ts_max.0),
        mapping: None,
    };
    let sql = table::read_back("default", (table, layout.name(table).unwrap()), &rows_of);
    let found = lines(engine, &sql);
    assert!(found.iter().all(|row| row.get("reason").is_some() == (table == Append::DeadLetters)));
    let number = |row: &Json, name: &str| row[name].as_u64().unwrap();
    found
        .iter()
        .map(|row| (Seq(number(row, "_offset")), Identity(number(row, "identity"))))
        .collect()
}

#[test]
fn sql_knows_each_row_by_the_identity_that_was_planned() {
    let (layout, mapping) = (layout("identity"), mapping());
    let rows = encode(&layout, Some(&mapping), entries());
    with_tables(&layout, &rows, |engine| {
        for table in Append::ALL {
            let planned: BTreeSet<_> = rows.identities(table).unwrap().into_iter().collect();
            assert_eq!(read_back(engine, &layout, table, &rows), planned, "{table:?}");
        }
    });
}

#[test]
fn rows_that_another_mapping_made_are_found_whatever_their_time() {
    let layout = layout("another");
    let entries = || vec![entry(10, Content::Event(event("c", "insert", 1, sound(1))))];
    let mapped = encode(&layout, Some(&mapping()), entries());
    let plain = encode(&layout, None, entries());
    with_tables(&layout, &mapped, |engine| {
        let epoch = epoch().to_string();
        let mut rows_of = RowsOf {
            epoch: &epoch,
            topic: TOPIC,
            partition: 3,
            offsets: (10, 10),
            versions: None,
            ts: (plain.plan.ts_min.0, plain.plan.ts_max.0),
            mapping: None,
        };
        let count = |rows_of: &RowsOf<'_>| {
            let table = (Append::Records, layout.name(Append::Records).unwrap());
            lines(engine, &table::read_back("default", table, rows_of)).len()
        };
        assert_eq!(count(&rows_of), 0);
        rows_of.mapping = Some("");
        assert_eq!(count(&rows_of), 1);
        // Under another number too, where numbers prove nothing.
        rows_of.offsets = (70, 80);
        assert_eq!(count(&rows_of), 0);
        rows_of.versions = Some(plain.versions());
        assert_eq!(count(&rows_of), 1);
    });
}
