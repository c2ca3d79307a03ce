//! The value of a record as BSON, out of whatever it travels in.
//!
//! Kafka Connect's `JsonConverter` makes a string of the connector's JSON, and puts what it converts
//! into `{"schema": …, "payload": …}` unless told otherwise.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use crate::bson::{BsonError, Doc, Value};
use crate::decode::{self, JsonError};
use crate::message::Format;
use crate::record::Record;
use crate::rows::Rejection;

use super::rejected;

/// What a value holds.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing, or a JSON null.
    Null,
    /// A document, BSON at all levels.
    Document(Bytes),
}

/// So many strings and envelopes may be around each other. Connect makes two.
const MAX_LAYERS: usize = 4;

/// # Errors
/// When it is neither JSON nor BSON.
pub(super) fn body(record: &Record, format: Option<Format>) -> Result<Body, Rejection> {
    let Some(value) = &record.value else { return Ok(Body::Null) };
    match format {
        Some(Format::Bson) => bson(value.clone()).map(Body::Document),
        Some(_) => {
            let mut out = Vec::new();
            decode::document(value, &mut out).map_err(not_json)?;
            Ok(Body::Document(out.into()))
        }
        None if is_bson(value) => bson(value.clone()).map(Body::Document),
        None => unwrapped(value, MAX_LAYERS),
    }
}

/// Whether the bytes are framed as BSON is. No JSON text is: its first four characters would be a
/// length of half a gigabyte at the least, and its last no NUL.
pub(super) fn is_bson(bytes: &[u8]) -> bool {
    Doc::new(bytes).is_ok()
}

fn bson(bytes: Bytes) -> Result<Bytes, Rejection> {
    Doc::new(&bytes).and_then(Doc::validate).map_err(not_bson)?;
    Ok(bytes)
}

/// JSON without the strings and the envelopes around it.
fn unwrapped(text: &[u8], layers: usize) -> Result<Body, Rejection> {
    let layers = layers.checked_sub(1).ok_or_else(|| {
        rejected("not_json", "strings and envelopes around each other without end")
    })?;
    let mut out = Vec::new();
    if !is_object(text) {
        decode::field("", text, &mut out).map_err(not_json)?;
        let whole = Doc::new(&out).map_err(not_bson)?;
        return match whole.get("").map_err(not_bson)? {
            Some(Value::Null) => Ok(Body::Null),
            Some(Value::String(text)) => unwrapped(text, layers),
            _ => {
                Err(rejected("not_json", "no JSON document: neither an object nor a string of one"))
            }
        };
    }
    decode::document(text, &mut out).map_err(not_json)?;
    match payload(Doc::new(&out).map_err(not_bson)?) {
        None => Ok(Body::Document(out.into())),
        Some(Payload { value: Value::Null, .. }) => Ok(Body::Null),
        Some(Payload { value: Value::Document(inner), .. }) => {
            Ok(Body::Document(Bytes::copy_from_slice(inner.as_bytes())))
        }
        Some(Payload { value: Value::String(text), is_bytes: true }) => {
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|_| rejected("not_json", "bytes in an envelope that are no base64"))?;
            if is_bson(&bytes) {
                bson(bytes.into()).map(Body::Document)
            } else {
                unwrapped(&bytes, layers)
            }
        }
        Some(Payload { value: Value::String(text), .. }) => unwrapped(text, layers),
        Some(_) => {
            Err(rejected("not_json", "an envelope with neither an object nor a string in it"))
        }
    }
}

/// What an envelope of Kafka Connect holds.
pub(super) struct Payload<'d> {
    pub(super) value: Value<'d>,
    pub(super) is_bytes: bool,
}

/// The payload, if the document is an envelope: it has a schema and a payload, and nothing else.
pub(super) fn payload(doc: Doc<'_>) -> Option<Payload<'_>> {
    let mut fields = doc.elements();
    let (one, other) = (fields.next()?.ok()?, fields.next()?.ok()?);
    if fields.next().is_some() {
        return None;
    }
    let (schema, payload) = match (one.key, other.key) {
        (b"schema", b"payload") => (one.value, other.value),
        (b"payload", b"schema") => (other.value, one.value),
        _ => return None,
    };
    let is_bytes = match schema {
        Value::Null => false,
        Value::Document(schema) => match schema.get("type").ok()?? {
            Value::String(kind) => kind == b"bytes",
            _ => return None,
        },
        _ => return None,
    };
    Some(Payload { value: payload, is_bytes })
}

/// Whether it begins as an object does.
pub(super) fn is_object(text: &[u8]) -> bool {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    text.trim_ascii_start().first() == Some(&b'{')
}

impl From<BsonError> for Rejection {
    fn from(error: BsonError) -> Self {
        not_bson(error)
    }
}

pub(super) fn not_json(error: JsonError) -> Rejection {
    rejected("not_json", error.to_string())
}

pub(super) fn not_bson(error: BsonError) -> Rejection {
    rejected("not_bson", error.to_string())
}
