//! Extended JSON v2, straight from BSON bytes, compact.
//!
//! [`canonical`] keeps every type. [`relaxed`] writes what reads better wherever reading it back
//! gives the same BSON: int32 and finite doubles as numbers (a double always has a point or an
//! exponent), dates of the years 1970 to 9999 as ISO text; an int64 stays `$numberLong`.
//!
//! The text is always valid JSON, so invalid UTF-8 becomes U+FFFD. Besides that, JSON cannot carry
//! the payload of a NaN, a Decimal128 of more than 34 digits (which counts as zero), the inner length
//! of a binary of subtype 2 where it is wrong, and names of an array's items other than 0, 1, …; and a
//! document that has the fields of one of the wrappers (`{"$oid": …}`) would be read back as what they
//! mean. Source: the specification "Extended JSON v2" of MongoDB.

pub(crate) mod date;
pub(crate) mod decimal;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::bson::{BsonError, Doc, MAX_DEPTH, Value};
use date::Fraction;

/// Appends the document as canonical Extended JSON.
///
/// # Errors
///
/// When the bytes are not BSON; then `out` holds a part. Never after [`Doc::validate`].
pub fn canonical(doc: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    Writer { out, relaxed: false, distinct: false }.document(doc, MAX_DEPTH)
}

/// Appends the document as Extended JSON that is relaxed wherever that loses nothing.
///
/// # Errors
///
/// As [`canonical`].
pub fn relaxed(doc: Doc<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    Writer { out, relaxed: true, distinct: false }.document(doc, MAX_DEPTH)
}

/// Appends one value as canonical Extended JSON.
///
/// # Errors
///
/// As [`canonical`].
pub fn canonical_value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    Writer { out, relaxed: false, distinct: false }.value(value, MAX_DEPTH)
}

/// Appends one value as [`canonical_value`] does, but so that different values never get the same
/// text: the bytes of strings stay as they are, and a document is no wrapper, since the `$` of a name
/// is written `\u0024` (but that of DBRef's names, which no wrapper begins with).
///
/// # Errors
///
/// As [`canonical`].
pub(crate) fn distinct_value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
    Writer { out, relaxed: false, distinct: true }.value(value, MAX_DEPTH)
}

/// Appends the text as a JSON string, with its bytes as they are.
pub(crate) fn distinct_string(text: &[u8], out: &mut Vec<u8>) {
    Writer { out, relaxed: false, distinct: true }.string(text);
}

/// Appends a finite double: the shortest digits that read back as the same, always with a point or
/// an exponent, and an exponent below 1e-4 and from 1e16 on, of at least two digits and with its
/// sign, as Python, Java's `Double` (almost) and the reference readers write and take them.
pub(crate) fn finite_double(value: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return out.extend_from_slice(text.as_bytes());
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => mantissa,
    };
    // Whatever form the digits came in: d.ddd and the exponent that belongs to it.
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [0u8; 32];
    let mut count = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        digits[count] = digit;
        count += 1;
    }
    exponent += whole.len() as i32 - 1;
    let zeros = digits[..count].iter().take_while(|digit| **digit == b'0').count();
    exponent -= zeros as i32;
    let end = digits[..count].iter().rposition(|digit| *digit != b'0').map_or(count, |at| at + 1);
    out.push(digits[zeros]);
    if end > zeros + 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[zeros + 1..end]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.unsigned_abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
}

/// Appends two lower-case hex digits a byte.
pub(crate) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Appends base64 of the standard alphabet, padded.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The space is exactly what the encoding takes.
    let written = BASE64_STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// The content of a binary value: of subtype 2 without the inner length, where that is sound.
pub(crate) fn binary_content(subtype: u8, bytes: &[u8]) -> &[u8] {
    match bytes.split_first_chunk::<4>() {
        Some((length, content))
            if subtype == 2
                && usize::try_from(i32::from_le_bytes(*length)) == Ok(content.len()) =>
        {
            content
        }
        _ => bytes,
    }
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    relaxed: bool,
    /// As [`distinct_value`] says.
    distinct: bool,
}

impl Writer<'_> {
    fn put(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    fn document(&mut self, doc: Doc<'_>, levels: usize) -> Result<(), BsonError> {
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        self.out.push(b'{');
        let mut first = true;
        for element in doc.elements() {
            let element = element?;
            if !first {
                self.out.push(b',');
            }
            first = false;
            self.name(element.key);
            self.out.push(b':');
            self.value(&element.value, levels)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn name(&mut self, name: &[u8]) {
        let start = self.out.len();
        self.string(name);
        if self.distinct && name.starts_with(b"$") && !matches!(name, b"$ref" | b"$id" | b"$db") {
            self.out.splice(start + 1..start + 2, *b"\\u0024");
        }
    }

    fn array(&mut self, array: Doc<'_>, levels: usize) -> Result<(), BsonError> {
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        self.out.push(b'[');
        let mut first = true;
        for element in array.elements() {
            if !first {
                self.out.push(b',');
            }
            first = false;
            self.value(&element?.value, levels)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn value(&mut self, value: &Value<'_>, levels: usize) -> Result<(), BsonError> {
        match *value {
            Value::Double(double) => self.double(double),
            Value::String(text) => self.string(text),
            Value::Document(doc) => self.document(doc, levels)?,
            Value::Array(array) => self.array(array, levels)?,
            Value::Binary { subtype, bytes } => {
                let content = binary_content(subtype, bytes);
                self.put(b"{\"$binary\":{\"base64\":\"");
                base64(content, self.out);
                self.put(b"\",\"subType\":\"");
                if self.distinct && subtype == 2 && content.len() == bytes.len() {
                    // Not what the same content with a right inner length gives.
                    self.out.push(b'2');
                } else {
                    hex(&[subtype], self.out);
                }
                self.put(b"\"}}");
            }
            Value::Undefined => self.put(b"{\"$undefined\":true}"),
            Value::ObjectId(id) => {
                self.put(b"{\"$oid\":\"");
                hex(id, self.out);
                self.put(b"\"}");
            }
            Value::Bool(true) => self.put(b"true"),
            Value::Bool(false) => self.put(b"false"),
            Value::DateTime(ms) => self.date(ms),
            Value::Null => self.put(b"null"),
            Value::Regex { pattern, options } => {
                self.put(b"{\"$regularExpression\":{\"pattern\":");
                self.string(pattern);
                self.put(b",\"options\":");
                self.string(options);
                self.put(b"}}");
            }
            Value::DbPointer { namespace, id } => {
                self.put(b"{\"$dbPointer\":{\"$ref\":");
                self.string(namespace);
                self.put(b",\"$id\":{\"$oid\":\"");
                hex(id, self.out);
                self.put(b"\"}}}");
            }
            Value::Code(code) => {
                self.put(b"{\"$code\":");
                self.string(code);
                self.put(b"}");
            }
            Value::Symbol(symbol) => {
                self.put(b"{\"$symbol\":");
                self.string(symbol);
                self.put(b"}");
            }
            Value::CodeWithScope { code, scope } => {
                self.put(b"{\"$code\":");
                self.string(code);
                self.put(b",\"$scope\":");
                self.document(scope, levels)?;
                self.put(b"}");
            }
            Value::Int32(number) if self.relaxed => self.integer(number),
            Value::Int32(number) => {
                self.put(b"{\"$numberInt\":\"");
                self.integer(number);
                self.put(b"\"}");
            }
            Value::Timestamp { t, i } => {
                self.put(b"{\"$timestamp\":{\"t\":");
                self.integer(t);
                self.put(b",\"i\":");
                self.integer(i);
                self.put(b"}}");
            }
            Value::Int64(number) => self.long(number),
            Value::Decimal128(bytes) => {
                self.put(b"{\"$numberDecimal\":\"");
                decimal::write(bytes, self.out);
                self.put(b"\"}");
            }
            Value::MinKey => self.put(b"{\"$minKey\":1}"),
            Value::MaxKey => self.put(b"{\"$maxKey\":1}"),
        }
        Ok(())
    }

    fn integer(&mut self, number: impl itoa::Integer) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    fn long(&mut self, number: i64) {
        self.put(b"{\"$numberLong\":\"");
        self.integer(number);
        self.put(b"\"}");
    }

    fn double(&mut self, double: f64) {
        if self.relaxed && double.is_finite() {
            return finite_double(double, self.out);
        }
        self.put(b"{\"$numberDouble\":\"");
        if double.is_finite() {
            finite_double(double, self.out);
        } else {
            self.put(non_finite_double(double));
        }
        self.put(b"\"}");
    }

    fn date(&mut self, ms: i64) {
        self.put(b"{\"$date\":");
        if self.relaxed && (0..253_402_300_800_000).contains(&ms) {
            self.out.push(b'"');
            date::write(ms, Fraction::UnlessZero, self.out);
            self.out.push(b'"');
        } else {
            self.long(ms);
        }
        self.out.push(b'}');
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        if is_plain(text) {
            self.put(text);
        } else if self.distinct || std::str::from_utf8(text).is_ok() {
            self.escaped(text);
        } else {
            for chunk in text.utf8_chunks() {
                self.escaped(chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() {
                    self.put("\u{fffd}".as_bytes());
                }
            }
        }
        self.out.push(b'"');
    }

    fn escaped(&mut self, text: &[u8]) {
        let mut from = 0;
        for (at, byte) in text.iter().enumerate() {
            if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
                continue;
            }
            self.put(&text[from..at]);
            from = at + 1;
            match byte {
                b'"' => self.put(b"\\\""),
                b'\\' => self.put(b"\\\\"),
                b'\n' => self.put(b"\\n"),
                b'\r' => self.put(b"\\r"),
                b'\t' => self.put(b"\\t"),
                0x08 => self.put(b"\\b"),
                0x0c => self.put(b"\\f"),
                other => {
                    self.put(b"\\u00");
                    hex(&[*other], self.out);
                }
            }
        }
        self.put(&text[from..]);
    }
}

/// Whether the text is ASCII without anything to escape, eight bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of some byte is set when some byte of `word` is below `limit` (at most 128).
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let (words, rest) = text.as_chunks::<8>();
    let special = words.iter().fold(0, |special, word| {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        special | word | below(word, b' ') | quote | backslash
    });
    special & HIGH == 0
        && rest.iter().all(|byte| matches!(byte, b' '..=0x7f if *byte != b'"' && *byte != b'\\'))
}

/// The words of Extended JSON for doubles that JSON has no number for.
pub(crate) const fn non_finite_double(double: f64) -> &'static [u8] {
    if double.is_nan() {
        b"NaN"
    } else if double > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    }
}
