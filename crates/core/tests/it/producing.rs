//! Events as messages: keys, partitions, headers, copies; and those of the real connector.

use std::sync::Arc;

use bson::{Document, Timestamp, doc};
use tailwater_core::connector::{Formatter, Messages, Output, TopicNames, TopicSettings};
use tailwater_core::event::ChangeEvent;
use tailwater_core::message::{Format, header, murmur2};
use tailwater_core::position::{Millis, Seq};
use tailwater_core::producing::{Produced, Producing, Publish, Style};
use tailwater_core::record::{Message, Record, Route};
use tailwater_core::scope::Scope;
use tailwater_core::{ErrorKind, decode};

use crate::connector::golden;

/// A token of the time 0x65F1A2B3.7, of the operation 2 of a transaction.
pub(crate) const TOKEN: &str = "8265F1A2B3000000072B022C01002B046E5A1004";

/// 0x65F1A2B3.7, and behind it one more than the operation.
pub(crate) const VERSION: u128 = (0x65F1_A2B3 << 32 | 7) << 64 | 3;

/// An event with these fields between its token and its namespace.
pub(crate) fn event(kind: &str, fields: Document) -> ChangeEvent {
    ChangeEvent::index(bytes(kind, fields).into()).unwrap()
}

pub(crate) fn bytes(kind: &str, fields: Document) -> Vec<u8> {
    let mut event = doc! {
        "_id": { "_data": TOKEN },
        "operationType": kind,
        "clusterTime": Timestamp { time: 0x65F1_A2B3, increment: 7 },
        "wallTime": bson::DateTime::from_millis(1_700_000_000_123),
    };
    event.extend(fields);
    if !event.contains_key("ns") {
        event.insert("ns", doc! { "db": "d", "coll": "c" });
    }
    event.to_vec().unwrap()
}

pub(crate) fn insert() -> ChangeEvent {
    event("insert", doc! { "fullDocument": { "_id": 1, "a": 2.0 }, "documentKey": { "_id": 1 } })
}

/// A producer to the topics `<db>.<coll>`.
pub(crate) fn producing(style: Style) -> Producing {
    Producing::new(Arc::new(|db: &str, coll: &str| Some(format!("{db}.{coll}").into())), style)
}

pub(crate) fn messages(producing: &Producing, event: &ChangeEvent) -> Vec<Message> {
    let mut out = Vec::new();
    assert_eq!(producing.messages(event, &mut out).unwrap(), Produced::Messages);
    out
}

/// A message as it is consumed.
pub(crate) fn record(message: &Message) -> Record {
    let headers = message.headers.iter();
    Record {
        offset: Seq(42),
        timestamp: Some(message.timestamp),
        key: message.key.clone(),
        value: message.value.clone(),
        headers: headers.map(|(name, value)| (name.as_ref().into(), value.clone())).collect(),
    }
}

fn header<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    let found = message.headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| str::from_utf8(value).unwrap())
}

fn text(bytes: &Option<bytes::Bytes>) -> &str {
    str::from_utf8(bytes.as_ref().unwrap()).unwrap()
}

#[test]
fn an_event_of_a_document_is_one_message_that_says_what_it_is() {
    let event = insert();
    let [message] = &messages(&producing(Style::default()), &event)[..] else { panic!() };
    assert_eq!(&*message.topic, "d.c");
    assert_eq!(text(&message.key), r#"{"_id":{"$numberInt":"1"}}"#);
    assert_eq!(message.route, Route::Hash(murmur2(br#"{"_id":{"$numberInt":"1"}}"#)));
    assert_eq!(message.timestamp, Millis(1_700_000_000_123));
    let mut value = Vec::new();
    decode::document(message.value.as_ref().unwrap(), &mut value).unwrap();
    assert_eq!(&value, event.bytes());
    let headers: Vec<_> = message.headers.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!(headers, [header::FORMAT, header::OP, header::NS, header::VERSION, header::TS]);
    assert_eq!(header(message, header::FORMAT), Some("json"));
    assert_eq!(header(message, header::OP), Some("insert"));
    assert_eq!(header(message, header::NS), Some("d.c"));
    assert_eq!(header(message, header::VERSION), Some(&*VERSION.to_string()));
    assert_eq!(header(message, header::TS), Some("1700000000123"));
}

#[test]
fn the_header_names_the_format_that_the_value_has() {
    for format in Format::ALL {
        let style = Style { format, ..Style::default() };
        let message = &messages(&producing(style), &insert())[0];
        assert_eq!(header(message, header::FORMAT), Some(format.name()));
        // A field named like a wrapper.
        let difficult = event(
            "insert",
            doc! { "fullDocument": { "a": { "$oid": "x" } }, "documentKey": { "_id": 1 } },
        );
        let message = &messages(&producing(style), &difficult)[0];
        let expected = if format.is_lossless() { "bson" } else { "json_simplified" };
        assert_eq!(header(message, header::FORMAT), Some(expected));
        assert_eq!(message.value.as_ref() == Some(difficult.bytes()), format.is_lossless());
    }
}

#[test]
fn the_partition_of_a_document_does_not_follow_its_shard_key() {
    let of = |key: Document| {
        let event = event("delete", doc! { "documentKey": key });
        messages(&producing(Style::default()), &event).remove(0)
    };
    let (one, other) = (of(doc! { "shard": 1, "_id": 7 }), of(doc! { "shard": 2, "_id": 7 }));
    assert_ne!(one.key, other.key);
    assert_eq!(one.route, other.route);
    assert_ne!(one.route, of(doc! { "shard": 1, "_id": 8 }).route);
}

#[test]
fn ends_of_collections_go_to_every_partition() {
    for kind in ["drop", "dropDatabase"] {
        let [message] = &messages(&producing(Style::default()), &event(kind, doc! {}))[..] else {
            panic!("{kind}")
        };
        assert_eq!(message.route, Route::Every);
        assert_eq!(text(&message.key), format!(r#"{{"_id":{{"_data":"{TOKEN}"}}}}"#));
        assert_eq!(header(message, header::ROW), None);
    }
    let create = |token: &str| {
        let bytes = doc! { "_id": { "_data": token }, "operationType": "create", "ns": { "db": "d", "coll": "c" } };
        let event = ChangeEvent::index(bytes.to_vec().unwrap().into()).unwrap();
        messages(&producing(Style::default()), &event).remove(0)
    };
    let later = TOKEN.replacen("00000007", "00000008", 1);
    // In their order: one partition for all of a namespace.
    assert_eq!(create(TOKEN).route, Route::Hash(murmur2(b"d.c")));
    assert_eq!(create(&later).route, create(TOKEN).route);
    assert_ne!(create(&later).key, create(TOKEN).key);
}

#[test]
fn a_rename_is_told_in_both_topics_and_has_its_row_in_the_old_one() {
    let rename = event("rename", doc! { "to": { "db": "e", "coll": "f" } });
    let found = messages(&producing(Style::default()), &rename);
    let told: Vec<_> = found.iter().map(|m| (&*m.topic, m.route, header(m, header::ROW))).collect();
    assert_eq!(told, [("d.c", Route::Every, None), ("e.f", Route::Every, Some("0"))]);
    assert_eq!(found[0].value, found[1].value);

    let unlisted = messages(&producing(Style::default()), &rename.clone().unlisted());
    for message in unlisted {
        let rows = message.headers.iter().filter(|(name, _)| name == header::ROW).count();
        assert_eq!(rows, 1, "{}", message.topic);
    }

    let one = Producing::new(Arc::new(|_: &str, _: &str| Some("all".into())), Style::default());
    let [message] = &messages(&one, &rename)[..] else { panic!("one topic, one message") };
    assert_eq!(header(message, header::ROW), None);

    let new = Producing::new(
        Arc::new(|db: &str, _: &str| (db == "e").then(|| "new".into())),
        Style::default(),
    );
    let [message] = &messages(&new, &rename)[..] else { panic!("one topic, one message") };
    assert_eq!((&*message.topic, header(message, header::ROW)), ("new", None));
}

#[test]
fn a_stream_tells_of_a_rename_in_the_topics_of_what_it_watches() {
    let rename = event("rename", doc! { "to": { "db": "e", "coll": "f" } });
    let producing = producing(Style::default());
    let told = |scope: Scope, event: &ChangeEvent| {
        let mut out = Vec::new();
        let produced = producing.messages_of(Some(&scope), event, &mut out).unwrap();
        let text = |m: &Message| format!("{} {:?}", m.topic, header(m, header::ROW));
        (produced, out.iter().map(text).collect::<Vec<_>>().join(", "))
    };
    let scope = |entry| Scope::collection(entry).unwrap();
    let messages = |text: &str| (Produced::Messages, text.to_owned());
    let both = messages("d.c None, e.f Some(\"0\")");
    assert_eq!(told(Scope::Deployment, &rename), both);
    assert_eq!(told(scope("d.c"), &rename), messages("d.c None"));
    // Nobody else tells it, so it has its row there; where its own stream does, it is not listed.
    assert_eq!(told(scope("e.f"), &rename), messages("e.f None"));
    assert_eq!(told(scope("e.f"), &rename.clone().unlisted()), messages("e.f Some(\"0\")"));
    assert_eq!(told(scope("e.g"), &rename), (Produced::Nothing, String::new()));
    let ended = event("dropDatabase", doc! { "ns": { "db": "d" } });
    assert_eq!(told(scope("d.a*"), &ended), messages("d. None"));
    assert_eq!(told(scope("d.b*"), &ended.unlisted()), (Produced::Nothing, String::new()));
}

#[test]
fn what_has_no_row_or_no_lookup_says_so() {
    let header_of = |event: &ChangeEvent, name| {
        header(&messages(&producing(Style::default()), event)[0], name).map(str::to_owned)
    };
    assert_eq!(header_of(&insert(), header::ROW), None);
    assert_eq!(header_of(&insert(), header::LOOKUP), None);
    assert_eq!(header_of(&insert().unlisted(), header::ROW).as_deref(), Some("0"));
    assert_eq!(header_of(&insert().not_looked_up(), header::LOOKUP).as_deref(), Some("0"));
}

#[test]
fn a_null_follows_a_delete_where_that_is_asked_for() {
    let delete = event("delete", doc! { "documentKey": { "_id": 1 } });
    let style = Style { tombstones: true, ..Style::default() };
    let [event, tombstone] = &messages(&producing(style), &delete)[..] else { panic!() };
    assert!(event.value.is_some());
    assert_eq!(header(event, header::OP), Some("delete"));
    assert_eq!(tombstone.value, None);
    assert_eq!((&tombstone.key, tombstone.route), (&event.key, event.route));
    assert_eq!(header(tombstone, header::OP), Some("tombstone"));
    assert_eq!(header(tombstone, header::ROW), Some("0"));

    assert_eq!(messages(&producing(style), &insert()).len(), 1);
    assert_eq!(messages(&producing(Style::default()), &delete).len(), 1);
    // Already a null.
    let style = Style { publish: Publish::FullDocument, ..style };
    assert_eq!(messages(&producing(style), &delete).len(), 1);
}

#[test]
fn full_documents_are_the_value_and_deletes_are_nulls() {
    let style = Style { publish: Publish::FullDocument, ..Style::default() };
    let message = &messages(&producing(style), &insert())[0];
    assert_eq!(text(&message.value), r#"{"_id":1,"a":2.0}"#);
    assert_eq!(header(message, header::VALUE), Some("document"));
    assert_eq!(header(message, header::OP), Some("insert"));

    let delete = event(
        "delete",
        doc! { "documentKey": { "_id": 1 }, "fullDocumentBeforeChange": { "_id": 1 } },
    );
    let message = &messages(&producing(style), &delete)[0];
    assert_eq!(message.value, None);
    assert_eq!(header(message, header::FORMAT), None);
    assert_eq!(header(message, header::OP), Some("delete"));
    assert_eq!(text(&message.key), r#"{"_id":{"$numberInt":"1"}}"#);

    // A null would delete the document.
    for event in [
        event("update", doc! { "fullDocument": null, "documentKey": { "_id": 1 } }),
        event("drop", doc! {}),
    ] {
        let message = &messages(&producing(style), &event)[0];
        assert!(text(&message.value).contains("operationType"));
        assert_eq!(header(message, header::VALUE), None);
    }
}

#[test]
fn events_without_messages_are_told() {
    let mut out = Vec::new();
    let invalidate = event("invalidate", doc! {});
    let produced = producing(Style::default()).messages(&invalidate, &mut out).unwrap();
    assert_eq!(produced, Produced::Nothing);
    let nowhere = Producing::new(Arc::new(|_: &str, _: &str| None), Style::default());
    assert_eq!(nowhere.messages(&insert(), &mut out).unwrap(), Produced::NoTopic);
    assert_eq!(out, []);
}

#[test]
fn a_namespace_that_is_no_text_is_refused() {
    let mut bytes = bytes("drop", doc! { "ns": { "db": "dddd", "coll": "c" } });
    let at = bytes.windows(4).position(|four| four == b"dddd").unwrap();
    bytes[at] = 0xff;
    let event = ChangeEvent::index(bytes.into()).unwrap();
    let error = producing(Style::default()).messages(&event, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[test]
fn the_connectors_messages_are_its_own_to_the_byte() {
    for golden in golden() {
        for (setting, formatter) in [
            ("default", Formatter::Default),
            ("extended", Formatter::Extended),
            ("simplified", Formatter::Simplified),
        ] {
            let prefix = format!("g-{setting}");
            let names = TopicNames::new(&TopicSettings { prefix, ..Default::default() }).unwrap();
            let output = Output::Json(formatter);
            let settings = Messages { key: output, value: output, ..Messages::default() };
            let producing = Producing::like_connector(Arc::new(names), settings);
            let event = ChangeEvent::index(golden.bson.clone().into()).unwrap();
            // One, also of a rename.
            let [message] = &messages(&producing, &event)[..] else { panic!("not one message") };
            assert_eq!(&*message.topic, golden.text(setting, "topic"));
            assert_eq!(text(&message.key), golden.text(setting, "key"));
            assert_eq!(text(&message.value), golden.value(setting));
            assert_eq!(message.headers, []);
            assert_eq!(message.route, Route::Hash(murmur2(message.key.as_ref().unwrap())));

            let mut out = Vec::new();
            let produced = producing.messages(&event.unlisted(), &mut out).unwrap();
            assert_eq!((produced, out), (Produced::Nothing, Vec::new()));
        }
    }
}

#[test]
fn the_connectors_documents_alone_are_its_own() {
    let names = || Arc::new(TopicNames::new(&TopicSettings::default()).unwrap());
    let settings = Messages { full_document_only: true, ..Messages::default() };
    let delete = event("delete", doc! { "documentKey": { "_id": 1 } });
    let producing = Producing::like_connector(names(), settings);
    assert_eq!(text(&messages(&producing, &insert())[0].value), r#"{"_id": 1, "a": 2.0}"#);
    let mut out = Vec::new();
    assert_eq!(producing.messages(&delete, &mut out).unwrap(), Produced::Nothing);
    let producing = Producing::like_connector(names(), Messages { tombstones: true, ..settings });
    let message = &messages(&producing, &delete)[0];
    assert_eq!((text(&message.key), &message.value), (r#"{"_id": 1}"#, &None));
}
