//! One ClickHouse `JSON` column, filled row by row straight from BSON, in the flattened (v3) form
//! of the `Native` format. See `docs/adr/0002-native-blocks.md` for the layout.
//!
//! | BSON | here |
//! |---|---|
//! | int32, int64 | Int64 |
//! | double | Float64; NaN and ±Infinity as the strings "NaN", "Infinity", "-Infinity" |
//! | bool, string | Bool, String |
//! | date | as of [`Dates`]; text is RFC 3339 in UTC with milliseconds, with signed years of six digits and more beyond 0000 to 9999 |
//! | null, undefined | absent; null in arrays |
//! | ObjectId | 24 hex digits |
//! | Decimal128 | its text |
//! | binary | base64; of subtype 4 and 16 bytes a hyphenated UUID |
//! | code, symbol | their text |
//! | timestamp, regex, DBPointer, code with scope, MinKey, MaxKey | a string, their canonical Extended JSON |
//! | document | its fields, at dotted paths; an empty one is absent |
//! | array | `Array(Nullable(T))` of scalars of one type, `Array(JSON)` of objects, `Array(Array(…))`, else `Array(Dynamic)` |
//!
//! A dot in a field's name is written `%2E`, so that it is one component of the path. Of equal
//! names the last wins, whatever the earlier ones were. What is not UTF-8 becomes U+FFFD.

mod dynamic;
mod scalar;
mod shape;
pub mod text;
mod tree;

pub(crate) use scalar::DATE_TIME64;
pub use scalar::Dates;

use crate::bson::{BsonError, Doc, MAX_DEPTH, Value};
use crate::native::Column;
use dynamic::Failure;
pub(crate) use tree::escape;
use tree::{Cursor, Tree};

/// The version of the serialization, for JSON and for Dynamic.
const FLATTENED: u64 = 3;

/// The server opens a stream for each path of a block: 4096 with one value in 4000 rows each took it
/// 250 MiB and 4 s, and documents with data for names (`{"<uuid>": …}`) come to hundreds of
/// thousands.
const MAX_PATHS: usize = 4096;

/// So many rows may come between two looks at every path.
const ROWS_UNWATCHED: usize = 64;

/// A column of type `JSON`.
#[derive(Debug)]
pub struct JsonColumn {
    tree: Tree,
    cursor: Cursor,
    dates: Dates,
    too_wide: bool,
}

impl JsonColumn {
    /// A column without rows.
    pub fn new(dates: Dates) -> Self {
        Self { tree: Tree::new(dates, 0), cursor: Cursor::START, dates, too_wide: false }
    }

    /// Whether its rows have too many paths, or too few values for their paths, to travel in this
    /// form. It has no rows then and takes none until it is cleared: send a [`text::JsonText`] instead.
    ///
    /// Tells nothing but what the rows are, so the same rows always get the same answer.
    pub fn is_too_wide(&mut self) -> bool {
        if !self.too_wide && (self.tree.paths() > MAX_PATHS || self.tree.is_sparse()) {
            self.tree = Tree::new(self.dates, 0);
            self.too_wide = true;
        }
        self.too_wide
    }

    /// Starts a row, an empty object so far.
    pub fn begin_row(&mut self) {
        self.tree.begin_row();
        self.cursor = Cursor::START;
    }

    /// Puts a field of the row's object.
    ///
    /// # Errors
    ///
    /// When the value is not BSON, which cannot be after [`Doc::validate`]. The row is empty then.
    #[inline]
    pub fn field(&mut self, key: &[u8], value: &Value<'_>) -> Result<(), BsonError> {
        if self.too_wide {
            return Ok(());
        }
        let result = self.tree.field(&mut self.cursor, key, value, MAX_DEPTH);
        self.settle(result)
    }

    /// Puts all fields of a document into the row.
    ///
    /// # Errors
    ///
    /// As [`JsonColumn::field`].
    pub fn document(&mut self, doc: Doc<'_>) -> Result<(), BsonError> {
        if self.too_wide {
            return Ok(());
        }
        let result = self.tree.fields(doc, MAX_DEPTH);
        self.settle(result)
    }

    /// Puts the fields of a document that are neither `_id` nor a document nor an array.
    ///
    /// # Errors
    ///
    /// As [`JsonColumn::field`].
    pub fn scalars(&mut self, doc: Doc<'_>) -> Result<(), BsonError> {
        for element in doc.elements() {
            let element = match element {
                Ok(element) => element,
                Err(error) => return self.settle(Err(error.into())),
            };
            match element.value {
                _ if element.key == b"_id" => {}
                // Not put, but what an earlier field of this name had put must go.
                Value::Document(_) | Value::Array(_) => {
                    self.field(element.key, &Value::Null)?;
                }
                value => self.field(element.key, &value)?,
            }
        }
        Ok(())
    }

    /// Ends the row.
    pub fn end_row(&mut self) {
        if self.too_wide {
            return;
        }
        self.tree.end_row();
        if self.tree.rows().is_multiple_of(ROWS_UNWATCHED) {
            self.is_too_wide();
        }
    }

    /// Appends a row that holds the document.
    ///
    /// # Errors
    ///
    /// As [`JsonColumn::field`]; there is no row then.
    pub fn push(&mut self, doc: Doc<'_>) -> Result<(), BsonError> {
        self.begin_row();
        self.document(doc)?;
        self.end_row();
        Ok(())
    }

    /// Appends a row with an empty object.
    pub fn push_empty(&mut self) {
        self.begin_row();
        self.end_row();
    }

    fn settle(&mut self, result: Result<(), Failure>) -> Result<(), BsonError> {
        let error = match result {
            Ok(()) => return Ok(()),
            Err(Failure::Bson(error)) => error,
            // Always handled where the array begins.
            Err(Failure::TooWide) => BsonError { offset: 0, what: "an array too wide for a table" },
        };
        self.tree.truncate(self.tree.rows());
        Err(error)
    }
}

impl Column for JsonColumn {
    fn type_name(&self) -> &'static str {
        "JSON"
    }

    fn rows(&self) -> usize {
        self.tree.rows()
    }

    /// Takes a look at every path: call it now and then, not for each row.
    fn bytes(&self) -> usize {
        self.tree.bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.tree.write_prefix(out);
        self.tree.write_data(out);
    }

    fn clear(&mut self) {
        self.tree.clear();
        self.cursor = Cursor::START;
        self.too_wide = false;
    }
}
