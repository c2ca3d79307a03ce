//! Section: reads the keys of one section, and remembers which keys there are, so that what is
//! left over can be told with the nearest name.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use secrecy::SecretString;

use super::Secrets;
use super::problem::{Problem, nearest};
use super::tree::{Key, Node, Place, Value};
use crate::Error;

/// What reading finds, beside the values.
pub(crate) struct Reader<'s> {
    pub(crate) secrets: &'s dyn Secrets,
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// The places of values that may be secrets.
    pub(crate) hidden: RefCell<Vec<Place>>,
    /// What is wrong with other files that this one names, each as a whole.
    pub(super) others: RefCell<Vec<Error>>,
    /// What is not there is not needed either: it is left out in silence.
    pub(super) lenient: Cell<bool>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(secrets: &'s dyn Secrets) -> Self {
        Self {
            secrets,
            problems: RefCell::default(),
            hidden: RefCell::default(),
            others: RefCell::default(),
            lenient: Cell::default(),
        }
    }

    /// Complains of a value that leads nowhere, where it is needed.
    pub(super) fn leads_nowhere(&self, place: &Place, what: String, mend: String) {
        if !self.lenient.get() {
            self.complain(place, what, mend);
        }
    }

    pub(crate) fn complain(&self, place: &Place, what: impl Into<String>, mend: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(place.clone(), what, mend));
    }

    /// Keeps what a value holds out of what is shown.
    pub(super) fn hide(&self, node: &Node) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Section(entries) => entries.iter().for_each(|(key, node)| {
                self.shown(key, node);
                self.hide(node);
            }),
            Value::Null => {}
            _ => self.hidden.borrow_mut().push(node.place.clone()),
        }
    }

    /// What an unknown key is called in a message. Without a blank behind its colon, or with a comma
    /// in its value, a secret is a key too: one that does not look like a name is kept out.
    pub(super) fn shown(&self, key: &Key, node: &Node) -> String {
        let named = key.name.chars().all(|c| c.is_ascii_lowercase() || "._-".contains(c))
            && !matches!(node.value, Value::Null);
        if named {
            return format!("`{}`", key.name);
        }
        self.hidden.borrow_mut().push(key.place.clone());
        "…".to_owned()
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) place: Place,
    pub(crate) value: T,
}

/// A section that is being read.
pub(crate) struct Section<'t> {
    /// Its name, for people.
    name: String,
    /// Its own key, or the start of the file.
    pub(crate) place: Place,
    entries: &'t [(Key, Node)],
    reader: &'t Reader<'t>,
    known: Vec<&'static str>,
    /// It is no section at all, which is said already.
    broken: bool,
}

impl<'t> Section<'t> {
    /// The whole file.
    pub(crate) fn root(node: &'t Node, reader: &'t Reader<'t>) -> Self {
        Self::of("the file".to_owned(), 0..0, node, reader)
    }

    pub(crate) fn of(name: String, place: Place, node: &'t Node, reader: &'t Reader<'t>) -> Self {
        let mut broken = false;
        let entries: &[(Key, Node)] = match &node.value {
            Value::Section(entries) => entries,
            Value::Null => &[],
            other => {
                let what = format!("{name} is {}, not a section of keys", other.kind());
                reader.complain(&node.place, what, "write `key: value` lines here");
                reader.hide(node);
                broken = true;
                &[]
            }
        };
        for (index, (key, node)) in entries.iter().enumerate() {
            let mut earlier = entries[..index].iter().filter(|(it, _)| it.name == key.name);
            if let Some((_, unread)) = earlier.next_back() {
                reader.hide(unread);
                let what = format!("{} comes twice in {name}", reader.shown(key, node));
                reader.complain(&key.place, what, "remove one of them");
            }
        }
        Self { name, place, entries, reader, known: Vec::new(), broken }
    }

    /// The last value of a key, null too.
    pub(crate) fn entry(&mut self, name: &'static str) -> Option<(&'t Key, &'t Node)> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        let found = self.entries.iter().rev().find(|(key, _)| key.name == name);
        found.map(|(key, node)| (key, node))
    }

    /// The value of a key that is given and not null.
    pub(crate) fn given(&mut self, name: &'static str) -> Option<(&'t Key, &'t Node)> {
        self.entry(name).filter(|(_, node)| !matches!(node.value, Value::Null))
    }

    /// Whether a key has no value.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        !self
            .entries
            .iter()
            .any(|(key, node)| key.name == name && !matches!(node.value, Value::Null))
    }

    /// Complains of a key that must be there, unless it is there under a misspelt name.
    pub(crate) fn lacks(&self, name: &'static str, example: &str) {
        let misspelt = |(key, _): &(Key, Node)| {
            let known = key.name == name || self.known.contains(&key.name.as_str());
            !known && nearest(&key.name, [name]).is_some()
        };
        if !self.broken && !self.entries.iter().any(misspelt) {
            let what = format!("{} has no `{name}`", self.name);
            self.reader.complain(&self.place, what, format!("add `{example}`"));
        }
    }

    /// A key that is known, and whose part of Tailwater is not there.
    pub(crate) fn not_built(&mut self, name: &'static str, what: &str) {
        if let Some((key, node)) = self.given(name) {
            self.reader.hide(node);
            let what = format!("`{name}` in {}: {what} not built yet", self.name);
            self.reader.complain(&key.place, what, "leave it out");
        }
    }

    /// A section below this one; one without keys counts as absent.
    pub(crate) fn section(&mut self, name: &'static str) -> Option<Self> {
        let (key, node) = self.given(name)?;
        Some(Self::of(format!("`{name}`"), key.place.clone(), node, self.reader))
    }

    /// The keys that were asked for.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// Every key of a section whose keys are the user's own.
    pub(crate) fn free_entries(&self) -> &'t [(Key, Node)] {
        self.entries
    }

    /// A text, resolved where it is `{ env }` or `{ file }`.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<At<String>> {
        let (_, node) = self.given(name)?;
        let value = self.reader.text(name, node)?;
        Some(At { place: node.place.clone(), value })
    }

    /// A text that is never shown.
    pub(crate) fn secret(&mut self, name: &'static str) -> Option<At<SecretString>> {
        if let Some((_, node)) = self.given(name) {
            match &node.value {
                Value::Section(entries) if is_source(entries) => {}
                _ => self.reader.hide(node),
            }
        }
        self.text(name).map(|At { place, value }| At { place, value: value.into() })
    }

    /// Texts; one alone may stand without a list.
    pub(crate) fn texts(&mut self, name: &'static str) -> Option<At<Vec<At<String>>>> {
        let (key, node) = self.given(name)?;
        Some(At { place: key.place.clone(), value: self.reader.texts(name, node) })
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &'static str) -> Option<At<bool>> {
        let (key, node) = self.given(name)?;
        match node.value {
            Value::Bool(value) => Some(At { place: key.place.clone(), value }),
            ref other => {
                let what = format!("`{name}` is {}, not true or false", other.kind());
                self.reader.complain(&node.place, what, "write `true`, or leave it out");
                None
            }
        }
    }

    /// A whole number in the unit that the name ends with.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<At<u64>> {
        let (_, node) = self.given(name)?;
        let value = self.reader.number(name, node, range)?;
        Some(At { place: node.place.clone(), value })
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<At<T>> {
        let At { place, value } = self.text(name)?;
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, choice)) => Some(At { place, value: *choice }),
            None => {
                let known = words.iter().map(|(word, _)| *word);
                self.reader.unknown(&place, &format!("value of `{name}`"), &value, known);
                None
            }
        }
    }

    /// An address to listen on.
    pub(crate) fn address(&mut self, name: &'static str) -> Option<At<SocketAddr>> {
        let At { place, value } = self.text(name)?;
        match value.parse() {
            Ok(value) => Some(At { place, value }),
            Err(_) => {
                let what = format!("`{name}` is no address");
                self.reader.complain(
                    &place,
                    what,
                    "write an IP address and a port: 127.0.0.1:8123",
                );
                None
            }
        }
    }

    /// What a file holds that a value names.
    pub(crate) fn contents(&mut self, name: &'static str) -> Option<String> {
        let At { place, value } = self.text(name)?;
        match self.reader.secrets.file(&value) {
            Ok(contents) => Some(contents),
            Err(why) => {
                self.reader.leads_nowhere(&place, why, format!("`{name}` is read from there"));
                None
            }
        }
    }

    /// Tells what is left over.
    pub(crate) fn end(self) {
        for (key, node) in self.entries {
            if !self.known.contains(&key.name.as_str()) {
                let what = format!("unknown key {} in {}", self.reader.shown(key, node), self.name);
                let mend = self.reader.suggestion(&key.name, self.known.iter().copied());
                self.reader.complain(&key.place, what, mend);
                self.reader.hide(node);
            }
        }
    }
}

impl Reader<'_> {
    fn suggestion(&self, word: &str, known: impl Iterator<Item = &'static str> + Clone) -> String {
        match nearest(word, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let known: Vec<String> = known.map(|word| format!("`{word}`")).collect();
                format!("known: {}", known.join(", "))
            }
        }
    }

    /// Complains of a word that is none of those.
    pub(crate) fn unknown(
        &self,
        place: &Place,
        what: &str,
        word: &str,
        known: impl Iterator<Item = &'static str> + Clone,
    ) {
        let mend = self.suggestion(word, known);
        self.complain(place, format!("unknown {what}"), mend);
    }

    /// A text; `name` is the key that it belongs to.
    pub(crate) fn text(&self, name: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                self.complain(&node.place, format!("`{name}` is empty"), "write a value");
                None
            }
            Value::Text(text) => Some(text.clone()),
            Value::Section(entries) => self.resolve(name, node, entries),
            other => {
                let mend = match other {
                    Value::Bool(_) | Value::Integer(_) | Value::Fraction => "put it in quotes",
                    _ => "write one text",
                };
                let what = format!("`{name}` is {}, not a text", other.kind());
                self.complain(&node.place, what, mend);
                None
            }
        }
    }

    pub(crate) fn texts(&self, name: &str, node: &Node) -> Vec<At<String>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if items.is_empty() {
            self.complain(&node.place, format!("`{name}` is an empty list"), "name something");
        }
        let at = |item: &Node| {
            self.text(name, item).map(|value| At { place: item.place.clone(), value })
        };
        items.iter().filter_map(at).collect()
    }

    fn number(&self, name: &str, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let unit = unit(name);
        let number = match &node.value {
            Value::Integer(number) => *number,
            Value::Section(entries) => {
                let text = self.resolve(name, node, entries)?;
                match text.trim().parse() {
                    Ok(number) => number,
                    Err(_) => {
                        let what = format!("what `{name}` leads to is not a whole number");
                        self.complain(&node.place, what, "it must hold digits alone");
                        return None;
                    }
                }
            }
            other => {
                let of = if unit.is_empty() { "" } else { " of" };
                let what = format!("`{name}` is not a whole number{of}{unit}");
                let mend = match other {
                    Value::Text(text) => converted(name, text),
                    _ => None,
                };
                let mend = match mend {
                    None => format!("write a number{of}{unit}, in digits alone"),
                    Some(number) if unit.is_empty() => format!("write {number}, without quotes"),
                    Some(number) => format!("write {number}: the name has the unit"),
                };
                self.complain(&node.place, what, mend);
                return None;
            }
        };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (least, most) = (range.start(), range.end());
                let what = format!("`{name}` is out of its bounds");
                self.complain(&node.place, what, format!("from {least} to {most}{unit}"));
                None
            }
        }
    }

    /// `{ env: NAME }` and `{ file: PATH }`.
    fn resolve(&self, name: &str, node: &Node, entries: &[(Key, Node)]) -> Option<String> {
        let wrong = |place: &Place| {
            self.hide(node);
            self.complain(
                place,
                format!("`{name}` is a section of keys, not a value"),
                "write a value, `{ env: NAME }` or `{ file: PATH }`",
            );
            None
        };
        let [(key, of)] = entries else {
            return match entries.iter().find(|(key, _)| key.name == "aws_secret") {
                Some((key, _)) => {
                    self.complain(
                        &key.place,
                        "`aws_secret`: reading secrets from AWS is not built yet",
                        "use `{ env: NAME }` or `{ file: PATH }`",
                    );
                    None
                }
                None => wrong(&node.place),
            };
        };
        let read = match key.name.as_str() {
            "env" => |secrets: &dyn Secrets, name: &str| secrets.variable(name),
            "file" => |secrets: &dyn Secrets, path: &str| secrets.file(path),
            "aws_secret" => {
                self.complain(
                    &key.place,
                    "`aws_secret`: reading secrets from AWS is not built yet",
                    "use `{ env: NAME }` or `{ file: PATH }`",
                );
                return None;
            }
            _ => return wrong(&key.place),
        };
        let Value::Text(source) = &of.value else {
            let what = format!("`{}` is {}, not a text", key.name, of.value.kind());
            self.complain(&of.place, what, "write a name");
            return None;
        };
        match read(self.secrets, source) {
            Ok(text) if text.trim().is_empty() => {
                let mend = format!("`{name}` needs a value");
                self.leads_nowhere(&of.place, format!("`{source}` is empty"), mend);
                None
            }
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(why) => {
                self.leads_nowhere(&of.place, why, format!("`{name}` is read from there"));
                None
            }
        }
    }
}

/// Whether a section is `{ env: NAME }` or `{ file: PATH }`.
fn is_source(entries: &[(Key, Node)]) -> bool {
    matches!(entries, [(key, _)] if ["env", "file"].contains(&key.name.as_str()))
}

/// The unit that a key's name ends with.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("s") => " seconds",
        Some("ms") => " milliseconds",
        Some("bytes") => " bytes",
        Some("hours") => " hours",
        Some("days") => " days",
        Some("rows") => " rows",
        Some("percent") => " percent",
        _ => "",
    }
}

/// What a number with a unit is in the unit of the key.
fn converted(name: &str, text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "s" | "sec" | "seconds" => 1000,
            "m" | "min" | "minutes" => 60_000,
            "h" | "hours" => 3_600_000,
            "d" | "days" => 86_400_000,
            _ => return None,
        })
    };
    let bytes = |unit: &str| {
        Some(match unit {
            "b" => 1,
            "k" | "kb" => 1000,
            "ki" | "kib" => 1 << 10,
            "m" | "mb" => 1_000_000,
            "mi" | "mib" => 1 << 20,
            "g" | "gb" => 1_000_000_000,
            "gi" | "gib" => 1 << 30,
            _ => return None,
        })
    };
    let given = text[digits..].trim().to_lowercase();
    let (factor, divisor): (u64, u64) = match name.rsplit('_').next() {
        _ if given.is_empty() => (1, 1),
        Some("s") => (milliseconds(&given)?, 1000),
        Some("ms") => (milliseconds(&given)?, 1),
        Some("hours") => (milliseconds(&given)?, 3_600_000),
        Some("days") => (milliseconds(&given)?, 86_400_000),
        Some("bytes") => (bytes(&given)?, 1),
        Some("percent") if given == "%" => (1, 1),
        _ => return None,
    };
    let total = number.checked_mul(factor)?;
    total.is_multiple_of(divisor).then_some(total / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_converted() {
        for (name, text, number) in [
            ("insert_deadline_s", "60s", Some(60)),
            ("insert_deadline_s", "1m", Some(60)),
            ("insert_deadline_s", "1500ms", None),
            ("insert_deadline_s", "60", Some(60)),
            ("max_wait_ms", "1 s", Some(1000)),
            ("max_bytes", "64MiB", Some(67_108_864)),
            ("max_bytes", "64 MB", Some(64_000_000)),
            ("ttl_days", "90d", Some(90)),
            ("retention_hours", "3d", Some(72)),
            ("percent", "10%", Some(10)),
            ("max_rows", "1k", None),
        ] {
            assert_eq!(converted(name, text), number, "{name}: {text}");
        }
    }
}
