//! The text by which a document is known: the columns `doc_id` and `_id`.
//!
//! Different keys never get the same text, up to what MongoDB's own `_id` index cannot tell apart
//! (int32 and int64 of one value). The format is a contract with everybody who queries the tables
//! and must never change.

use crate::bson::{BsonError, Doc, Value};
use crate::ejson;

/// Appends the id of the document that `document_key` names.
///
/// With `_id` alone this is its value as of [`write_id`]; with more, as in a sharded collection,
/// canonical Extended JSON of the whole key. Bytes of strings stay as they are, even if they are
/// not UTF-8.
///
/// # Errors
///
/// When the bytes are not BSON; then `out` holds a part.
pub fn write(document_key: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    let mut elements = document_key.elements();
    if let Some(first) = elements.next() {
        let first = first?;
        if first.key == b"_id" && elements.next().is_none() {
            return write_id(&first.value, out);
        }
    }
    ejson::distinct_value(&Value::Document(document_key), out)
}

/// Appends the text of an `_id`.
///
/// | value | text |
/// |---|---|
/// | ObjectId | 24 lower-case hex digits |
/// | int32, int64 | decimal |
/// | bool, null | the word |
/// | string | itself, but as a JSON string if it is what one of the above could give, or begins with `{`, `[` or `"` |
/// | anything else | compact canonical Extended JSON |
///
/// # Errors
///
/// As [`write()`].
pub fn write_id(id: &Value<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    match *id {
        Value::ObjectId(id) => ejson::hex(id, out),
        Value::Int32(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes())
        }
        Value::Int64(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes())
        }
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Null => out.extend_from_slice(b"null"),
        Value::String(text) if could_be_mistaken(text) => ejson::distinct_string(text, out),
        Value::String(text) => out.extend_from_slice(text),
        _ => ejson::distinct_value(id, out)?,
    }
    Ok(())
}

/// Whether the text is one that a value of another type could give.
fn could_be_mistaken(text: &[u8]) -> bool {
    match text {
        [b'{' | b'[' | b'"', ..] | b"true" | b"false" | b"null" => true,
        _ => is_object_id(text) || is_integer(text),
    }
}

fn is_object_id(text: &[u8]) -> bool {
    text.len() == 24 && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is an int64 just as it would be printed: "7", but neither "07" nor "+7".
fn is_integer(text: &[u8]) -> bool {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|number| itoa::Buffer::new().format(number).as_bytes() == text)
}
