//! What a BSON value is in a JSON column, and its bytes there.

use std::borrow::Cow;

use crate::bson::{BsonError, Value};
use crate::ejson::{self, date, decimal};
use crate::native::write_string;

/// How dates are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// RFC 3339 text in UTC with milliseconds.
    Text,
    /// `DateTime64(3, 'UTC')` for the years 1900 to 2299, which is all that it can hold; text
    /// beyond.
    DateTime64,
}

/// What is at the bottom of a value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Bool,
    DateTime64,
    Float64,
    Int64,
    String,
    /// Of arrays only: one JSON object an item.
    Json,
    /// Of arrays only: items of several types.
    Dynamic,
    /// Of arrays only: without a single item that would tell.
    Unknown,
}

impl Leaf {
    pub(super) const fn scalar_name(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::DateTime64 => "DateTime64(3, 'UTC')",
            Self::Float64 => "Float64",
            Self::Int64 => "Int64",
            Self::String | Self::Unknown => "String",
            Self::Json => "JSON",
            Self::Dynamic => "Dynamic",
        }
    }

    /// How many bytes a value takes; none for those that tell it themselves.
    pub(super) const fn width(self) -> Option<usize> {
        match self {
            Self::Bool => Some(1),
            Self::DateTime64 | Self::Float64 | Self::Int64 => Some(8),
            Self::String | Self::Unknown | Self::Json | Self::Dynamic => None,
        }
    }
}

/// 1900-01-01 and 2300-01-01.
pub(crate) const DATE_TIME64: std::ops::Range<i64> = -2_208_988_800_000..10_413_792_000_000;

/// The type of a value; `None` for documents, arrays, and what a JSON column leaves out.
#[inline]
pub(super) fn leaf(value: &Value<'_>, dates: Dates) -> Option<Leaf> {
    match value {
        Value::Null | Value::Undefined | Value::Document(_) | Value::Array(_) => None,
        Value::Int32(_) | Value::Int64(_) => Some(Leaf::Int64),
        Value::Double(double) if double.is_finite() => Some(Leaf::Float64),
        Value::Bool(_) => Some(Leaf::Bool),
        Value::DateTime(ms) if dates == Dates::DateTime64 && DATE_TIME64.contains(ms) => {
            Some(Leaf::DateTime64)
        }
        _ => Some(Leaf::String),
    }
}

/// Appends the value as its [`leaf`] type is encoded.
#[inline]
pub(super) fn write(value: &Value<'_>, leaf: Leaf, out: &mut Vec<u8>) -> Result<(), BsonError> {
    match *value {
        Value::String(text) => write_string(&valid(text), out),
        Value::Int32(number) => out.extend_from_slice(&i64::from(number).to_le_bytes()),
        Value::Int64(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Double(double) if leaf == Leaf::Float64 => {
            out.extend_from_slice(&double.to_le_bytes());
        }
        Value::Bool(value) => out.push(u8::from(value)),
        Value::DateTime(ms) if leaf == Leaf::DateTime64 => {
            out.extend_from_slice(&ms.to_le_bytes());
        }
        _ => return write_text(value, out),
    }
    Ok(())
}

/// Appends as a string what has no JSON type of its own.
fn write_text(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    let start = out.len();
    out.push(0);
    if let Err(error) = text(value, out) {
        out.truncate(start);
        return Err(error);
    }
    match out.len() - start - 1 {
        length @ 0..128 => out[start] = length as u8,
        _ => {
            let long = out.split_off(start + 1);
            out.truncate(start);
            write_string(&long, out);
        }
    }
    Ok(())
}

/// Appends the text of a value that has no JSON type of its own, without its length.
pub(super) fn text(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    match *value {
        Value::Code(text) | Value::Symbol(text) => out.extend_from_slice(&valid(text)),
        Value::Double(double) => out.extend_from_slice(ejson::non_finite_double(double)),
        Value::DateTime(ms) => date::write(ms, date::Fraction::Always, out),
        Value::ObjectId(id) => ejson::hex(id, out),
        Value::Decimal128(bytes) => decimal::write(bytes, out),
        Value::Binary { subtype: 4, bytes } if bytes.len() == 16 => {
            for (at, part) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
                if at > 0 {
                    out.push(b'-');
                }
                ejson::hex(&bytes[part], out);
            }
        }
        Value::Binary { subtype, bytes } => {
            ejson::base64(ejson::binary_content(subtype, bytes), out);
        }
        _ => ejson::canonical_value(value, out)?,
    }
    Ok(())
}

/// The text with U+FFFD for what is not UTF-8: the engine would print the bytes as they are, and no
/// reader takes such JSON.
#[inline]
fn valid(text: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(text).is_ok() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(String::from_utf8_lossy(text).into_owned().into_bytes())
    }
}

/// Appends what stands for null in an array's dense values.
pub(super) fn write_default(leaf: Leaf, out: &mut Vec<u8>) {
    // An empty string is one zero byte as well.
    out.extend(std::iter::repeat_n(0, leaf.width().unwrap_or(1)));
}
