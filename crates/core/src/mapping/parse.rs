//! Parse: the text of an expression becomes a tree in which everything knows its place.
//!
//! ```text
//!   expression = call | literal | path
//!   call       = "$name(" [ expression { "," expression } ] ")"
//!   literal    = 'text' | "text" | number | true | false | null | "[" literals "]"
//!   path       = name { "." name }          a name with odd characters: `in backticks`
//! ```

use super::expression::Literal;
use super::operators::{self, Operator};
use super::value;
use crate::config::problem::nearest;
use crate::config::tree::Place;

/// Calls may be nested so deep: a reader's mistake, or a test of our stack, is deeper.
const MAX_NESTING: usize = 64;

/// What is wrong with an expression; its place counts from the start of the text.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) place: Place,
    pub(super) what: String,
    pub(super) mend: String,
}

impl Mistake {
    pub(super) fn new(place: Place, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { place, what: what.into(), mend: mend.into() }
    }
}

/// An expression as it is written.
#[derive(Debug)]
pub(super) enum Ast {
    Literal { literal: Literal, place: Place },
    Path { text: String, place: Place },
    Call { operator: &'static Operator, args: Vec<Ast>, place: Place },
}

impl Ast {
    pub(super) const fn place(&self) -> &Place {
        match self {
            Self::Literal { place, .. } | Self::Path { place, .. } | Self::Call { place, .. } => {
                place
            }
        }
    }
}

/// Reads the text of one expression.
///
/// # Errors
/// The first thing that is none.
pub(super) fn parse(text: &str) -> Result<Ast, Mistake> {
    let mut parser = Parser { text, at: 0 };
    let ast = parser.expression(0)?;
    parser.blank();
    match parser.peek() {
        None => Ok(ast),
        Some(_) => Err(parser.mistake("the expression ends before this", "remove what follows")),
    }
}

/// The names of a path.
///
/// # Errors
/// A name that is empty.
pub(super) fn names(path: &str) -> Option<Vec<Box<[u8]>>> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let mut rest = path;
    loop {
        let (name, after) = match rest.strip_prefix('`') {
            Some(quoted) => quoted.split_once('`')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if name.is_empty() {
            return None;
        }
        names.push(name.as_bytes().into());
        if after.is_empty() {
            return Some(names);
        }
        rest = after.strip_prefix('.')?;
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.blank();
        let there = self.peek() == Some(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    /// A mistake at the next character.
    fn mistake(&self, what: impl Into<String>, mend: impl Into<String>) -> Mistake {
        let length = self.peek().map_or(0, char::len_utf8);
        Mistake::new(self.at..self.at + length, what, mend)
    }

    fn expression(&mut self, nesting: usize) -> Result<Ast, Mistake> {
        self.blank();
        if nesting > MAX_NESTING {
            return Err(self.mistake("this is nested too deep", "take it apart"));
        }
        match self.peek() {
            None => Err(self.mistake("an expression is missing here", "write a path or a value")),
            Some('$') => self.call(nesting),
            Some('\'' | '"' | '[') => self.literal(nesting),
            Some(c) if c.is_ascii_digit() || c == '-' => self.literal(nesting),
            Some(_) => self.word(),
        }
    }

    fn call(&mut self, nesting: usize) -> Result<Ast, Mistake> {
        let start = self.at;
        self.at += 1;
        let length =
            self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        self.at += length;
        let name = &self.text[start..self.at];
        let place = start..self.at;
        if self.peek() != Some('(') && operators::find(name).is_none() {
            let end = self.rest().find([',', ')', ' ']).unwrap_or(self.rest().len());
            let path = &self.text[start + 1..self.at + end];
            let what = "a path has no `$` before it, and an operator has `(` behind it";
            let mend = match path {
                "" => "write the name of an operator".to_owned(),
                _ => format!("write `{path}`, if a field is meant"),
            };
            return Err(Mistake::new(place, what, mend));
        }
        let Some(operator) = operators::find(name) else {
            let what = format!("unknown operator `{name}`");
            let mend = match operators::PLANNED.contains(&name) {
                true => format!("`{name}` is not built yet"),
                false => match nearest(name, operators::names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        format!("known: {}", operators::names().collect::<Vec<_>>().join(", "))
                    }
                },
            };
            return Err(Mistake::new(place, what, mend));
        };
        if !self.take('(') {
            let what = format!("`{name}` has no `(`");
            return Err(Mistake::new(place, what, format!("write {}", operator.example)));
        }
        let mut args = Vec::new();
        if !self.take(')') {
            loop {
                args.push(self.expression(nesting + 1)?);
                if self.take(')') {
                    break;
                }
                if !self.take(',') {
                    let what = format!("neither `,` nor `)` after an argument of `{name}`");
                    return Err(self.mistake(what, format!("write {}", operator.example)));
                }
            }
        }
        Ok(Ast::Call { operator, args, place: start..self.at })
    }

    fn literal(&mut self, nesting: usize) -> Result<Ast, Mistake> {
        let start = self.at;
        let literal = match self.peek() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            Some('[') => self.array(nesting)?,
            _ => self.number()?,
        };
        Ok(Ast::Literal { literal, place: start..self.at })
    }

    /// A backslash makes the quote or the backslash behind it part of the text.
    fn quoted(&mut self, quote: char) -> Result<Literal, Mistake> {
        let start = self.at;
        let mut text = String::new();
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    if c != quote && c != '\\' {
                        text.push('\\');
                    }
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if c == quote => {
                    self.at += offset + 1;
                    return Ok(Literal::Text(text.into_bytes().into()));
                }
                _ => text.push(c),
            }
        }
        let what = "a text begins here and does not end";
        Err(Mistake::new(start..self.text.len(), what, format!("close it with {quote}")))
    }

    fn array(&mut self, nesting: usize) -> Result<Literal, Mistake> {
        self.at += 1;
        let mut items = Vec::new();
        if !self.take(']') {
            loop {
                match self.expression(nesting + 1)? {
                    Ast::Literal { literal, .. } => items.push(literal),
                    other => {
                        let place = other.place().clone();
                        let what = "an array can only hold values, no paths and no operators";
                        return Err(Mistake::new(place, what, "write ['a', 'b'] or [1, 2]"));
                    }
                }
                if self.take(']') {
                    break;
                }
                if !self.take(',') {
                    let mend = "write ['a', 'b'] or [1, 2]";
                    return Err(self.mistake("neither `,` nor `]` in an array", mend));
                }
            }
        }
        let bytes = value::array(items.iter().map(Literal::value));
        // It only fails for what is read from an event.
        Ok(Literal::Array(bytes.unwrap_or_default().into()))
    }

    fn number(&mut self) -> Result<Literal, Mistake> {
        let end = self
            .rest()
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(self.rest().len());
        let text = &self.rest()[..end];
        let literal = match (text.parse::<i32>(), text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), ..) => Literal::Int32(number),
            (_, Ok(number), _) => Literal::Int64(number),
            (_, _, Ok(number)) if number.is_finite() => Literal::Double(number),
            _ => {
                let mend = "a name that begins with a digit goes into backticks";
                let place = self.at..self.at + end;
                return Err(Mistake::new(place, format!("`{text}` is no number"), mend));
            }
        };
        self.at += end;
        Ok(literal)
    }

    /// `true`, `false`, `null`, or a path.
    fn word(&mut self) -> Result<Ast, Mistake> {
        let start = self.at;
        let mut quoted = false;
        let end = self.rest().find(|c: char| {
            quoted ^= c == '`';
            !quoted && (c.is_whitespace() || "()[],'\"$".contains(c))
        });
        let end = end.unwrap_or(self.rest().len());
        if end == 0 {
            return Err(self.mistake("no expression begins like this", "write a path or a value"));
        }
        self.at += end;
        let (text, place) = (&self.text[start..self.at], start..self.at);
        let literal = match text {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "null" => Literal::Null,
            _ if self.peek() == Some('(') => {
                let what = format!("`{text}` is no operator: they begin with `$`");
                let with = format!("${text}");
                let mend = match nearest(&with, operators::names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "see docs/mapping.md for their names".to_owned(),
                };
                return Err(Mistake::new(place, what, mend));
            }
            _ => return Ok(Ast::Path { text: text.to_owned(), place }),
        };
        Ok(Ast::Literal { literal, place })
    }
}
