//! A bounds-checked walker over BSON bytes: no copy, no allocation, lazy.
//!
//! It must never panic, whatever the bytes are, and its errors never hold a value. Strings are
//! bytes, since mongod does not check that they are UTF-8. [`Doc::new`] checks the outer frame,
//! each step of [`Elements`] one element and the frame of what it holds, and [`Doc::validate`]
//! everything. Source of the format: bsonspec.org, version 1.1.

pub(crate) mod write;

use memchr::memchr;

/// How many documents and arrays may be nested, the outermost included.
///
/// A mongod stores at most 180 levels, and a change event wraps them in a few more.
pub const MAX_DEPTH: usize = 250;

/// Bytes that are not BSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad BSON at byte {offset}: {what}")]
pub struct BsonError {
    /// Where, counted from the start of the document that was being read.
    pub offset: usize,
    /// What was wrong there.
    pub what: &'static str,
}

impl BsonError {
    const fn new(offset: usize, what: &'static str) -> Self {
        Self { offset, what }
    }

    /// The error of a document that is nested deeper than [`MAX_DEPTH`].
    pub(crate) const fn too_deep() -> Self {
        Self::new(0, "more than 250 levels of documents and arrays")
    }

    fn inside(mut self, base: usize) -> Self {
        self.offset += base;
        self
    }
}

/// A document or an array whose length and terminator have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doc<'a> {
    bytes: &'a [u8],
}

/// One field of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Element<'a> {
    /// The field's name; arrays have "0", "1", …
    pub key: &'a [u8],
    /// The field's value.
    pub value: Value<'a>,
}

/// A value of any of the 21 types of BSON.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types of the specification, by its names")]
pub enum Value<'a> {
    Double(f64),
    String(&'a [u8]),
    Document(Doc<'a>),
    Array(Doc<'a>),
    /// Of subtype 2 the bytes still begin with their inner length.
    Binary {
        subtype: u8,
        bytes: &'a [u8],
    },
    Undefined,
    ObjectId(&'a [u8; 12]),
    Bool(bool),
    /// Milliseconds since 1970.
    DateTime(i64),
    Null,
    Regex {
        pattern: &'a [u8],
        options: &'a [u8],
    },
    DbPointer {
        namespace: &'a [u8],
        id: &'a [u8; 12],
    },
    Code(&'a [u8]),
    Symbol(&'a [u8]),
    CodeWithScope {
        code: &'a [u8],
        scope: Doc<'a>,
    },
    Int32(i32),
    /// Seconds and increment.
    Timestamp {
        t: u32,
        i: u32,
    },
    Int64(i64),
    Decimal128(&'a [u8; 16]),
    MinKey,
    MaxKey,
}

impl<'a> Doc<'a> {
    /// The document without fields.
    pub const EMPTY: Doc<'static> = Doc { bytes: &[5, 0, 0, 0, 0] };

    /// Takes `bytes` as one document, which must fill them.
    ///
    /// # Errors
    ///
    /// When the length or the terminator is wrong. What is between is checked while it is walked.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BsonError> {
        let doc = Self::prefix(bytes)?;
        if doc.bytes.len() != bytes.len() {
            return Err(BsonError::new(doc.bytes.len(), "bytes after the end of the document"));
        }
        Ok(doc)
    }

    /// Takes the document that `bytes` begin with.
    ///
    /// # Errors
    ///
    /// When the length does not fit into `bytes`, or the terminator is not there.
    pub fn prefix(bytes: &'a [u8]) -> Result<Self, BsonError> {
        let (head, _) =
            bytes.split_first_chunk::<4>().ok_or(BsonError::new(0, "document length cut off"))?;
        let length = usize::try_from(i32::from_le_bytes(*head))
            .ok()
            .filter(|length| *length >= 5)
            .ok_or(BsonError::new(0, "impossible document length"))?;
        let bytes = bytes.get(..length).ok_or(BsonError::new(0, "document cut off"))?;
        if bytes[length - 1] != 0 {
            return Err(BsonError::new(length - 1, "document without terminator"));
        }
        Ok(Self { bytes })
    }

    /// The bytes of the whole document.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether it has no fields.
    pub const fn is_empty(self) -> bool {
        self.bytes.len() == 5
    }

    /// Walks the fields of this level.
    pub fn elements(self) -> Elements<'a> {
        Elements { doc: self.bytes, at: 4 }
    }

    /// The value of the first field of that name.
    ///
    /// # Errors
    ///
    /// When something before it is not BSON.
    pub fn get(self, key: impl AsRef<[u8]>) -> Result<Option<Value<'a>>, BsonError> {
        let key = key.as_ref();
        for element in self.elements() {
            let element = element?;
            if element.key == key {
                return Ok(Some(element.value));
            }
        }
        Ok(None)
    }

    /// Walks all levels.
    ///
    /// # Errors
    ///
    /// The first thing that is not BSON, or nested deeper than [`MAX_DEPTH`].
    pub fn validate(self) -> Result<(), BsonError> {
        validate(self, MAX_DEPTH)
    }
}

fn validate(doc: Doc<'_>, levels: usize) -> Result<(), BsonError> {
    let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
    for element in doc.elements() {
        if let Value::Document(inner)
        | Value::Array(inner)
        | Value::CodeWithScope { scope: inner, .. } = element?.value
        {
            let base = inner.bytes.as_ptr().addr() - doc.bytes.as_ptr().addr();
            validate(inner, levels).map_err(|error| error.inside(base))?;
        }
    }
    Ok(())
}

/// The fields of one document, in their order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    doc: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, BsonError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let end = self.doc.len() - 1;
        if self.at >= end {
            return None;
        }
        let start = self.at;
        // Nothing may be read after an error; a good element sets this back.
        self.at = end;
        let mut reader = Reader { doc: self.doc, at: start, end };
        let element = reader.element();
        if element.is_ok() {
            self.at = reader.at;
        }
        Some(element)
    }
}

impl std::iter::FusedIterator for Elements<'_> {}

/// Reads forward within `doc[..end]`; `end` is the place of the document's terminator.
struct Reader<'a> {
    doc: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn element(&mut self) -> Result<Element<'a>, BsonError> {
        let tag_at = self.at;
        let [tag] = *self.take::<1>()?;
        if tag == 0 {
            return Err(BsonError::new(tag_at, "terminator before the end"));
        }
        let key = self.cstring()?;
        let value = match tag {
            0x01 => Value::Double(f64::from_le_bytes(*self.take()?)),
            0x02 => Value::String(self.string()?),
            0x03 => Value::Document(self.document()?),
            0x04 => Value::Array(self.document()?),
            0x05 => {
                let length = self.length()?;
                let [subtype] = *self.take::<1>()?;
                Value::Binary { subtype, bytes: self.slice(length)? }
            }
            0x06 => Value::Undefined,
            0x07 => Value::ObjectId(self.take()?),
            0x08 => match *self.take()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [_] => return Err(BsonError::new(self.at - 1, "bool that is neither 0 nor 1")),
            },
            0x09 => Value::DateTime(i64::from_le_bytes(*self.take()?)),
            0x0A => Value::Null,
            0x0B => Value::Regex { pattern: self.cstring()?, options: self.cstring()? },
            0x0C => Value::DbPointer { namespace: self.string()?, id: self.take()? },
            0x0D => Value::Code(self.string()?),
            0x0E => Value::Symbol(self.string()?),
            0x0F => self.code_with_scope()?,
            0x10 => Value::Int32(i32::from_le_bytes(*self.take()?)),
            0x11 => Value::Timestamp {
                i: u32::from_le_bytes(*self.take()?),
                t: u32::from_le_bytes(*self.take()?),
            },
            0x12 => Value::Int64(i64::from_le_bytes(*self.take()?)),
            0x13 => Value::Decimal128(self.take()?),
            0xFF => Value::MinKey,
            0x7F => Value::MaxKey,
            _ => return Err(BsonError::new(tag_at, "unknown type")),
        };
        Ok(Element { key, value })
    }

    fn rest(&self) -> &'a [u8] {
        self.doc.get(self.at..self.end).unwrap_or_default()
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], BsonError> {
        let (head, _) =
            self.rest().split_first_chunk().ok_or(BsonError::new(self.at, "value cut off"))?;
        self.at += N;
        Ok(head)
    }

    #[inline]
    fn slice(&mut self, length: usize) -> Result<&'a [u8], BsonError> {
        let slice = self.rest().get(..length).ok_or(BsonError::new(self.at, "value cut off"))?;
        self.at += length;
        Ok(slice)
    }

    fn length(&mut self) -> Result<usize, BsonError> {
        let at = self.at;
        usize::try_from(i32::from_le_bytes(*self.take()?))
            .map_err(|_| BsonError::new(at, "negative length"))
    }

    #[inline]
    fn cstring(&mut self) -> Result<&'a [u8], BsonError> {
        let rest = self.rest();
        // Names are short: eight bytes looked at right here save a call for most of them.
        let near = rest.iter().take(8).position(|byte| *byte == 0);
        let length =
            near.or_else(|| memchr(0, rest)).ok_or(BsonError::new(self.at, "name without end"))?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    #[inline]
    fn string(&mut self) -> Result<&'a [u8], BsonError> {
        let length = self.length()?;
        let slice = self.slice(length)?;
        match slice.split_last() {
            Some((0, text)) => Ok(text),
            _ => Err(BsonError::new(self.at, "string without terminator")),
        }
    }

    fn document(&mut self) -> Result<Doc<'a>, BsonError> {
        let doc = Doc::prefix(self.rest()).map_err(|error| error.inside(self.at))?;
        self.at += doc.bytes.len();
        Ok(doc)
    }

    fn code_with_scope(&mut self) -> Result<Value<'a>, BsonError> {
        let start = self.at;
        let length = self.length()?;
        let code = self.string()?;
        let scope = self.document()?;
        if self.at - start != length {
            return Err(BsonError::new(start, "code with scope of another length"));
        }
        Ok(Value::CodeWithScope { code, scope })
    }
}
