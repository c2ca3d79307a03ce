//! Records as change events: our own to the byte, and those of other programs.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use bytes::Bytes;
use proptest::prelude::*;
use tailwater_core::bson::Doc;
use tailwater_core::connector::{Formatter, Messages, Output, TopicNames, TopicSettings};
use tailwater_core::doc_id;
use tailwater_core::event::ChangeEvent;
use tailwater_core::message::{Format, header};
use tailwater_core::names::CurrentNames;
use tailwater_core::position::{Epoch, LaneId, Millis, Seq};
use tailwater_core::producing::{Producing, Publish, Style};
use tailwater_core::reading::{Content, Nothing, Reading};
use tailwater_core::record::Record;
use tailwater_core::rows::{Entry, Layout, Namespace, RecordsFrom, Rejection, Rows};
use tailwater_core::table::TableName;

use crate::connector::golden;
use crate::producing::{TOKEN, VERSION, event, insert, messages, producing, record};
use crate::sample;

/// A reader that knows the topic `t`.
fn reading() -> Reading {
    Reading::new(Arc::new(|topic: &str| {
        (topic == "t").then(|| Namespace { db: "d".to_owned(), coll: "c".to_owned() })
    }))
}

fn read(record: &Record) -> ChangeEvent {
    match reading().read("t", record) {
        Ok(Content::Event(event)) => event,
        other => panic!("{other:?} of {record:?}"),
    }
}

fn reason(record: &Record) -> &'static str {
    reading().read("t", record).unwrap_err().reason
}

/// A record of another program.
fn foreign(key: Option<&str>, value: Option<&str>) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Record {
        offset: Seq(41),
        timestamp: Some(Millis(1_700_000_000_999)),
        key: key.map(bytes),
        value: value.map(bytes),
        headers: Vec::new(),
    }
}

/// What a record of that program is: the second of its timestamp, and one more than its offset.
const FOREIGN_VERSION: u128 = 1_700_000_000 << 96 | 42;

fn document(doc: Option<Doc<'_>>) -> Document {
    Document::from_reader(doc.unwrap().as_bytes()).unwrap()
}

fn id(event: &ChangeEvent) -> String {
    let mut out = Vec::new();
    doc_id::write(event.document_key().unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn encode(event: ChangeEvent) -> tailwater_core::Result<Rows> {
    let layout = Layout {
        records: TableName::new("r"),
        records_from: RecordsFrom::Inline,
        raw_cdc: None,
        dead_letters: TableName::new("dead_letters"),
        current: Some(CurrentNames::default()),
    };
    let entries = Entry::dense(Seq(0), [event]);
    Rows::encode(&layout, None, LaneId::stream("d.c"), Epoch::new([1; 16]), entries)
}

/// An event of a document with these fields.
fn replace(fields: &[(String, sample::Sample)], id: Bson) -> ChangeEvent {
    let image = Document::from_reader(sample::bytes(&[]).as_slice()).unwrap();
    let whole = event("replace", doc! { "fullDocument": image, "documentKey": { "_id": id } });
    // As names may repeat, the image is put in as bytes.
    let empty = [&b"\x03fullDocument\0"[..], &sample::bytes(&[])].concat();
    let at = whole.bytes().windows(empty.len()).position(|window| window == empty).unwrap();
    let image = [&b"\x03fullDocument\0"[..], &sample::bytes(fields)].concat();
    let mut bytes = [&whole.bytes()[..at], &image, &whole.bytes()[at + empty.len()..]].concat();
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    ChangeEvent::index(bytes.into()).unwrap()
}

proptest! {
    #[test]
    fn our_events_are_read_as_the_same_bytes(
        fields in sample::fields(), id in sample::scalar(), listed: bool, looked_up: bool
    ) {
        let mut event = replace(&fields, id);
        if !listed {
            event = event.unlisted();
        }
        if !looked_up {
            event = event.not_looked_up();
        }
        for format in [Format::Json, Format::JsonCanonical, Format::Bson] {
            let style = Style { format, ..Style::default() };
            let found = read(&record(&messages(&producing(style), &event)[0]));
            prop_assert_eq!(found.bytes(), event.bytes());
            prop_assert_eq!(found.version(), VERSION);
            prop_assert_eq!((found.is_listed(), found.is_looked_up()), (listed, looked_up));
            prop_assert!(found.is_typed());
        }
    }

    #[test]
    fn our_documents_are_read_as_the_same_bytes(
        fields in sample::fields(), id in sample::scalar()
    ) {
        let event = replace(&fields, id.clone());
        for format in [Format::Json, Format::JsonCanonical, Format::Bson] {
            let style = Style { format, publish: Publish::FullDocument, ..Style::default() };
            let found = read(&record(&messages(&producing(style), &event)[0]));
            prop_assert_eq!(found.full_document(), event.full_document());
            prop_assert_eq!(found.document_key(), event.document_key());
            prop_assert_eq!(found.operation_type(), event.operation_type());
            prop_assert_eq!((found.db(), found.coll()), (event.db(), event.coll()));
            prop_assert_eq!((found.version(), found.ts()), (event.version(), event.ts()));
            prop_assert!(found.is_typed() && found.tells_state());

            let delete = crate::producing::event("delete", doc! { "documentKey": { "_id": &id } });
            let found = read(&record(&messages(&producing(style), &delete)[0]));
            prop_assert_eq!(found.full_document(), None);
            prop_assert_eq!(found.document_key(), delete.document_key());
            prop_assert_eq!(found.operation_type(), &b"delete"[..]);
            prop_assert_eq!((found.version(), found.ts()), (delete.version(), delete.ts()));
        }
    }
}

#[test]
fn events_of_a_real_server_are_read_as_the_same_bytes() {
    for golden in golden() {
        let event = ChangeEvent::index(golden.bson.clone().into()).unwrap();
        for format in [Format::Json, Format::JsonCanonical, Format::Bson] {
            let style = Style { format, ..Style::default() };
            for message in messages(&producing(style), &event) {
                assert_eq!(read(&record(&message)).bytes(), &golden.bson);
                // Also without headers, as a mirror may leave them out.
                let bare = Record { headers: Vec::new(), ..record(&message) };
                assert_eq!(read(&bare).bytes(), &golden.bson);
            }
        }
    }
}

#[test]
fn a_rename_has_its_row_in_the_old_topic_alone() {
    let rename = event("rename", doc! { "to": { "db": "e", "coll": "f" } });
    let found = messages(&producing(Style::default()), &rename);
    let rows: Vec<bool> = found.iter().map(|message| read(&record(message)).has_row()).collect();
    assert_eq!(rows, [true, false]);
}

#[test]
fn an_update_without_an_image_stays_one_among_documents() {
    let style = Style { publish: Publish::FullDocument, ..Style::default() };
    let update = event("update", doc! { "fullDocument": null, "documentKey": { "_id": 1 } });
    let found = read(&record(&messages(&producing(style), &update)[0]));
    assert_eq!(found.bytes(), update.bytes());
    assert!(found.is_superseded() && !found.tells_state());
}

#[test]
fn a_document_may_look_like_a_change_event_or_an_envelope() {
    let style = Style { publish: Publish::FullDocument, ..Style::default() };
    for image in [
        doc! { "_id": 1, "operationType": "drop", "ns": { "db": "x", "coll": "y" } },
        doc! { "schema": { "type": "string" }, "payload": "{}" },
    ] {
        let event = event("insert", doc! { "fullDocument": image, "documentKey": { "_id": 1 } });
        let found = read(&record(&messages(&producing(style), &event)[0]));
        assert_eq!(found.full_document(), event.full_document());
        assert_eq!((found.db(), found.operation_type()), (&b"d"[..], &b"insert"[..]));
    }
}

#[test]
fn the_namespace_of_a_document_is_the_headers() {
    let style = Style { publish: Publish::FullDocument, ..Style::default() };
    for (db, coll) in [("x", "y"), ("x", "y.z.w")] {
        let fields = doc! { "fullDocument": { "_id": 1 }, "documentKey": { "_id": 1 }, "ns": { "db": db, "coll": coll } };
        let found = read(&record(&messages(&producing(style), &event("insert", fields))[0]));
        assert_eq!((found.db(), found.coll()), (db.as_bytes(), coll.as_bytes()));
    }
}

/// Bytes that no JSON has: a string of 0xff, and the name of a wrapper.
#[test]
fn keys_that_json_cannot_carry_travel_beside_it() {
    let ids = [b"\x10\0\0\0\x02_id\0\x02\0\0\0\xff\0\0".to_vec()];
    let wrapper = doc! { "_id": { "$oid": "ab".repeat(12) } }.to_vec().unwrap();
    let style = Style { publish: Publish::FullDocument, ..Style::default() };
    for key in ids.into_iter().chain([wrapper]) {
        let delete = event("delete", doc! { "documentKey": { "_id": 1 } });
        let one = doc! { "_id": 1 }.to_vec().unwrap();
        let at = delete.bytes().windows(one.len()).position(|window| window == one).unwrap();
        let mut bytes = [&delete.bytes()[..at], &key, &delete.bytes()[at + one.len()..]].concat();
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        let delete = ChangeEvent::index(bytes.into()).unwrap();
        let message = &messages(&producing(style), &delete)[0];
        assert!(message.headers.iter().any(|(name, _)| name == header::KEY));
        assert_eq!(read(&record(message)).document_key().unwrap().as_bytes(), key);
    }
    let message = &messages(&producing(style), &insert())[0];
    assert!(message.headers.iter().all(|(name, _)| name != header::KEY));
}

#[test]
fn the_null_behind_a_delete_is_nothing() {
    let style = Style { tombstones: true, ..Style::default() };
    let delete = event("delete", doc! { "documentKey": { "_id": 1 } });
    let found = messages(&producing(style), &delete);
    assert_eq!(read(&record(&found[0])).bytes(), delete.bytes());
    let tombstone = reading().read("t", &record(&found[1])).unwrap();
    assert!(matches!(tombstone, Content::Nothing(Nothing::Tombstone)));
}

/// As the connector writes an event, by `StringConverter`.
fn by_connector(event: &ChangeEvent, formatter: Formatter) -> Record {
    let output = Output::Json(formatter);
    let settings = Messages { key: output, value: output, ..Messages::default() };
    let names = TopicNames::new(&TopicSettings::default()).unwrap();
    let producing = Producing::like_connector(Arc::new(names), settings);
    record(&messages(&producing, event)[0])
}

#[test]
fn what_the_real_connector_wrote_is_read_as_what_the_server_sent() {
    for golden in golden() {
        let event = ChangeEvent::index(golden.bson.clone().into()).unwrap();
        let of = |setting| foreign(Some(golden.text(setting, "key")), Some(golden.value(setting)));
        let payload = golden.value("default").contains("double-nan-payload");
        for setting in ["default", "extended"] {
            let found = read(&of(setting));
            // No text has the payload of a NaN.
            assert!(found.bytes() == event.bytes() || payload, "{}", golden.value(setting));
            assert!(found.is_typed());
        }
        let found = read(&of("simplified"));
        assert!(!found.is_typed());
        assert_eq!(found.token(), event.token(), "also where it has `_typeBits`");
        assert_eq!((found.version(), found.ts()), (event.version(), event.ts()));
        assert_eq!((found.db(), found.coll()), (event.db(), event.coll()));
        assert_eq!(found.operation_type(), event.operation_type());
        assert_eq!(found.renamed_to(), event.renamed_to());
        assert_eq!(found.document_key().is_some(), event.document_key().is_some());
        assert_eq!(found.full_document().is_some(), event.full_document().is_some());
        encode(found).unwrap();
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn what_connect_puts_around_json_is_taken_off() {
    let event = insert();
    let record = by_connector(&event, Formatter::Extended);
    let [key, value] =
        [&record.key, &record.value].map(|bytes| str::from_utf8(bytes.as_ref().unwrap()).unwrap());
    let schema = r#"{"type":"string","optional":false}"#;
    let base64 = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(event.bytes())
    };
    for value in [
        quoted(value),
        format!(r#" {{"schema":{schema},"payload":{}}}"#, quoted(value)),
        format!(r#"{{"payload":{},"schema":{schema}}}"#, quoted(value)),
        format!(r#"{{"schema":{{"type":"struct"}},"payload":{value}}}"#),
        format!(r#"{{"schema":null,"payload":{value}}}"#),
        format!(r#"{{"schema":{{"type":"bytes"}},"payload":"{base64}"}}"#),
        quoted(&quoted(value)),
    ] {
        let found = read(&foreign(Some(key), Some(&value)));
        assert_eq!(found.bytes(), event.bytes(), "{value}");
    }
    // A null in an envelope is a null.
    let null = r#"{"schema":{"type":"bytes","optional":true},"payload":null}"#;
    for key in [
        key.to_owned(),
        quoted(key),
        format!(r#"{{"schema":{schema},"payload":{}}}"#, quoted(key)),
        format!(r#"{{"schema":{{"type":"struct"}},"payload":{key}}}"#),
    ] {
        for value in [None, Some("null"), Some(null)] {
            let found = read(&foreign(Some(&key), value));
            assert_eq!(found.operation_type(), b"delete");
            assert_eq!(found.document_key(), event.document_key(), "{key}");
        }
    }
    let deep = (0..9).fold(value.to_owned(), |inner, _| quoted(&inner));
    assert_eq!(reason(&foreign(Some(key), Some(&deep))), "not_json");
}

/// By `AvroSchemaDefaults` of the connector and Connect's `JsonConverter`.
#[test]
fn the_connectors_default_schema_is_read() {
    let value = format!(
        r#"{{"_id":"{{\"_data\": \"{TOKEN}\"}}","operationType":"update","fullDocumentBeforeChange":null,
        "fullDocument":"{{\"_id\": {{\"$oid\": \"65f0c0de676f6c6465000001\"}}, \"n\": {{\"$numberLong\": \"7\"}}}}",
        "ns":{{"db":"d","coll":"c"}},"to":null,
        "documentKey":"{{\"_id\": {{\"$oid\": \"65f0c0de676f6c6465000001\"}}}}",
        "updateDescription":{{"updatedFields":"{{\"n\": {{\"$numberLong\": \"7\"}}}}","removedFields":["x"],
        "truncatedArrays":[],"disambiguatedPaths":null}},
        "clusterTime":"{{\"$timestamp\": {{\"t\": 1710334643, \"i\": 7}}}}",
        "wallTime":1700000000123,"txnNumber":null,"lsid":null}}"#
    );
    let found = read(&foreign(None, Some(&value)));
    assert!(found.is_typed());
    assert_eq!((found.version(), found.ts()), (VERSION, Millis(1_700_000_000_123)));
    assert_eq!(id(&found), "65f0c0de676f6c6465000001");
    let image = document(found.full_document());
    assert_eq!(image.get("n"), Some(&Bson::Int64(7)));
    let whole = Document::from_reader(&found.bytes()[..]).unwrap();
    assert_eq!(
        whole.get_document("updateDescription").unwrap().get_document("updatedFields").unwrap(),
        &doc! { "n": 7i64 }
    );
    assert_eq!(whole.get_timestamp("clusterTime").unwrap().increment, 7);
    assert_eq!(whole.get("to"), None);

    // Another schema has plain values for documents.
    let plain = value.replace(
        r#""{\"_id\": {\"$oid\": \"65f0c0de676f6c6465000001\"}, \"n\": {\"$numberLong\": \"7\"}}""#,
        r#"{"_id":"65f0c0de676f6c6465000001","n":7}"#,
    );
    assert_ne!(plain, value);
    assert!(!read(&foreign(None, Some(&plain))).is_typed());

    // A text may be as deep as a document of its own.
    let deep = format!("{}1{}", r#"{\"a\":"#.repeat(249), "}".repeat(249));
    let deep = value.replacen(
        r#"{\"n\": {\"$numberLong\": \"7\"}}","removedFields"#,
        &format!(r#"{deep}","removedFields"#),
        1,
    );
    assert_ne!(deep, value);
    assert_eq!(reason(&foreign(None, Some(&deep))), "not_bson");

    // The key's schema has an `_id` of text.
    let key = r#"{"_id":"{\"$oid\": \"65f0c0de676f6c6465000001\"}"}"#;
    assert_eq!(id(&read(&foreign(Some(key), None))), "65f0c0de676f6c6465000001");
    let cut = value.replace(r#"\"7\"}}","#, r#"\"7\"}","#);
    assert_ne!(cut, value);
    assert_eq!(reason(&foreign(None, Some(&cut))), "not_json");
}

#[test]
fn a_document_alone_is_a_replacement_in_the_order_of_its_offset() {
    let value = r#"{"_id": {"$oid": "65f0c0de676f6c6465000001"}, "status": "arrived"}"#;
    let found = read(&foreign(None, Some(value)));
    assert_eq!(found.operation_type(), b"replace");
    assert_eq!((found.db(), found.coll()), (&b"d"[..], &b"c"[..]));
    assert_eq!(found.version(), FOREIGN_VERSION);
    assert_eq!(found.ts(), Millis(1_700_000_000_999));
    assert_eq!(id(&found), "65f0c0de676f6c6465000001");
    assert_eq!(document(found.full_document()).get_str("status").unwrap(), "arrived");
    assert!(found.tells_state() && found.token().is_empty() && found.is_typed());
    let later = read(&Record { offset: Seq(42), ..foreign(None, Some(value)) });
    assert!(later.version() > found.version());
    encode(found).unwrap();

    let value = doc! { "_id": 1, "x": 2.5 }.to_vec().unwrap();
    let bson = Record { value: Some(value.clone().into()), ..foreign(None, None) };
    assert_eq!(read(&bson).full_document().unwrap().as_bytes(), value);
}

#[test]
fn the_document_a_null_deletes_is_that_of_the_key() {
    let bson = |document: Document| Bytes::from(document.to_vec().unwrap());
    let of = |key: &str| {
        let event = read(&foreign(Some(key), None));
        assert_eq!((event.operation_type(), event.version()), (&b"delete"[..], FOREIGN_VERSION));
        assert!(event.tells_state());
        id(&event)
    };
    for (key, expected) in [
        (r#"{"_id": {"$oid": "65f0c0de676f6c6465000001"}}"#, "65f0c0de676f6c6465000001"),
        (r#"{"$oid": "65f0c0de676f6c6465000001"}"#, "65f0c0de676f6c6465000001"),
        (r#"{"_id": "a"}"#, "a"),
        (r#"{"_id": 7}"#, "7"),
        (r#"{"_id": "7"}"#, "\"7\""),
        (r#"{"_id": {"a": 1}}"#, r#"{"a":{"$numberInt":"1"}}"#),
        (r#"{"_id": 7, "shard": "x"}"#, r#"{"_id":{"$numberInt":"7"},"shard":"x"}"#),
        (r#"{"order": 7}"#, r#"{"order":{"$numberInt":"7"}}"#),
        (r#""a""#, "a"),
        ("a", "a"),
        ("a b", "a b"),
        ("{broken", "\"{broken\""),
        ("7", "7"),
        ("-7", "-7"),
        ("1.5", r#"{"$numberDouble":"1.5"}"#),
        ("true", "true"),
        ("9223372036854775808", "9223372036854775808"),
        ("123456789012345678901234", "\"123456789012345678901234\""),
        ("12345678901234567890123e", "\"12345678901234567890123e\""),
        ("00000000000000000000000e", "\"00000000000000000000000e\""),
        ("1234567890123456789012e1", "\"1234567890123456789012e1\""),
    ] {
        assert_eq!(of(key), expected, "{key}");
    }
    for (document, expected) in [
        (doc! { "_id": 7i64 }, "7"),
        (doc! { "_id": 7, "shard": 1 }, r#"{"_id":{"$numberInt":"7"},"shard":{"$numberInt":"1"}}"#),
    ] {
        let record = Record { key: Some(bson(document)), ..foreign(None, None) };
        assert_eq!(id(&read(&record)), expected);
    }
}

#[test]
fn a_null_without_a_documents_key_is_rejected() {
    for key in [None, Some("null"), Some(""), Some("{}"), Some(r#"{"_id": {"_data": "82"}}"#)] {
        assert_eq!(reason(&foreign(key, None)), "no_document_key", "{key:?}");
    }
    for key in [&b"\xff\xfe"[..], b"\0\0\0\x07\xff"] {
        let record = Record { key: Some(Bytes::from_static(key)), ..foreign(None, None) };
        assert_eq!(reason(&record), "no_document_key");
    }
    let no_id = foreign(Some(r#"{"_id": {"_data": "82"}}"#), Some(r#"{"a": 1}"#));
    assert_eq!(reason(&no_id), "no_document_key");
}

#[test]
fn the_key_names_a_document_without_an_id_or_with_a_shard_key() {
    let of = |key, value| id(&read(&foreign(Some(key), Some(value))));
    assert_eq!(of("k", r#"{"a": 1}"#), "k");
    assert_eq!(of(r#"{"_id": 1}"#, r#"{"a": 1}"#), "1");
    // The value knows better, but for a shard key.
    assert_eq!(of("k", r#"{"_id": 2}"#), "2");
    assert_eq!(of(r#"{"_id": {"_data": "82"}}"#, r#"{"_id": 2}"#), "2");
    assert_eq!(of(r#"{"_id": 3, "s": 1}"#, r#"{"_id": 2}"#), "2");
    let sharded = r#"{"_id":{"$numberInt":"2"},"s":{"$numberInt":"1"}}"#;
    assert_eq!(of(r#"{"_id": 2, "s": 1}"#, r#"{"_id": 2}"#), sharded);
    assert_eq!(of(r#"{"_id": 2, "s": 1}"#, r#"{"a": 2}"#), sharded);
}

#[test]
fn heartbeats_are_nothing() {
    let heartbeat = |topic: &str, record: &Record| {
        matches!(reading().read(topic, record), Ok(Content::Nothing(Nothing::Heartbeat)))
    };
    let key = format!(r#"{{"_data": "{TOKEN}"}}"#);
    for key in [key.clone(), quoted(&key)] {
        assert!(heartbeat("t", &foreign(Some(&key), None)));
        assert!(heartbeat("other", &foreign(Some(&key), None)));
    }
    assert!(heartbeat("__mongodb_heartbeats", &foreign(None, None)));
    assert!(!heartbeat("t", &foreign(Some("k"), None)));
}

#[test]
fn events_without_a_token_have_the_place_that_is_told() {
    let event = r#"{"operationType": "insert", "fullDocument": {"_id": 1}, "ns": {"db": "x", "coll": "y"}, "documentKey": {"_id": 1}}"#;
    let found = read(&foreign(None, Some(event)));
    assert_eq!((found.db(), found.version()), (&b"x"[..], FOREIGN_VERSION));
    let timed = event.replacen('{', r#"{"clusterTime": {"$timestamp": {"t": 5, "i": 6}}, "#, 1);
    let found = read(&foreign(None, Some(&timed)));
    assert_eq!(found.version(), (5 << 32 | 6) << 64 | 42);
    assert_eq!(found.ts(), Millis(5000));
    let told = Record {
        headers: vec![(header::VERSION.into(), Bytes::from_static(b"77"))],
        ..foreign(None, Some(&timed))
    };
    assert_eq!(read(&told).version(), 77);
}

#[test]
fn what_a_transformation_took_out_is_found_again() {
    let event = format!(
        r#"{{"_id": {{"_data": "{TOKEN}"}}, "operationType": "insert", "fullDocument": {{"_id": 1}}}}"#
    );
    let found = read(&foreign(None, Some(&event)));
    assert_eq!((found.db(), found.coll(), id(&found)), (&b"d"[..], &b"c"[..], "1".to_owned()));
    assert_eq!(found.version(), VERSION);
    let elsewhere = reading().read("other", &foreign(None, Some(&event))).unwrap_err();
    assert_eq!(elsewhere.reason, "no_namespace");
    let delete = event.replace("insert", "delete").replace("fullDocument", "x");
    assert_eq!(id(&read(&foreign(Some("k"), Some(&delete)))), "k");
    assert_eq!(reason(&foreign(None, Some(&delete))), "no_document_key");
}

#[test]
fn a_simplified_format_of_ours_is_told_to_have_lost_types() {
    let style = Style { format: Format::JsonSimplified, ..Style::default() };
    let image = doc! { "_id": bson::oid::ObjectId::from_bytes([7; 12]), "n": 1i64 };
    let key = doc! { "_id": bson::oid::ObjectId::from_bytes([7; 12]) };
    let event = event("insert", doc! { "fullDocument": image, "documentKey": key });
    for publish in [Publish::ChangeEvent, Publish::FullDocument] {
        let found = read(&record(&messages(&producing(Style { publish, ..style }), &event)[0]));
        assert!(!found.is_typed());
        assert_eq!((found.version(), found.ts()), (VERSION, event.ts()));
        assert_eq!(found.operation_type(), b"insert");
        // The key has its types.
        assert_eq!(found.document_key(), event.document_key());
        assert_eq!(document(found.full_document()).get("n"), Some(&Bson::Int32(1)));
    }
    let drop = crate::producing::event("drop", doc! {});
    let found = read(&record(&messages(&producing(style), &drop)[0]));
    assert_eq!(found.document_key(), None);
}

#[test]
fn the_end_of_a_collection_comes_in_every_partition_only_from_tailwater() {
    let drop = crate::producing::event("drop", doc! {});
    let ours = read(&record(&messages(&producing(Style::default()), &drop)[0]));
    assert!(!ours.is_in_one_lane());
    assert!(read(&by_connector(&drop, Formatter::Extended)).is_in_one_lane());
}

#[test]
fn what_cannot_be_read_is_rejected_with_its_reason() {
    let headers = |name: &str, value: &'static [u8], record: Record| Record {
        headers: vec![(name.into(), Bytes::from_static(value))],
        ..record
    };
    let json = || foreign(None, Some(r#"{"_id": 1}"#));
    let bson = |bytes: &'static [u8]| Record { value: Some(Bytes::from_static(bytes)), ..json() };
    let deep = format!("{}1{}", "{\"a\":".repeat(250), "}".repeat(250)).replacen(
        "{\"a\"",
        "{\"_id\":1,\"a\"",
        1,
    );
    for (record, expected) in [
        (foreign(None, Some("")), "not_json"),
        (foreign(None, Some("{")), "not_json"),
        (foreign(None, Some("no secret")), "not_json"),
        (foreign(None, Some("7")), "not_json"),
        (foreign(None, Some("[{}]")), "not_json"),
        (foreign(None, Some(r#"{"schema":null,"payload":7}"#)), "not_json"),
        (foreign(None, Some(r#"{"schema":{"type":"bytes"},"payload":"!"}"#)), "not_json"),
        (bson(b"\xff\xfe"), "not_json"),
        (bson(b"\x08\0\0\0\x99a\0\0"), "not_bson"),
        (foreign(None, Some(&deep)), "not_bson"),
        (headers(header::FORMAT, b"avro", json()), "unknown_format"),
        (headers(header::FORMAT, b"normalized", json()), "unknown_format"),
        (headers(header::FORMAT, b"bson", json()), "not_bson"),
        (headers(header::FORMAT, b"json", foreign(None, Some("\"{}\""))), "not_json"),
        (headers(header::VERSION, b"x", json()), "bad_header"),
        (headers(header::TS, b"", json()), "bad_header"),
        (headers(header::NS, b"\xff", json()), "bad_header"),
        (headers(header::VERSION, b"7", json()), "not_event"),
        (
            headers(header::VERSION, b"7", foreign(None, Some(r#"{"operationType": "drop"}"#))),
            "no_namespace",
        ),
    ] {
        let Rejection { reason, error } = reading().read("t", &record).unwrap_err();
        assert_eq!(reason, expected, "{record:?}: {error}");
        assert!(!error.contains("secret") && !error.is_empty());
    }
    let nowhere = reading().read("other", &json()).unwrap_err();
    assert_eq!(nowhere.reason, "no_namespace");
}

#[test]
fn an_invalidate_of_another_program_ends_nothing() {
    let value = format!(r#"{{"_id": {{"_data": "{TOKEN}"}}, "operationType": "invalidate"}}"#);
    let found = read(&foreign(None, Some(&value)));
    assert!(found.is_invalidate() && !found.has_row());
}
