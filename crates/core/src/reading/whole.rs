//! Whole: change events that a value holds as a whole, and those that are made of a document.

use bytes::Bytes;

use crate::bson::{Doc, Value, write};
use crate::decode;
use crate::event::ChangeEvent;
use crate::message::Format;
use crate::position::Millis;
use crate::record::Record;
use crate::rows::{Namespace, Rejection};
use crate::token::ClusterTime;

use super::key::{self, Key};
use super::mend::{Mended, mended};
use super::rejected;
use super::told::Told;
use super::value::not_bson;

/// Whether the document is a change event, and not one of a collection.
pub(super) fn is_event(told: &Told<'_>, bytes: &[u8]) -> bool {
    let names_itself = || {
        let doc = Doc::new(bytes).ok()?;
        let Value::String(_) = doc.get("operationType").ok()?? else { return None };
        let namespace = match doc.get("ns").ok()? {
            Some(Value::Document(ns)) => matches!(ns.get("db"), Ok(Some(Value::String(_)))),
            _ => false,
        };
        let token = match doc.get("_id").ok()? {
            Some(Value::Document(id)) => matches!(id.get("_data"), Ok(Some(Value::String(_)))),
            Some(Value::String(id)) => id.starts_with(b"{\"_data\""),
            _ => false,
        };
        Some(namespace || token)
    };
    told.is_ours() || names_itself().unwrap_or(false)
}

/// The event that the value is.
///
/// # Errors
/// When nothing tells of which collection or which document it is, or a part of it is no JSON.
pub(super) fn event(
    bytes: Bytes,
    record: &Record,
    told: &Told<'_>,
    namespace: impl FnOnce() -> Result<Namespace, Rejection>,
) -> Result<ChangeEvent, Rejection> {
    if told.is_ours() && told.format.is_none_or(Format::is_lossless) {
        return placed(bytes, record, told);
    }
    let doc = Doc::new(&bytes).map_err(not_bson)?;
    let Mended { bytes, is_typed } = mended(doc, record, told, namespace)?;
    let event = placed(bytes.into(), record, told)?;
    Ok(if is_typed { event } else { event.untyped() })
}

/// The event at its place in time: that of its resume token, else what its record tells.
fn placed(bytes: Bytes, record: &Record, told: &Told<'_>) -> Result<ChangeEvent, Rejection> {
    let event = match ChangeEvent::index(bytes.clone()) {
        Ok(event) => event,
        // No token, or one of a format that is not known.
        Err(_) => {
            let time = Doc::new(&bytes).and_then(|doc| doc.get("clusterTime")).map_err(not_bson)?;
            let time = match time {
                Some(Value::Timestamp { t, i }) => ClusterTime { seconds: t, increment: i },
                _ => time_of(record),
            };
            let version = told.version.unwrap_or_else(|| version(time, record));
            ChangeEvent::placed(bytes, version)
                .map_err(|_| rejected("not_bson", "it is not BSON"))?
        }
    };
    if event.operation_type().is_empty() || str::from_utf8(event.operation_type()).is_err() {
        return Err(rejected("not_event", "a change event without an `operationType`"));
    }
    let names = [event.db(), event.coll(), event.renamed_to().0, event.renamed_to().1];
    let is_named = !event.db().is_empty() || event.is_invalidate();
    if !is_named || names.iter().any(|name| str::from_utf8(name).is_err()) {
        return Err(rejected("no_namespace", "a change event whose namespace cannot be read"));
    }
    Ok(event)
}

/// The event that a document alone stands for, or a null.
///
/// # Errors
/// When nothing tells which document it is.
pub(super) fn of_document(
    document: Option<&Bytes>,
    record: &Record,
    told: &Told<'_>,
    namespace: &Namespace,
) -> Result<ChangeEvent, Rejection> {
    let image = document.map(|bytes| Doc::new(bytes)).transpose().map_err(not_bson)?;
    let document_key = document_key(image, record, told)?;
    let key = Doc::new(&document_key).map_err(not_bson)?;
    let (time, version) = match told.version {
        Some(version) => (Some(ClusterTime::of_bits((version >> 64) as u64)), version),
        None => (None, version(time_of(record), record)),
    };
    let ts = told.ts.or(record.timestamp).unwrap_or(Millis(0));
    let op = told.op.unwrap_or(if image.is_some() { "replace" } else { "delete" });

    let bytes = write::made(|out| {
        // Most of it is the image.
        out.reserve(256 + document.map_or(0, Bytes::len));
        write::element(b"operationType", &Value::String(op.as_bytes()), out);
        if let Some(ClusterTime { seconds: t, increment: i }) = time {
            write::element(b"clusterTime", &Value::Timestamp { t, i }, out);
        }
        write::element(b"wallTime", &Value::DateTime(ts.0), out);
        if let Some(image) = image {
            write::element(b"fullDocument", &Value::Document(image), out);
        }
        put_namespace(namespace, out);
        write::element(b"documentKey", &Value::Document(key), out);
    });
    // One level deeper than what was read.
    Doc::new(&bytes).and_then(Doc::validate).map_err(not_bson)?;
    ChangeEvent::placed(bytes.into(), version).map_err(|_| rejected("not_bson", "it is not BSON"))
}

/// The key of the document: as the record's key has it where that says more than the document, else
/// the document's own `_id`.
fn document_key(
    image: Option<Doc<'_>>,
    record: &Record,
    told: &Told<'_>,
) -> Result<Vec<u8>, Rejection> {
    if let Some(key) = told.key {
        Doc::new(key).and_then(Doc::validate).map_err(not_bson)?;
        return Ok(key.to_vec());
    }
    if let Some(key) = own_key(record, told) {
        return Ok(key);
    }
    let id = image.map(|image| image.get("_id")).transpose().map_err(not_bson)?.flatten();
    match (key::of(record), id) {
        (Key::Document(key), None) => Ok(key),
        // In a sharded collection it has more fields.
        (Key::Document(key), Some(id)) if has_id(&key, &id) => Ok(key),
        (_, Some(id)) => Ok(key::of_id(&id)),
        (_, None) => Err(rejected(
            "no_document_key",
            "neither the key nor the value tells which document it is",
        )),
    }
}

/// The document key that a key of ours is. It has the types, whatever the format of the value.
pub(super) fn own_key(record: &Record, told: &Told<'_>) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    let text = record.key.as_ref().filter(|_| told.is_ours())?;
    decode::document(text, &mut key).ok().map(|()| key)
}

fn has_id(key: &[u8], id: &Value<'_>) -> bool {
    Doc::new(key).is_ok_and(|key| matches!(key.get("_id"), Ok(Some(own)) if own == *id))
}

/// The document key of an event that has none, though it is of a document.
pub(super) fn missing_key(event: Doc<'_>, record: &Record) -> Result<Option<Vec<u8>>, Rejection> {
    let get = |name: &str| event.get(name).map_err(not_bson);
    let of_document = matches!(
        get("operationType")?,
        Some(Value::String(b"insert" | b"update" | b"replace" | b"delete" | b"read"))
    );
    if !of_document || matches!(get("documentKey")?, Some(Value::Document(_))) {
        return Ok(None);
    }
    let image = match get("fullDocument")? {
        Some(Value::Document(image)) => Some(image),
        _ => None,
    };
    document_key(image, record, &Told::default()).map(Some)
}

/// Appends the field `ns`.
pub(super) fn put_namespace(namespace: &Namespace, out: &mut Vec<u8>) {
    let ns = write::made(|out| {
        write::element(b"db", &Value::String(namespace.db.as_bytes()), out);
        if !namespace.coll.is_empty() {
            write::element(b"coll", &Value::String(namespace.coll.as_bytes()), out);
        }
    });
    write::element(b"ns", &Value::Document(Doc::new(&ns).unwrap_or(Doc::EMPTY)), out);
}

/// The version of an event that its record orders within one cluster time: later offsets win.
fn version(time: ClusterTime, record: &Record) -> u128 {
    u128::from(time.bits()) << 64 | u128::from(record.offset.0.saturating_add(1))
}

/// The time of an event that has no other than its record's.
fn time_of(record: &Record) -> ClusterTime {
    let millis = record.timestamp.unwrap_or(Millis(0)).0;
    ClusterTime { seconds: u32::try_from((millis / 1000).max(0)).unwrap_or(u32::MAX), increment: 0 }
}
