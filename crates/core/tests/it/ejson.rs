use base64::Engine as _;
use bson::{Bson, doc};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tailwater_core::bson::{Doc, Value};
use tailwater_core::ejson;

use crate::sample::{self, without_repeats};

fn canonical(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    ejson::canonical(Doc::new(bytes).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn relaxed(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    ejson::relaxed(Doc::new(bytes).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn canonical_is_what_an_independent_client_writes() {
    for line in include_str!("golden.jsonl").lines() {
        let golden: Json = serde_json::from_str(line).unwrap();
        let field = |name: &str| golden[name].as_str().unwrap();
        let bytes = base64::prelude::BASE64_STANDARD.decode(field("bson")).unwrap();
        assert_eq!(canonical(&bytes), field("canonical"), "case {}", field("case"));
    }
}

/// Doubles as the number that their text says, since there are many texts of one.
fn with_parsed_doubles(json: Json) -> Json {
    match json {
        Json::Object(fields) => match fields.get("$numberDouble").and_then(Json::as_str) {
            Some(text) => json!(format!("double {:x}", text.parse::<f64>().unwrap().to_bits())),
            None => {
                fields.into_iter().map(|(key, value)| (key, with_parsed_doubles(value))).collect()
            }
        },
        Json::Array(items) => items.into_iter().map(with_parsed_doubles).collect(),
        // The `bson` crate writes subnormal doubles as plain numbers.
        Json::Number(number) if number.is_f64() => {
            json!(format!("double {:x}", number.as_f64().unwrap().to_bits()))
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn canonical_says_what_the_bson_crate_says(fields in sample::fields()) {
        let bytes = sample::bytes(&without_repeats(&fields));
        let theirs = bson::Document::from_reader(bytes.as_slice()).unwrap();
        let theirs = Bson::Document(theirs).into_canonical_extjson();
        let ours: Json = serde_json::from_str(&canonical(&bytes)).unwrap();
        prop_assert_eq!(with_parsed_doubles(ours), with_parsed_doubles(theirs));
    }

    #[test]
    fn relaxed_reads_back_as_the_same_bson(fields in sample::fields()) {
        let bytes = sample::bytes(&without_repeats(&fields));
        let json: Json = serde_json::from_str(&relaxed(&bytes)).unwrap();
        let Bson::Document(read) = Bson::try_from(json).unwrap() else { panic!("no document") };
        // As text, since NaN is not equal to itself, and sorted, since serde_json sorts.
        let read: Json = serde_json::from_str(&canonical(&read.to_vec().unwrap())).unwrap();
        let written: Json = serde_json::from_str(&canonical(&bytes)).unwrap();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn doubles_keep_every_bit(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        let mut out = Vec::new();
        ejson::canonical_value(&Value::Double(double), &mut out).unwrap();
        let json: Json = serde_json::from_slice(&out).unwrap();
        let text = json["$numberDouble"].as_str().unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
        prop_assert!(text.contains(['.', 'e']), "{} reads back as an integer", text);
    }

    #[test]
    fn decimals_are_written_as_the_bson_crate_does(bytes in any::<[u8; 16]>(), high in any::<u8>()) {
        let mut bytes = bytes;
        bytes[15] = high;
        // Other coefficients are beyond 34 digits: zero by the standard, but not to the crate.
        let coefficient = u128::from_le_bytes(bytes) & ((1 << 113) - 1);
        prop_assume!(coefficient < 10u128.pow(34) && (high >> 5) & 3 != 3 || (high >> 3) & 15 == 15);
        let mut out = Vec::new();
        ejson::canonical_value(&Value::Decimal128(&bytes), &mut out).unwrap();
        let theirs = bson::Decimal128::from_bytes(bytes).to_string();
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"$numberDecimal\":\"{theirs}\"}}"));
    }
}

#[test]
fn relaxed_writes_what_reads_better() {
    let at = |ms| bson::DateTime::from_millis(ms);
    let cases = [
        (doc! { "v": 1 }, r#"{"v":1}"#),
        (doc! { "v": 1i64 }, r#"{"v":{"$numberLong":"1"}}"#),
        (doc! { "v": 1.0 }, r#"{"v":1.0}"#),
        (doc! { "v": -0.0 }, r#"{"v":-0.0}"#),
        (doc! { "v": 1e16 }, r#"{"v":1e+16}"#),
        (doc! { "v": 1.5e-7 }, r#"{"v":1.5e-07}"#),
        (doc! { "v": 0.00012 }, r#"{"v":0.00012}"#),
        (doc! { "v": f64::NAN }, r#"{"v":{"$numberDouble":"NaN"}}"#),
        (doc! { "v": at(0) }, r#"{"v":{"$date":"1970-01-01T00:00:00Z"}}"#),
        (doc! { "v": at(1) }, r#"{"v":{"$date":"1970-01-01T00:00:00.001Z"}}"#),
        (doc! { "v": at(-1) }, r#"{"v":{"$date":{"$numberLong":"-1"}}}"#),
        (
            doc! { "v": at(253_402_300_800_000) },
            r#"{"v":{"$date":{"$numberLong":"253402300800000"}}}"#,
        ),
    ];
    for (doc, expected) in cases {
        assert_eq!(relaxed(&doc.to_vec().unwrap()), expected);
    }
}

#[test]
fn types_without_a_place_in_the_bson_crate_are_written() {
    let value = |value: Value<'_>| {
        let mut out = Vec::new();
        ejson::canonical_value(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        value(Value::DbPointer { namespace: b"db.c", id: &[0xab; 12] }),
        r#"{"$dbPointer":{"$ref":"db.c","$id":{"$oid":"abababababababababababab"}}}"#
    );
    // The specification's own case: the inner length of the old binary type is no content.
    assert_eq!(
        value(Value::Binary { subtype: 2, bytes: b"\x02\0\0\0\xff\xff" }),
        r#"{"$binary":{"base64":"//8=","subType":"02"}}"#
    );
    assert_eq!(value(Value::String(b"a\xffb\xc3")), "\"a\u{fffd}b\u{fffd}\"");
}
