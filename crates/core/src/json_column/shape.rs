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

/// The type of an array.
pub(super) fn of_array(array: Doc<'_>, dates: Dates) -> Result<Shape, BsonError> {
    let mut shape = array_within(array, dates, MAX_ARRAYS)?;
    if shape.leaf == Leaf::Unknown {
        // What the engine itself takes.
        shape.leaf = Leaf::String;
    }
    Ok(shape)
}

fn array_within(array: Doc<'_>, dates: Dates, arrays: u8) -> Result<Shape, BsonError> {
    let dynamic = Shape { arrays: 1, leaf: Leaf::Dynamic };
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
            return Ok(dynamic);
        }
    }
    if !inner {
        let mixed = leaf == Leaf::Json && nulls;
        return Ok(if mixed { dynamic } else { Shape { arrays: 1, leaf } });
    }
    if nulls || leaf != Leaf::Unknown || arrays == 1 {
        return Ok(dynamic);
    }
    let mut common: Option<Shape> = None;
    for element in array.elements() {
        if let Value::Array(item) = element?.value {
            let shape = array_within(item, dates, arrays - 1)?;
            match common.map_or(Some(shape), |common| join(common, shape)) {
                Some(shape) => common = Some(shape),
                None => return Ok(dynamic),
            }
        }
    }
    Ok(common.map_or(dynamic, |items| Shape { arrays: items.arrays + 1, ..items }))
}

/// The type that holds arrays of both types.
fn join(a: Shape, b: Shape) -> Option<Shape> {
    if a.leaf == Leaf::Unknown && a.arrays <= b.arrays {
        return Some(b);
    }
    if b.leaf == Leaf::Unknown && b.arrays <= a.arrays {
        return Some(a);
    }
    if a.arrays != b.arrays {
        return None;
    }
    Some(if a.leaf == b.leaf { a } else { Shape { leaf: Leaf::Dynamic, ..a } })
}
