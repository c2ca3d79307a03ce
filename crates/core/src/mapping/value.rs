//! Term: what an expression has for a value, and how values become BSON again.

use crate::bson::{BsonError, Doc, Value};
use crate::exclude;

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
    exclude::document(&mut out, |out| {
        for (index, value) in values.into_iter().enumerate() {
            put(itoa::Buffer::new().format(index).as_bytes(), &value, out);
        }
        Ok(())
    })?;
    Ok(out)
}

/// Appends an element: type, name, value.
pub(super) fn put(name: &[u8], value: &Value<'_>, out: &mut Vec<u8>) {
    let at = out.len();
    out.push(0);
    out.extend_from_slice(name);
    out.push(0);
    out[at] = match *value {
        Value::Double(double) => {
            out.extend_from_slice(&double.to_le_bytes());
            0x01
        }
        Value::String(text) => {
            string(text, out);
            0x02
        }
        Value::Document(doc) => {
            out.extend_from_slice(doc.as_bytes());
            0x03
        }
        Value::Array(items) => {
            out.extend_from_slice(items.as_bytes());
            0x04
        }
        Value::Binary { subtype, bytes } => {
            length(bytes.len(), out);
            out.push(subtype);
            out.extend_from_slice(bytes);
            0x05
        }
        Value::Undefined => 0x06,
        Value::ObjectId(id) => {
            out.extend_from_slice(id);
            0x07
        }
        Value::Bool(value) => {
            out.push(value.into());
            0x08
        }
        Value::DateTime(millis) => {
            out.extend_from_slice(&millis.to_le_bytes());
            0x09
        }
        Value::Null => 0x0A,
        Value::Regex { pattern, options } => {
            for text in [pattern, options] {
                out.extend_from_slice(text);
                out.push(0);
            }
            0x0B
        }
        Value::DbPointer { namespace, id } => {
            string(namespace, out);
            out.extend_from_slice(id);
            0x0C
        }
        Value::Code(code) => {
            string(code, out);
            0x0D
        }
        Value::Symbol(symbol) => {
            string(symbol, out);
            0x0E
        }
        Value::CodeWithScope { code, scope } => {
            length(code.len() + scope.as_bytes().len() + 9, out);
            string(code, out);
            out.extend_from_slice(scope.as_bytes());
            0x0F
        }
        Value::Int32(number) => {
            out.extend_from_slice(&number.to_le_bytes());
            0x10
        }
        Value::Timestamp { t, i } => {
            out.extend_from_slice(&i.to_le_bytes());
            out.extend_from_slice(&t.to_le_bytes());
            0x11
        }
        Value::Int64(number) => {
            out.extend_from_slice(&number.to_le_bytes());
            0x12
        }
        Value::Decimal128(bytes) => {
            out.extend_from_slice(bytes);
            0x13
        }
        Value::MinKey => 0xFF,
        Value::MaxKey => 0x7F,
    };
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    length(text.len() + 1, out);
    out.extend_from_slice(text);
    out.push(0);
}

fn length(length: usize, out: &mut Vec<u8>) {
    // All of it comes from one event, which is far shorter than 2 GiB.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}
