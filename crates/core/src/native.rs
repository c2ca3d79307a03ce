//! Native blocks: what ClickHouse reads without parsing text.
//!
//! A table's rows are a struct of typed columns; each row is pushed to every column, and
//! [`encode`] writes them as one block. Values are kept in the form in which they travel, so
//! encoding is copying. There is no compression here, no I/O, and no `LowCardinality`: such columns
//! are sent as `String` and converted by the server.
//!
//! ```text
//! block  := varuint(columns) varuint(rows) column*
//! column := string(name) string(type) data
//! string := varuint(length) bytes
//! ```

use std::marker::PhantomData;

use crate::{Error, ErrorKind, Result};

/// A column of a block.
pub trait Column {
    /// The type by its ClickHouse name.
    fn type_name(&self) -> &'static str;
    /// How many rows it has.
    fn rows(&self) -> usize;
    /// About how much it will take in the block.
    fn bytes(&self) -> usize;
    /// Appends its data as they stand in a block.
    fn write(&self, out: &mut Vec<u8>);
    /// Takes all rows out and keeps the memory.
    fn clear(&mut self);
}

/// Writes the columns as one block.
///
/// # Errors
///
/// A bug when the columns differ in their number of rows.
pub fn encode(columns: &[(&str, &dyn Column)]) -> Result<Vec<u8>> {
    let rows = columns.first().map_or(0, |(_, column)| column.rows());
    if let Some((name, column)) = columns.iter().find(|(_, column)| column.rows() != rows) {
        return Err(Error::new(
            ErrorKind::Bug,
            format!("cannot encode a block: column `{name}` has {} rows of {rows}", column.rows()),
        ));
    }
    let size: usize = columns.iter().map(|(name, column)| name.len() + 64 + column.bytes()).sum();
    let mut out = Vec::with_capacity(size);
    write_varuint(columns.len(), &mut out);
    write_varuint(rows, &mut out);
    for (name, column) in columns {
        write_string(name.as_bytes(), &mut out);
        write_string(column.type_name().as_bytes(), &mut out);
        column.write(&mut out);
    }
    Ok(out)
}

/// A `String` column; any bytes are allowed.
#[derive(Debug, Clone, Default)]
pub struct Strings {
    data: Vec<u8>,
    rows: usize,
}

impl Strings {
    /// A column with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { data: Vec::with_capacity(bytes), rows: 0 }
    }

    /// Appends a row.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        write_string(value, &mut self.data);
        self.rows += 1;
    }

    /// Appends a row that `fill` appends to the buffer.
    ///
    /// # Errors
    ///
    /// Those of `fill`; then there is no row.
    pub fn push_with<E>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.data.len();
        if let Err(error) = fill(&mut self.data) {
            self.data.truncate(start);
            return Err(error);
        }
        let length = self.data.len() - start;
        let mut prefix = [0; VARUINT_MAX];
        let count = varuint(length, &mut prefix);
        self.data.extend_from_slice(&prefix[..count]);
        self.data[start..].rotate_right(count);
        self.rows += 1;
        Ok(())
    }
}

impl Column for Strings {
    fn type_name(&self) -> &'static str {
        "String"
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        self.data.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.data);
    }

    fn clear(&mut self) {
        self.data.clear();
        self.rows = 0;
    }
}

/// A value of a fixed width.
pub trait Fixed: Copy {
    /// The type by its ClickHouse name.
    const TYPE: &'static str;
    /// How many bytes one value takes.
    const WIDTH: usize;
    /// Appends the value, little-endian.
    fn write(self, out: &mut Vec<u8>);
}

/// Milliseconds since 1970, a `DateTime64(3, 'UTC')`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime64(pub i64);

macro_rules! fixed {
    ($($rust:ty => $name:literal, |$value:ident| $bytes:expr;)*) => {$(
        impl Fixed for $rust {
            const TYPE: &'static str = $name;
            const WIDTH: usize = size_of::<$rust>();
            #[inline]
            fn write(self, out: &mut Vec<u8>) {
                let $value = self;
                out.extend_from_slice(&$bytes);
            }
        }
    )*};
}

fixed! {
    bool => "Bool", |value| [u8::from(value)];
    u8 => "UInt8", |value| [value];
    u32 => "UInt32", |value| value.to_le_bytes();
    u64 => "UInt64", |value| value.to_le_bytes();
    u128 => "UInt128", |value| value.to_le_bytes();
    i64 => "Int64", |value| value.to_le_bytes();
    DateTime64 => "DateTime64(3, 'UTC')", |value| value.0.to_le_bytes();
}

/// A column of values of a fixed width.
#[derive(Debug, Clone)]
pub struct Numbers<T> {
    data: Vec<u8>,
    of: PhantomData<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { data: Vec::new(), of: PhantomData }
    }
}

impl<T: Fixed> Numbers<T> {
    /// Appends a row.
    #[inline]
    pub fn push(&mut self, value: T) {
        value.write(&mut self.data);
    }
}

impl<T: Fixed> Column for Numbers<T> {
    fn type_name(&self) -> &'static str {
        T::TYPE
    }

    fn rows(&self) -> usize {
        self.data.len() / T::WIDTH
    }

    fn bytes(&self) -> usize {
        self.data.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.data);
    }

    fn clear(&mut self) {
        self.data.clear();
    }
}

const VARUINT_MAX: usize = 10;

fn varuint(mut value: usize, into: &mut [u8; VARUINT_MAX]) -> usize {
    let mut count = 0;
    while value >= 0x80 {
        // The low seven bits.
        into[count] = value as u8 | 0x80;
        value >>= 7;
        count += 1;
    }
    into[count] = value as u8;
    count + 1
}

/// Appends a number in groups of seven bits, the low ones first.
#[inline]
pub(crate) fn write_varuint(value: usize, out: &mut Vec<u8>) {
    if value < 0x80 {
        return out.push(value as u8);
    }
    let mut bytes = [0; VARUINT_MAX];
    let count = varuint(value, &mut bytes);
    out.extend_from_slice(&bytes[..count]);
}

/// Appends a string with its length before it.
#[inline]
pub(crate) fn write_string(value: &[u8], out: &mut Vec<u8>) {
    write_varuint(value.len(), out);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_laid_out_as_the_engine_reads_it() {
        let mut name = Strings::default();
        let mut at = Numbers::<DateTime64>::default();
        name.push(b"ab");
        at.push(DateTime64(1));
        let block = encode(&[("n", &name), ("t", &at)]).unwrap();
        let mut expected = vec![2, 1, 1, b'n', 6];
        expected.extend_from_slice(b"String\x02ab\x01t\x14DateTime64(3, 'UTC')");
        expected.extend_from_slice(&1i64.to_le_bytes());
        assert_eq!(block, expected);
    }

    #[test]
    fn a_filled_row_equals_a_pushed_one() {
        for length in [0, 1, 127, 128, 20_000] {
            let value = vec![b'x'; length];
            let (mut pushed, mut filled) = (Strings::default(), Strings::default());
            pushed.push(b"first");
            filled.push(b"first");
            pushed.push(&value);
            filled
                .push_with(|out| {
                    out.extend_from_slice(&value);
                    Ok::<_, ()>(())
                })
                .unwrap();
            assert_eq!(pushed.data, filled.data);
            assert_eq!(filled.rows(), 2);
        }
    }

    #[test]
    fn a_failed_fill_leaves_no_row() {
        let mut column = Strings::default();
        let failed = column.push_with(|out| {
            out.push(1);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!((column.rows(), column.bytes()), (0, 0));
    }

    #[test]
    fn columns_of_different_length_are_a_bug() {
        let mut column = Numbers::<u8>::default();
        column.push(1);
        let error = encode(&[("a", &column), ("b", &Strings::default())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bug);
    }
}
