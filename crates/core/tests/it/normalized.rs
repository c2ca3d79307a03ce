//! Normalized events: what is read from the topic makes the row that the event itself makes.

use std::sync::Arc;

use bson::{Document, doc};
use bytes::Bytes;
use proptest::prelude::*;
use tailwater_core::bson::Doc;
use tailwater_core::config::Secrets;
use tailwater_core::event::ChangeEvent;
use tailwater_core::json_column::{Dates, JsonColumn};
use tailwater_core::mapping::{Mapping, Outcome};
use tailwater_core::message::{header, murmur2};
use tailwater_core::native::Column;
use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::position::{Millis, Seq};
use tailwater_core::record::{Record, Route};

use crate::producing::{TOKEN, VERSION, event, insert, record};
use crate::sample::{self, Fields};

/// A host without secrets.
struct Host;

impl Secrets for Host {
    fn variable(&self, name: &str) -> Result<String, String> {
        Err(format!("no variable `{name}`"))
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("no file `{path}`"))
    }
}

fn mapped(lines: &str, event: &ChangeEvent) -> NormalizedEvent {
    let text = format!("mappings:\n  - match: {{ ns.db: d }}\n{lines}");
    let mapping = Mapping::read("mapping.yaml", &text, &Host).unwrap();
    let mapped = mapping.apply(event).unwrap();
    let Outcome::Normalized(normalized) = mapped.outcome else { panic!("{:?}", mapped.outcome) };
    NormalizedEvent::of(&mapped.event, Some(&normalized), mapping.hash()).unwrap()
}

fn json(event: &NormalizedEvent) -> String {
    let mut out = Vec::new();
    event.write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> NormalizedEvent {
    NormalizedEvent::read_json(text.as_bytes(), None)
        .unwrap_or_else(|why| panic!("{why:?} of {text}"))
}

/// A JSON column of that one row.
fn column(doc: Doc<'_>) -> Vec<u8> {
    let mut column = JsonColumn::new(Dates::Text);
    column.push(doc).unwrap();
    let mut out = Vec::new();
    column.write(&mut out);
    out
}

/// What a row needs is the same.
fn assert_same_row(one: &NormalizedEvent, other: &NormalizedEvent) {
    assert_eq!(column(one.tags.document()), column(other.tags.document()));
    assert_eq!(column(one.attrs.document()), column(other.attrs.document()));
    let plain = |event: &NormalizedEvent| {
        let empty = read(r#"{"ts":0,"ns":{"db":"d"},"op":"x","mapping":""}"#);
        NormalizedEvent { tags: empty.tags, attrs: empty.attrs, ..event.clone() }
    };
    assert_eq!(plain(one), plain(other));
}

/// An event whose document has the fields in `x`.
fn nested(fields: &Fields) -> ChangeEvent {
    let image = Document::from_reader(sample::bytes(&without_repeats(fields)).as_slice()).unwrap();
    event("insert", doc! { "fullDocument": { "_id": 1, "x": image }, "documentKey": { "_id": 1 } })
}

/// As the `bson` crate cannot hold equal names.
fn without_repeats(fields: &Fields) -> Fields {
    sample::without_repeats(fields)
}

proptest! {
    #[test]
    fn what_is_read_makes_the_row_that_was_written(fields in sample::fields(), raw: bool) {
        let lines = format!("    tags: [x.a, x.b]\n    attrs: [x, fullDocument._id]\n    raw: {raw}\n");
        let normalized = mapped(&lines, &nested(&fields));
        prop_assert_eq!(normalized.raw.is_some(), raw);
        let text = json(&normalized);
        serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
        let found = read(&text);
        assert_same_row(&normalized, &found);
        // And so for ever.
        prop_assert_eq!(json(&found), text);
    }

    #[test]
    fn any_time_and_any_text_is_carried(ts: i64, texts: [String; 3], version: u128, superseded: bool) {
        let [event_type, doc_id, raw] = texts;
        let normalized = NormalizedEvent {
            ts: Millis(ts),
            event_type,
            doc_id,
            raw: Some(raw),
            version,
            superseded,
            ..mapped("    tags: []\n", &insert())
        };
        prop_assert_eq!(read(&json(&normalized)), normalized);
    }

    #[test]
    fn what_is_not_mapped_is_what_it_is_without_a_mapping(fields in sample::fields()) {
        let image = Document::from_reader(sample::bytes(&without_repeats(&fields)).as_slice()).unwrap();
        let event = event("insert", doc! { "fullDocument": image, "documentKey": { "_id": 1 } });
        let normalized = NormalizedEvent::of(&event, None, "").unwrap();
        let mut expected = JsonColumn::new(Dates::Text);
        expected.begin_row();
        expected.scalars(event.full_document().unwrap()).unwrap();
        expected.end_row();
        let mut out = Vec::new();
        expected.write(&mut out);
        prop_assert_eq!(column(normalized.attrs.document()), out);
        prop_assert!(normalized.tags.document().is_empty());
        assert_same_row(&normalized, &read(&json(&normalized)));
    }
}

#[test]
fn the_json_is_that_of_the_guide() {
    let image = doc! {
        "_id": 1, "status": "arrived", "size": 5i64, "ratio": 1.0, "n": 1e300, "gone": null,
        "at": bson::DateTime::from_millis(0), "sub": { "a.b": [1, 2.0, null], "n": null },
    };
    let event = event("insert", doc! { "fullDocument": image, "documentKey": { "_id": 1 } });
    let lines = "    event_type_override: { when: \"$eq(fullDocument.status, 'arrived')\", value: file_arrived }\n    tags: [status]\n    attrs: [size, ratio, n, at, sub, gone]\n";
    let normalized = mapped(lines, &event);
    let expected = format!(
        r#"{{"ts":"2023-11-14T22:13:20.123Z","source":"mongo","ns":{{"db":"d","coll":"c"}},"event_type":"file_arrived","idempotency_key":"mongo:d.c:1:insert:1710334643.7.2","tags":{{"status":"arrived"}},"attrs":{{"size":5,"ratio":1.0,"n":1e+300,"at":"1970-01-01T00:00:00.000Z","sub":{{"a.b":[1,2.0,null]}}}},"op":"insert","doc_id":"1","version":"{VERSION}","mapping":"{}"}}"#,
        normalized.mapping
    );
    assert_eq!(json(&normalized), expected);
    assert_same_row(&normalized, &read(&expected));
}

#[test]
fn an_event_without_a_mapping_keeps_itself() {
    let update = event("update", doc! { "fullDocument": null, "documentKey": { "_id": 1 } });
    let normalized = NormalizedEvent::of(&update, None, "h").unwrap();
    assert_eq!(&normalized.event_type, "update");
    assert!(normalized.superseded);
    assert!(normalized.raw.as_ref().unwrap().starts_with(r#"{"_id":{"_data":""#));
    assert_eq!(read(&json(&normalized)), normalized);

    // Always with milliseconds.
    let whole_second = json(&NormalizedEvent { ts: Millis(0), ..normalized });
    assert!(whole_second.starts_with(r#"{"ts":"1970-01-01T00:00:00.000Z","source":"#));

    let drop = NormalizedEvent::of(&event("drop", doc! {}), None, "").unwrap();
    assert_eq!(drop.doc_id, "");
    assert_eq!(drop.idempotency_key, "mongo:d.c::drop:1710334643.7.2");
    assert!(!json(&drop).contains("superseded"));
}

/// The names of wrappers are names like others in what we wrote.
#[test]
fn a_document_named_like_a_wrapper_stays_a_document() {
    let image = doc! { "_id": 1, "x": { "$date": 5 } };
    let event = event("insert", doc! { "fullDocument": image, "documentKey": { "_id": 1 } });
    let normalized = mapped("    attrs: [x]\n", &event);
    let found = read(&json(&normalized));
    assert_same_row(&normalized, &found);
    let attrs = Document::from_reader(found.attrs.document().as_bytes()).unwrap();
    assert_eq!(attrs, doc! { "x": { "$date": 5 } });
}

#[test]
fn its_message_has_the_key_of_the_record_and_the_partition_of_the_document() {
    let insert = insert();
    let normalized = NormalizedEvent::of(&insert, None, "").unwrap();
    let key = Some(Bytes::from_static(b"the key"));
    let message = normalized.message(&Arc::from("normalized"), &insert, key.clone()).unwrap();
    assert_eq!((&*message.topic, &message.key), ("normalized", &key));
    assert_eq!(message.route, Route::Hash(murmur2(br#"{"_id":{"$numberInt":"1"}}"#)));
    let record = record(&message);
    assert_eq!(record.header(header::FORMAT), Some(&b"normalized"[..]));
    assert_eq!(record.header(header::OP), Some(&b"insert"[..]));
    assert_eq!(record.header(header::VERSION), Some(VERSION.to_string().as_bytes()));
    assert_same_row(&NormalizedEvent::read(&record).unwrap(), &normalized);
    // One row, so one message.
    let drop = event("drop", doc! {});
    let normalized = NormalizedEvent::of(&drop, None, "").unwrap();
    let message = normalized.message(&Arc::from("normalized"), &drop, None).unwrap();
    assert_eq!(message.route, Route::Hash(murmur2(b"d.c")));
}

/// What the guide's Python consumer makes of the connector's default JSON.
#[test]
fn what_the_guides_consumer_writes_is_read() {
    let found = read(
        r#"{"ts": {"$timestamp": {"t": 1700000000, "i": 3}}, "source": "mongo", "ns": {"db": "ingest", "coll": "files"}, "event_type": "file_arrived", "idempotency_key": "mongo:{'$oid': '65'}:insert:{}", "tags": {"consumer_id": "c1", "file_type": null, "status": "arrived"}, "attrs": {"size_bytes": {"$numberLong": "123456"}, "checksum": "\u00e9", "ratio": NaN}}"#,
    );
    assert_eq!(found.ts, Millis(1_700_000_000_000));
    assert_eq!((&*found.db, &*found.coll), ("ingest", "files"));
    assert_eq!((&*found.op, &*found.event_type), ("file_arrived", "file_arrived"));
    assert_eq!((&*found.doc_id, found.version, &*found.mapping), ("", 0, ""));
    let fields = |fields: Doc<'_>| Document::from_reader(fields.as_bytes()).unwrap();
    assert_eq!(fields(found.tags.document()), doc! { "consumer_id": "c1", "status": "arrived" });
    let attrs = fields(found.attrs.document());
    assert_eq!(attrs.get_i64("size_bytes").unwrap(), 123_456);
    assert_eq!(attrs.get_str("checksum").unwrap(), "é");
}

#[test]
fn times_are_read_in_any_form() {
    let ts = |ts: &str| read(&format!(r#"{{"ts":{ts},"ns":{{"db":"d"}},"event_type":"e"}}"#)).ts.0;
    for (text, expected) in [
        (r#""2023-11-14T22:13:20Z""#, 1_700_000_000_000),
        (r#""2023-11-14T23:13:20.5+01:00""#, 1_700_000_000_500),
        (r#""2023-11-14T22:13:20.123456""#, 1_700_000_000_123),
        (r#"{"$date": 5}"#, 5),
        (r#"{"$timestamp": {"t": 5, "i": 1}}"#, 5000),
        ("1700000000", 1_700_000_000_000),
        ("1700000000.25", 1_700_000_000_250),
        ("1700000000123", 1_700_000_000_123),
        ("1700000000123.0", 1_700_000_000_123),
        ("-5", -5000),
    ] {
        assert_eq!(ts(text), expected, "{text}");
    }
    let without = br#"{"ns":{"db":"d"},"event_type":"e"}"#;
    let found = NormalizedEvent::read_json(without, Some(Millis(9))).unwrap();
    assert_eq!(found.ts, Millis(9));
}

#[test]
fn what_is_no_normalized_event_is_rejected() {
    let reason = |text: &str| NormalizedEvent::read_json(text.as_bytes(), None).unwrap_err().reason;
    for (text, expected) in [
        ("secret", "not_json"),
        ("[]", "not_json"),
        ("{}", "not_normalized"),
        (r#"{"ts":0,"event_type":"e"}"#, "no_namespace"),
        (r#"{"ts":0,"event_type":"e","ns":{"coll":"c"}}"#, "no_namespace"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":1}}"#, "not_normalized"),
        (r#"{"ts":"secret","event_type":"e","ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"event_type":"e","ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":1,"ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"tags":[]}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"version":"x"}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"version":-1}"#, "not_normalized"),
    ] {
        assert_eq!(reason(text), expected, "{text}");
        let error = NormalizedEvent::read_json(text.as_bytes(), None).unwrap_err().error;
        assert!(!error.contains("secret"), "{error}");
    }
    let null = Record { offset: Seq(1), timestamp: None, key: None, value: None, headers: vec![] };
    assert_eq!(NormalizedEvent::read(&null).unwrap_err().reason, "not_normalized");
}

#[test]
fn an_id_that_is_no_text_is_rejected() {
    let delete = event("delete", doc! { "documentKey": { "_id": "abcd" } });
    let mut bytes = delete.bytes().to_vec();
    let at = bytes.windows(4).position(|four| four == b"abcd").unwrap();
    bytes[at] = 0xff;
    let event = ChangeEvent::index(bytes.into()).unwrap();
    assert_eq!(event.token_data(), TOKEN.as_bytes());
    assert_eq!(NormalizedEvent::of(&event, None, "").unwrap_err().reason, "not_utf8");
}
