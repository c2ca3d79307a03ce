//! Reading: records become change events, whoever wrote them.
//!
//! ```text
//!   record ─┬─ ours, by its headers ─────────────────────────────────▶ the event as it was
//!           ├─ a change event of the MongoDB Kafka connector ─ mended ─▶ the event
//!           ├─ a document alone ─────────────────────────────────────▶ a `replace` of it
//!           ├─ a null ───────────────────────────────────────────────▶ a `delete` of its key
//!           └─ a tombstone beside an event, a heartbeat ─────────────▶ nothing
//! ```
//!
//! Everything becomes BSON here, so that the mapping and the encoder see one form; an event of a
//! lossless format of ours is the same to the byte. Bytes of any kind must never make it panic, and
//! what it hands on is BSON at all levels. What cannot be read is a rejection, and no text of one holds
//! a value.

mod key;
mod mend;
mod told;
mod value;
mod whole;

use std::fmt;
use std::sync::Arc;

use crate::event::ChangeEvent;
use crate::message::header;
use crate::record::Record;
use crate::rows::{Namespace, Rejection};

use self::key::Key;
use self::told::Told;
use self::value::Body;

/// What a record holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// A change event.
    Event(ChangeEvent),
    /// Nothing that concerns a row or a document, by rule.
    Nothing(Nothing),
}

/// Why a record holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// The null behind the event of a delete, for compaction.
    Tombstone,
    /// The connector says that it lives.
    Heartbeat,
}

/// Knows which collection a topic is for.
pub trait Namespaces: Send + Sync {
    /// The namespace of the records of a topic that name none themselves.
    fn namespace(&self, topic: &str) -> Option<Namespace>;
}

impl<F: Fn(&str) -> Option<Namespace> + Send + Sync> Namespaces for F {
    fn namespace(&self, topic: &str) -> Option<Namespace> {
        self(topic)
    }
}

/// Where the connector writes heartbeats by default, `heartbeat.topic.name`.
const HEARTBEATS: &str = "__mongodb_heartbeats";

/// Makes change events of records.
#[derive(Clone)]
pub struct Reading {
    namespaces: Arc<dyn Namespaces>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Reading {
    /// A reader that looks up the namespace of records that name none.
    pub fn new(namespaces: Arc<dyn Namespaces>) -> Self {
        Self { namespaces }
    }

    /// Reads a record of that topic. Its chunks must have been joined.
    ///
    /// # Errors
    /// A rejection, when it cannot be told what happened to which document.
    pub fn read(&self, topic: &str, record: &Record) -> Result<Content, Rejection> {
        if record.header(header::OP) == Some(header::TOMBSTONE.as_bytes()) {
            return Ok(Content::Nothing(Nothing::Tombstone));
        }
        if topic == HEARTBEATS {
            return Ok(Content::Nothing(Nothing::Heartbeat));
        }
        let told = Told::of(record)?;
        let namespace = || self.namespace_of(topic, &told);
        let event = match value::body(record, told.format)? {
            Body::Null if !told.is_ours() && key::of(record) == Key::Heartbeat => {
                return Ok(Content::Nothing(Nothing::Heartbeat));
            }
            Body::Null => whole::of_document(None, record, &told, &namespace()?)?,
            Body::Document(bytes) if !told.is_document && whole::is_event(&told, &bytes) => {
                whole::event(bytes, record, &told, namespace)?
            }
            Body::Document(bytes) => {
                whole::of_document(Some(&bytes), record, &told, &namespace()?)?
            }
        };
        Ok(Content::Event(told.mark(event)))
    }

    fn namespace_of(&self, topic: &str, told: &Told<'_>) -> Result<Namespace, Rejection> {
        let of_topic = || self.namespaces.namespace(topic);
        told.namespace().or_else(of_topic).ok_or_else(|| {
            let error = format!(
                "nothing tells which collection the records of `{topic}` are of: write how topics are \
                 called in `topics.raw`, or whose this one is in `topics.map`"
            );
            rejected("no_namespace", error)
        })
    }
}

fn rejected(reason: &'static str, error: impl Into<String>) -> Rejection {
    Rejection { reason, error: error.into() }
}
