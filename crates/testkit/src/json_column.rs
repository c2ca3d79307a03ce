//! The contract of the JSON columns, implemented a second time, for the judge alone.
//!
//! Never calls the product's crates.

use std::collections::BTreeMap;

use bson::{Bson, Document, spec::BinarySubtype};
use serde_json::{Map, Value, json};

use crate::contract;

/// `attrs` of a document without a mapping.
pub fn attributes(document: &Document) -> Map<String, Value> {
    let mut attributes = Map::new();
    for (key, value) in document.iter().filter(|(key, _)| key.as_str() != "_id") {
        // Two keys may become one (`a.b` and `a%2Eb`): the last wins, also when it is none.
        let key = key.replace('.', "%2E");
        match value {
            Bson::Document(_) | Bson::Array(_) | Bson::Null | Bson::Undefined => {
                drop(attributes.remove(&key));
            }
            scalar => drop(attributes.insert(key, attribute(scalar))),
        }
    }
    attributes
}

fn attribute(value: &Bson) -> Value {
    match value {
        Bson::Double(number) if number.is_nan() => json!("NaN"),
        Bson::Double(number) if *number == f64::INFINITY => json!("Infinity"),
        Bson::Double(number) if *number == f64::NEG_INFINITY => json!("-Infinity"),
        Bson::Double(number) => json!(number),
        Bson::Int32(number) => json!(number),
        Bson::Int64(number) => json!(number),
        Bson::Boolean(value) => json!(value),
        Bson::String(text) | Bson::JavaScriptCode(text) | Bson::Symbol(text) => json!(text),
        Bson::Decimal128(number) => json!(number.to_string()),
        Bson::ObjectId(id) => json!(id.to_hex()),
        Bson::DateTime(date) => json!(rfc3339(date.timestamp_millis())),
        Bson::Binary(binary)
            if binary.subtype == BinarySubtype::Uuid && binary.bytes.len() == 16 =>
        {
            let hex = hex::encode(&binary.bytes);
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            json!(parts.join("-"))
        }
        Bson::Binary(binary) => {
            let wrapped = Bson::Binary(binary.clone()).into_canonical_extjson();
            wrapped["$binary"]["base64"].clone()
        }
        // Timestamps, regular expressions and what else JSON has no type for.
        other => json!(contract::canonical_json(other)),
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC with milliseconds; outside the years 0 to 9999 with a
/// sign and six digits or more, as ECMAScript has it.
fn rfc3339(millis: i64) -> String {
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, rest) = (of_day / 1000 % 60, of_day % 1000);
    let year =
        if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    format!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{rest:03}Z")
}

/// Whether two `attrs` hold the same: numbers by value.
pub fn same_attributes(expected: &Map<String, Value>, found: &Value) -> bool {
    let Value::Object(found) = found else { return false };
    expected.len() == found.len()
        && expected
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| same_scalar(value, found)))
}

/// Whether `doc` shows this document: every field but nulls, and documents in which nothing is left.
pub fn same_document(document: &Document, found: &Value) -> bool {
    let Value::Object(found) = found else { return false };
    // Two keys may become one: the last wins, also when it is none.
    let fields: BTreeMap<String, &Bson> =
        document.iter().map(|(key, value)| (key.replace('.', "%2E"), value)).collect();
    let mut shown = fields.iter().filter(|(_, value)| is_shown(value));
    shown.clone().count() == found.len()
        && shown.all(|(key, value)| found.get(key).is_some_and(|found| same_value(value, found)))
}

fn is_shown(value: &Bson) -> bool {
    match value {
        Bson::Null | Bson::Undefined => false,
        Bson::Document(document) => document.iter().any(|(_, value)| is_shown(value)),
        _ => true,
    }
}

fn same_value(value: &Bson, found: &Value) -> bool {
    match (value, found) {
        (Bson::Document(document), found) => same_document(document, found),
        (Bson::Array(items), Value::Array(found)) => {
            items.len() == found.len()
                && items.iter().zip(found).all(|(item, found)| same_value(item, found))
        }
        (Bson::Array(_), _) => false,
        (Bson::Null | Bson::Undefined, found) => found.is_null(),
        (Bson::DateTime(date), Value::String(found)) => {
            let text = rfc3339(date.timestamp_millis());
            // What a DateTime64(3, 'UTC') can hold is one.
            let plain = text.replace('T', " ").replace('Z', "");
            *found == if ("1900".."2300").contains(&&text[..4]) { plain } else { text }
        }
        (scalar, found) => same_scalar(&attribute(scalar), found),
    }
}

fn same_scalar(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one == other,
            _ => one.as_f64() == other.as_f64(),
        },
        _ => expected == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn attributes_are_the_scalars_of_the_document() {
        let date = |millis| bson::DateTime::from_millis(millis);
        let document = doc! {
            "_id": 1, "nested": { "a": 1 }, "list": [1], "nothing": null, "a.b": 1_i64,
            "date": date(1_700_000_000_123), "old": date(-1), "leap": date(951_782_400_000),
            "nan": f64::NAN, "text": "7", "c.d": 1, "c%2Ed": Bson::Null, "uuid": bson::Uuid::from_bytes([0xab; 16]),
            "undefined": Bson::Undefined, "min": Bson::MinKey, "symbol": Bson::Symbol("s".into()),
            "last": date(i64::MAX), "first": date(i64::MIN),
            "time": bson::Timestamp { time: 2, increment: 1 },
            "regex": bson::Regex { pattern: "^a".try_into().unwrap(), options: "i".try_into().unwrap() },
        };
        let expected = json!({
            "a%2Eb": 1, "date": "2023-11-14T22:13:20.123Z", "old": "1969-12-31T23:59:59.999Z",
            "leap": "2000-02-29T00:00:00.000Z", "nan": "NaN", "text": "7",
            "uuid": "abababab-abab-abab-abab-abababababab",
            "min": r#"{"$minKey":1}"#, "symbol": "s",
            "last": "+292278994-08-17T07:12:55.807Z", "first": "-292275055-05-16T16:47:04.192Z",
            "time": r#"{"$timestamp":{"t":2,"i":1}}"#,
            "regex": r#"{"$regularExpression":{"pattern":"^a","options":"i"}}"#,
        });
        assert_eq!(Value::Object(attributes(&document)), expected);
    }

    #[test]
    fn attributes_differ_by_type_value_and_presence() {
        let expected = |value: Value| value.as_object().unwrap().clone();
        assert!(same_attributes(&expected(json!({ "a": 1.0 })), &json!({ "a": 1 })));
        for wrong in [json!({ "a": "1" }), json!({ "a": 2 }), json!({}), json!({ "a": 1, "b": 1 })]
        {
            assert!(!same_attributes(&expected(json!({ "a": 1 })), &wrong), "{wrong}");
        }
    }

    #[test]
    fn documents_differ_by_type_value_and_presence_at_any_depth() {
        let date = bson::DateTime::from_millis(1_700_000_000_123);
        let document = doc! {
            "n": 1_i64, "none": Bson::Null, "empty": { "none": Bson::Null }, "date": date,
            "old": bson::DateTime::from_millis(-9_000_000_000_000), "a.b": { "c": 0.5 },
            "list": [1, Bson::Null, { "k": "v", "none": Bson::Null }, [date]],
        };
        let right = json!({
            "n": 1, "date": "2023-11-14 22:13:20.123", "old": "1684-10-19T08:00:00.000Z",
            "a%2Eb": { "c": 0.5 }, "list": [1, null, { "k": "v" }, ["2023-11-14 22:13:20.123"]],
        });
        assert!(same_document(&document, &right));
        let wrong = |change: fn(&mut Value)| {
            let mut value = right.clone();
            change(&mut value);
            assert!(!same_document(&document, &value), "{value}");
        };
        wrong(|value| value["n"] = json!("1"));
        wrong(|value| value["more"] = json!(1));
        wrong(|value| drop(value.as_object_mut().unwrap().remove("n")));
        wrong(|value| value["date"] = json!("2023-11-14T22:13:20.123Z"));
        wrong(|value| value["a%2Eb"]["c"] = json!(0.25));
        wrong(|value| value["list"] = json!([1, { "k": "v" }, ["2023-11-14 22:13:20.123"]]));
        wrong(|value| value["list"][1] = json!(0));
        wrong(|value| value["list"][2]["k"] = json!("w"));
    }
}
