//! The scanner: walks JSON text, and writes BSON behind itself.

use crate::bson::Doc;

use super::{JsonError, MAX_BYTES, MAX_DEPTH, wrapper};

pub(super) struct Scanner<'t, 'o> {
    text: &'t str,
    at: usize,
    out: &'o mut Vec<u8>,
    /// Where the value of a wrapper is made.
    scratch: Vec<u8>,
    /// Whether a document may be a wrapper.
    pub(super) wrappers: bool,
}

/// The types of values, as BSON numbers them.
pub(super) mod tag {
    pub(in crate::decode) const DOUBLE: u8 = 0x01;
    pub(in crate::decode) const STRING: u8 = 0x02;
    pub(in crate::decode) const DOCUMENT: u8 = 0x03;
    pub(in crate::decode) const ARRAY: u8 = 0x04;
    pub(in crate::decode) const BINARY: u8 = 0x05;
    pub(in crate::decode) const UNDEFINED: u8 = 0x06;
    pub(in crate::decode) const OBJECT_ID: u8 = 0x07;
    pub(in crate::decode) const BOOL: u8 = 0x08;
    pub(in crate::decode) const DATE: u8 = 0x09;
    pub(in crate::decode) const NULL: u8 = 0x0A;
    pub(in crate::decode) const REGEX: u8 = 0x0B;
    pub(in crate::decode) const DB_POINTER: u8 = 0x0C;
    pub(in crate::decode) const CODE: u8 = 0x0D;
    pub(in crate::decode) const SYMBOL: u8 = 0x0E;
    pub(in crate::decode) const CODE_WITH_SCOPE: u8 = 0x0F;
    pub(in crate::decode) const INT32: u8 = 0x10;
    pub(in crate::decode) const TIMESTAMP: u8 = 0x11;
    pub(in crate::decode) const INT64: u8 = 0x12;
    pub(in crate::decode) const DECIMAL128: u8 = 0x13;
    pub(in crate::decode) const MIN_KEY: u8 = 0xFF;
    pub(in crate::decode) const MAX_KEY: u8 = 0x7F;
}

impl<'t, 'o> Scanner<'t, 'o> {
    pub(super) fn new(text: &'t [u8], out: &'o mut Vec<u8>) -> Result<Self, JsonError> {
        if text.len() > MAX_BYTES {
            return Err(JsonError { offset: MAX_BYTES, what: "text of more than 256 MiB" });
        }
        let text = std::str::from_utf8(text)
            .map_err(|error| JsonError { offset: error.valid_up_to(), what: "no UTF-8" })?;
        // A byte order mark is no JSON, but some producers write it.
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Ok(Self { text, at, out, scratch: Vec::new(), wrappers: true })
    }

    /// The object that the text consists of. It is never a wrapper.
    pub(super) fn root(&mut self) -> Result<(), JsonError> {
        if self.token() != Some(b'{') {
            return Err(self.error("not an object"));
        }
        self.at += 1;
        self.object(MAX_DEPTH)?;
        Ok(())
    }

    pub(super) fn only_field(&mut self, name: &str) -> Result<(), JsonError> {
        let start = self.open();
        let tag_at = self.out.len();
        self.out.push(0);
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(0);
        self.out[tag_at] = self.value(MAX_DEPTH - 1)?;
        self.close(start)
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.token() {
            None => Ok(()),
            Some(_) => Err(self.error("text after the end of the document")),
        }
    }

    fn error(&self, what: &'static str) -> JsonError {
        JsonError { offset: self.at, what }
    }

    fn rest(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// The next byte that is no white space, at which the scanner then is.
    fn token(&mut self) -> Option<u8> {
        loop {
            match *self.rest().first()? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Begins a document or an array, whose length is not known yet.
    fn open(&mut self) -> usize {
        self.out.extend_from_slice(&[0; 4]);
        self.out.len() - 4
    }

    fn close(&mut self, start: usize) -> Result<(), JsonError> {
        self.out.push(0);
        let length = i32::try_from(self.out.len() - start)
            .map_err(|_| self.error("document of more than 2 GiB"))?;
        self.out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Appends a value without its tag, which is returned.
    fn value(&mut self, levels: usize) -> Result<u8, JsonError> {
        match self.token() {
            Some(b'"') => self.string().map(|()| tag::STRING),
            Some(b'{') => {
                self.at += 1;
                let start = self.out.len();
                let named_like_wrapper = self.object(levels)?;
                Ok(if named_like_wrapper { self.unwrap(start) } else { tag::DOCUMENT })
            }
            Some(b'[') => {
                self.at += 1;
                self.array(levels).map(|()| tag::ARRAY)
            }
            Some(b'-' | b'0'..=b'9' | b'I' | b'N') => self.number(),
            Some(_) => self.word(),
            None => Err(self.error("text cut off")),
        }
    }

    /// The document that was written last becomes what it wraps, if it is a wrapper.
    fn unwrap(&mut self, start: usize) -> u8 {
        self.scratch.clear();
        // It was framed a moment ago.
        let doc = Doc::new(&self.out[start..]).ok();
        match doc.and_then(|doc| wrapper::value(doc, &mut self.scratch)) {
            Some(tag) => {
                self.out.truncate(start);
                self.out.extend_from_slice(&self.scratch);
                tag
            }
            None => tag::DOCUMENT,
        }
    }

    /// What follows `{`. Tells whether the first name is like those of wrappers.
    fn object(&mut self, levels: usize) -> Result<bool, JsonError> {
        let levels = levels.checked_sub(1).ok_or(self.error("more than 250 levels"))?;
        let start = self.open();
        let mut like_wrapper = false;
        if self.token() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let tag_at = self.out.len();
                self.out.push(0);
                if self.token() != Some(b'"') {
                    return Err(self.error("not a name"));
                }
                self.name()?;
                like_wrapper |= tag_at == start + 4 && self.out.get(tag_at + 1) == Some(&b'$');
                if self.token() != Some(b':') {
                    return Err(self.error("no colon after a name"));
                }
                self.at += 1;
                self.out[tag_at] = self.value(levels)?;
                if self.is_last(b'}')? {
                    break;
                }
            }
        }
        self.close(start)?;
        Ok(like_wrapper && self.wrappers)
    }

    /// What follows `[`.
    fn array(&mut self, levels: usize) -> Result<(), JsonError> {
        let levels = levels.checked_sub(1).ok_or(self.error("more than 250 levels"))?;
        let start = self.open();
        if self.token() == Some(b']') {
            self.at += 1;
            return self.close(start);
        }
        for index in 0u32.. {
            let tag_at = self.out.len();
            self.out.push(0);
            self.out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
            self.out.push(0);
            self.out[tag_at] = self.value(levels)?;
            if self.is_last(b']')? {
                break;
            }
        }
        self.close(start)
    }

    /// Takes what stands behind an item: a comma, or the end.
    fn is_last(&mut self, end: u8) -> Result<bool, JsonError> {
        let last = match self.token() {
            Some(b',') => false,
            Some(byte) if byte == end => true,
            Some(_) => return Err(self.error("neither a comma nor the end")),
            None => return Err(self.error("text cut off")),
        };
        self.at += 1;
        Ok(last)
    }

    fn name(&mut self) -> Result<(), JsonError> {
        let (at, start) = (self.at, self.out.len());
        self.characters()?;
        if self.out[start..].contains(&0) {
            return Err(JsonError { offset: at, what: "name with a NUL" });
        }
        self.out.push(0);
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.open();
        self.characters()?;
        self.out.push(0);
        // Shorter than the text.
        let length = (self.out.len() - start - 4) as u32;
        self.out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Appends what is between the quotes.
    fn characters(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f))
                .ok_or(JsonError { offset: self.text.len(), what: "string without end" })?;
            self.out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match rest[plain] {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err(self.error("control character in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let character = match self.rest().get(1) {
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(mark @ (b'"' | b'\\' | b'/')) => char::from(*mark),
            Some(b'u') => return self.code_point(),
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 2;
        self.out.push(character as u8);
        Ok(())
    }

    fn code_point(&mut self) -> Result<(), JsonError> {
        let unit = |rest: &[u8]| {
            let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
            digits
                .iter()
                .try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
        };
        let rest = self.rest();
        let high = unit(rest).ok_or(self.error("unknown escape"))?;
        let mut length = 6;
        let mut code = high;
        if (0xd800..0xdc00).contains(&high)
            && let Some(low @ 0xdc00..0xe000) = unit(&rest[6..])
        {
            length = 12;
            code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        }
        let character = char::from_u32(code).ok_or(self.error("half a surrogate pair"))?;
        self.at += length;
        self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn word(&mut self) -> Result<u8, JsonError> {
        let (word, tag, bytes): (&[u8], _, &[u8]) = match self.rest().first() {
            Some(b't') => (b"true", tag::BOOL, &[1]),
            Some(b'f') => (b"false", tag::BOOL, &[0]),
            _ => (b"null", tag::NULL, &[]),
        };
        if !self.rest().starts_with(word) {
            return Err(self.error("not a value"));
        }
        self.at += word.len();
        self.out.extend_from_slice(bytes);
        Ok(tag)
    }

    fn number(&mut self) -> Result<u8, JsonError> {
        for (word, double) in
            [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)]
        {
            if self.rest().starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(self.double(double));
            }
        }
        let length = numeral(self.rest()).ok_or(self.error("not a number"))?;
        let text = &self.text[self.at..self.at + length];
        if !text.contains(['.', 'e', 'E']) {
            if let Ok(number) = text.parse::<i32>() {
                self.at += length;
                self.out.extend_from_slice(&number.to_le_bytes());
                return Ok(tag::INT32);
            }
            if let Ok(number) = text.parse::<i64>() {
                self.at += length;
                self.out.extend_from_slice(&number.to_le_bytes());
                return Ok(tag::INT64);
            }
        }
        match text.parse::<f64>() {
            Ok(double) if double.is_finite() => {
                self.at += length;
                Ok(self.double(double))
            }
            _ => Err(self.error("number beyond a double")),
        }
    }

    fn double(&mut self, double: f64) -> u8 {
        self.out.extend_from_slice(&double.to_le_bytes());
        tag::DOUBLE
    }
}

/// The length of the number that the text begins with, by JSON's grammar.
pub(super) fn numeral(text: &[u8]) -> Option<usize> {
    let digits = |at: usize| {
        let count = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    };
    let start = usize::from(text.first() == Some(&b'-'));
    let mut at = digits(start)?;
    if text[start] == b'0' && at > start + 1 {
        return None;
    }
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at = digits(at + 1 + sign)?;
    }
    Some(at)
}
