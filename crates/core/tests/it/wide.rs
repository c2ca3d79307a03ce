//! Documents with data for names: their columns travel as text, and read back as in the other form.

use bson::{Bson, doc};
use bytes::Bytes;
use tailwater_core::bson::Doc;
use tailwater_core::event::ChangeEvent;
use tailwater_core::json_column::text::{self, JsonText};
use tailwater_core::json_column::{Dates, JsonColumn};
use tailwater_core::names::CurrentNames;
use tailwater_core::native::{self, Column, Numbers};
use tailwater_core::position::{Epoch, LaneId, Seq};
use tailwater_core::rows::{Block, Entry, Layout, RecordsFrom, Rows};
use tailwater_core::table::{self, TableName};

use crate::engine::{Engine, arbitrary_rows, assert_rows, engine};
use crate::sample::{self, Fields, Sample};

/// What is pinned on inserts and matters here, and a limit far below what a stream for each of
/// 120 000 paths would take.
const SETTINGS: &str = "SETTINGS json_type_escape_dots_in_keys = 1, input_format_try_infer_dates = 0, \
                        input_format_try_infer_datetimes = 0, max_memory_usage = 1500000000";

fn insert(engine: &Engine, table: &str, columns: &[table::Column], block: &[u8]) {
    let file = tempfile::Builder::new().suffix(".native").tempfile().unwrap();
    std::fs::write(file.path(), block).unwrap();
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let typed: Vec<_> = columns.iter().map(|(name, of)| format!("{name} {of}")).collect();
    let structure = typed.join(", ").replace('\'', "\\'");
    let names = names.join(", ");
    let path = file.path().display();
    engine.query(
        &format!(
            "INSERT INTO {table} ({names}) SELECT {names} FROM file('{path}', 'Native', '{structure}') {SETTINGS}"
        ),
        "Null",
    );
}

/// A table `i UInt64, j JSON` that got the rows as text.
fn insert_text(engine: &Engine, table: &str, rows: &[Fields]) {
    let (mut numbers, mut texts) = (Numbers::<u64>::default(), JsonText::default());
    for (number, row) in (0..).zip(rows) {
        numbers.push(number);
        texts.push_with(Doc::new(&sample::bytes(row)).unwrap(), text::document).unwrap();
    }
    let block = native::encode(&[("i", &numbers as &dyn Column), ("j", &texts)]).unwrap();
    engine.query(
        &format!("CREATE OR REPLACE TABLE {table} (i UInt64, j JSON) ENGINE = Memory"),
        "Null",
    );
    insert(engine, table, &[("i", "UInt64"), ("j", "JSON")], &block);
}

/// Without what the engine's parser makes alike in one array: bools, integers and doubles, and null
/// beside arrays.
fn parsed_as_it_is(value: &Sample, in_array: bool) -> Sample {
    match value {
        Sample::Scalar(Bson::Boolean(value)) if in_array => {
            Sample::Scalar(Bson::String(value.to_string()))
        }
        Sample::Scalar(Bson::Double(value)) if in_array => {
            Sample::Scalar(Bson::String(value.to_string()))
        }
        Sample::Scalar(Bson::Null | Bson::Undefined) if in_array => {
            Sample::Scalar(Bson::String("null".to_owned()))
        }
        Sample::Scalar(scalar) => Sample::Scalar(scalar.clone()),
        Sample::Document(fields) => Sample::Document(fields_parsed_as_they_are(fields)),
        Sample::Array(items) => {
            Sample::Array(items.iter().map(|item| parsed_as_it_is(item, true)).collect())
        }
    }
}

fn fields_parsed_as_they_are(fields: &[(String, Sample)]) -> Fields {
    fields.iter().map(|(key, value)| (key.clone(), parsed_as_it_is(value, false))).collect()
}

#[test]
fn the_engine_reads_text_as_the_flattened_form() {
    let Some(engine) = engine() else { return };
    for seed in 100..124 {
        let rows: Vec<_> =
            arbitrary_rows(seed, 12).iter().map(|row| fields_parsed_as_they_are(row)).collect();
        insert_text(&engine, "as_text", &rows);
        assert_rows(&engine.rows("as_text"), &rows, Dates::Text, &format!("seed {seed}"));
    }
}

#[test]
fn values_as_text_keep_their_types() {
    let Some(engine) = engine() else { return };
    let scalar = Sample::Scalar;
    let array = |items: Vec<Bson>| Sample::Array(items.into_iter().map(Sample::Scalar).collect());
    let date = bson::DateTime::from_millis(0);
    let cases = [
        (scalar(Bson::Int32(1)), "Int64"),
        (scalar(Bson::Int64(i64::MIN)), "Int64"),
        (scalar(Bson::Double(1.0)), "Float64"),
        (scalar(Bson::Double(-0.0)), "Float64"),
        (scalar(Bson::Double(1e16)), "Float64"),
        (scalar(Bson::Double(f64::MAX)), "Float64"),
        (scalar(Bson::Double(f64::NAN)), "String"),
        (scalar(Bson::Boolean(true)), "Bool"),
        (scalar(Bson::String("2020-01-01".to_owned())), "String"),
        (scalar(Bson::DateTime(date)), "String"),
        (scalar(Bson::String("12".to_owned())), "String"),
        (array(vec![Bson::Double(1.0), Bson::Null]), "Array(Nullable(Float64))"),
        (array(vec![Bson::Boolean(true), Bson::Null]), "Array(Nullable(Bool))"),
        (array(vec![Bson::Int32(1), Bson::Null]), "Array(Nullable(Int64))"),
        (array(vec![]), "Array(Nullable(String))"),
        (array(vec![Bson::Int32(1), Bson::String("x".to_owned())]), "Array(Dynamic)"),
    ];
    // A path for each: an array takes the type of one that the path has, when it fits.
    let rows: Vec<Fields> = (10..)
        .zip(&cases)
        .map(|(number, (value, _))| vec![(format!("a.{number}"), value.clone())])
        .collect();
    insert_text(&engine, "typed", &rows);
    let types = engine.query(
        "SELECT arrayJoin(mapValues(JSONAllPathsWithTypes(j))) FROM typed ORDER BY i",
        "TSV",
    );
    let types = String::from_utf8(types).unwrap();
    assert_eq!(types.lines().collect::<Vec<_>>(), cases.map(|(_, of)| of));
    assert_rows(&engine.rows("typed"), &rows, Dates::Text, "typed");
}

#[test]
fn as_text_only_the_scalars_that_are_last_are_attributes() {
    let repeated = |value: Sample| {
        vec![
            ("_id".to_owned(), Sample::Scalar(Bson::Int32(1))),
            ("a".to_owned(), Sample::Scalar(Bson::Int32(2))),
            ("a".to_owned(), value),
            ("b".to_owned(), Sample::Scalar(Bson::Double(3.0))),
        ]
    };
    for (value, expected) in [
        (Sample::Document(Vec::new()), r#"{"b":3.0}"#),
        (Sample::Scalar(Bson::Null), r#"{"b":3.0}"#),
        (Sample::Scalar(Bson::Boolean(true)), r#"{"a":true,"b":3.0}"#),
    ] {
        let mut out = Vec::new();
        text::scalars(Doc::new(&sample::bytes(&repeated(value))).unwrap(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn as_text_what_is_not_utf8_is_replaced_and_what_is_not_bson_refused() {
    let mut out = Vec::new();
    text::document(Doc::new(b"\x0f\0\0\0\x02\xff.\0\x02\0\0\0\xfe\0\0").unwrap(), &mut out)
        .unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "{\"\u{fffd}.\":\"\u{fffd}\"}");
    let deepest = (0..250).fold(doc! {}, |inner, _| doc! { "a": inner });
    let bytes = deepest.to_vec().unwrap();
    assert!(text::document(Doc::new(&bytes).unwrap(), &mut Vec::new()).is_err());
}

fn layout() -> Layout {
    Layout {
        records: TableName::new("wide_records"),
        records_from: RecordsFrom::Inline,
        raw_cdc: None,
        dead_letters: TableName::new("wide_dead_letters"),
        current: Some(CurrentNames::default()),
    }
}

fn events(documents: impl Iterator<Item = bson::Document>) -> Vec<ChangeEvent> {
    let event = |(number, document): (u32, bson::Document)| {
        let event = doc! {
            "_id": { "_data": format!("8265F1A2B3{number:08X}2B022C0100296E5A1004") },
            "operationType": "insert",
            "clusterTime": Bson::Timestamp(bson::Timestamp { time: 1_700_000_000, increment: number }),
            "ns": { "db": "d", "coll": "wide" },
            "documentKey": { "_id": document.get("_id").unwrap() },
            "fullDocument": document,
        };
        ChangeEvent::index(Bytes::from(event.to_vec().unwrap())).unwrap()
    };
    (1u32..).zip(documents).map(event).collect()
}

fn encode(events: Vec<ChangeEvent>) -> Rows {
    let entries = Entry::dense(Seq(0), events);
    let lane = LaneId::stream("main");
    Rows::encode(&layout(), None, lane, Epoch::new([1; 16]), entries).unwrap()
}

/// Documents with names of their own at the top, or below it.
fn unique(documents: u32, names: u32, nested: bool) -> impl Iterator<Item = bson::Document> {
    (0..documents).map(move |n| {
        let own: bson::Document =
            (0..names).map(|m| (format!("{n:08x}-0000-4000-8000-{m:012x}"), m.into())).collect();
        if nested {
            doc! { "_id": n, "users": own }
        } else {
            let mut own = own;
            own.insert("_id", n);
            own
        }
    })
}

fn total(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.bytes.len()).sum()
}

#[test]
fn four_thousand_documents_with_thirty_names_of_their_own_are_inserted() {
    let rows = encode(events(unique(4_000, 30, false)));
    let (_, current) = rows.stretches[0].upsert.first().unwrap();
    let size = total(&rows.append) + current.bytes.len();
    assert!(size < 64 << 20, "{size} bytes");
    let again = encode(events(unique(4_000, 30, false)));
    assert!(again.append[0].bytes == rows.append[0].bytes, "another block of the same events");
    assert!(
        again.stretches[0].upsert[0].1.bytes == current.bytes,
        "another block of the same events"
    );
    let Some(engine) = engine() else { return };
    engine.query(&table::create_current("default", &current.table, ""), "Null");
    engine.query(&table::create_records("default", &layout().records, 10, None, ""), "Null");
    insert(&engine, "wide_records", table::RECORD_COLUMNS, &rows.append[0].bytes);
    insert(&engine, current.table.as_str(), table::CURRENT_COLUMNS, &current.bytes);
    for (table, column, names) in
        [("wide_records", "attrs", 30), (current.table.as_str(), "doc", 31)]
    {
        let sql = format!("SELECT count(), sum(length(JSONAllPaths({column}))) FROM {table}");
        let found = String::from_utf8(engine.query(&sql, "TSV")).unwrap();
        assert_eq!(found, format!("4000\t{}\n", 4_000 * names), "{table}");
    }
    let seventh = engine
        .query(&format!("SELECT toString(doc) FROM {} WHERE _id = '7'", current.table), "TSVRaw");
    let seventh: serde_json::Value = serde_json::from_slice(&seventh).unwrap();
    assert_eq!(seventh["00000007-0000-4000-8000-000000000003"].to_string().trim_matches('"'), "3");
    assert_eq!(seventh.as_object().unwrap().len(), 31);
    // Nothing of the engine's may be at work when the process ends.
    for table in ["wide_records", current.table.as_str()] {
        engine.query(&format!("DROP TABLE {table} SYNC"), "Null");
    }
}

#[test]
fn only_a_column_that_is_too_wide_is_sent_as_text() {
    // As attributes, whose maps are left out, these are narrow.
    let rows = encode(events(unique(300, 20, true)));
    let version = |block: &Block, name: &[u8]| {
        let column = [&[name.len() as u8], name, b"\x04JSON"].concat();
        let at = block.bytes.windows(column.len()).position(|part| part == column).unwrap();
        block.bytes[at + column.len()]
    };
    assert_eq!(version(&rows.append[0], b"attrs"), 3);
    assert_eq!(version(&rows.stretches[0].upsert[0].1, b"doc"), 1);
    let narrow = encode(events(unique(100, 20, true)));
    assert_eq!(version(&narrow.stretches[0].upsert[0].1, b"doc"), 3);
}

#[test]
fn names_in_arrays_of_objects_count() {
    let mut column = JsonColumn::new(Dates::Text);
    for document in unique(300, 20, true) {
        let users = document.get_document("users").unwrap();
        column.push(Doc::new(&doc! { "users": [users] }.to_vec().unwrap()).unwrap()).unwrap();
    }
    assert!(column.is_too_wide());
    assert_eq!(column.rows(), 0);
    column.clear();
    column.push(Doc::new(&doc! { "a": 1 }.to_vec().unwrap()).unwrap()).unwrap();
    assert!(!column.is_too_wide());
    assert_eq!(column.rows(), 1);
}

#[test]
fn a_replacement_by_an_equal_id_ends_the_row_of_the_old_one() {
    let event = |number: u32, key: Bson, document: bson::Document| {
        let event = doc! {
            "_id": { "_data": format!("8265F1A2B3{number:08X}2B022C0100296E5A1004") },
            "operationType": "replace",
            "clusterTime": Bson::Timestamp(bson::Timestamp { time: 1_700_000_000, increment: number }),
            "ns": { "db": "d", "coll": "wide" },
            "documentKey": { "_id": key },
            "fullDocument": document,
        };
        ChangeEvent::index(Bytes::from(event.to_vec().unwrap())).unwrap()
    };
    let names = |count: i32| (0..count).map(|n| (format!("n{n}"), n.into()));
    // As its own form, and as text.
    for width in [1, 5_000] {
        let mut second = doc! { "_id": 1.0 };
        second.extend(names(width));
        let events = vec![
            event(1, 1.into(), doc! { "_id": 1_i64, "a": 1 }),
            event(2, 1.into(), second),
            event(3, 1.0.into(), doc! { "_id": 1.0, "a": 2 }),
        ];
        let rows = encode(events);
        let block = &rows.stretches[0].upsert[0].1;
        assert_eq!(block.rows, 4);
        let ids = b"\x03_id\x06String\x011\x011\x17{\"$numberDouble\":\"1.0\"}\x17{\"$numberDouble\":\"1.0\"}";
        assert!(block.bytes.windows(ids.len()).any(|part| part == ids), "{width}");
        let Some(engine) = engine() else { continue };
        engine.query(&table::create_current("default", &block.table, ""), "Null");
        insert(&engine, block.table.as_str(), table::CURRENT_COLUMNS, &block.bytes);
        let state = format!(
            "SELECT _id, doc.a FROM {} FINAL WHERE _is_deleted = 0 ORDER BY _id",
            block.table
        );
        let state = String::from_utf8(engine.query(&state, "TSVRaw")).unwrap();
        assert_eq!(state, "{\"$numberDouble\":\"1.0\"}\t2\n");
        engine.query(&format!("DROP TABLE {} SYNC", block.table), "Null");
    }
}
