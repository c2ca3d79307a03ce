//! Expression: a tree of operators over slots, checked and folded when the file is read, and run for
//! each event without a look at its text.
//!
//! An error of a run names operators and types, never a value.

use super::operators::{Only, Operator};
use super::parse::{Ast, Mistake};
use super::trie::{Slot, Slots};
use super::value::Term;
use crate::bson::{Doc, Value};
use crate::config::tree::Place;

/// Why an expression has no value for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault(pub(super) String);

/// What runs an operator. It runs its arguments itself, so that it can leave some out.
pub(super) type Run = for<'a> fn(&'a [Node], &'a Slots<'a>) -> Result<Term<'a>, Fault>;

/// A compiled expression.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Literal),
    Slot(Slot),
    Call { run: Run, args: Box<[Node]> },
}

/// A value that the file names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Double(f64),
    Date(i64),
    Text(Box<[u8]>),
    /// The bytes of the array.
    Array(Box<[u8]>),
}

impl Literal {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int32(number) => Value::Int32(*number),
            Self::Int64(number) => Value::Int64(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Date(millis) => Value::DateTime(*millis),
            Self::Text(text) => Value::String(text),
            // Made by `value::array`, so its frame is sound.
            Self::Array(bytes) => Value::Array(Doc::new(bytes).unwrap_or(Doc::EMPTY)),
        }
    }

    fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int32(number) => Self::Int32(number),
            Value::Int64(number) => Self::Int64(number),
            Value::Double(number) => Self::Double(number),
            Value::DateTime(millis) => Self::Date(millis),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(items) => Self::Array(items.as_bytes().into()),
            _ => return None,
        })
    }
}

impl Node {
    /// Its value for an event.
    pub(super) fn eval<'a>(&'a self, slots: &'a Slots<'a>) -> Result<Term<'a>, Fault> {
        match self {
            Self::Literal(literal) => Ok(Term::Is(literal.value())),
            Self::Slot(Slot(slot)) => Ok(slots[*slot].value().map_or(Term::Missing, Term::Is)),
            Self::Call { run, args } => run(args, slots),
        }
    }
}

/// What a value can be, as far as operators differ in what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    /// Null, undefined or missing.
    pub(super) const NOTHING: Self = Self(1);
    pub(super) const BOOL: Self = Self(1 << 1);
    pub(super) const NUMBER: Self = Self(1 << 2);
    pub(super) const STRING: Self = Self(1 << 3);
    pub(super) const DATE: Self = Self(1 << 4);
    pub(super) const ARRAY: Self = Self(1 << 5);
    pub(super) const ANY: Self = Self(u8::MAX);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a value of these kinds can be taken; null alone does not make it so, where there is
    /// more that it can be.
    const fn can_be(self, taken: Self) -> bool {
        let something = Self(self.0 & !Self::NOTHING.0);
        if something.0 == 0 { self.meets(taken) } else { something.meets(taken) }
    }

    const fn of(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Self::NOTHING,
            Literal::Bool(_) => Self::BOOL,
            Literal::Int32(_) | Literal::Int64(_) | Literal::Double(_) => Self::NUMBER,
            Literal::Date(_) => Self::DATE,
            Literal::Text(_) => Self::STRING,
            Literal::Array(_) => Self::ARRAY,
        }
    }

    /// The kinds, for people.
    fn text(self) -> String {
        let names = [
            (Self::BOOL, "true or false"),
            (Self::NUMBER, "a number"),
            (Self::STRING, "a text"),
            (Self::DATE, "a date"),
            (Self::ARRAY, "an array"),
        ];
        let mut names: Vec<&str> =
            names.into_iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, name)| name).collect();
        // Null goes nearly everywhere: only where there is nothing else is it worth a word.
        if names.is_empty() {
            names.push("null");
        }
        names.join(" or ")
    }
}

/// Checks and folds an expression; `slot` gives the slot of a path.
///
/// # Errors
/// The first argument that can never be what its operator takes.
pub(super) fn compile(
    ast: Ast,
    slot: &mut dyn FnMut(&str, &Place) -> Result<Slot, Mistake>,
) -> Result<(Node, Kinds), Mistake> {
    match ast {
        Ast::Literal { literal, .. } => {
            let kinds = Kinds::of(&literal);
            Ok((Node::Literal(literal), kinds))
        }
        Ast::Path { text, place } => Ok((Node::Slot(slot(&text, &place)?), Kinds::ANY)),
        Ast::Call { operator, args, place } => call(operator, args, place, slot),
    }
}

fn call(
    operator: &'static Operator,
    args: Vec<Ast>,
    place: Place,
    slot: &mut dyn FnMut(&str, &Place) -> Result<Slot, Mistake>,
) -> Result<(Node, Kinds), Mistake> {
    let name = operator.name;
    let (least, most, count) = (operator.least, operator.most, args.len());
    if !(least..=most).contains(&count) {
        let takes = match (least, most) {
            (1, 1) => "one argument".to_owned(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, usize::MAX) => format!("{least} arguments or more"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        let mend = format!("write {}", operator.example);
        return Err(Mistake::new(place, format!("`{name}` takes {takes}, not {count}"), mend));
    }
    let mut nodes = Vec::with_capacity(count);
    for (index, ast) in args.into_iter().enumerate() {
        let at = ast.place().clone();
        let other = match (operator.only, &ast) {
            (Only::Paths, Ast::Literal { .. } | Ast::Call { .. }) => Some("the path of a field"),
            (Only::Literals, Ast::Path { .. } | Ast::Call { .. }) => Some("a value as it is"),
            _ => None,
        };
        if let Some(takes) = other {
            let what = format!("`{name}` takes {takes}");
            return Err(Mistake::new(at, what, format!("write {}", operator.example)));
        }
        let (node, kinds) = compile(ast, slot)?;
        // The last one stands for all that follow.
        let takes = operator.takes.get(index).or(operator.takes.last()).copied();
        let takes = takes.unwrap_or(Kinds::ANY);
        if !kinds.can_be(takes) {
            let (takes, is) = (takes.text(), kinds.text());
            let what = format!("`{name}` takes {takes} here, and this is {is}");
            return Err(Mistake::new(at, what, format!("write {}", operator.example)));
        }
        nodes.push(node);
    }
    let constant = nodes.iter().all(|node| matches!(node, Node::Literal(_)));
    let node = Node::Call { run: operator.run, args: nodes.into() };
    if constant {
        let nothing = Slots::new();
        let folded = match node.eval(&nothing) {
            Ok(term) => term.value().and_then(Literal::of),
            Err(Fault(why)) => return Err(Mistake::new(place, why, "it could never have a value")),
        };
        if let Some(literal) = folded {
            let kinds = Kinds::of(&literal);
            return Ok((Node::Literal(literal), kinds));
        }
    }
    Ok((node, operator.gives))
}
