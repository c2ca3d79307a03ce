//! The key of a record: which document it is of, as far as the key tells.

use crate::bson::{Doc, Value, write};
use crate::decode;
use crate::record::Record;

use super::value::{is_bson, is_object, payload};

/// What a key says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The document key, as BSON.
    Document(Vec<u8>),
    /// `{"_data": …}`: a resume token, as that of the connector's heartbeats.
    Heartbeat,
    /// No document: there is no key, it is a resume token as `_id`, or nothing that can be read.
    Nothing,
}

/// Connect makes a string of the connector's JSON, and an envelope around that.
const MAX_LAYERS: usize = 4;

/// Reads the key of a record that another program wrote.
pub(super) fn of(record: &Record) -> Key {
    record.key.as_deref().and_then(|key| read(key, MAX_LAYERS)).unwrap_or(Key::Nothing)
}

fn read(key: &[u8], layers: usize) -> Option<Key> {
    let layers = layers.checked_sub(1)?;
    if is_bson(key) {
        let doc = Doc::new(key).ok().filter(|doc| doc.validate().is_ok())?;
        return Some(document(doc));
    }
    let mut out = Vec::new();
    if decode::field("_id", key, &mut out).is_ok() {
        match Doc::new(&out).ok()?.get("_id").ok()?? {
            Value::Null => return None,
            Value::Document(doc) => return object(doc, layers),
            // The connector's JSON, or a string that is the id.
            Value::String(text) if is_object(text) => return read(text, layers),
            // Digits without end, with an exponent even, may be an id in hex.
            Value::Double(_) if !key.contains(&b'.') => {}
            Value::Array(_) => {}
            _ => return Some(Key::Document(out)),
        }
    }
    let text = str::from_utf8(key).ok().filter(|text| !text.is_empty())?;
    Some(Key::Document(of_id(&Value::String(text.as_bytes()))))
}

/// The key that an object is, or the one in it.
fn object(doc: Doc<'_>, layers: usize) -> Option<Key> {
    match payload(doc).map(|payload| payload.value) {
        None => Some(document(doc)),
        Some(Value::Document(inner)) => Some(document(inner)),
        Some(Value::String(text)) => read(text, layers),
        Some(Value::Null) => None,
        Some(id) => Some(Key::Document(of_id(&id))),
    }
}

/// The key that an object is.
fn document(doc: Doc<'_>) -> Key {
    let mut fields = doc.elements();
    let (Some(Ok(first)), None) = (fields.next(), fields.next()) else {
        return match doc.is_empty() {
            true => Key::Nothing,
            false => Key::Document(doc.as_bytes().to_vec()),
        };
    };
    match (first.key, first.value) {
        (b"_data", Value::String(_)) => Key::Heartbeat,
        (b"_id", Value::Document(id)) if is_token(id) => Key::Nothing,
        // By the connector's default schema of keys an id is the text of its JSON.
        (b"_id", Value::String(text)) if is_object(text) => match from_text(text) {
            Some(id) => document(Doc::new(&id).unwrap_or(Doc::EMPTY)),
            None => Key::Document(doc.as_bytes().to_vec()),
        },
        _ => Key::Document(doc.as_bytes().to_vec()),
    }
}

/// A document with the `_id` that the text says.
fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    decode::field("_id", text, &mut out).ok().map(|()| out)
}

fn is_token(id: Doc<'_>) -> bool {
    matches!(id.get("_data"), Ok(Some(Value::String(_))))
}

/// The document key with that `_id` alone.
pub(super) fn of_id(id: &Value<'_>) -> Vec<u8> {
    write::made(|out| write::element(b"_id", id, out))
}
