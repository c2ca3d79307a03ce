//! The contract of the columns, implemented a second time, for the judge alone.
//!
//! Never calls the product's crates. Slow and plain on purpose.

use anyhow::{Context as _, bail, ensure};
use bson::{Bson, Document, Timestamp, spec::BinarySubtype};
use serde_json::{Map, Value, json};

/// What the judge reads out of a resume token's `_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Cluster time.
    pub time: Timestamp,
    /// The event's place within its transaction.
    pub txn_op_index: u64,
}

/// Decodes the head of a token: a `KeyString` of timestamp, version, token type, `txnOpIndex`, ….
///
/// # Errors
///
/// When the text is no token that this decoder knows.
pub fn decode_token(data: &str) -> anyhow::Result<Token> {
    let bytes = hex::decode(data).context("a token is not hex")?;
    let (head, mut rest) = bytes.split_at_checked(9).context("a token is too short")?;
    ensure!(head[0] == 0x82, "a token does not begin with a timestamp");
    let word =
        |at: usize| -> anyhow::Result<u32> { Ok(u32::from_be_bytes(head[at..at + 4].try_into()?)) };
    let time = Timestamp { time: word(1)?, increment: word(5)? };
    let version = take_integer(&mut rest)?;
    ensure!((1..=2).contains(&version), "token version {version} is unknown");
    let _token_type = take_integer(&mut rest)?;
    Ok(Token { time, txn_op_index: take_integer(&mut rest)? })
}

/// Takes a non-negative integer of a `KeyString`: 0x29 is zero, 0x2b..=0x32 say how many big-endian
/// bytes follow, which hold the value shifted by one.
fn take_integer(rest: &mut &[u8]) -> anyhow::Result<u64> {
    let (&kind, after) = rest.split_first().context("a token ends too early")?;
    if kind == 0x29 {
        *rest = after;
        return Ok(0);
    }
    if !(0x2b..=0x32).contains(&kind) {
        bail!("a token holds type {kind:#x} where an integer belongs");
    }
    let (digits, after) =
        after.split_at_checked(usize::from(kind - 0x2a)).context("a token ends too early")?;
    *rest = after;
    Ok(digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) >> 1)
}

/// `version` of a stream event.
pub fn version(token: Token) -> u128 {
    let seconds = u128::from(token.time.time);
    let increment = u128::from(token.time.increment);
    (seconds << 32 | increment) << 64 | u128::from(token.txn_op_index + 1)
}

/// `idempotency_key` of a stream event.
pub fn idempotency_key(namespace: &str, doc_id: &str, operation: &str, token: Token) -> String {
    let Timestamp { time, increment } = token.time;
    let key = format!("mongo:{namespace}:{doc_id}:{operation}:{time}.{increment}");
    if token.txn_op_index > 0 { format!("{key}.{}", token.txn_op_index) } else { key }
}

/// `doc_id` of a `documentKey`.
pub fn doc_id(document_key: &Document) -> String {
    match document_key.get("_id") {
        Some(id) if document_key.len() == 1 => id_text(id),
        _ => canonical_json(&Bson::Document(document_key.clone())),
    }
}

fn id_text(id: &Bson) -> String {
    match id {
        Bson::ObjectId(id) => id.to_hex(),
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::Boolean(value) => value.to_string(),
        Bson::Null => "null".into(),
        Bson::String(text) if reads_as_another(text) => Value::from(text.as_str()).to_string(),
        Bson::String(text) => text.clone(),
        other => canonical_json(other),
    }
}

/// Whether a string is what an `_id` of another type is written as.
fn reads_as_another(text: &str) -> bool {
    let hex_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.starts_with(['{', '[', '"'])
        || matches!(text, "true" | "false" | "null")
        || text.len() == 24 && text.bytes().all(hex_digit)
        || text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// Compact canonical Extended JSON; the `bson` crate writes the scalars.
pub fn canonical_json(value: &Bson) -> String {
    match value {
        Bson::Document(document) => {
            let fields: Vec<String> = document
                .iter()
                .map(|(key, value)| {
                    format!("{}:{}", Value::from(key.as_str()), canonical_json(value))
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Bson::Array(values) => {
            format!("[{}]", values.iter().map(canonical_json).collect::<Vec<_>>().join(","))
        }
        // `serde_json` sorts keys, which would put `i` before `t`.
        Bson::Timestamp(Timestamp { time, increment }) => {
            format!("{{\"$timestamp\":{{\"t\":{time},\"i\":{increment}}}}}")
        }
        scalar => scalar.clone().into_canonical_extjson().to_string(),
    }
}

/// `attrs` of a document without a mapping. Types on which the contract is silent give `Null`,
/// which [`same_attributes`] takes for "anything".
pub fn attributes(document: &Document) -> Map<String, Value> {
    let mut attributes = Map::new();
    for (key, value) in document.iter().filter(|(key, _)| key.as_str() != "_id") {
        // Two keys may become one (`a.b` and `a%2Eb`): the last wins, also when it is none.
        let key = key.replace('.', "%2E");
        match value {
            Bson::Document(_) | Bson::Array(_) | Bson::Null => drop(attributes.remove(&key)),
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
        Bson::String(text) => json!(text),
        Bson::Decimal128(number) => json!(number.to_string()),
        Bson::ObjectId(id) => json!(id.to_hex()),
        Bson::DateTime(date) => rfc3339(date.timestamp_millis()).map_or(Value::Null, Value::from),
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
        _ => Value::Null,
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC with milliseconds; `None` outside the years 0 to 9999.
fn rfc3339(millis: i64) -> Option<String> {
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
    (0..=9999).contains(&year).then(|| {
        format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{rest:03}Z")
    })
}

/// Whether two `attrs` hold the same: numbers by value, `Null` in `expected` stands for anything.
pub fn same_attributes(expected: &Map<String, Value>, found: &Value) -> bool {
    let Value::Object(found) = found else { return false };
    expected.len() == found.len()
        && expected.iter().all(|(key, value)| match (value, found.get(key)) {
            (_, None) => false,
            (Value::Null, Some(_)) => true,
            (Value::Number(one), Some(Value::Number(other))) => {
                match (one.as_i64(), other.as_i64()) {
                    (Some(one), Some(other)) => one == other,
                    _ => one.as_f64() == other.as_f64(),
                }
            }
            (one, Some(other)) => one == other,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{doc, oid::ObjectId};

    #[test]
    fn a_token_gives_its_time_and_its_place_in_the_transaction() {
        let plain = "8265A1B2C3000000042B022C0100296E5A1004";
        let token = decode_token(plain).unwrap();
        assert_eq!(token.time, Timestamp { time: 0x65A1_B2C3, increment: 4 });
        assert_eq!(token.txn_op_index, 0);
        let third = "8265A1B2C3000000042B022C01002B046E5A1004";
        assert_eq!(decode_token(third).unwrap().txn_op_index, 2);
        let beyond_a_byte = "8265A1B2C3000000042B022C01002C07D06E5A1004";
        assert_eq!(decode_token(beyond_a_byte).unwrap().txn_op_index, 1000);
        assert!(decode_token("8265").is_err());
        assert!(decode_token("8365A1B2C3000000042B022C0100296E5A1004").is_err());
    }

    #[test]
    fn document_ids_of_different_types_never_read_the_same() {
        let hex = "65a1b2c3d4e5f60718293a4b";
        let cases: Vec<(Bson, &str)> = vec![
            (ObjectId::parse_str(hex).unwrap().into(), hex),
            (hex.into(), "\"65a1b2c3d4e5f60718293a4b\""),
            (7.into(), "7"),
            ((-7_i64).into(), "-7"),
            ("7".into(), "\"7\""),
            ("007".into(), "007"),
            ("99999999999999999999".into(), "99999999999999999999"),
            (true.into(), "true"),
            ("true".into(), "\"true\""),
            (Bson::Null, "null"),
            ("null".into(), "\"null\""),
            ("plain é \"x\"".into(), "plain é \"x\""),
            ("\"q".into(), "\"\\\"q\""),
            ("{}".into(), "\"{}\""),
            ("".into(), ""),
            (0.5.into(), "{\"$numberDouble\":\"0.5\"}"),
            (Timestamp { time: 1, increment: 2 }.into(), "{\"$timestamp\":{\"t\":1,\"i\":2}}"),
            (doc! { "b": 1, "a": "x" }.into(), "{\"b\":{\"$numberInt\":\"1\"},\"a\":\"x\"}"),
        ];
        for (id, text) in cases {
            assert_eq!(doc_id(&doc! { "_id": id.clone() }), text, "{id:?}");
        }
        assert_eq!(
            doc_id(&doc! { "region": "eu", "_id": 1 }),
            "{\"region\":\"eu\",\"_id\":{\"$numberInt\":\"1\"}}"
        );
    }

    #[test]
    fn versions_order_by_time_then_by_place_in_the_transaction() {
        let at = |time, increment, txn_op_index| {
            version(Token { time: Timestamp { time, increment }, txn_op_index })
        };
        assert_eq!(at(1, 2, 0), (1_u128 << 32 | 2) << 64 | 1);
        assert!(
            at(1, 2, 0) < at(1, 2, 1) && at(1, 2, 1) < at(1, 3, 0) && at(1, 3, 0) < at(2, 0, 0)
        );
    }

    #[test]
    fn attributes_are_the_scalars_of_the_document() {
        let date = |millis| bson::DateTime::from_millis(millis);
        let document = doc! {
            "_id": 1, "nested": { "a": 1 }, "list": [1], "nothing": null, "a.b": 1_i64,
            "date": date(1_700_000_000_123), "old": date(-1), "leap": date(951_782_400_000),
            "nan": f64::NAN, "text": "7", "c.d": 1, "c%2Ed": Bson::Null, "uuid": bson::Uuid::from_bytes([0xab; 16]),
        };
        let expected = json!({
            "a%2Eb": 1, "date": "2023-11-14T22:13:20.123Z", "old": "1969-12-31T23:59:59.999Z",
            "leap": "2000-02-29T00:00:00.000Z", "nan": "NaN", "text": "7",
            "uuid": "abababab-abab-abab-abab-abababababab",
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
}
