//! Wrappers: documents that Extended JSON writes for values that JSON has no word for.
//!
//! A document is a wrapper only to the letter: all of its fields are those of one wrapper, and their
//! values are of the right type and can be read. Anything else stays the document that it is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::scan::{numeral, tag};
use super::{date, decimal};
use crate::bson::{Doc, Value};

/// Names that only wrappers should have. A document with one of them does not travel as JSON.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    matches!(
        name,
        b"$oid"
            | b"$symbol"
            | b"$numberInt"
            | b"$numberLong"
            | b"$numberDouble"
            | b"$numberDecimal"
            | b"$binary"
            | b"$uuid"
            | b"$code"
            | b"$scope"
            | b"$timestamp"
            | b"$regularExpression"
            | b"$regex"
            | b"$dbPointer"
            | b"$date"
            | b"$minKey"
            | b"$maxKey"
            | b"$undefined"
    )
}

/// Appends the value that the document wraps, and returns its tag.
///
/// `out` stays as it is where there is none.
pub(crate) fn value(doc: Doc<'_>, out: &mut Vec<u8>) -> Option<u8> {
    let mut fields = doc.elements();
    let first = fields.next()?.ok()?;
    let Some(second) = fields.next() else { return single(first.key, first.value, out) };
    let second = second.ok()?;
    if fields.next().is_some() {
        return None;
    }
    pair((first.key, first.value), (second.key, second.value), out)
        .or_else(|| pair((second.key, second.value), (first.key, first.value), out))
}

fn single(name: &[u8], value: Value<'_>, out: &mut Vec<u8>) -> Option<u8> {
    let mut put = |tag, bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Some(tag)
    };
    match (name, value) {
        (b"$oid", Value::String(text)) => put(tag::OBJECT_ID, &unhex::<12>(text)?),
        (b"$symbol", Value::String(text)) => {
            string(text, out);
            Some(tag::SYMBOL)
        }
        (b"$code", Value::String(text)) => {
            string(text, out);
            Some(tag::CODE)
        }
        (b"$numberInt", Value::String(text)) => {
            put(tag::INT32, &integer::<i32>(text)?.to_le_bytes())
        }
        (b"$numberLong", Value::String(text)) => {
            put(tag::INT64, &integer::<i64>(text)?.to_le_bytes())
        }
        (b"$numberDouble", Value::String(text)) => put(tag::DOUBLE, &double(text)?.to_le_bytes()),
        (b"$numberDecimal", Value::String(text)) => put(tag::DECIMAL128, &decimal::parse(text)?),
        (b"$uuid", Value::String(text)) => {
            binary(4, &uuid(text)?, out);
            Some(tag::BINARY)
        }
        (b"$binary", Value::Document(inner)) => {
            let [base64, subtype] = texts(inner, [b"base64", b"subType"])?;
            binary(unhex_byte(subtype)?, &BASE64_STANDARD.decode(base64).ok()?, out);
            Some(tag::BINARY)
        }
        (b"$regularExpression", Value::Document(inner)) => {
            let [pattern, options] = texts(inner, [b"pattern", b"options"])?;
            regex(pattern, options, out)
        }
        (b"$timestamp", Value::Document(inner)) => {
            let [t, i] = two(inner, [b"t", b"i"])?;
            put(tag::TIMESTAMP, &[seconds(i)?, seconds(t)?].concat())
        }
        (b"$dbPointer", Value::Document(inner)) => {
            let [Value::String(namespace), Value::ObjectId(id)] = two(inner, [b"$ref", b"$id"])?
            else {
                return None;
            };
            string(namespace, out);
            out.extend_from_slice(id);
            Some(tag::DB_POINTER)
        }
        (b"$date", value) => {
            let ms = match value {
                Value::Int32(ms) => i64::from(ms),
                Value::Int64(ms) => ms,
                Value::String(text) => date::parse(text)?,
                _ => return None,
            };
            put(tag::DATE, &ms.to_le_bytes())
        }
        (b"$minKey", Value::Int32(1)) => Some(tag::MIN_KEY),
        (b"$maxKey", Value::Int32(1)) => Some(tag::MAX_KEY),
        (b"$undefined", Value::Bool(true)) => Some(tag::UNDEFINED),
        _ => None,
    }
}

type Field<'a> = (&'a [u8], Value<'a>);

fn pair(first: Field<'_>, second: Field<'_>, out: &mut Vec<u8>) -> Option<u8> {
    match (first, second) {
        ((b"$code", Value::String(code)), (b"$scope", Value::Document(scope))) => {
            let length = 4 + 4 + code.len() + 1 + scope.as_bytes().len();
            out.extend_from_slice(&i32::try_from(length).ok()?.to_le_bytes());
            string(code, out);
            out.extend_from_slice(scope.as_bytes());
            Some(tag::CODE_WITH_SCOPE)
        }
        // Version 1 of Extended JSON.
        ((b"$binary", Value::String(base64)), (b"$type", Value::String(subtype))) => {
            binary(unhex_byte(subtype)?, &BASE64_STANDARD.decode(base64).ok()?, out);
            Some(tag::BINARY)
        }
        ((b"$regex", Value::String(pattern)), (b"$options", Value::String(options))) => {
            regex(pattern, options, out)
        }
        _ => None,
    }
}

/// The two fields of a document that has no others.
fn two<'a>(doc: Doc<'a>, names: [&[u8]; 2]) -> Option<[Value<'a>; 2]> {
    let mut fields = doc.elements();
    let (first, second) = (fields.next()?.ok()?, fields.next()?.ok()?);
    match fields.next() {
        None if [first.key, second.key] == names => Some([first.value, second.value]),
        None if [second.key, first.key] == names => Some([second.value, first.value]),
        _ => None,
    }
}

fn texts<'a>(doc: Doc<'a>, names: [&[u8]; 2]) -> Option<[&'a [u8]; 2]> {
    match two(doc, names)? {
        [Value::String(first), Value::String(second)] => Some([first, second]),
        _ => None,
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    // Shorter than the JSON text, which is shorter than 2 GiB.
    out.extend_from_slice(&(text.len() as u32 + 1).to_le_bytes());
    out.extend_from_slice(text);
    out.push(0);
}

fn binary(subtype: u8, content: &[u8], out: &mut Vec<u8>) {
    let length = (content.len() as u32).to_le_bytes();
    if subtype == 2 {
        out.extend_from_slice(&(content.len() as u32 + 4).to_le_bytes());
        out.push(subtype);
    }
    out.extend_from_slice(&length);
    if subtype != 2 {
        out.push(subtype);
    }
    out.extend_from_slice(content);
}

fn regex(pattern: &[u8], options: &[u8], out: &mut Vec<u8>) -> Option<u8> {
    if pattern.contains(&0) || options.contains(&0) {
        return None;
    }
    for text in [pattern, options] {
        out.extend_from_slice(text);
        out.push(0);
    }
    Some(tag::REGEX)
}

fn seconds(value: Value<'_>) -> Option<[u8; 4]> {
    let number = match value {
        Value::Int32(number) => u32::try_from(number).ok()?,
        Value::Int64(number) => u32::try_from(number).ok()?,
        _ => return None,
    };
    Some(number.to_le_bytes())
}

fn integer<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn double(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ if numeral(text) == Some(text.len()) => {
            integer::<f64>(text).filter(|double| double.is_finite())
        }
        _ => None,
    }
}

fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = unhex_byte(pair)?;
    }
    Some(bytes)
}

/// One byte of one or two hex digits.
fn unhex_byte(digits: &[u8]) -> Option<u8> {
    if !matches!(digits.len(), 1 | 2) {
        return None;
    }
    let byte = digits
        .iter()
        .try_fold(0, |byte, digit| Some(byte << 4 | char::from(*digit).to_digit(16)?))?;
    u8::try_from(byte).ok()
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
    unhex(&digits)
}
