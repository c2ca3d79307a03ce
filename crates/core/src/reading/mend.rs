//! Mend: change events whose fields the connector wrote in other words.
//!
//! `SimplifiedJson` writes dates as text. The default schema has JSON in strings: the token, the key,
//! the images; and nulls for what is not there. A transformation may have taken out the namespace or
//! the key. What an event needs of these is mended; anything else stays as it came.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::bson::{BsonError, Doc, Element, Value, write};
use crate::decode::{self, date};
use crate::exclude::each;
use crate::record::Record;
use crate::rows::{Namespace, Rejection};
use crate::token;

use super::told::Told;
use super::value::{is_object, not_bson, not_json};
use super::whole::{missing_key, own_key, put_namespace};

/// An event in MongoDB's own words.
pub(super) struct Mended {
    pub(super) bytes: Vec<u8>,
    /// Nothing shows that the types of values were lost.
    pub(super) is_typed: bool,
}

/// Mends an event.
///
/// # Errors
/// When a part of it is no JSON, or nothing tells of which collection or document it is.
pub(super) fn mended(
    event: Doc<'_>,
    record: &Record,
    told: &Told<'_>,
    namespace: impl FnOnce() -> Result<Namespace, Rejection>,
) -> Result<Mended, Rejection> {
    let own_key = own_key(record, told);
    let own_key = own_key.as_deref().map(Doc::new).transpose().map_err(not_bson)?;
    let mut bytes = Vec::with_capacity(event.as_bytes().len() + 64);
    write::document(&mut bytes, |out| {
        each(event, |element, raw| match (element.key, element.value) {
            (b"documentKey", value @ Value::Document(_)) => {
                write::element(element.key, &own_key.map_or(value, Value::Document), out);
                Ok(())
            }
            (b"ns" | b"to" | b"documentKey", Value::Null) => Ok(()),
            (b"updateDescription", Value::Document(description)) => {
                description_of(description, out)
            }
            _ => field(element, raw, out),
        })
    })?;
    let mended = Doc::new(&bytes).map_err(not_bson)?;
    let get = |name: &str| mended.get(name).map_err(not_bson);
    let is_invalidate = get("operationType")? == Some(Value::String(b"invalidate"));
    let namespace = match get("ns")? {
        Some(_) => None,
        None if is_invalidate => None,
        None => Some(namespace()?),
    };
    let key = missing_key(mended, record)?;
    if namespace.is_some() || key.is_some() {
        let fields = &mended.as_bytes()[4..mended.as_bytes().len() - 1];
        bytes = write::made(|out| {
            out.extend_from_slice(fields);
            if let Some(namespace) = &namespace {
                put_namespace(namespace, out);
            }
            if let Some(key) = key.as_deref().and_then(|key| Doc::new(key).ok()) {
                write::element(b"documentKey", &Value::Document(key), out);
            }
        });
    }
    // A text may be as deep as a document of its own.
    Doc::new(&bytes).and_then(Doc::validate).map_err(not_bson)?;
    Ok(Mended { is_typed: is_typed(event).map_err(not_bson)?, bytes })
}

/// Appends a field at the top of an event.
fn field(element: Element<'_>, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    let date = match (element.key, element.value) {
        (b"wallTime", Value::String(text)) => date::parse(text),
        (b"wallTime", Value::Int64(millis)) => Some(millis),
        (b"wallTime", Value::Int32(millis)) => Some(i64::from(millis)),
        _ => None,
    };
    if let Some(millis) = date {
        write::element(element.key, &Value::DateTime(millis), out);
        return Ok(());
    }
    match (element.key, element.value) {
        (b"_id", Value::String(data)) if token::decode(data).is_some() => {
            let token = write::made(|out| write::element(b"_data", &element.value, out));
            write::element(b"_id", &Value::Document(Doc::new(&token).map_err(not_bson)?), out);
            Ok(())
        }
        (b"_id", Value::Document(token)) => token_of(token, out),
        (
            b"_id"
            | b"clusterTime"
            | b"ns"
            | b"to"
            | b"documentKey"
            | b"fullDocument"
            | b"fullDocumentBeforeChange"
            | b"updateDescription",
            Value::String(text),
        ) if is_object(text) => parsed(element.key, text, out),
        _ => {
            out.extend_from_slice(raw);
            Ok(())
        }
    }
}

/// Appends a resume token, of which `SimplifiedJson` writes the type bits as base64.
fn token_of(token: Doc<'_>, out: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut inner = Vec::with_capacity(token.as_bytes().len());
    write::document(&mut inner, |out| {
        each(token, |element, raw| {
            let bits = match (element.key, element.value) {
                (b"_typeBits", Value::String(text)) => BASE64_STANDARD.decode(text).ok(),
                _ => None,
            };
            match bits {
                Some(bytes) => {
                    write::element(element.key, &Value::Binary { subtype: 0, bytes: &bytes }, out)
                }
                None => out.extend_from_slice(raw),
            }
            Ok::<(), Rejection>(())
        })
    })?;
    write::element(b"_id", &Value::Document(Doc::new(&inner).map_err(not_bson)?), out);
    Ok(())
}

/// Appends `updateDescription`.
fn description_of(description: Doc<'_>, out: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut inner = Vec::with_capacity(description.as_bytes().len());
    write::document(&mut inner, |out| {
        each(description, |element, raw| match (element.key, element.value) {
            (b"updatedFields" | b"disambiguatedPaths", Value::String(text)) if is_object(text) => {
                parsed(element.key, text, out)
            }
            _ => {
                out.extend_from_slice(raw);
                Ok(())
            }
        })
    })?;
    let inner = Doc::new(&inner).map_err(not_bson)?;
    write::element(b"updateDescription", &Value::Document(inner), out);
    Ok(())
}

/// Appends the value that a text says.
fn parsed(name: &[u8], text: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut field = Vec::new();
    decode::field("", text, &mut field).map_err(not_json)?;
    if let Some(value) = Doc::new(&field).and_then(|doc| doc.get("")).map_err(not_bson)? {
        write::element(name, &value, out);
    }
    Ok(())
}

/// Text for a date is `SimplifiedJson`. A number is a schema: the default one keeps documents as JSON
/// with its types, any other has plain values.
fn is_typed(event: Doc<'_>) -> Result<bool, BsonError> {
    let is_document = |name: &str| Ok(matches!(event.get(name)?, Some(Value::Document(_))));
    Ok(match event.get("wallTime")? {
        Some(Value::String(_)) => false,
        Some(Value::Int32(_) | Value::Int64(_)) => {
            !is_document("fullDocument")? && !is_document("documentKey")?
        }
        _ => true,
    })
}
