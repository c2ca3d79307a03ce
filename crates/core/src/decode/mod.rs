//! JSON text becomes BSON bytes, in one pass.
//!
//! Reads Extended JSON v2, canonical and relaxed, and what the MongoDB Kafka connector's formatters
//! write (its `DefaultJson` is version 1, with bare `NaN` and `Infinity`). Without a wrapper, an
//! integer is an int32, an int64 where that is too small, and a double beyond; a number with a point
//! or an exponent is a double. Fields keep their order and may repeat. An object is a wrapper
//! (`{"$oid": …}`) only if it is one to the letter, else a document with such a name.
//!
//! What a formatter has lost stays lost: `DefaultJson` writes a DBPointer as a DBRef, and no text has
//! the payload of a NaN; `SimplifiedJson` keeps hardly any type.
//!
//! The result is BSON to the last byte, or there is an error: nothing is mended or left out. Bytes
//! of any kind must never make it panic, nest without end, or take memory out of proportion.

pub(crate) mod date;
pub(crate) mod decimal;
mod scan;
pub(crate) mod wrapper;

use crate::bson::MAX_DEPTH;
use scan::Scanner;

/// The longest text that is read. MongoDB's own events end at 16 MiB of BSON, or at three images of
/// that where they travel in parts.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Bytes that are not JSON, or JSON that BSON has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no JSON document at byte {offset}: {what}")]
pub struct JsonError {
    /// Where, counted from the start of the text.
    pub offset: usize,
    /// What was wrong there.
    pub what: &'static str,
}

/// Appends the BSON of a text that holds one object.
///
/// # Errors
///
/// When it is no JSON object, longer than [`MAX_BYTES`], or nested deeper than [`MAX_DEPTH`]; then
/// `out` holds a part.
pub fn document(text: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text, out)?;
    scanner.root()?;
    scanner.end()
}

/// Appends the BSON of a text that holds one object, in which nothing is a wrapper: `{"$oid": "…"}` is
/// a document with such a name.
///
/// # Errors
///
/// As [`document`].
pub fn plain(text: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text, out)?;
    scanner.wrappers = false;
    scanner.root()?;
    scanner.end()
}

/// Appends a document with one field, which holds the value that the text says: for keys, which may
/// be any JSON value.
///
/// # Errors
///
/// As [`document`]; also when the name has a NUL.
pub fn field(name: &str, text: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    if name.contains('\0') {
        return Err(JsonError { offset: 0, what: "name with a NUL" });
    }
    let mut scanner = Scanner::new(text, out)?;
    scanner.only_field(name)?;
    scanner.end()
}
