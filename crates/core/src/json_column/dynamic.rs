//! The values of one path: by row which type, and by type the values, densely, as they travel.

use crate::bson::{BsonError, Doc, Value};
use crate::ejson;
use crate::native::{write_string, write_varuint};

use super::scalar::{self, Dates, Leaf};
use super::shape::{self, Shape};
use super::tree::Tree;

const ABSENT: u8 = u8::MAX;

/// Why a value could not be put.
pub(super) enum Failure {
    Bson(BsonError),
    /// An array of objects with so many different keys that its table of paths would explode.
    TooWide,
}

impl From<BsonError> for Failure {
    fn from(error: BsonError) -> Self {
        Self::Bson(error)
    }
}

/// A column of type Dynamic.
#[derive(Debug)]
pub(super) struct Dynamic {
    /// By row the place in `types`, or [`ABSENT`]; ends with the last row that has a value.
    rows: Vec<u8>,
    types: Vec<Values>,
    present: usize,
    dates: Dates,
    /// The nesting of JSON in JSON that objects right in here have.
    level: u8,
}

impl Dynamic {
    pub(super) fn new(dates: Dates, level: u8) -> Self {
        Self { rows: Vec::new(), types: Vec::new(), present: 0, dates, level }
    }

    /// How many rows have a value.
    pub(super) const fn present(&self) -> usize {
        self.present
    }

    /// Puts the value of a row beyond all that have one; what JSON columns leave out is not put.
    ///
    /// After a failure [`Dynamic::truncate`] must follow, which takes out what was put in part.
    #[inline]
    pub(super) fn put(
        &mut self,
        row: usize,
        value: &Value<'_>,
        levels: usize,
    ) -> Result<(), Failure> {
        let at = match value {
            Value::Null | Value::Undefined => return Ok(()),
            Value::Array(array) => self.put_array(*array, levels)?,
            Value::Document(doc) => {
                let at = self.place(Shape::scalar(Leaf::Json));
                self.types[at].put_item(&Value::Document(*doc), levels)?;
                at
            }
            scalar => {
                let leaf = scalar::leaf(scalar, self.dates).unwrap_or(Leaf::String);
                let at = self.place(Shape::scalar(leaf));
                self.types[at].put_scalar(scalar)?;
                at
            }
        };
        self.types[at].count += 1;
        self.present += 1;
        self.rows.resize(row, ABSENT);
        // At most 34: five scalars and an object, and seven leaves in one to four arrays.
        self.rows.push(at as u8);
        Ok(())
    }

    fn put_array(&mut self, array: Doc<'_>, levels: usize) -> Result<usize, Failure> {
        let at = self.place(shape::of_array(array, self.dates)?);
        let values = &mut self.types[at];
        match values.put_array(array, 0, levels) {
            Err(Failure::TooWide) => {
                values.truncate(values.count);
                let at = self.place(Shape { arrays: 1, leaf: Leaf::String });
                self.types[at].put_items_as_text(array)?;
                Ok(at)
            }
            result => result.map(|()| at),
        }
    }

    #[inline]
    fn place(&mut self, shape: Shape) -> usize {
        match self.types.iter().position(|values| values.shape == shape) {
            Some(at) => at,
            None => {
                self.types.push(Values::new(shape, self.dates, self.level));
                self.types.len() - 1
            }
        }
    }

    /// Takes out all rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        while self.rows.len() > rows {
            if let Some(at) = self.rows.pop().filter(|at| *at != ABSENT) {
                let values = &mut self.types[usize::from(at)];
                values.count -= 1;
                self.present -= 1;
            }
        }
        for values in &mut self.types {
            values.truncate(values.count);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.present = 0;
        for values in &mut self.types {
            values.clear();
        }
    }

    /// The size in a block with so many rows.
    pub(super) fn bytes(&self, rows: usize) -> usize {
        rows + self.types.iter().map(Values::bytes).sum::<usize>()
    }

    /// How many paths the objects in it have.
    pub(super) fn paths(&self) -> usize {
        self.types.iter().map(Values::paths).sum()
    }

    /// The types in use, by name, as the engine lists them.
    fn used(&self) -> Vec<(String, u8)> {
        let mut used: Vec<_> = (0u8..)
            .zip(&self.types)
            .filter(|(_, values)| values.count > 0)
            .map(|(at, values)| (values.shape.name(self.level), at))
            .collect();
        used.sort_unstable();
        used
    }

    pub(super) fn write_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::FLATTENED.to_le_bytes());
        let used = self.used();
        write_varuint(used.len(), out);
        for (name, _) in &used {
            write_string(name.as_bytes(), out);
        }
        for (_, at) in &used {
            self.types[usize::from(*at)].write_prefix(out);
        }
    }

    pub(super) fn write_data(&self, rows: usize, out: &mut Vec<u8>) {
        let used = self.used();
        // Which index stands for which type; the number of types means "absent".
        let absent = used.len() as u8;
        let start = out.len();
        if let [(_, only)] = used.as_slice() {
            let only = *only;
            out.extend(self.rows.iter().map(|at| u8::from(*at != only)));
        } else {
            let mut index = [absent; 256];
            for (to, (_, at)) in (0u8..).zip(&used) {
                index[usize::from(*at)] = to;
            }
            out.extend(self.rows.iter().map(|at| index[usize::from(*at)]));
        }
        out.resize(start + rows, absent);
        for (_, at) in &used {
            self.types[usize::from(*at)].write_data(out);
        }
    }
}

/// All values of one type.
#[derive(Debug)]
struct Values {
    shape: Shape,
    /// How many values are complete.
    count: usize,
    /// From the outermost array to the innermost.
    arrays: Vec<Offsets>,
    /// Of arrays of scalars: which items are null.
    nulls: Vec<u8>,
    /// Scalars as they travel.
    data: Vec<u8>,
    /// How many scalars there are, those in arrays and nulls included.
    items: usize,
    /// Where the last scalar begins that is in no array; `usize::MAX` when that is not known.
    last: usize,
    nested: Option<Nested>,
}

#[derive(Debug)]
enum Nested {
    Json(Box<Tree>),
    Dynamic(Box<Dynamic>, usize),
}

/// Where the arrays of one nesting end.
#[derive(Debug, Default)]
struct Offsets {
    ends: Vec<u8>,
    items: usize,
}

impl Offsets {
    fn end(&mut self) {
        self.ends.extend_from_slice(&(self.items as u64).to_le_bytes());
    }

    /// Keeps so many arrays, and tells how many items those have.
    fn truncate(&mut self, arrays: usize) -> usize {
        self.ends.truncate(arrays * 8);
        let end = self.ends.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
        self.items = end as usize;
        self.items
    }
}

impl Values {
    fn new(shape: Shape, dates: Dates, level: u8) -> Self {
        let nested = match shape.leaf {
            Leaf::Json => Some(Nested::Json(Box::new(Tree::new(dates, level)))),
            Leaf::Dynamic => Some(Nested::Dynamic(Box::new(Dynamic::new(dates, 0)), 0)),
            _ => None,
        };
        let arrays = (0..shape.arrays).map(|_| Offsets::default()).collect();
        let (nulls, data) = (Vec::new(), Vec::new());
        Self { shape, count: 0, arrays, nulls, data, items: 0, last: usize::MAX, nested }
    }

    #[inline]
    fn put_scalar(&mut self, value: &Value<'_>) -> Result<(), BsonError> {
        let start = self.data.len();
        scalar::write(value, self.shape.leaf, &mut self.data)?;
        self.last = start;
        self.items += 1;
        Ok(())
    }

    fn put_array(&mut self, array: Doc<'_>, depth: usize, levels: usize) -> Result<(), Failure> {
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        let innermost = depth + 1 == self.arrays.len();
        for element in array.elements() {
            let value = element?.value;
            self.arrays[depth].items += 1;
            match value {
                Value::Array(inner) if !innermost => self.put_array(inner, depth + 1, levels)?,
                _ => self.put_item(&value, levels)?,
            }
        }
        self.arrays[depth].end();
        Ok(())
    }

    /// Puts one item of the innermost array, or an object.
    fn put_item(&mut self, value: &Value<'_>, levels: usize) -> Result<(), Failure> {
        match (&mut self.nested, value) {
            (Some(Nested::Json(tree)), Value::Document(doc)) => tree.put_row(*doc, levels)?,
            (Some(Nested::Dynamic(dynamic, rows)), _) => {
                dynamic.put(*rows, value, levels)?;
                *rows += 1;
            }
            (_, Value::Null | Value::Undefined) => {
                scalar::write_default(self.shape.leaf, &mut self.data);
                self.nulls.push(1);
                self.items += 1;
            }
            _ => {
                scalar::write(value, self.shape.leaf, &mut self.data)?;
                self.nulls.push(0);
                self.items += 1;
            }
        }
        Ok(())
    }

    /// Puts each item as a string, its canonical Extended JSON.
    fn put_items_as_text(&mut self, array: Doc<'_>) -> Result<(), BsonError> {
        let mut text = Vec::new();
        for element in array.elements() {
            text.clear();
            ejson::canonical_value(&element?.value, &mut text)?;
            write_string(&text, &mut self.data);
            self.nulls.push(0);
            self.items += 1;
            self.arrays[0].items += 1;
        }
        self.arrays[0].end();
        Ok(())
    }

    /// Keeps the first `count` values, also when the next one is there only in part.
    fn truncate(&mut self, count: usize) {
        let mut items = count;
        for arrays in &mut self.arrays {
            items = arrays.truncate(items);
        }
        match &mut self.nested {
            Some(Nested::Json(tree)) => tree.truncate(items),
            Some(Nested::Dynamic(dynamic, rows)) => {
                dynamic.truncate(items);
                *rows = items;
            }
            None => self.truncate_scalars(items),
        }
    }

    fn truncate_scalars(&mut self, items: usize) {
        if items >= self.items {
            return;
        }
        let last = std::mem::replace(&mut self.last, usize::MAX);
        let end = match self.shape.leaf.width() {
            Some(width) => items * width,
            None if self.arrays.is_empty() && items + 1 == self.items && last != usize::MAX => last,
            None => strings_end(&self.data, items),
        };
        self.data.truncate(end);
        self.nulls.truncate(items);
        self.items = items;
    }

    fn clear(&mut self) {
        self.count = 0;
        self.items = 0;
        self.last = usize::MAX;
        for arrays in &mut self.arrays {
            arrays.ends.clear();
            arrays.items = 0;
        }
        self.nulls.clear();
        self.data.clear();
        match &mut self.nested {
            Some(Nested::Json(tree)) => tree.clear(),
            Some(Nested::Dynamic(dynamic, rows)) => {
                dynamic.clear();
                *rows = 0;
            }
            None => {}
        }
    }

    fn bytes(&self) -> usize {
        let arrays: usize = self.arrays.iter().map(|arrays| arrays.ends.len()).sum();
        let nested = match &self.nested {
            Some(Nested::Json(tree)) => tree.bytes(),
            Some(Nested::Dynamic(dynamic, rows)) => dynamic.bytes(*rows),
            None => 0,
        };
        arrays + self.nulls.len() + self.data.len() + nested
    }

    fn paths(&self) -> usize {
        match &self.nested {
            Some(Nested::Json(tree)) => tree.paths(),
            Some(Nested::Dynamic(dynamic, _)) => dynamic.paths(),
            None => 0,
        }
    }

    fn write_prefix(&self, out: &mut Vec<u8>) {
        match &self.nested {
            Some(Nested::Json(tree)) => tree.write_prefix(out),
            Some(Nested::Dynamic(dynamic, _)) => dynamic.write_prefix(out),
            None => {}
        }
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        for arrays in &self.arrays {
            out.extend_from_slice(&arrays.ends);
        }
        match &self.nested {
            Some(Nested::Json(tree)) => tree.write_data(out),
            Some(Nested::Dynamic(dynamic, rows)) => dynamic.write_data(*rows, out),
            None => {
                out.extend_from_slice(&self.nulls);
                out.extend_from_slice(&self.data);
            }
        }
    }
}

/// Where the first `count` strings end.
fn strings_end(data: &[u8], count: usize) -> usize {
    let mut at = 0;
    for _ in 0..count {
        let (mut length, mut shift) = (0usize, 0);
        while let Some(byte) = data.get(at) {
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += length;
    }
    at
}
