use bson::Bson;
use proptest::prelude::*;
use tailwater_core::bson::{BsonError, Doc, MAX_DEPTH, Value};

use crate::sample::{self, without_repeats};

/// The value as the `bson` crate has it.
fn decoded(value: &Value<'_>) -> Bson {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    // As the crate has them.
    let sorted = |options: &[u8]| {
        let mut options: Vec<char> = text(options).chars().collect();
        options.sort_unstable();
        options.into_iter().collect::<String>()
    };
    match *value {
        Value::Double(double) => Bson::Double(double),
        Value::String(bytes) => Bson::String(text(bytes)),
        Value::Document(doc) => Bson::Document(decoded_document(doc)),
        Value::Array(array) => {
            Bson::Array(array.elements().map(|item| decoded(&item.unwrap().value)).collect())
        }
        Value::Binary { subtype, bytes } => {
            // The crate leaves out the inner length of the old subtype.
            let bytes = if subtype == 2 { &bytes[4..] } else { bytes };
            Bson::Binary(bson::Binary { subtype: subtype.into(), bytes: bytes.to_vec() })
        }
        Value::Undefined => Bson::Undefined,
        Value::ObjectId(id) => Bson::ObjectId((*id).into()),
        Value::Bool(value) => Bson::Boolean(value),
        Value::DateTime(ms) => Bson::DateTime(bson::DateTime::from_millis(ms)),
        Value::Null => Bson::Null,
        Value::Regex { pattern, options } => Bson::RegularExpression(bson::Regex {
            pattern: text(pattern).try_into().unwrap(),
            options: sorted(options).try_into().unwrap(),
        }),
        Value::DbPointer { namespace, id } => {
            let pointer =
                serde_json::json!({ "$ref": text(namespace), "$id": { "$oid": hex::encode(id) } });
            serde_json::json!({ "$dbPointer": pointer }).try_into().unwrap()
        }
        Value::Code(code) => Bson::JavaScriptCode(text(code)),
        Value::Symbol(symbol) => Bson::Symbol(text(symbol)),
        Value::CodeWithScope { code, scope } => {
            Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: text(code),
                scope: decoded_document(scope),
            })
        }
        Value::Int32(number) => Bson::Int32(number),
        Value::Timestamp { t, i } => Bson::Timestamp(bson::Timestamp { time: t, increment: i }),
        Value::Int64(number) => Bson::Int64(number),
        Value::Decimal128(bytes) => Bson::Decimal128(bson::Decimal128::from_bytes(*bytes)),
        Value::MinKey => Bson::MinKey,
        Value::MaxKey => Bson::MaxKey,
    }
}

pub(crate) fn decoded_document(doc: Doc<'_>) -> bson::Document {
    doc.elements()
        .map(|element| {
            let element = element.unwrap();
            (String::from_utf8(element.key.to_vec()).unwrap(), decoded(&element.value))
        })
        .collect()
}

fn is_json(text: &[u8]) -> bool {
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(json) => json.is_object(),
        // The reader has a limit of its own.
        Err(error) => error.to_string().contains("recursion limit"),
    }
}

/// Walks everything in every way there is; must not panic.
pub(crate) fn walk_all(bytes: &[u8]) -> Result<(), BsonError> {
    let doc = Doc::new(bytes)?;
    doc.get("a").ok();
    let mut text = Vec::new();
    let written = tailwater_core::ejson::canonical(doc, &mut text);
    let valid = doc.validate();
    assert_eq!(written.is_ok(), valid.is_ok());
    if valid.is_ok() {
        assert!(is_json(&text));
        text.clear();
        tailwater_core::ejson::relaxed(doc, &mut text).unwrap();
        assert!(is_json(&text));
        text.clear();
        tailwater_core::doc_id::write(doc, &mut text).unwrap();
    }
    valid
}

proptest! {
    #[test]
    fn the_walker_reads_what_the_bson_crate_wrote(fields in sample::fields()) {
        let bytes = sample::bytes(&without_repeats(&fields));
        let doc = Doc::new(&bytes).unwrap();
        doc.validate().unwrap();
        let theirs = bson::Document::from_reader(bytes.as_slice()).unwrap();
        let ours = decoded_document(doc);
        // NaN is not equal to itself; its text is.
        prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        for (key, value) in &theirs {
            let found = doc.get(key).unwrap().map(|value| decoded(&value));
            prop_assert_eq!(format!("{found:?}"), format!("{:?}", Some(value)));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 5..200)) {
        let length = i32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        *bytes.last_mut().unwrap() = 0;
        walk_all(&bytes).ok();
    }

    #[test]
    fn changed_bytes_do_not_panic_and_what_the_bson_crate_takes_is_taken(
        fields in sample::fields(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = sample::bytes(&fields);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let ours = walk_all(&bytes);
        if bson::Document::from_reader(bytes.as_slice()).is_ok() && Doc::new(&bytes).is_ok() {
            prop_assert_eq!(ours, Ok(()));
        }
    }

    #[test]
    fn every_cut_is_an_error(fields in sample::fields(), at in any::<prop::sample::Index>()) {
        let bytes = sample::bytes(&fields);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Doc::new(cut).is_err());
        // Also when the length is made to fit.
        if let Some(rest) = cut.len().checked_sub(5) {
            let mut forged = cut.to_vec();
            forged[..4].copy_from_slice(&i32::try_from(rest + 5).unwrap().to_le_bytes());
            *forged.last_mut().unwrap() = 0;
            walk_all(&forged).ok();
        }
    }
}

fn nested(levels: usize) -> Vec<u8> {
    (1..levels).fold(vec![5, 0, 0, 0, 0], |inner, _| {
        let length = i32::try_from(inner.len() + 8).unwrap();
        [&length.to_le_bytes()[..], b"\x03a\0", &inner, b"\0"].concat()
    })
}

#[test]
fn nesting_ends_at_the_limit() {
    assert_eq!(walk_all(&nested(MAX_DEPTH)), Ok(()));
    let error = walk_all(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(error.offset, 7 * MAX_DEPTH, "the place of the document that is too deep");
}

#[test]
fn errors_tell_the_place_and_no_value() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "bad BSON at byte 0: document length cut off"),
        (b"\x04\0\0\0\0", "bad BSON at byte 0: impossible document length"),
        (b"\xff\xff\xff\xff\0", "bad BSON at byte 0: impossible document length"),
        (b"\x06\0\0\0\0", "bad BSON at byte 0: document cut off"),
        (b"\x05\0\0\0\x01", "bad BSON at byte 4: document without terminator"),
        (b"\x05\0\0\0\0\0", "bad BSON at byte 5: bytes after the end of the document"),
        (b"\x07\0\0\0\0\0\0", "bad BSON at byte 4: terminator before the end"),
        (b"\x08\0\0\0\x0aab\0", "bad BSON at byte 5: name without end"),
        (b"\x08\0\0\0\x15a\0\0", "bad BSON at byte 4: unknown type"),
        (b"\x09\0\0\0\x08a\0\x02\0", "bad BSON at byte 7: bool that is neither 0 nor 1"),
        (b"\x0d\0\0\0\x02a\0\0\0\0\0\0\0", "bad BSON at byte 11: string without terminator"),
        (b"\x0d\0\0\0\x02a\0\x01\0\0\0x\0", "bad BSON at byte 12: string without terminator"),
        (
            b"\x16\0\0\0\x0fa\0\x0f\0\0\0\x01\0\0\0\0\x05\0\0\0\0\0",
            "bad BSON at byte 7: code with scope of another length",
        ),
        (b"\x10\0\0\0\x03a\0\x08\0\0\0\x10b\0\0\0", "bad BSON at byte 14: value cut off"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(walk_all(bytes).unwrap_err().to_string(), expected);
    }
}

#[test]
fn of_equal_names_get_finds_the_first() {
    let bytes = b"\x13\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\0";
    let doc = Doc::new(bytes).unwrap();
    assert_eq!(doc.get("a"), Ok(Some(Value::Int32(1))));
    assert_eq!(doc.get("b"), Ok(None));
}

#[test]
fn nothing_is_read_after_an_error() {
    let mut elements = Doc::new(b"\x0b\0\0\0\x15a\0\x0ab\0\0").unwrap().elements();
    assert!(elements.next().unwrap().is_err());
    assert!(elements.next().is_none());
}
