//! Order: MongoDB's comparison of any two values, by type and then by value.
//!
//! Source: MongoDB's manual, "Comparison/Sort Order". In expressions a missing field comes before
//! null and is not equal to it; an array is compared as a whole.

use std::cmp::Ordering;

use crate::bson::{BsonError, Doc, MAX_DEPTH, Value};
use crate::ejson::decimal;

/// Compares two values, of which either may be missing.
pub(super) fn compare(left: Option<Value<'_>>, right: Option<Value<'_>>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => compare_values(&left, &right, MAX_DEPTH),
        _ => bracket(left.as_ref()).cmp(&bracket(right.as_ref())),
    }
}

/// The place of a value's type in the order of types.
const fn bracket(value: Option<&Value<'_>>) -> u8 {
    match value {
        Some(Value::MinKey) => 0,
        None | Some(Value::Undefined) => 1,
        Some(Value::Null) => 2,
        Some(Value::Int32(_) | Value::Int64(_) | Value::Double(_) | Value::Decimal128(_)) => 3,
        Some(Value::String(_) | Value::Symbol(_)) => 4,
        Some(Value::Document(_)) => 5,
        Some(Value::Array(_)) => 6,
        Some(Value::Binary { .. }) => 7,
        Some(Value::ObjectId(_)) => 8,
        Some(Value::Bool(_)) => 9,
        Some(Value::DateTime(_)) => 10,
        Some(Value::Timestamp { .. }) => 11,
        Some(Value::Regex { .. }) => 12,
        Some(Value::DbPointer { .. }) => 13,
        Some(Value::Code(_)) => 14,
        Some(Value::CodeWithScope { .. }) => 15,
        Some(Value::MaxKey) => 16,
    }
}

fn compare_values(left: &Value<'_>, right: &Value<'_>, levels: usize) -> Ordering {
    let by_type = bracket(Some(left)).cmp(&bracket(Some(right)));
    if by_type.is_ne() {
        return by_type;
    }
    match (*left, *right) {
        (Value::String(l) | Value::Symbol(l), Value::String(r) | Value::Symbol(r)) => l.cmp(r),
        (Value::Document(l), Value::Document(r)) => compare_fields(l, r, true, levels),
        (Value::Array(l), Value::Array(r)) => compare_fields(l, r, false, levels),
        (Value::Binary { subtype: s, bytes: l }, Value::Binary { subtype: z, bytes: r }) => {
            (l.len(), s, l).cmp(&(r.len(), z, r))
        }
        (Value::ObjectId(l), Value::ObjectId(r)) => l.cmp(r),
        (Value::Bool(l), Value::Bool(r)) => l.cmp(&r),
        (Value::DateTime(l), Value::DateTime(r)) => l.cmp(&r),
        (Value::Timestamp { t, i }, Value::Timestamp { t: rt, i: ri }) => (t, i).cmp(&(rt, ri)),
        (Value::Regex { pattern: l, options: o }, Value::Regex { pattern: r, options: p }) => {
            (l, o).cmp(&(r, p))
        }
        (Value::DbPointer { namespace: l, id }, Value::DbPointer { namespace: r, id: other }) => {
            (l.len(), l, id).cmp(&(r.len(), r, other))
        }
        (Value::Code(l), Value::Code(r)) => l.cmp(r),
        (
            Value::CodeWithScope { code: l, scope },
            Value::CodeWithScope { code: r, scope: other },
        ) => l.cmp(r).then_with(|| compare_fields(scope, other, true, levels)),
        _ => compare_numbers(left, right),
    }
}

/// Documents field by field: type, name, value. Arrays are told by their items alone.
fn compare_fields(left: Doc<'_>, right: Doc<'_>, names: bool, levels: usize) -> Ordering {
    // Deeper than a server stores; what is deeper counts as equal.
    let Some(levels) = levels.checked_sub(1) else { return Ordering::Equal };
    let (mut left, mut right) = (left.elements(), right.elements());
    loop {
        let (l, r) = match (left.next(), right.next()) {
            (Some(Ok(l)), Some(Ok(r))) => (l, r),
            (l, r) => return rest(&l).cmp(&rest(&r)),
        };
        let mut order = bracket(Some(&l.value)).cmp(&bracket(Some(&r.value)));
        if names {
            order = order.then_with(|| l.key.cmp(r.key));
        }
        order = order.then_with(|| compare_values(&l.value, &r.value, levels));
        if order.is_ne() {
            return order;
        }
    }
}

/// Whether there is more of one of two documents that were equal so far.
fn rest<T>(next: &Option<Result<T, BsonError>>) -> bool {
    matches!(next, Some(Ok(_)))
}

fn compare_numbers(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    let long = |value: &Value<'_>| match value {
        Value::Int32(number) => Some(i64::from(*number)),
        Value::Int64(number) => Some(*number),
        _ => None,
    };
    match (left, right, long(left), long(right)) {
        (_, _, Some(l), Some(r)) => l.cmp(&r),
        (Value::Double(l), Value::Double(r), ..) => compare_doubles(*l, *r),
        (Value::Double(l), _, _, Some(r)) => compare_long(r, *l).reverse(),
        (_, Value::Double(r), Some(l), _) => compare_long(l, *r),
        _ => Number::of(left).cmp(&Number::of(right)),
    }
}

/// NaN is equal to itself and less than any other number.
fn compare_doubles(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

/// Exact, where a conversion of either to the other's type would round.
fn compare_long(long: i64, double: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() || double < -TWO_TO_63 {
        return Ordering::Greater;
    }
    if double >= TWO_TO_63 {
        return Ordering::Less;
    }
    // Within bounds, so the cast only cuts off the fraction.
    let whole = double.trunc();
    long.cmp(&(whole as i64)).then_with(|| compare_doubles(whole, double))
}

/// A number as decimal digits, for comparisons with a Decimal128.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    NaN,
    NegativeInfinity,
    /// Sign and size, see `Finite`.
    Finite(Finite),
    Infinity,
}

#[derive(PartialEq, Eq)]
struct Finite {
    negative: bool,
    /// The exponent of the first digit, and the digits without zeros at either end. Zero has none.
    size: Option<(i32, Vec<u8>)>,
}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |finite: &Self| match (&finite.size, finite.negative) {
            (None, _) => 0,
            (Some(_), true) => -1,
            (Some(_), false) => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            -1 => other.size.cmp(&self.size),
            _ => self.size.cmp(&other.size),
        })
    }
}

impl Number {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Int32(number) => Self::read(&number.to_string()),
            Value::Int64(number) => Self::read(&number.to_string()),
            // As MongoDB converts it: 34 digits.
            Value::Double(double) if double.is_finite() => Self::read(&format!("{double:.33e}")),
            Value::Double(double) if double.is_nan() => Self::NaN,
            Value::Double(double) if *double < 0.0 => Self::NegativeInfinity,
            Value::Double(_) => Self::Infinity,
            Value::Decimal128(bytes) => {
                let mut text = Vec::new();
                decimal::write(bytes, &mut text);
                Self::read(&String::from_utf8_lossy(&text))
            }
            // Only numbers come here.
            _ => Self::NaN,
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "NaN" => return Self::NaN,
            "Infinity" => return Self::Infinity,
            "-Infinity" => return Self::NegativeInfinity,
            _ => {}
        }
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let Some(first) = digits.iter().position(|digit| *digit != b'0') else {
            return Self::Finite(Finite { negative, size: None });
        };
        let last = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(first);
        // Both at most a few thousand.
        let adjusted = exponent + whole.len() as i32 - 1 - first as i32;
        Self::Finite(Finite { negative, size: Some((adjusted, digits[first..=last].to_vec())) })
    }
}
