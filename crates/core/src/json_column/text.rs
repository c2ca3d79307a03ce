//! A JSON column as text, which the server parses: for rows that would be too wide otherwise. See `docs/adr/0002-native-blocks.md` for what the two forms differ in.
//!
//! The values are those of the table in [`super`], with dates always as text. A name keeps its
//! dots, since the server escapes them itself (`json_type_escape_dots_in_keys`).

use std::collections::HashSet;

use super::scalar;
use super::tree::escape;
use crate::bson::{BsonError, Doc, Element, MAX_DEPTH, Value};
use crate::ejson;
use crate::native::{Column, Strings};

/// The version of the serialization. A column of type `String` would be converted by the server as
/// well, but without heed to the settings of the insert: text that looks like a date became one.
const TEXT: u64 = 1;

/// A column of type `JSON`, one text a row.
#[derive(Debug, Default)]
pub struct JsonText {
    rows: Strings,
}

impl JsonText {
    /// Appends a row that `write`, which is [`document`] or [`scalars`], makes of the document.
    ///
    /// # Errors
    ///
    /// Those of `write`; then there is no row.
    pub fn push_with(
        &mut self,
        doc: Doc<'_>,
        write: impl FnOnce(Doc<'_>, &mut Vec<u8>) -> Result<(), BsonError>,
    ) -> Result<(), BsonError> {
        self.rows.push_with(|out| write(doc, out))
    }
}

impl Column for JsonText {
    fn type_name(&self) -> &'static str {
        "JSON"
    }

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&TEXT.to_le_bytes());
        self.rows.write(out);
    }

    fn clear(&mut self) {
        self.rows.clear();
    }
}

/// Appends all fields of a document as a JSON object.
///
/// # Errors
///
/// When the bytes are not BSON; then `out` holds a part.
pub fn document(doc: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    object(doc, MAX_DEPTH, out, |_| true)
}

/// Appends the fields of a document that are neither `_id` nor a document nor an array.
///
/// # Errors
///
/// As [`document`].
pub fn scalars(doc: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    object(doc, MAX_DEPTH, out, |element| {
        element.key != b"_id" && !matches!(element.value, Value::Document(_) | Value::Array(_))
    })
}

fn object(
    doc: Doc<'_>,
    levels: usize,
    out: &mut Vec<u8>,
    keep: impl Fn(&Element<'_>) -> bool,
) -> Result<(), BsonError> {
    let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
    let mut fields = doc.elements().collect::<Result<Vec<_>, _>>()?;
    // Of equal names the last wins, also when it is one that is not kept. The server would refuse
    // the whole block.
    let mut names = HashSet::with_capacity(fields.len());
    fields.reverse();
    fields.retain(|element| names.insert(escape(element.key)));
    let kept = fields.iter().rev().filter(|element| {
        keep(element) && !matches!(element.value, Value::Null | Value::Undefined)
    });
    let mut mark = b'{';
    for element in kept {
        out.push(mark);
        mark = b',';
        string(element.key, out)?;
        out.push(b':');
        put(&element.value, levels, out)?;
    }
    if mark == b'{' {
        out.push(mark);
    }
    out.push(b'}');
    Ok(())
}

fn array(array: Doc<'_>, levels: usize, out: &mut Vec<u8>) -> Result<(), BsonError> {
    let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
    out.push(b'[');
    for (index, element) in array.elements().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put(&element?.value, levels, out)?;
    }
    out.push(b']');
    Ok(())
}

fn put(value: &Value<'_>, levels: usize, out: &mut Vec<u8>) -> Result<(), BsonError> {
    match *value {
        Value::Null | Value::Undefined => out.extend_from_slice(b"null"),
        Value::Document(doc) => object(doc, levels, out, |_| true)?,
        Value::Array(items) => array(items, levels, out)?,
        Value::String(text) => string(text, out)?,
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Int32(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes())
        }
        Value::Int64(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes())
        }
        // With a point or an exponent always, so it stays a double.
        Value::Double(double) if double.is_finite() => ejson::finite_double(double, out),
        _ => {
            let mut text = Vec::new();
            scalar::text(value, &mut text)?;
            string(&text, out)?;
        }
    }
    Ok(())
}

/// Appends a JSON string, with U+FFFD for what is not UTF-8.
fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), BsonError> {
    ejson::canonical_value(&Value::String(text), out)
}
