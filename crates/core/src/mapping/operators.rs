//! Operators: what each takes, gives and does, as MongoDB's aggregation operators do.
//!
//! To add one: a line in `ALL`, a function, a row in `docs/mapping.md`, a table test.

use super::expression::{Fault, Kinds, Node, Run};
use super::order::compare;
use super::trie::Slots;
use super::value::{Term, type_name};
use crate::bson::Value;
use crate::ejson::date::{self, Fraction};
use crate::ejson::decimal;

/// An operator of the expression language.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) name: &'static str,
    /// How many arguments it takes.
    pub(super) least: usize,
    pub(super) most: usize,
    /// What each argument must be able to be; the last stands for all that follow.
    pub(super) takes: &'static [Kinds],
    pub(super) gives: Kinds,
    pub(super) only: Only,
    pub(super) run: Run,
    pub(super) example: &'static str,
}

/// How an operator's arguments must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    Expressions,
    Paths,
    Literals,
}

const ANY: &[Kinds] = &[Kinds::ANY];
const NUMBERS: &[Kinds] = &[NUMBER];
const NUMBER: Kinds = Kinds::NUMBER.or(Kinds::NOTHING);
const TIMES: &[Kinds] = &[NUMBER.or(Kinds::DATE)];
const DATES: &[Kinds] = &[Kinds::DATE.or(Kinds::NOTHING)];
const STRINGS: &[Kinds] = &[STRING];
const STRING: Kinds = Kinds::STRING.or(Kinds::NOTHING);
const PRINTED: &[Kinds] = &[STRING.or(Kinds::NUMBER).or(Kinds::DATE)];

const fn op(
    name: &'static str,
    (least, most): (usize, usize),
    takes: &'static [Kinds],
    gives: Kinds,
    run: Run,
    example: &'static str,
) -> Operator {
    Operator { name, least, most, takes, gives, only: Only::Expressions, run, example }
}

const MANY: usize = usize::MAX;

static ALL: &[Operator] = &[
    op("$eq", (2, 2), ANY, Kinds::BOOL, eq, "$eq(status, 'arrived')"),
    op("$ne", (2, 2), ANY, Kinds::BOOL, ne, "$ne(status, 'arrived')"),
    op("$gt", (2, 2), ANY, Kinds::BOOL, gt, "$gt(size, 100)"),
    op("$gte", (2, 2), ANY, Kinds::BOOL, gte, "$gte(size, 100)"),
    op("$lt", (2, 2), ANY, Kinds::BOOL, lt, "$lt(size, 100)"),
    op("$lte", (2, 2), ANY, Kinds::BOOL, lte, "$lte(size, 100)"),
    op("$and", (1, MANY), ANY, Kinds::BOOL, and, "$and($gt(a, 1), $lt(a, 9))"),
    op("$or", (1, MANY), ANY, Kinds::BOOL, or, "$or($lt(a, 1), $gt(a, 9))"),
    op("$not", (1, 1), ANY, Kinds::BOOL, not, "$not($exists(a))"),
    op("$in", (2, 2), &[Kinds::ANY, Kinds::ARRAY], Kinds::BOOL, within, "$in(status, ['a', 'b'])"),
    Operator {
        only: Only::Paths,
        ..op("$exists", (1, 1), ANY, Kinds::BOOL, exists, "$exists(fullDocument.status)")
    },
    op("$type", (1, 1), ANY, Kinds::STRING, type_of, "$type(size)"),
    op("$cond", (3, 3), ANY, Kinds::ANY, cond, "$cond($gt(size, 100), 'large', 'small')"),
    op("$ifNull", (2, MANY), ANY, Kinds::ANY, if_null, "$ifNull(status, 'none')"),
    op("$coalesce", (1, MANY), ANY, Kinds::ANY, if_null, "$coalesce(status, state, 'none')"),
    op("$concat", (1, MANY), STRINGS, STRING, concat, "$concat(region, '-', zone)"),
    op("$toLower", (1, 1), PRINTED, Kinds::STRING, to_lower, "$toLower(status)"),
    op("$toUpper", (1, 1), PRINTED, Kinds::STRING, to_upper, "$toUpper(status)"),
    op("$size", (1, 1), &[Kinds::ARRAY], Kinds::NUMBER, size, "$size(items)"),
    op("$add", (1, MANY), TIMES, NUMBER.or(Kinds::DATE), add, "$add(a, b)"),
    op("$subtract", (2, 2), TIMES, NUMBER.or(Kinds::DATE), subtract, "$subtract(a, b)"),
    op("$multiply", (1, MANY), NUMBERS, NUMBER, multiply, "$multiply(a, b)"),
    op("$divide", (2, 2), NUMBERS, NUMBER, divide, "$divide(a, b)"),
    op("$secondsDiff", (2, 2), DATES, NUMBER, seconds_diff, "$secondsDiff(later, earlier)"),
    Operator {
        only: Only::Literals,
        ..op("$literal", (1, 1), ANY, Kinds::ANY, literal, "$literal('text')")
    },
];

/// Known by the plan of the language, and not there yet.
pub(super) const PLANNED: &[&str] = &[
    "$substr",
    "$split",
    "$regexMatch",
    "$mod",
    "$abs",
    "$round",
    "$floor",
    "$ceil",
    "$dateDiff",
    "$dateTrunc",
    "$toString",
    "$toInt",
    "$toLong",
    "$toDouble",
    "$toDate",
    "$hash",
];

pub(super) fn find(name: &str) -> Option<&'static Operator> {
    ALL.iter().find(|operator| operator.name == name)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    ALL.iter().map(|operator| operator.name)
}

type Out<'a> = Result<Term<'a>, Fault>;

const fn boolean<'a>(value: bool) -> Out<'a> {
    Ok(Term::Is(Value::Bool(value)))
}

/// The order of the first two arguments. The number of arguments is checked when the file is read.
fn order<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Result<std::cmp::Ordering, Fault> {
    let (left, right) = (args[0].eval(slots)?, args[1].eval(slots)?);
    Ok(compare(left.value(), right.value()))
}

fn eq<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(order(args, slots)?.is_eq())
}

fn ne<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(order(args, slots)?.is_ne())
}

fn gt<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(order(args, slots)?.is_gt())
}

fn gte<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(order(args, slots)?.is_ge())
}

fn lt<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(order(args, slots)?.is_lt())
}

fn lte<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(order(args, slots)?.is_le())
}

fn and<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    for arg in args {
        if !arg.eval(slots)?.is_true() {
            return boolean(false);
        }
    }
    boolean(true)
}

fn or<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    for arg in args {
        if arg.eval(slots)?.is_true() {
            return boolean(true);
        }
    }
    boolean(false)
}

fn not<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(!args[0].eval(slots)?.is_true())
}

fn within<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let (wanted, list) = (args[0].eval(slots)?, args[1].eval(slots)?);
    let Some(Value::Array(items)) = list.value() else {
        return Err(takes("$in", "an array as its second argument", &list));
    };
    for item in items.elements() {
        let item = item.map_err(|error| Fault(error.to_string()))?;
        if compare(wanted.value(), Some(item.value)).is_eq() {
            return boolean(true);
        }
    }
    boolean(false)
}

fn exists<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    boolean(!matches!(args[0].eval(slots)?, Term::Missing))
}

fn type_of<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    Ok(Term::Is(Value::String(args[0].eval(slots)?.type_name().as_bytes())))
}

fn cond<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let then = args[0].eval(slots)?.is_true();
    args[if then { 1 } else { 2 }].eval(slots)
}

fn if_null<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let (last, first) = args.split_last().ok_or(Fault("no arguments".to_owned()))?;
    for arg in first {
        let term = arg.eval(slots)?;
        if !term.is_nothing() {
            return Ok(term);
        }
    }
    last.eval(slots)
}

fn concat<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let mut out = Vec::new();
    for arg in args {
        let term = arg.eval(slots)?;
        match term.value() {
            _ if term.is_nothing() => return Ok(Term::NULL),
            Some(Value::String(text)) => out.extend_from_slice(text),
            _ => return Err(takes("$concat", "strings", &term)),
        }
    }
    Ok(Term::Text(out))
}

fn to_lower<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    printed("$toLower", args, slots, <[u8]>::make_ascii_lowercase)
}

fn to_upper<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    printed("$toUpper", args, slots, <[u8]>::make_ascii_uppercase)
}

/// Null is the empty text, and other letters than those of ASCII stay, as in MongoDB.
fn printed<'a>(
    name: &str,
    args: &'a [Node],
    slots: &'a Slots<'a>,
    change: fn(&mut [u8]),
) -> Out<'a> {
    let term = args[0].eval(slots)?;
    let mut text = match term.value() {
        None | Some(Value::Null | Value::Undefined) => Vec::new(),
        Some(Value::String(text) | Value::Symbol(text) | Value::Code(text)) => text.to_vec(),
        Some(Value::Int32(number)) => number.to_string().into_bytes(),
        Some(Value::Int64(number)) => number.to_string().into_bytes(),
        Some(Value::Decimal128(bytes)) => {
            let mut out = Vec::new();
            decimal::write(bytes, &mut out);
            out
        }
        Some(Value::DateTime(millis)) => {
            let mut out = Vec::new();
            date::write(millis, Fraction::Always, &mut out);
            out
        }
        Some(_) => return Err(takes(name, "strings, whole numbers, decimals and dates", &term)),
    };
    change(&mut text);
    Ok(Term::Text(text))
}

fn size<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let term = args[0].eval(slots)?;
    let Some(Value::Array(items)) = term.value() else {
        return Err(takes("$size", "an array", &term));
    };
    // At most as many as an event has bytes.
    Ok(Term::Is(Value::Int32(items.elements().count() as i32)))
}

fn takes(name: &str, what: &str, term: &Term<'_>) -> Fault {
    Fault(format!("`{name}` takes {what}, not {}", term.type_name()))
}

/// What arithmetic has of an argument.
enum Operand {
    Nothing,
    Int(i32),
    Long(i64),
    Double(f64),
    Date(i64),
}

impl Operand {
    fn of(name: &str, what: &str, term: &Term<'_>) -> Result<Self, Fault> {
        Ok(match term.value() {
            None | Some(Value::Null | Value::Undefined) => Self::Nothing,
            Some(Value::Int32(number)) => Self::Int(number),
            Some(Value::Int64(number)) => Self::Long(number),
            Some(Value::Double(number)) => Self::Double(number),
            Some(Value::DateTime(millis)) if what != NUMBERS_ALONE => Self::Date(millis),
            Some(Value::Decimal128(_)) => {
                return Err(Fault(format!("`{name}` cannot compute with decimals yet")));
            }
            Some(value) => {
                return Err(Fault(format!("`{name}` takes {what}, not {}", type_name(&value))));
            }
        })
    }

    /// As a double, which rounds beyond 2^53 as MongoDB does.
    const fn double(&self) -> f64 {
        match self {
            Self::Nothing => f64::NAN,
            Self::Int(number) => *number as f64,
            Self::Long(number) | Self::Date(number) => *number as f64,
            Self::Double(number) => *number,
        }
    }
}

/// Two arguments; none where one is nothing, whatever the other is.
fn both<'a>(
    name: &str,
    what: &str,
    args: &'a [Node],
    slots: &'a Slots<'a>,
) -> Result<Option<(Operand, Operand)>, Fault> {
    let (left, right) = (args[0].eval(slots)?, args[1].eval(slots)?);
    if left.is_nothing() || right.is_nothing() {
        return Ok(None);
    }
    Ok(Some((Operand::of(name, what, &left)?, Operand::of(name, what, &right)?)))
}

const NUMBERS_ALONE: &str = "numbers";
const NUMBERS_AND_DATES: &str = "numbers and dates";

/// The narrowest type that holds it, of those that MongoDB gives.
fn whole<'a>(number: Option<i128>, long: bool, double: f64) -> Out<'a> {
    let narrow = number.and_then(|number| i32::try_from(number).ok()).filter(|_| !long);
    let wide = number.and_then(|number| i64::try_from(number).ok());
    Ok(Term::Is(match (narrow, wide) {
        (Some(number), _) => Value::Int32(number),
        (None, Some(number)) => Value::Int64(number),
        (None, None) => Value::Double(double),
    }))
}

fn moved<'a>(name: &str, millis: Option<i128>) -> Out<'a> {
    match millis.and_then(|millis| i64::try_from(millis).ok()) {
        Some(millis) => Ok(Term::Is(Value::DateTime(millis))),
        None => Err(Fault(format!("`{name}` gives a date out of all bounds"))),
    }
}

/// The nearest millisecond, of two the one nearer to zero, as MongoDB's `$add` has it.
fn nearest_millis(whole: i128, more: f64) -> Option<i128> {
    let floor = more.floor();
    // A double within these bounds is far from those of the type.
    let millis = (floor.abs() < 1e30).then(|| whole + floor as i128)?;
    let fraction = more - floor;
    Some(millis + i128::from(fraction > 0.5 || fraction == 0.5 && millis < 0))
}

fn add<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let (mut date, mut long, mut double) = (None, false, None);
    let mut sum = 0_i128;
    for arg in args {
        match Operand::of("$add", NUMBERS_AND_DATES, &arg.eval(slots)?)? {
            Operand::Nothing => return Ok(Term::NULL),
            Operand::Int(number) => sum += i128::from(number),
            Operand::Long(number) => {
                long = true;
                sum += i128::from(number);
            }
            Operand::Double(number) => double = Some(double.unwrap_or(0.0) + number),
            Operand::Date(_) if date.is_some() => {
                return Err(Fault("`$add` takes one date, not two".to_owned()));
            }
            Operand::Date(millis) => date = Some(millis),
        }
    }
    match (date, double) {
        (Some(date), _) => {
            moved("$add", nearest_millis(i128::from(date) + sum, double.unwrap_or(0.0)))
        }
        (None, Some(double)) => Ok(Term::Is(Value::Double(double + sum as f64))),
        (None, None) => whole(Some(sum), long, sum as f64),
    }
}

fn subtract<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    const NAME: &str = "$subtract";
    let Some((left, right)) = both(NAME, NUMBERS_AND_DATES, args, slots)? else {
        return Ok(Term::NULL);
    };
    match (&left, &right) {
        (Operand::Nothing, _) | (_, Operand::Nothing) => Ok(Term::NULL),
        (Operand::Date(from), Operand::Date(to)) => match from.checked_sub(*to) {
            Some(millis) => Ok(Term::Is(Value::Int64(millis))),
            None => Err(Fault(format!("`{NAME}` of these dates is out of all bounds"))),
        },
        (Operand::Date(date), Operand::Double(number)) => {
            // MongoDB cuts the fraction off here, where its `$add` rounds.
            let less = (number.abs() < 1e30).then(|| number.trunc() as i128);
            moved(NAME, less.map(|less| i128::from(*date) - less))
        }
        (Operand::Date(date), Operand::Int(number)) => {
            moved(NAME, Some(i128::from(*date) - i128::from(*number)))
        }
        (Operand::Date(date), Operand::Long(number)) => {
            moved(NAME, Some(i128::from(*date) - i128::from(*number)))
        }
        (_, Operand::Date(_)) => Err(Fault(format!("`{NAME}` takes no date from a number"))),
        (Operand::Double(_), _) | (_, Operand::Double(_)) => {
            Ok(Term::Is(Value::Double(left.double() - right.double())))
        }
        (Operand::Int(left), Operand::Int(right)) => {
            whole(Some(i128::from(*left) - i128::from(*right)), false, 0.0)
        }
        (Operand::Int(_) | Operand::Long(_), Operand::Int(_) | Operand::Long(_)) => {
            let long = |operand: &Operand| match operand {
                Operand::Int(number) => i128::from(*number),
                Operand::Long(number) => i128::from(*number),
                _ => 0,
            };
            whole(Some(long(&left) - long(&right)), true, left.double() - right.double())
        }
    }
}

fn multiply<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let (mut product, mut double) = (Some(1_i128), 1.0);
    let (mut long, mut fraction) = (false, false);
    for arg in args {
        let operand = Operand::of("$multiply", NUMBERS_ALONE, &arg.eval(slots)?)?;
        double *= operand.double();
        let factor = match operand {
            Operand::Nothing => return Ok(Term::NULL),
            Operand::Int(number) => i128::from(number),
            Operand::Long(number) | Operand::Date(number) => {
                long = true;
                i128::from(number)
            }
            Operand::Double(_) => {
                fraction = true;
                1
            }
        };
        // What is once beyond int64 is a double, even if it comes back.
        product = product
            .and_then(|product| product.checked_mul(factor))
            .filter(|product| i64::try_from(*product).is_ok());
    }
    match fraction {
        true => Ok(Term::Is(Value::Double(double))),
        false => whole(product, long, double),
    }
}

fn divide<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    match both("$divide", NUMBERS_ALONE, args, slots)? {
        None => Ok(Term::NULL),
        Some((_, right)) if right.double() == 0.0 => Err(Fault("`$divide` by zero".to_owned())),
        Some((left, right)) => Ok(Term::Is(Value::Double(left.double() / right.double()))),
    }
}

/// Not MongoDB's: the seconds from the second date to the first, with their fraction.
fn seconds_diff<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    let (later, earlier) = (args[0].eval(slots)?, args[1].eval(slots)?);
    match (later.value(), earlier.value()) {
        _ if later.is_nothing() || earlier.is_nothing() => Ok(Term::NULL),
        (Some(Value::DateTime(later)), Some(Value::DateTime(earlier))) => {
            let millis = i128::from(later) - i128::from(earlier);
            Ok(Term::Is(Value::Double(millis as f64 / 1000.0)))
        }
        (Some(Value::DateTime(_)), _) => Err(takes("$secondsDiff", "dates", &earlier)),
        _ => Err(takes("$secondsDiff", "dates", &later)),
    }
}

fn literal<'a>(args: &'a [Node], slots: &'a Slots<'a>) -> Out<'a> {
    args[0].eval(slots)
}
