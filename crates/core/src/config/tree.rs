//! Tree: a YAML text as values that know where they stand. Nothing here knows a key.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};

use super::problem::Problem;

/// A place in the text, in bytes.
pub(crate) type Place = Range<usize>;

/// A value and its place.
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A key and its place.
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) name: String,
}

/// What stands there. It may be a secret: nothing here can be printed.
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Fraction,
    Text(String),
    List(Vec<Node>),
    Section(Vec<(Key, Node)>),
}

impl Value {
    /// What it is, for people.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Fraction => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Section(_) => "a section of keys",
        }
    }
}

/// Reads a text. Keys that come twice are both there.
///
/// # Errors
/// The first place that is not YAML.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::AsOrdinary,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Ok(node(text, root)),
        Err(error) => {
            let at = error.location().map_or(0..0, |location| place(text, &location));
            let said = error.to_string();
            // The place is told by us.
            let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
            Err(Problem::syntax(
                at,
                match error.without_snippet() {
                    serde_saphyr::Error::MultipleDocuments { .. } => {
                        "a second document begins here"
                    }
                    _ => said,
                },
            ))
        }
    }
}

/// The bytes of a location. The parser counts characters where it cannot count bytes.
fn place(text: &str, location: &Location) -> Place {
    let span = location.span();
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (start, end) = match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => (number(start), number(start.saturating_add(len))),
        _ => {
            let byte =
                |n: u64| text.char_indices().nth(number(n)).map_or(text.len(), |(byte, _)| byte);
            (byte(span.offset()), byte(span.offset().saturating_add(span.len())))
        }
    };
    let end = end.min(text.len());
    start.min(end)..end
}

fn node(text: &str, raw: Spanned<Raw>) -> Node {
    let value = match raw.value {
        Raw::Leaf(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(text, item)).collect()),
        Raw::Section(entries) => {
            let entry = |(key, value): (Spanned<String>, _)| {
                (Key { place: place(text, &key.referenced), name: key.value }, node(text, value))
            };
            Value::Section(entries.into_iter().map(entry).collect())
        }
    };
    Node { place: place(text, &raw.referenced), value }
}

/// What the parser hands over.
enum Raw {
    Leaf(Value),
    List(Vec<Spanned<Raw>>),
    Section(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Integer(value.into())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Fraction))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Section(entries))
    }
}
