//! NormalizedEvent: an event after the mapping, as the normalized topic holds it and as the event
//! table has it.
//!
//! A row that is made of what was read from the topic equals the row that is made of the event itself.
//! JSON carries `tags` and `attrs` as JSON columns show them, so what these do not tell apart is gone:
//! an id is its hex digits, a date its text.

mod json;

use std::sync::Arc;

use bytes::Bytes;

use crate::bson::BsonError;
use crate::event::ChangeEvent;
use crate::mapping::{self, Fields, Normalized};
use crate::message::header;
use crate::position::Millis;
use crate::producing::{self, Headers};
use crate::record::{Message, Route};
use crate::rows::Rejection;
use crate::{doc_id, ejson};

/// An event after the mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalizedEvent {
    /// The time of the row.
    pub ts: Millis,
    /// The type of the event.
    pub event_type: String,
    /// The database.
    pub db: String,
    /// The collection.
    pub coll: String,
    /// Its identity, for people and other tools.
    pub idempotency_key: String,
    /// The tags.
    pub tags: Fields,
    /// The attributes.
    pub attrs: Fields,
    /// The document; empty where there is none, or another program did not say.
    pub doc_id: String,
    /// MongoDB's `operationType`; the type of the event where another program did not say.
    pub op: String,
    /// The order among all versions of the document; 0 where another program did not say.
    pub version: u128,
    /// The change event as canonical Extended JSON, where the row keeps it.
    pub raw: Option<String>,
    /// An update whose looked-up document was gone.
    pub superseded: bool,
    /// The hash of the mapping.
    pub mapping: String,
}

impl NormalizedEvent {
    /// What the mapping of that hash made of an event; `None`: the event as it is.
    ///
    /// # Errors
    /// A rejection, when the event is not BSON, or its names or its document's id are not UTF-8, which
    /// JSON cannot carry.
    pub fn of(
        event: &ChangeEvent,
        normalized: Option<&Normalized>,
        mapping_hash: &str,
    ) -> Result<Self, Rejection> {
        let mut id = Vec::new();
        if let Some(key) = event.document_key() {
            doc_id::write(key, &mut id).map_err(not_bson)?;
        }
        let mut idempotency_key = Vec::new();
        event.idempotency_key(&id, &mut idempotency_key);
        let op = text(event.operation_type())?;
        let (tags, attrs) = match normalized {
            Some(normalized) => (normalized.tags.clone(), normalized.attrs.clone()),
            None => {
                let scalars = mapping::scalars(event, &[]).map_err(not_bson)?;
                (Fields::of_elements(&[]), Fields::of_elements(&scalars))
            }
        };
        let keeps_raw = normalized.is_none_or(|normalized| normalized.keep_raw);
        let raw = keeps_raw.then(|| raw(event)).transpose().map_err(not_bson)?;
        Ok(Self {
            ts: normalized.map_or(event.ts(), |normalized| normalized.ts),
            event_type: normalized.map_or(op, |normalized| &normalized.event_type).to_owned(),
            db: text(event.db())?.to_owned(),
            coll: text(event.coll())?.to_owned(),
            idempotency_key: text(&idempotency_key)?.to_owned(),
            tags,
            attrs,
            doc_id: text(&id)?.to_owned(),
            op: op.to_owned(),
            version: event.version(),
            // What is not UTF-8 was replaced.
            raw: raw.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
            superseded: event.is_superseded(),
            mapping: mapping_hash.to_owned(),
        })
    }

    /// The message of it: with the key that the event's own record has, in the partition of its
    /// document.
    ///
    /// # Errors
    /// A rejection, when the fields are not BSON.
    pub fn message(
        &self,
        topic: &Arc<str>,
        event: &ChangeEvent,
        key: Option<Bytes>,
    ) -> Result<Message, Rejection> {
        let mut value = Vec::new();
        self.write_json(&mut value).map_err(not_bson)?;
        let mut headers = Headers::default();
        headers.fixed(header::FORMAT, header::NORMALIZED);
        headers.identity(event, event.operation_type());
        Ok(Message {
            topic: Arc::clone(topic),
            // A row comes once: what ends a collection does not go to every partition.
            route: Route::Hash(producing::partition_hash(event).map_err(not_bson)?),
            key,
            value: Some(value.into()),
            headers: headers.finish(),
            timestamp: event.ts().max(Millis(0)),
        })
    }
}

fn raw(event: &ChangeEvent) -> Result<Vec<u8>, BsonError> {
    let mut raw = Vec::with_capacity(2 * event.bytes().len());
    ejson::canonical(event.document()?, &mut raw)?;
    Ok(raw)
}

fn text(bytes: &[u8]) -> Result<&str, Rejection> {
    str::from_utf8(bytes).map_err(|_| Rejection {
        reason: "not_utf8",
        error: "cannot write a normalized event: a name or the document's id is not UTF-8"
            .to_owned(),
    })
}

fn not_bson(error: BsonError) -> Rejection {
    Rejection { reason: "not_bson", error: format!("cannot write a normalized event: {error}") }
}
