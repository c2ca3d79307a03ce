//! Term: what an expression has for a value, and how values become BSON again.

use crate::bson::write::{self, document};
use crate::bson::{BsonError, Doc, Value};

/// A value of the event, one that was computed, or none.
#[derive(Debug, Clone)]
pub(super) enum Term<'a> {
    /// There is no such field. Not the same as null.
    Missing,
    /// A value of the event or of the file, or a scalar that was computed.
    Is(Value<'a>),
    /// A string that was computed.
    Text(Vec<u8>),
    /// The bytes of an array that was computed.
    Array(Vec<u8>),
}

impl<'a> Term<'a> {
    pub(super) const NULL: Self = Self::Is(Value::Null);

    /// The value; none where there is none.
    pub(super) fn value(&self) -> Option<Value<'_>> {
        match self {
            Self::Missing => None,
            Self::Is(value) => Some(*value),
            Self::Text(text) => Some(Value::String(text)),
            // Made by `array`, so its frame is sound.
            Self::Array(bytes) => Some(Value::Array(Doc::new(bytes).unwrap_or(Doc::EMPTY))),
        }
    }

    /// Whether it is missing, null or undefined, which most operators take alike.
    pub(super) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Missing | Self::Is(Value::Null | Value::Undefined))
    }

    /// MongoDB's truth: all but false, zero, null, undefined and missing.
    pub(super) fn is_true(&self) -> bool {
        match self.value() {
            None | Some(Value::Null | Value::Undefined | Value::Bool(false)) => false,
            Some(Value::Int32(number)) => number != 0,
            Some(Value::Int64(number)) => number != 0,
            Some(Value::Double(number)) => number != 0.0,
            Some(value @ Value::Decimal128(_)) => {
                super::order::compare(Some(value), Some(Value::Int32(0))).is_ne()
            }
            Some(_) => true,
        }
    }

    /// MongoDB's name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        self.value().map_or("missing", |value| type_name(&value))
    }
}

/// MongoDB's name of a value's type, as `$type` gives it.
pub(super) const fn type_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Double(_) => "double",
        Value::String(_) => "string",
        Value::Document(_) => "object",
        Value::Array(_) => "array",
        Value::Binary { .. } => "binData",
        Value::Undefined => "undefined",
        Value::ObjectId(_) => "objectId",
        Value::Bool(_) => "bool",
        Value::DateTime(_) => "date",
        Value::Null => "null",
        Value::Regex { .. } => "regex",
        Value::DbPointer { .. } => "dbPointer",
        Value::Code(_) => "javascript",
        Value::Symbol(_) => "symbol",
        Value::CodeWithScope { .. } => "javascriptWithScope",
        Value::Int32(_) => "int",
        Value::Timestamp { .. } => "timestamp",
        Value::Int64(_) => "long",
        Value::Decimal128(_) => "decimal",
        Value::MinKey => "minKey",
        Value::MaxKey => "maxKey",
    }
}

/// The bytes of an array of these values.
pub(super) fn array<'v>(values: impl IntoIterator<Item = Value<'v>>) -> Result<Vec<u8>, BsonError> {
    let mut out = Vec::new();
    document(&mut out, |out| {
        for (index, value) in values.into_iter().enumerate() {
            write::element(itoa::Buffer::new().format(index).as_bytes(), &value, out);
        }
        Ok(())
    })?;
    Ok(out)
}
