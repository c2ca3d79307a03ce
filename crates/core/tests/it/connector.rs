use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bson::doc;
use tailwater_core::bson::Doc;
use tailwater_core::connector::{
    Formatter, Messages, Output, Published, TopicNames, TopicSettings,
};
use tailwater_core::event::ChangeEvent;

/// A change event of a real server, and what the real connector made of it.
pub(crate) struct Golden {
    pub(crate) bson: Vec<u8>,
    json: serde_json::Value,
}

impl Golden {
    fn text(&self, setting: &str, field: &str) -> &str {
        self.json[setting][field].as_str().unwrap()
    }

    pub(crate) fn value(&self, setting: &str) -> &str {
        self.text(setting, "value")
    }
}

pub(crate) fn golden() -> Vec<Golden> {
    let lines = include_str!("golden-connector.jsonl").lines();
    let golden: Vec<_> = lines
        .map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let bson = BASE64_STANDARD.decode(json["bson"].as_str().unwrap()).unwrap();
            Golden { bson, json }
        })
        .collect();
    assert_eq!(golden.len(), 103);
    golden
}

const SETTINGS: [(&str, Formatter); 3] = [
    ("default", Formatter::Default),
    ("extended", Formatter::Extended),
    ("simplified", Formatter::Simplified),
];

fn messages(output: Output) -> Messages {
    Messages { key: output, value: output, ..Messages::default() }
}

fn key(messages: Messages, event: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.write_key(Doc::new(event).unwrap(), &mut out).unwrap();
    out
}

fn value(messages: Messages, event: &[u8]) -> (Published, Vec<u8>) {
    let mut out = Vec::new();
    (messages.write_value(Doc::new(event).unwrap(), &mut out).unwrap(), out)
}

#[test]
fn keys_values_and_topics_are_those_of_the_real_connector() {
    for golden in golden() {
        for (setting, formatter) in SETTINGS {
            let messages = messages(Output::Json(formatter));
            let key = String::from_utf8(key(messages, &golden.bson)).unwrap();
            assert_eq!(key, golden.text(setting, "key"));
            let (published, value) = value(messages, &golden.bson);
            assert_eq!(published, Published::Value);
            assert_eq!(String::from_utf8(value).unwrap(), golden.value(setting));

            let event = ChangeEvent::index(golden.bson.clone().into()).unwrap();
            let prefix = format!("g-{setting}");
            let names = TopicNames::new(&TopicSettings { prefix, ..Default::default() }).unwrap();
            let [db, coll] = [event.db(), event.coll()].map(|name| str::from_utf8(name).unwrap());
            assert_eq!(names.topic(db, coll).unwrap(), golden.text(setting, "topic"));
        }
    }
}

#[test]
fn full_documents_are_published_alone() {
    let (mut values, mut nothing) = (0, 0);
    for golden in golden() {
        for (setting, formatter) in SETTINGS {
            let output = Output::Json(formatter);
            let messages = Messages { full_document_only: true, ..messages(output) };
            assert_eq!(key(messages, &golden.bson), golden.text(setting, "key").as_bytes());
            let (published, value) = value(messages, &golden.bson);
            match published {
                // A part of the whole event, to the byte.
                Published::Value => {
                    values += 1;
                    let value =
                        format!("\"fullDocument\": {}, \"ns\": ", str::from_utf8(&value).unwrap());
                    assert!(golden.value(setting).contains(&value));
                }
                Published::Nothing => {
                    nothing += 1;
                    let full = golden.value(setting).contains("\"fullDocument\": {");
                    assert!(!full && value.is_empty());
                }
                Published::Tombstone => panic!("not asked for"),
            }
        }
    }
    assert_eq!((values, nothing), (3 * 96, 3 * 7));
}

#[test]
fn tombstones_stand_for_events_without_the_field_alone() {
    let messages = Messages { full_document_only: true, tombstones: true, ..Messages::default() };
    let published = |event: bson::Document| value(messages, &event.to_vec().unwrap()).0;
    assert_eq!(published(doc! { "operationType": "delete" }), Published::Tombstone);
    assert_eq!(published(doc! { "fullDocument": null }), Published::Nothing);
    assert_eq!(published(doc! { "fullDocument": {} }), Published::Value);
}

#[test]
fn bson_is_the_bytes_themselves() {
    for golden in golden() {
        let messages = messages(Output::Bson);
        assert_eq!(value(messages, &golden.bson), (Published::Value, golden.bson.clone()));
        let event = bson::Document::from_reader(golden.bson.as_slice()).unwrap();
        let expected = match event.get_document("documentKey") {
            Ok(key) => key.clone(),
            Err(_) => doc! { "_id": event.get("_id").unwrap() },
        };
        assert_eq!(key(messages, &golden.bson), expected.to_vec().unwrap());
        let token = Messages { token_as_key: true, ..messages };
        let expected = doc! { "_id": event.get("_id").unwrap() };
        assert_eq!(key(token, &golden.bson), expected.to_vec().unwrap());
    }
}

/// Prefix, suffix and separator; the map; the namespace; the topic.
type TopicCase<'a> = ([&'a str; 3], &'a [(&'a str, &'a str)], [&'a str; 2], &'a str);

/// Each was given to the connector's own mapper.
#[test]
fn topics_are_named_by_the_connectors_rules() {
    let name = |[prefix, suffix, separator]: [&str; 3], map: &[(&str, &str)], db: &str, coll| {
        let settings = TopicSettings {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            separator: separator.to_owned(),
            namespace_map: map.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect(),
        };
        TopicNames::new(&settings).unwrap().topic(db, coll)
    };
    let plain = ["", "", "."];
    let all = "t{sep}{db}{sep_coll}{coll_sep}{sep_coll_sep}{coll}";
    let cases: &[TopicCase<'_>] = &[
        (plain, &[("/d.*", "Z"), ("db", "X"), ("db.coll", "Y")], ["db", "coll"], "Y"),
        (plain, &[("/d.*", "Z"), ("db", "X"), ("db.coll", "Y")], ["db", "other"], "X.other"),
        (plain, &[("/d.*", "Z"), ("db", "X")], ["d", "c"], "Z"),
        (plain, &[("db", "X")], ["db", ""], "X"),
        (["pre", "suf", "-"], &[], ["db", "coll"], "pre-db-coll-suf"),
        (["pre", "suf", "-"], &[], ["db", ""], "pre-db-suf"),
        (["", ".", "."], &[("*", "")], ["db", "c"], "db.c.."),
        (["p", "", "."], &[("/db\\.(a|b)", all), ("*", "all")], ["db", "a"], "p.t.db.aa..a.a"),
        (["p", "", "."], &[("/db\\.(a|b)", all), ("*", "all")], ["db", "ab"], "p.all"),
        (["p", "", "."], &[("/db.*", all)], ["db", ""], "p.t.db"),
        (["p", "", "."], &[("/a|b", "x")], ["b", ""], "p.x"),
        (["p", "", "."], &[("db", ""), ("db.c", "")], ["db", "c"], "p.db.c"),
        ([" p ", " s ", "."], &[("db", "{db}")], ["db", "c"], "p.{db}.c.s"),
        (["p", "s", "."], &[("/db.c", "{db}")], ["d}", "c"], "p.d}.c.s"),
        (["p", "s", "."], &[("/db.c$", "w")], ["db", "c"], "p.w.s"),
        (["p", "s", "."], &[("/DB\\.C", "w")], ["db", "c"], "p.db.c.s"),
        (["p", "s", "."], &[("/(?i)DB\\.C", "w")], ["db", "c"], "p.w.s"),
    ];
    for (decoration, map, [db, coll], expected) in cases {
        assert_eq!(name(*decoration, map, db, coll).as_deref(), Some(*expected), "{map:?}");
    }
    assert_eq!(name(["p", "s", "."], &[], "", "c"), None);
}

#[test]
fn maps_that_cannot_be_meant_are_refused() {
    for (pattern, template) in [
        ("/db", "x{y}"),
        ("/db", "x}{db}"),
        ("/db", "{d{b}"),
        ("/db", "{db"),
        ("/(db", "x"),
        ("/db)|(x", "x"),
        // Java has it, but nothing here does.
        ("/(?!x).*", "w"),
        ("a/b", "x"),
    ] {
        let namespace_map = vec![(pattern.to_owned(), template.to_owned())];
        let settings = TopicSettings { namespace_map, ..Default::default() };
        assert!(TopicNames::new(&settings).is_err(), "{pattern} {template}");
    }
}
