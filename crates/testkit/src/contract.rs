//! The contract of the columns, implemented a second time, for the judge alone.
//!
//! Never calls the product's crates. Slow and plain on purpose.

use anyhow::{Context as _, bail, ensure};
use bson::{Bson, Document, Timestamp};
use serde_json::Value;

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
        Bson::RegularExpression(regex) => {
            let [pattern, options] =
                [&regex.pattern, &regex.options].map(|text| Value::from(text.as_str()));
            format!("{{\"$regularExpression\":{{\"pattern\":{pattern},\"options\":{options}}}}}")
        }
        Bson::DbPointer(_) => {
            let parts = &value.clone().into_canonical_extjson()["$dbPointer"];
            format!("{{\"$dbPointer\":{{\"$ref\":{},\"$id\":{}}}}}", parts["$ref"], parts["$id"])
        }
        Bson::JavaScriptCodeWithScope(code) => {
            let scope = canonical_json(&Bson::Document(code.scope.clone()));
            format!("{{\"$code\":{},\"$scope\":{scope}}}", Value::from(code.code.as_str()))
        }
        Bson::Timestamp(Timestamp { time, increment }) => {
            format!("{{\"$timestamp\":{{\"t\":{time},\"i\":{increment}}}}}")
        }
        scalar => scalar.clone().into_canonical_extjson().to_string(),
    }
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
}
