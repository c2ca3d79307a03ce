//! What lossless JSON cannot carry.
//!
//! The promise is checked from the reader's side: a document for which nothing is found here is read
//! back by [`crate::decode`] as the same bytes.

use crate::bson::{BsonError, Doc, MAX_DEPTH, Value};
use crate::decode::{decimal, wrapper};
use crate::ejson;

/// Why a document does not travel as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotCarried {
    /// A name or a string is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A field has the name of a wrapper, such as `$oid`, for which readers would take it.
    #[error("a field named like Extended JSON's own")]
    LikeWrapper,
    /// An array whose items are not named 0, 1, ….
    #[error("an array with other names than 0, 1, …")]
    ArrayNames,
    /// A NaN with a payload.
    #[error("a NaN with a payload")]
    NanPayload,
    /// A Decimal128 whose bytes are not those that its text gives.
    #[error("a decimal in other bytes than its text gives")]
    Decimal,
    /// A binary of the old subtype 2 with a wrong inner length.
    #[error("an old binary with a wrong inner length")]
    OldBinary,
    /// With its wrappers, the JSON would be nested deeper than [`MAX_DEPTH`].
    #[error("more than 250 levels of JSON")]
    Depth,
}

/// The levels of the deepest wrapper, `{"$dbPointer": {"$id": {"$oid": …}}}`.
const WRAPPER_LEVELS: usize = 3;

/// The first thing in a document that JSON cannot carry.
pub(super) fn obstacle(doc: Doc<'_>) -> Result<Option<NotCarried>, BsonError> {
    match walk(doc, false, MAX_DEPTH) {
        Ok(()) => Ok(None),
        Err(End::Obstacle(why)) => Ok(Some(why)),
        Err(End::Bson(error)) => Err(error),
    }
}

enum End {
    Obstacle(NotCarried),
    Bson(BsonError),
}

impl From<BsonError> for End {
    fn from(error: BsonError) -> Self {
        Self::Bson(error)
    }
}

fn need(condition: bool, why: NotCarried) -> Result<(), End> {
    if condition { Ok(()) } else { Err(End::Obstacle(why)) }
}

fn text(bytes: &[u8]) -> Result<(), End> {
    need(std::str::from_utf8(bytes).is_ok(), NotCarried::NotUtf8)
}

fn walk(doc: Doc<'_>, array: bool, levels: usize) -> Result<(), End> {
    let levels = levels.checked_sub(1).ok_or(End::Obstacle(NotCarried::Depth))?;
    for (index, element) in doc.elements().enumerate() {
        let element = element?;
        if array {
            let name = itoa::Buffer::new().format(index).as_bytes() == element.key;
            need(name, NotCarried::ArrayNames)?;
        } else {
            need(!wrapper::is_reserved(element.key), NotCarried::LikeWrapper)?;
            text(element.key)?;
        }
        value(element.value, levels)?;
    }
    Ok(())
}

fn value(value: Value<'_>, levels: usize) -> Result<(), End> {
    match value {
        Value::Document(doc) => return walk(doc, false, levels),
        Value::Array(array) => return walk(array, true, levels),
        Value::String(string) => return text(string),
        Value::Bool(_) | Value::Null => return Ok(()),
        Value::Double(double) => {
            let bits = double.to_bits();
            need(!double.is_nan() || bits == f64::NAN.to_bits(), NotCarried::NanPayload)?;
        }
        Value::Code(code) | Value::Symbol(code) => text(code)?,
        Value::Regex { pattern, options } => {
            text(pattern)?;
            text(options)?;
        }
        Value::DbPointer { namespace, .. } => text(namespace)?,
        Value::CodeWithScope { code, scope } => {
            text(code)?;
            walk(scope, false, levels.saturating_sub(1))?;
        }
        Value::Binary { subtype, bytes } => {
            let sound = ejson::binary_content(subtype, bytes).len() != bytes.len();
            need(subtype != 2 || sound, NotCarried::OldBinary)?;
        }
        Value::Decimal128(bytes) => {
            let mut text = Vec::with_capacity(43);
            ejson::decimal::write(bytes, &mut text);
            need(decimal::parse(&text) == Some(*bytes), NotCarried::Decimal)?;
        }
        Value::Undefined
        | Value::ObjectId(_)
        | Value::DateTime(_)
        | Value::Timestamp { .. }
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::MinKey
        | Value::MaxKey => {}
    }
    need(levels >= WRAPPER_LEVELS, NotCarried::Depth)
}
