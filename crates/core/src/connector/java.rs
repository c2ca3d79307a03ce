//! JSON as the `JsonWriter` of MongoDB's Java driver 4.7 writes it: a space behind each colon and
//! comma, and escapes by UTF-16 unit.

use crate::bson::{BsonError, Doc, MAX_DEPTH, Value};
use crate::ejson::{self, decimal};

use super::double;
use super::{Formatter, unescaped};

/// Appends the document as a formatter writes it.
pub(crate) fn document(
    doc: Doc<'_>,
    formatter: Formatter,
    out: &mut Vec<u8>,
) -> Result<(), BsonError> {
    Writer { out, formatter }.document(doc, MAX_DEPTH)
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    formatter: Formatter,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn document(&mut self, doc: Doc<'_>, levels: usize) -> Result<(), BsonError> {
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        self.put("{");
        for (index, element) in doc.elements().enumerate() {
            let element = element?;
            if index > 0 {
                self.put(", ");
            }
            self.string(element.key);
            self.put(": ");
            self.value(element.value, levels)?;
        }
        self.put("}");
        Ok(())
    }

    fn array(&mut self, array: Doc<'_>, levels: usize) -> Result<(), BsonError> {
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        self.put("[");
        for (index, element) in array.elements().enumerate() {
            if index > 0 {
                self.put(", ");
            }
            self.value(element?.value, levels)?;
        }
        self.put("]");
        Ok(())
    }

    fn value(&mut self, value: Value<'_>, levels: usize) -> Result<(), BsonError> {
        let simplified = self.formatter == Formatter::Simplified;
        match value {
            Value::Document(doc) => self.document(doc, levels)?,
            Value::Array(array) => self.array(array, levels)?,
            Value::Double(number) => self.double(number),
            Value::String(text) => self.string(text),
            Value::Bool(value) => self.put(if value { "true" } else { "false" }),
            Value::Null => self.put("null"),
            Value::Binary { subtype, bytes } => self.binary(subtype, bytes),
            Value::DateTime(ms) => self.date(ms),
            Value::ObjectId(id) if simplified => {
                self.quoted(|out| ejson::hex(id, out));
            }
            Value::ObjectId(id) => self.object_id(id),
            Value::Symbol(symbol) if simplified => self.string(symbol),
            Value::Symbol(symbol) => {
                self.put("{\"$symbol\": ");
                self.string(symbol);
                self.put("}");
            }
            Value::Regex { pattern, options } => {
                let (before, between, after) = match self.formatter {
                    Formatter::Default => ("{\"$regex\": ", ", \"$options\": ", "}"),
                    Formatter::Extended | Formatter::Simplified => {
                        ("{\"$regularExpression\": {\"pattern\": ", ", \"options\": ", "}}")
                    }
                };
                self.put(before);
                self.string(pattern);
                self.put(between);
                // The driver sorts them.
                let mut options: Vec<char> = String::from_utf8_lossy(options).chars().collect();
                options.sort_unstable();
                self.string(String::from_iter(options).as_bytes());
                self.put(after);
            }
            Value::DbPointer { namespace, id } => {
                let extended = self.formatter == Formatter::Extended;
                self.put(if extended { "{\"$dbPointer\": {\"$ref\": " } else { "{\"$ref\": " });
                self.string(namespace);
                self.put(", \"$id\": ");
                self.value(Value::ObjectId(id), levels)?;
                self.put(if extended { "}}" } else { "}" });
            }
            Value::Code(code) => {
                self.put("{\"$code\": ");
                self.string(code);
                self.put("}");
            }
            Value::CodeWithScope { code, scope } => {
                self.put("{\"$code\": ");
                self.string(code);
                self.put(", \"$scope\": ");
                self.document(scope, levels)?;
                self.put("}");
            }
            Value::Int32(number) if self.formatter == Formatter::Extended => {
                self.wrapped("$numberInt", |out| integer(number, out));
            }
            Value::Int32(number) => integer(number, self.out),
            Value::Int64(number) if simplified => integer(number, self.out),
            Value::Int64(number) => self.wrapped("$numberLong", |out| integer(number, out)),
            Value::Timestamp { t, i } => {
                self.put("{\"$timestamp\": {\"t\": ");
                integer(t, self.out);
                self.put(", \"i\": ");
                integer(i, self.out);
                self.put("}}");
            }
            Value::Decimal128(bytes) if simplified => {
                self.quoted(|out| decimal::write(bytes, out));
            }
            Value::Decimal128(bytes) => {
                self.wrapped("$numberDecimal", |out| decimal::write(bytes, out));
            }
            Value::Undefined => self.put("{\"$undefined\": true}"),
            Value::MinKey => self.put("{\"$minKey\": 1}"),
            Value::MaxKey => self.put("{\"$maxKey\": 1}"),
        }
        Ok(())
    }

    fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.put("\"");
        write(self.out);
        self.put("\"");
    }

    fn wrapped(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.put("{\"");
        self.put(name);
        self.put("\": ");
        self.quoted(write);
        self.put("}");
    }

    fn object_id(&mut self, id: &[u8; 12]) {
        self.wrapped("$oid", |out| ejson::hex(id, out));
    }

    fn double(&mut self, number: f64) {
        let bare = match self.formatter {
            Formatter::Default => true,
            Formatter::Extended => false,
            Formatter::Simplified => number.is_finite(),
        };
        if bare {
            double::write(number, self.out);
        } else {
            self.wrapped("$numberDouble", |out| double::write(number, out));
        }
    }

    fn binary(&mut self, subtype: u8, bytes: &[u8]) {
        let content = ejson::binary_content(subtype, bytes);
        let (before, between, after) = match self.formatter {
            Formatter::Simplified => return self.quoted(|out| ejson::base64(content, out)),
            Formatter::Default => ("{\"$binary\": \"", "\", \"$type\": \"", "\"}"),
            Formatter::Extended => ("{\"$binary\": {\"base64\": \"", "\", \"subType\": \"", "\"}}"),
        };
        self.put(before);
        ejson::base64(content, self.out);
        self.put(between);
        let start = self.out.len();
        ejson::hex(&[subtype], self.out);
        self.out[start..].make_ascii_uppercase();
        self.put(after);
    }

    fn date(&mut self, ms: i64) {
        match self.formatter {
            Formatter::Default => {
                self.put("{\"$date\": ");
                integer(ms, self.out);
                self.put("}");
            }
            Formatter::Extended => {
                self.put("{\"$date\": ");
                self.wrapped("$numberLong", |out| integer(ms, out));
                self.put("}");
            }
            Formatter::Simplified => self.quoted(|out| iso(ms, out)),
        }
    }

    fn string(&mut self, text: &[u8]) {
        self.put("\"");
        for chunk in text.utf8_chunks() {
            for character in chunk.valid().chars() {
                self.character(character);
            }
            if !chunk.invalid().is_empty() {
                self.put("\u{fffd}");
            }
        }
        self.put("\"");
    }

    fn character(&mut self, character: char) {
        match character {
            '"' => self.put("\\\""),
            '\\' => self.put("\\\\"),
            '\u{8}' => self.put("\\b"),
            '\u{c}' => self.put("\\f"),
            '\n' => self.put("\\n"),
            '\r' => self.put("\\r"),
            '\t' => self.put("\\t"),
            _ if unescaped::contains(character) => {
                self.put(character.encode_utf8(&mut [0; 4]));
            }
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    self.put("\\u");
                    ejson::hex(&unit.to_be_bytes(), self.out);
                }
            }
        }
    }
}

fn integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// As Java's `ISO_DATE_TIME` writes an instant: no zeros at the end of the fraction, and of a year
/// beyond 0000..9999 a sign and at least four digits.
fn iso(ms: i64, out: &mut Vec<u8>) {
    use crate::ejson::date::{DAY_MS, Fraction, civil, write};
    let (year, ..) = civil(ms.div_euclid(DAY_MS));
    let start = out.len();
    write(ms, Fraction::UnlessZero, out);
    if !(0..=9999).contains(&year) {
        let digits = format!("{}{:04}", if year < 0 { '-' } else { '+' }, year.unsigned_abs());
        let width = out[start + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        out.splice(start..=start + width, digits.bytes());
    }
    if out[start..].contains(&b'.') {
        out.pop();
        while out.last() == Some(&b'0') {
            out.pop();
        }
        out.push(b'Z');
    }
}
