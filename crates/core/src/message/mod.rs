//! Messages: what a document looks like in a topic, its key, and its partition.
//!
//! Writing must never change a document silently. What a lossless format cannot carry travels as
//! BSON, and the caller is told, so that the header [`header::FORMAT`] can say so.

mod carry;
mod chunk;
pub mod header;
mod join;
mod partition;

use crate::bson::{BsonError, Doc, Value};
use crate::connector::{Formatter, java};
use crate::ejson;

pub use carry::NotCarried;
pub use chunk::{bytes_in_batch, chunks};
pub use join::Joiner;
pub use partition::{murmur2, partition};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Extended JSON v2, relaxed wherever that loses nothing: int32 and finite doubles are numbers (a
    /// double always has a point or an exponent), dates of the years 1970 to 9999 ISO text in `$date`,
    /// int64 is `$numberLong`. Read back it gives the same BSON bytes.
    #[default]
    Json,
    /// Canonical Extended JSON v2. Read back it gives the same BSON bytes.
    JsonCanonical,
    /// The connector's `SimplifiedJson`, for readers that know no Extended JSON: an id is its hex
    /// digits, a date its ISO text. Types are lost.
    JsonSimplified,
    /// The bytes as MongoDB sent them.
    Bson,
}

impl Format {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Json, Self::JsonCanonical, Self::JsonSimplified, Self::Bson];

    /// The name in the config and in the header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::JsonCanonical => "json_canonical",
            Self::JsonSimplified => "json_simplified",
            Self::Bson => "bson",
        }
    }

    /// The format of that name.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().as_bytes() == name)
    }

    /// Whether values can be read back as the same BSON.
    pub const fn is_lossless(self) -> bool {
        !matches!(self, Self::JsonSimplified)
    }

    /// Appends the value in this format, or as BSON where a lossless format cannot carry it.
    ///
    /// # Errors
    ///
    /// When the bytes are not BSON; then `out` holds a part.
    pub fn write(self, doc: Doc<'_>, out: &mut Vec<u8>) -> Result<Written, BsonError> {
        let write = match self {
            Self::Json => ejson::relaxed,
            Self::JsonCanonical => ejson::canonical,
            Self::JsonSimplified => {
                java::document(doc, Formatter::Simplified, out)?;
                return Ok(Written { format: self, instead: None });
            }
            Self::Bson => {
                out.extend_from_slice(doc.as_bytes());
                return Ok(Written { format: self, instead: None });
            }
        };
        if let Some(why) = carry::obstacle(doc)? {
            out.extend_from_slice(doc.as_bytes());
            return Ok(Written { format: Self::Bson, instead: Some(why) });
        }
        write(doc, out)?;
        Ok(Written { format: self, instead: None })
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The format of the bytes.
    pub format: Format,
    /// Why it is not the format that was asked for.
    pub instead: Option<NotCarried>,
}

/// Whether a document key reads back from its [`key()`] as the same bytes.
///
/// # Errors
///
/// When the bytes are not BSON.
pub fn key_is_lossless(document_key: Doc<'_>) -> Result<bool, BsonError> {
    carry::obstacle(document_key).map(|obstacle| obstacle.is_none())
}

/// Appends the key of a document: canonical Extended JSON of its document key.
///
/// Different document keys have different bytes, also where they are no UTF-8: such bytes stay as
/// they are, and a `$` that only looks like a wrapper's is `\u0024`.
///
/// # Errors
///
/// When the bytes are not BSON; then `out` holds a part.
pub fn key(document_key: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    ejson::distinct_value(&Value::Document(document_key), out)
}

/// Appends the bytes by which the partition of a document is chosen, to be given to [`partition()`]:
/// the [`key()`] of a document key of `_id` alone.
///
/// So in a collection that is not sharded they are the message's key, and any client that partitions
/// as Java's does by default agrees. In a sharded collection the shard key is left out, since it may
/// change while the document stays the same.
///
/// # Errors
///
/// As [`key()`].
pub fn partition_bytes(document_key: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    let Some(id) = document_key.get("_id")? else { return key(document_key, out) };
    out.extend_from_slice(b"{\"_id\":");
    ejson::distinct_value(&id, out)?;
    out.push(b'}');
    Ok(())
}
