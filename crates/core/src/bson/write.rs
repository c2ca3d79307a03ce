//! Writes BSON: elements and documents, from values that were walked before.

use super::Value;

/// Writes a document or an array: its length, what `fill` writes, its terminator.
pub(crate) fn document<E>(
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out)?;
    out.push(0);
    // It is made of what one event or one record holds, which is far shorter than 2 GiB.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// A document of the elements that `fill` appends.
pub(crate) fn made(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let made: Result<(), std::convert::Infallible> = document(&mut out, |out| {
        fill(out);
        Ok(())
    });
    made.unwrap_or_else(|never| match never {});
    out
}

/// Appends an element: type, name, value.
pub(crate) fn element(name: &[u8], value: &Value<'_>, out: &mut Vec<u8>) {
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
