//! Producing: change events become messages.
//!
//! ```text
//!   event of a document ─▶ one message, in the partition of its `_id`
//!                    └──▶ and a null behind it, for compacted topics
//!   drop, dropDatabase ─▶ a copy for each partition
//!   rename ─▶ a copy for each partition of the old topic, and of the new one, by the stream of each
//!   other DDL ─▶ one message, in the partition of its namespace
//!   invalidate ─▶ nothing
//! ```
//!
//! The same event always gives the same messages. Nothing here may lose an event silently: the caller
//! is told where there is no message. The format is a contract: `docs/messages.md`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::bson::{BsonError, Value};
use crate::connector::{Messages, Published, TopicNames};
use crate::event::ChangeEvent;
use crate::message::{self, Format, header, murmur2};
use crate::position::Millis;
use crate::record::{Message, Route};
use crate::scope::Scope;
use crate::{Error, ErrorKind, Result, ejson};

/// Names topics.
pub trait Topics: Send + Sync {
    /// The topic of a namespace, whose collection is empty for events of a database; `None` where its
    /// events are not published.
    fn topic(&self, db: &str, coll: &str) -> Option<Arc<str>>;
}

impl<F: Fn(&str, &str) -> Option<Arc<str>> + Send + Sync> Topics for F {
    fn topic(&self, db: &str, coll: &str) -> Option<Arc<str>> {
        self(db, coll)
    }
}

impl Topics for TopicNames {
    fn topic(&self, db: &str, coll: &str) -> Option<Arc<str>> {
        Self::topic(self, db, coll).map(Into::into)
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Publish {
    /// The change event.
    #[default]
    ChangeEvent,
    /// The document; null where it was deleted. Events that have no document and delete none, such as
    /// DDL, are still published as change events.
    FullDocument,
}

/// How messages are written in Tailwater's own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// The format of values.
    pub format: Format,
    /// What they are.
    pub publish: Publish,
    /// Whether a null follows the event of each delete.
    pub tombstones: bool,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an event without messages must be counted"]
pub enum Produced {
    /// Its messages were appended.
    Messages,
    /// Nothing is published of such an event, by rule.
    Nothing,
    /// Its namespace has no topic.
    NoTopic,
}

/// Makes messages of change events.
pub struct Producing {
    topics: Arc<dyn Topics>,
    manner: Manner,
}

#[derive(Debug, Clone, Copy)]
enum Manner {
    Own(Style),
    Connector(Messages),
}

impl fmt::Debug for Producing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producing").field("manner", &self.manner).finish_non_exhaustive()
    }
}

impl Producing {
    /// In Tailwater's own way.
    pub fn new(topics: Arc<dyn Topics>, style: Style) -> Self {
        Self { topics, manner: Manner::Own(style) }
    }

    /// As the MongoDB Kafka connector does: without headers, and without copies.
    pub fn like_connector(topics: Arc<dyn Topics>, messages: Messages) -> Self {
        Self { topics, manner: Manner::Connector(messages) }
    }

    /// Appends the messages of an event, of whatever a topic may be.
    ///
    /// # Errors
    /// As [`Self::messages_of`].
    pub fn messages(&self, event: &ChangeEvent, out: &mut Vec<Message>) -> Result<Produced> {
        self.messages_of(None, event, out)
    }

    /// Appends the messages that the stream of this scope has to tell of an event: into the topics of
    /// what it watches, so that a topic holds what one stream tells, once and in its order.
    ///
    /// # Errors
    /// `Refused` when the event's documents are not BSON, or its namespace is not UTF-8.
    pub fn messages_of(
        &self,
        scope: Option<&Scope>,
        event: &ChangeEvent,
        out: &mut Vec<Message>,
    ) -> Result<Produced> {
        if event.is_invalidate() {
            return Ok(Produced::Nothing);
        }
        match self.manner {
            Manner::Own(style) => self.own(style, scope, event, out),
            Manner::Connector(messages) => self.connectors(messages, event, out),
        }
    }

    fn topic(&self, name: (&[u8], &[u8])) -> Result<Option<Arc<str>>> {
        let (db, coll) = texts(name)?;
        Ok(self.topics.topic(db, coll))
    }

    fn own(
        &self,
        style: Style,
        scope: Option<&Scope>,
        event: &ChangeEvent,
        out: &mut Vec<Message>,
    ) -> Result<Produced> {
        let from = (event.db(), event.coll());
        let (topic, to) = match event.operation_type() {
            b"rename" => {
                let watches = |(db, coll)| scope.is_none_or(|scope| scope.covers(db, coll));
                let of = |name| match watches(texts(name)?) {
                    true => self.topic(name).map(Some),
                    false => Ok(None),
                };
                let (old, new) = (of(from)?, of(event.renamed_to())?);
                if old.is_none() && new.is_none() {
                    return Ok(Produced::Nothing);
                }
                let (old, new) = (old.flatten(), new.flatten());
                (old.clone(), new.filter(|new| Some(new) != old.as_ref()))
            }
            // Another stream tells it, and nothing ends with it: all collections were dropped before.
            b"dropDatabase" if !event.is_listed() => return Ok(Produced::Nothing),
            _ => (self.topic(from)?, None),
        };
        if topic.is_none() && to.is_none() {
            return Ok(Produced::NoTopic);
        }
        let write =
            |topic| message_of(style, event, topic).map_err(|error| malformed(event, error));
        let has_row = topic.is_some();
        if let Some(topic) = topic {
            let message = write(topic)?;
            let tombstone = (style.tombstones && is_delete(event) && message.value.is_some())
                .then(|| tombstone(event, &message));
            out.push(message);
            out.extend(tombstone);
        }
        if let Some(to) = to {
            let mut message = write(to)?;
            // The row is that of the old name, where that is told.
            if event.is_listed() && has_row {
                message.headers.push((header::ROW.into(), Bytes::from_static(b"0")));
            }
            out.push(message);
        }
        Ok(Produced::Messages)
    }

    fn connectors(
        &self,
        messages: Messages,
        event: &ChangeEvent,
        out: &mut Vec<Message>,
    ) -> Result<Produced> {
        // Without headers, nobody could tell that it has no row.
        if !event.is_listed() {
            return Ok(Produced::Nothing);
        }
        let Some(topic) = self.topic((event.db(), event.coll()))? else {
            return Ok(Produced::NoTopic);
        };
        let malformed = |error| malformed(event, error);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let document = event.document().map_err(malformed)?;
        let value = match messages.write_value(document, &mut value).map_err(malformed)? {
            Published::Value => Some(value.into()),
            Published::Tombstone => None,
            Published::Nothing => return Ok(Produced::Nothing),
        };
        messages.write_key(document, &mut key).map_err(malformed)?;
        out.push(Message {
            topic,
            route: Route::Hash(murmur2(&key)),
            key: Some(key.into()),
            value,
            headers: Vec::new(),
            timestamp: timestamp(event),
        });
        Ok(Produced::Messages)
    }
}

fn texts<'n>((db, coll): (&'n [u8], &'n [u8])) -> Result<(&'n str, &'n str)> {
    let text = |name| {
        str::from_utf8(name).map_err(|error| {
            Error::new(ErrorKind::Refused, "cannot name a topic: a namespace is not UTF-8")
                .with_source(error)
        })
    };
    Ok((text(db)?, text(coll)?))
}

/// The key of an event: that of its document, else its resume token as `_id`, as the connector has
/// it.
///
/// # Errors
/// When the event's document key is not BSON.
pub fn key(event: &ChangeEvent) -> Result<Option<Bytes>, BsonError> {
    let mut key = Vec::new();
    match event.document_key() {
        Some(document_key) => message::key(document_key, &mut key)?,
        // Never the same, so that compaction takes none away.
        None if !event.token_data().is_empty() => {
            key.extend_from_slice(b"{\"_id\":{\"_data\":");
            ejson::canonical_value(&Value::String(event.token_data()), &mut key)?;
            key.extend_from_slice(b"}}");
        }
        None => return Ok(None),
    }
    Ok(Some(key.into()))
}

/// By what the partition of an event is chosen: the `_id` of its document, else its namespace.
///
/// # Errors
/// As [`key()`].
pub fn partition_hash(event: &ChangeEvent) -> Result<u32, BsonError> {
    let mut bytes = Vec::new();
    match event.document_key() {
        Some(document_key) => message::partition_bytes(document_key, &mut bytes)?,
        None => bytes.extend_from_slice(&namespace(event)),
    }
    Ok(murmur2(&bytes))
}

/// Ends a collection, or may: every lane must see it at its place.
fn is_marker(event: &ChangeEvent) -> bool {
    matches!(event.operation_type(), b"drop" | b"rename" | b"dropDatabase")
}

fn is_delete(event: &ChangeEvent) -> bool {
    event.operation_type() == b"delete"
}

fn message_of(style: Style, event: &ChangeEvent, topic: Arc<str>) -> Result<Message, BsonError> {
    let mut headers = Headers::default();
    let mut value = Vec::new();
    let document = match style.publish {
        Publish::FullDocument if event.document_key().is_some() => event.full_document(),
        _ => None,
    };
    let is_null = style.publish == Publish::FullDocument
        && is_delete(event)
        && event.document_key().is_some();
    if !is_null {
        let written = style.format.write(document.map_or(event.document(), Ok)?, &mut value)?;
        headers.fixed(header::FORMAT, written.format.name());
    }
    headers.identity(event, event.operation_type());
    if document.is_some() {
        headers.fixed(header::VALUE, header::DOCUMENT);
    }
    // Without the change event, the document key is nowhere else.
    if let Some(key) = event.document_key().filter(|_| is_null || document.is_some())
        && !message::key_is_lossless(key)?
    {
        headers.add(header::KEY, key.as_bytes());
    }
    if !event.is_listed() {
        headers.fixed(header::ROW, header::NO);
    }
    if !event.is_looked_up() {
        headers.fixed(header::LOOKUP, header::NO);
    }
    Ok(Message {
        topic,
        route: match is_marker(event) {
            true => Route::Every,
            false => Route::Hash(partition_hash(event)?),
        },
        key: key(event)?,
        value: (!is_null).then(|| value.into()),
        headers: headers.finish(),
        timestamp: timestamp(event),
    })
}

/// The null behind the event of a delete, for compaction.
fn tombstone(event: &ChangeEvent, message: &Message) -> Message {
    let mut headers = Headers::default();
    headers.identity(event, header::TOMBSTONE.as_bytes());
    headers.fixed(header::ROW, header::NO);
    Message { value: None, headers: headers.finish(), ..message.clone() }
}

/// Kafka refuses times before 1970.
fn timestamp(event: &ChangeEvent) -> Millis {
    event.ts().max(Millis(0))
}

/// `db.coll`, or the database alone.
fn namespace(event: &ChangeEvent) -> Vec<u8> {
    match event.coll() {
        b"" => event.db().to_vec(),
        coll => [event.db(), b".", coll].concat(),
    }
}

/// The headers of a message, whose values share one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    bytes: Vec<u8>,
    entries: Vec<(&'static str, Text)>,
}

#[derive(Debug)]
enum Text {
    Fixed(&'static str),
    Range(usize, usize),
}

impl Headers {
    pub(crate) fn fixed(&mut self, name: &'static str, text: &'static str) {
        self.entries.push((name, Text::Fixed(text)));
    }

    pub(crate) fn add(&mut self, name: &'static str, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.entries.push((name, Text::Range(start, self.bytes.len())));
    }

    /// What every message of an event says of it.
    pub(crate) fn identity(&mut self, event: &ChangeEvent, op: &[u8]) {
        self.add(header::OP, op);
        self.add(header::NS, &namespace(event));
        self.add(header::VERSION, itoa::Buffer::new().format(event.version()).as_bytes());
        self.add(header::TS, itoa::Buffer::new().format(event.ts().0).as_bytes());
    }

    pub(crate) fn finish(self) -> Vec<(std::borrow::Cow<'static, str>, Bytes)> {
        let bytes = Bytes::from(self.bytes);
        let value = |text| match text {
            Text::Fixed(text) => Bytes::from_static(text.as_bytes()),
            Text::Range(start, end) => bytes.slice(start..end),
        };
        self.entries.into_iter().map(|(name, text)| (name.into(), value(text))).collect()
    }
}

/// Names the event by its time alone: its values stay out of messages.
fn malformed(event: &ChangeEvent, error: BsonError) -> Error {
    let time = event.cluster_time();
    let what = format!(
        "cannot write a message of the event at cluster time {}.{}",
        time.seconds, time.increment
    );
    Error::new(ErrorKind::Refused, what).with_source(error)
}
