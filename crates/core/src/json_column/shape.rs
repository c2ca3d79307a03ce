//! Which type an array gets.
//!
//! Items of one type make an array of that type, nulls allowed; items of several types, or null
//! beside objects or arrays, an array of Dynamic. (The engine's own JSON parser would turn `[1,
//! 2.5]` into doubles, `[true, 1]` into integers and `[[1], null]` into `[[1], []]`.)

use crate::bson::{BsonError, Doc, Value};

use super::scalar::{self, Dates, Leaf};

/// Arrays nested deeper become arrays of Dynamic, which begin to count anew: each depth and leaf is
/// a type of its own, and a path has room for 32 types.
const MAX_ARRAYS: u8 = 4;

/// A type: so many arrays around a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) arrays: u8,
    pub(super) leaf: Leaf,
}

impl Shape {
    pub(super) const fn scalar(leaf: Leaf) -> Self {
        Self { arrays: 0, leaf }
    }

    /// The type's name; objects directly in it are the `level`th JSON inside JSON.
    pub(super) fn name(self, level: u8) -> String {
        let leaf = match self.leaf {
            Leaf::Json => json_name(level),
            Leaf::Dynamic => "Dynamic".to_owned(),
            scalar if self.arrays == 0 => scalar.scalar_name().to_owned(),
            scalar => format!("Nullable({})", scalar.scalar_name()),
        };
        let depth = usize::from(self.arrays);
        format!("{}{leaf}{}", "Array(".repeat(depth), ")".repeat(depth))
    }
}

/// The engine gives each JSON inside a JSON a quarter of the paths and half of the types; other
/// parameters would be another type, and need a conversion.
fn json_name(level: u8) -> String {
    if level == 0 {
        return "JSON".to_owned();
    }
    let types = 32u32.checked_shr(level.into()).unwrap_or(0);
    let paths = 1024u32.checked_shr(2 * u32::from(level)).unwrap_or(0);
    format!("JSON(max_dynamic_types={types}, max_dynamic_paths={paths})")
}

/// What is known of a type so far.
#[derive(Debug, Clone, Copy)]
struct Found {
    shape: Shape,
    /// At the leaf there are nulls only. They fit any scalar, but no object, and no array.
    nulls: bool,
}

impl Found {
    const DYNAMIC: Self = Self { shape: Shape { arrays: 1, leaf: Leaf::Dynamic }, nulls: false };
}

/// The type of an array.
pub(super) fn of_array(array: Doc<'_>, dates: Dates) -> Result<Shape, BsonError> {
    let mut shape = array_within(array, dates, MAX_ARRAYS)?.shape;
    if shape.leaf == Leaf::Unknown {
        // What the engine itself takes.
        shape.leaf = Leaf::String;
    }
    Ok(shape)
}

fn array_within(array: Doc<'_>, dates: Dates, arrays: u8) -> Result<Found, BsonError> {
    let mut leaf = Leaf::Unknown;
    let (mut nulls, mut inner) = (false, false);
    // What the items are without looking into them, so that a mixed array costs one look only.
    for element in array.elements() {
        let item = match &element?.value {
            Value::Array(_) => {
                inner = true;
                continue;
            }
            Value::Null | Value::Undefined => {
                nulls = true;
                continue;
            }
            Value::Document(_) => Leaf::Json,
            value => scalar::leaf(value, dates).unwrap_or(Leaf::String),
        };
        if leaf == Leaf::Unknown {
            leaf = item;
        } else if leaf != item {
            return Ok(Found::DYNAMIC);
        }
    }
    if !inner {
        if leaf == Leaf::Json && nulls {
            return Ok(Found::DYNAMIC);
        }
        let shape = Shape { arrays: 1, leaf };
        return Ok(Found { shape, nulls: nulls && leaf == Leaf::Unknown });
    }
    if nulls || leaf != Leaf::Unknown || arrays == 1 {
        return Ok(Found::DYNAMIC);
    }
    let mut common: Option<Found> = None;
    for element in array.elements() {
        if let Value::Array(item) = element?.value {
            let found = array_within(item, dates, arrays - 1)?;
            match common.map_or(Some(found), |common| join(common, found)) {
                Some(found) => common = Some(found),
                None => return Ok(Found::DYNAMIC),
            }
        }
    }
    Ok(common.map_or(Found::DYNAMIC, |Found { shape, nulls }| {
        let shape = Shape { arrays: shape.arrays + 1, ..shape };
        Found { shape, nulls }
    }))
}

/// The type that holds arrays of both types.
fn join(a: Found, b: Found) -> Option<Found> {
    let fits = |empty: Found, other: Found| {
        empty.shape.leaf == Leaf::Unknown
            && !empty.nulls
            && empty.shape.arrays <= other.shape.arrays
    };
    if fits(a, b) {
        return Some(b);
    }
    if fits(b, a) {
        return Some(a);
    }
    if a.shape.arrays != b.shape.arrays {
        return None;
    }
    let leaf = match (a.shape.leaf, b.shape.leaf) {
        (Leaf::Unknown, leaf) | (leaf, Leaf::Unknown) if leaf != Leaf::Json => leaf,
        (one, other) if one == other => one,
        _ => Leaf::Dynamic,
    };
    let nulls = leaf == Leaf::Unknown && (a.nulls || b.nulls);
    Some(Found { shape: Shape { leaf, ..a.shape }, nulls })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, bson};

    fn name(array: Bson) -> String {
        let Bson::Array(items) = array else { unreachable!("the cases are arrays") };
        let keys = (0..items.len()).map(|index| index.to_string());
        let bytes = keys.zip(items).collect::<bson::Document>().to_vec().unwrap();
        of_array(Doc::new(&bytes).unwrap(), Dates::Text).unwrap().name(0)
    }

    #[test]
    fn nulls_fit_scalars_but_neither_objects_nor_arrays() {
        assert_eq!(name(bson!([[1], [null]])), "Array(Array(Nullable(Int64)))");
        assert_eq!(name(bson!([[null], [{}]])), "Array(Array(Dynamic))");
        assert_eq!(name(bson!([[{}], [null]])), "Array(Array(Dynamic))");
        assert_eq!(name(bson!([[null], [[1]]])), "Array(Dynamic)");
    }

    #[test]
    fn an_empty_array_fits_everywhere() {
        assert_eq!(name(bson!([[], [{}]])), "Array(Array(JSON))");
        assert_eq!(name(bson!([[[1]], []])), "Array(Array(Array(Nullable(Int64))))");
        assert_eq!(name(bson!([[], [[]]])), "Array(Array(Array(Nullable(String))))");
        assert_eq!(name(bson!([[[]], []])), "Array(Array(Array(Nullable(String))))");
    }
}
