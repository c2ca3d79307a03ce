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
    pub(crate) fn text(&self, setting: &str, field: &str) -> &str {
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

fn printed(document: bson::Document, formatter: Formatter) -> String {
    let (_, value) = value(messages(Output::Json(formatter)), &document.to_vec().unwrap());
    String::from_utf8(value).unwrap()
}

/// By `Double.toString` of Java 17.
#[test]
fn doubles_are_printed_as_java_prints_them() {
    for (bits, text) in [
        (0x6e20000000000000, "2.8917902937172147E222"),
        (0x1b90000000000000, "6.3174603311753045E-176"),
        (0x0000000000000020, "1.58E-322"),
        (0x44c52d02c7e14af6, "1.9999999999999998E23"),
        (0x44b52d02c7e14af6, "9.999999999999999E22"),
        (0x447c7e83209e90b2, "8.409999999999999E21"),
        (0x3f60624dd2f1a9fc, "0.002"),
        (0x3f50624dd2f1a9fc, "0.001"),
        (0x3f5061e273273f09, "9.999E-4"),
        (0x416312d000000000, "1.0E7"),
        (0x416312cffff7ced9, "9999999.999"),
        (0x41678c29c0000000, "1.2345678E7"),
        (0x3ee4f8b588e368f1, "1.0E-5"),
        (0x0010000000000000, "2.2250738585072014E-308"),
        (0x0000000000000001, "4.9E-324"),
        (0x0000000000000003, "1.5E-323"),
        (0x7fefffffffffffff, "1.7976931348623157E308"),
        (0x4340000000000000, "9.007199254740992E15"),
        (0x4350000000000000, "1.8014398509481984E16"),
        (0x4360000000000000, "3.6028797018963968E16"),
        (0x43d0000000000000, "4.6116860184273879E18"),
        (0x43e0000000000000, "9.223372036854776E18"),
        (0x43e158e460913d00, "1.0E19"),
        (0x3ea0000000000000, "4.76837158203125E-7"),
        (0x0010000000000000, "2.2250738585072014E-308"),
        (0x7fe0000000000000, "8.98846567431158E307"),
        (0x0000000000000028, "2.0E-322"),
        (0x3fbc28f5c28f5c29, "0.11"),
        (0x3fd3333333333334, "0.30000000000000004"),
        (0x40fe240c9fbe76c9, "123456.789"),
        (0x4059000000000000, "100.0"),
        (0x3f689ca2aaae09c4, "0.003004377087053119"),
        (0x3f6626479265c8b1, "0.0027037999999999997"),
        (0x3f689cb4d218cf71, "0.0030044109014627997"),
        (0x3f624399b2c40d0b, "0.0022295"),
        (0x3f32ed39b51b95df, "2.8879794E-4"),
        (0x4011666666666666, "4.35"),
        (0x4480f0cf064dd592, "1.0E22"),
        (0x0000000000000007, "3.5E-323"),
        (0x00007f048ef1675c, "6.9E-310"),
        (0x36c3fb4177907d62, "7.0E-45"),
        (0x380fffffff9fdba8, "1.17549435E-38"),
    ] {
        let document = doc! { "v": f64::from_bits(bits), "w": -f64::from_bits(bits) };
        let expected = format!(r#"{{"v": {text}, "w": -{text}}}"#);
        assert_eq!(printed(document, Formatter::Default), expected);
    }
}

#[test]
fn strings_are_escaped_by_utf16_unit_and_category() {
    // A letter, a modifier letter, a mark, a line separator, a private one, one that Unicode 13 does
    // not know, and one beyond the first plane.
    let document = doc! { "v": "é\u{2b0}\u{301}\u{2028}\u{e000}\u{a7c0}\u{7f}\u{10400}" };
    let expected = r#"{"v": "é\u02b0\u0301\u2028\ue000\ua7c0\u007f\ud801\udc00"}"#;
    assert_eq!(printed(document, Formatter::Default), expected);
}

#[test]
fn options_of_a_regex_are_sorted() {
    let event = b"\x0d\0\0\0\x0bv\0p\0xi\0\0";
    let (_, value) = value(Messages::default(), event);
    assert_eq!(String::from_utf8(value).unwrap(), r#"{"v": {"$regex": "p", "$options": "ix"}}"#);
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
        (["p", "", "."], &[("/a|b", "x")], ["ab", ""], "p.ab"),
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
        // Java has them, but they mean nothing here, or something else.
        ("/(?!x).*", "w"),
        ("/.*+c", "w"),
        ("/[a-c&&b]", "w"),
        ("/[[:alpha:]]", "w"),
        ("a/b", "x"),
    ] {
        let namespace_map = vec![(pattern.to_owned(), template.to_owned())];
        let settings = TopicSettings { namespace_map, ..Default::default() };
        assert!(TopicNames::new(&settings).is_err(), "{pattern} {template}");
    }
}
