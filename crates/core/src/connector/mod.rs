//! What the MongoDB Kafka source connector writes, byte for byte: keys, values and topic names.
//!
//! For those who replace it under readers that stay: see version 2.0.1 of the connector with Java 17.
//! Nothing here is for reading; [`crate::decode`] reads all of its JSON.

mod double;
pub(crate) mod java;
mod topic;
mod unescaped;
mod wide;

use crate::bson::{BsonError, Doc, Value};

pub use topic::{TopicNames, TopicSettings};

/// `output.json.formatter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Formatter {
    /// `DefaultJson`: Extended JSON version 1, with bare `NaN` and `Infinity`, which are no JSON.
    #[default]
    Default,
    /// `ExtendedJson`: canonical Extended JSON version 2.
    Extended,
    /// `SimplifiedJson`: plain text and numbers for most types.
    Simplified,
}

/// `output.format.key` and `output.format.value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// `json`, by a formatter.
    Json(Formatter),
    /// `bson`.
    Bson,
}

impl Default for Output {
    fn default() -> Self {
        Self::Json(Formatter::default())
    }
}

impl Output {
    /// Appends the document.
    ///
    /// # Errors
    ///
    /// When the bytes are not BSON; then `out` holds a part.
    pub fn write(self, doc: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
        match self {
            Self::Json(formatter) => java::document(doc, formatter, out),
            Self::Bson => {
                out.extend_from_slice(doc.as_bytes());
                Ok(())
            }
        }
    }
}

/// The settings that say what messages look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Messages {
    /// How keys are written.
    pub key: Output,
    /// How values are written.
    pub value: Output,
    /// `publish.full.document.only`: the value is the document. Events without one are left out.
    pub full_document_only: bool,
    /// `publish.full.document.only.tombstone.on.delete`: events that have no `fullDocument` at all
    /// become tombstones instead.
    pub tombstones: bool,
    /// Not `change.stream.document.key.as.key`: the key is the resume token, always.
    pub token_as_key: bool,
}

/// The value of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The bytes were appended.
    Value,
    /// A null.
    Tombstone,
    /// The connector publishes nothing for this event.
    Nothing,
}

impl Messages {
    /// Appends the key of an event: its document key, or else its resume token as `_id`.
    ///
    /// # Errors
    ///
    /// When the bytes are not BSON; then `out` holds a part.
    pub fn write_key(&self, event: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
        let document_key = if self.token_as_key { None } else { event.get("documentKey")? };
        if let Some(Value::Document(key)) = document_key {
            return self.key.write(key, out);
        }
        let mut key = Vec::new();
        if let Some(Value::Document(token)) = event.get("_id")? {
            const NAME: &[u8] = b"\x03_id\0";
            let length = 4 + NAME.len() + token.as_bytes().len() + 1;
            // As long as a part of the event, and some bytes.
            key.extend_from_slice(&(length as u32).to_le_bytes());
            key.extend_from_slice(NAME);
            key.extend_from_slice(token.as_bytes());
            key.push(0);
            return self.key.write(Doc::new(&key)?, out);
        }
        self.key.write(Doc::EMPTY, out)
    }

    /// Appends the value of an event.
    ///
    /// # Errors
    ///
    /// As [`Self::write_key`].
    pub fn write_value(&self, event: Doc<'_>, out: &mut Vec<u8>) -> Result<Published, BsonError> {
        let value = match self.full_document_only {
            false => event,
            true => match event.get("fullDocument")? {
                Some(Value::Document(document)) => document,
                None if self.tombstones => return Ok(Published::Tombstone),
                _ => return Ok(Published::Nothing),
            },
        };
        self.value.write(value, out)?;
        Ok(Published::Value)
    }
}
