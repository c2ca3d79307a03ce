//! Read: the sections of a mapping file become entries. Everything that is wrong is told.

use std::hash::Hasher;

use regex_lite::RegexBuilder;

use super::entry::{Attrs, Content, Entry, EventType, Name, Output, Paths};
use super::expression::{self, Literal, Node};
use super::parse::{self, Mistake};
use super::pseudonym::Pseudonyms;
use super::trie::Slot;
use super::{DEFAULT_MAX_LABEL_CARDINALITY, Unmapped};
use crate::config::section::{At, Reader, Section};
use crate::config::tree::{self, Place, Value};
use crate::exclude::Path;
use crate::scope;

/// What a file says, as far as it is sound.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) unmapped: Unmapped,
    pub(super) max_label_cardinality: u64,
    pub(super) warnings: Vec<String>,
    /// Tells one `hash_key` from another.
    pub(super) key_check: Vec<u8>,
}

/// The fields of a change event that a path may begin with; any other name is one of the document.
const ROOTS: [&str; 8] = [
    "fullDocument",
    "fullDocumentBeforeChange",
    "documentKey",
    "updateDescription",
    "operationType",
    "clusterTime",
    "wallTime",
    "ns",
];

const UNMAPPED: [(&str, Unmapped); 3] =
    [("keep", Unmapped::Keep), ("drop", Unmapped::Drop), ("reject", Unmapped::Reject)];

pub(super) fn read(mut root: Section<'_>, text: &str, reader: &Reader<'_>) -> Found {
    let mut unmapped = Unmapped::Keep;
    let mut max_label_cardinality = DEFAULT_MAX_LABEL_CARDINALITY;
    let mut hash_pii = true;
    let mut key = None;
    if let Some(mut defaults) = root.section("defaults") {
        hash_pii = defaults.flag("hash_pii").is_none_or(|at| at.value);
        key = defaults.secret("hash_key").map(|at| at.value);
        if let Some(at) = defaults.number("max_label_cardinality", 1..=u64::MAX) {
            max_label_cardinality = at.value;
        }
        if let Some(at) = defaults.choice("unmapped", &UNMAPPED) {
            unmapped = at.value;
        }
        defaults.end();
    }
    let pseudonyms = Pseudonyms::new(key.as_ref());
    let key_check = match &key {
        Some(_) => pseudonyms.digest(b"tailwater mapping").to_vec(),
        None => Vec::new(),
    };
    let mut entries = Vec::new();
    match root.given("mappings") {
        Some((_, tree::Node { value: Value::List(items), .. })) => {
            for (index, item) in items.iter().enumerate() {
                let name = format!("entry {} of `mappings`", index + 1);
                let start = item.place.start;
                let section = Section::of(name, start..start, item, reader);
                let pseudonyms = hash_pii.then(|| pseudonyms.clone());
                entries.extend(read_entry(section, text, pseudonyms, reader));
            }
        }
        Some((key, _)) => {
            reader.complain(&key.place, "`mappings` is no list", "write `- match: …` lines");
        }
        None => root.lacks("mappings", "mappings: [ … ]"),
    }
    root.end();
    let mut warnings = Vec::new();
    if hash_pii && key.is_none() && entries.iter().any(|entry: &Entry| !entry.pii.is_empty()) {
        warnings.push(
            "`pii` fields are hashed without `hash_key`: who can guess a value can check the guess"
                .to_owned(),
        );
    }
    Found { entries, unmapped, max_label_cardinality, warnings, key_check }
}

fn read_entry(
    mut section: Section<'_>,
    text: &str,
    pseudonyms: Option<Pseudonyms>,
    reader: &Reader<'_>,
) -> Option<Entry> {
    let names = read_match(&mut section, reader);
    let drops = read_hidden("drops", &mut section, reader);
    let pii = read_hidden("pii", &mut section, reader);
    let mut compiler = Compiler { text, reader, drops: &drops, asked: Vec::new() };
    let event_type = section.section("event_type_override").and_then(|mut section| {
        for (name, example) in [
            ("when", "when: \"$eq(fullDocument.status, 'arrived')\""),
            ("value", "value: file_arrived"),
        ] {
            if section.is_absent(name) {
                section.lacks(name, example);
            }
        }
        let when = section.text("when").and_then(|at| compiler.expression(&at));
        let value = section.text("value").and_then(|at| compiler.text_or_expression(at));
        let otherwise = section.text("else").map(|at| compiler.text_or_expression(at));
        section.end();
        Some(EventType { when: when?, value: value?, otherwise: otherwise.flatten() })
    });
    let tags = section.given("tags").map(|(_, node)| compiler.outputs("tag", "tags", node));
    let tags = tags.unwrap_or_default();
    let listed = section.given("attrs").map(|(_, node)| compiler.outputs("attr", "attrs", node));
    let all_but = listed.is_none().then(|| {
        let top = |output: &Output| match output.content {
            Content::Value(Node::Slot(_), _) => Some(output.name.clone()),
            _ => None,
        };
        tags.iter().filter_map(top).collect()
    });
    let mut listed = listed.unwrap_or_default();
    if let Some((_, node)) = section.given("computed") {
        compiler.output_list("computed attr", "computed", node, &mut listed);
    }
    let ts = section.text("ts").and_then(|at| compiler.expression(&at));
    let paths = compiler.paths();
    let raw = section.flag("raw").is_some_and(|at| at.value);
    section.end();
    let (db, coll) = names?;
    let attrs = Attrs { all_but, listed };
    Some(Entry { db, coll, drops, pii, pseudonyms, paths, event_type, tags, attrs, ts, raw })
}

fn read_match(section: &mut Section<'_>, reader: &Reader<'_>) -> Option<(Name, Name)> {
    const EXAMPLE: &str = "match: { ns.db: ingest, ns.coll: files }";
    let Some(mut of) = section.section("match") else {
        if section.is_absent("match") {
            section.lacks("match", EXAMPLE);
        }
        return None;
    };
    let (db, coll) = (of.text("ns.db"), of.text("ns.coll"));
    if of.is_absent("ns.db") && of.is_absent("ns.coll") {
        of.lacks("ns.db", EXAMPLE);
    }
    of.end();
    let name = |at: Option<At<String>>| match at {
        None => Some(Name::Any),
        Some(at) => read_name(at, reader),
    };
    name(db).zip(name(coll))
}

fn read_name(At { place, value }: At<String>, reader: &Reader<'_>) -> Option<Name> {
    let pattern = value.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    let Some((pattern, options)) = pattern else {
        return Some(match scope::is_pattern(&value) {
            true => Name::Glob(value),
            false => Name::Exact(value),
        });
    };
    if !matches!(options, "" | "i") {
        let mend = "only `i`, for letters of either case, can follow";
        reader.complain(&place, "a regular expression ends with `/`", mend);
        return None;
    }
    match RegexBuilder::new(pattern).case_insensitive(options == "i").build() {
        Ok(regex) => Some(Name::Regex(regex)),
        Err(error) => {
            let what = format!("this is no regular expression: {error}");
            reader.complain(&place, what, "a glob has no slashes: `job_*`");
            None
        }
    }
}

/// The paths of `drops` or `pii`.
fn read_hidden(name: &'static str, section: &mut Section<'_>, reader: &Reader<'_>) -> Vec<Path> {
    let mut paths = Vec::new();
    for At { place, value } in section.texts(name).into_iter().flat_map(|at| at.value) {
        match parse::names(&value) {
            None => not_a_path(&place, reader),
            Some(path) if *path[0] == *b"_id" => reader.complain(
                &place,
                format!("`_id` cannot be in `{name}`: rows are told by it"),
                "remove it from the list",
            ),
            Some(path)
                if ROOTS.iter().any(|root| *path[0] == *root.as_bytes()) && path.len() > 1 =>
            {
                reader.complain(
                    &place,
                    format!("`{name}` names fields of the document"),
                    "write the name alone, without `fullDocument.` or the like",
                );
            }
            Some(path) => paths.push(path),
        }
    }
    paths
}

fn not_a_path(place: &Place, reader: &Reader<'_>) {
    reader.complain(place, "this is no path of a field", "write names with dots between: `a.b`");
}

/// Where a path begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the change event.
    Event,
    /// At the document, in whichever image the event has.
    Image,
}

/// Compiles the expressions of one entry, which share their slots.
struct Compiler<'r> {
    text: &'r str,
    reader: &'r Reader<'r>,
    drops: &'r [Path],
    /// What each slot is asked for.
    asked: Vec<(Start, Path)>,
}

impl Compiler<'_> {
    /// The two tries of all that was asked for.
    fn paths(self) -> Paths {
        let count = self.asked.len();
        let mut paths = Paths { count, ..Paths::default() };
        for (slot, (start, path)) in self.asked.into_iter().enumerate() {
            let below = |root: &str| [&[root.as_bytes().into()], path.as_slice()].concat();
            match start {
                Start::Event => {
                    paths.of_images.add(&path, Slot(slot));
                    paths.of_deletes.add(&path, Slot(slot));
                }
                Start::Image => {
                    paths.of_images.add(&below("fullDocument"), Slot(slot));
                    paths.of_deletes.add(&below("fullDocumentBeforeChange"), Slot(slot));
                    paths.of_deletes.add(&below("documentKey"), Slot(count + slot));
                }
            }
        }
        paths
    }

    fn slot(&mut self, start: Start, path: Path, place: &Place) -> Result<Slot, Mistake> {
        let of_document = match (start, path.split_first()) {
            (Start::Image, _) => Some(path.as_slice()),
            (Start::Event, Some((root, rest))) if root.starts_with(b"fullDocument") => Some(rest),
            _ => None,
        };
        let dropped =
            |document: &[Box<[u8]>]| self.drops.iter().any(|dropped| document.starts_with(dropped));
        if of_document.is_some_and(dropped) {
            let what = "this field is in `drops`, so it would never be there";
            return Err(Mistake::new(place.clone(), what, "remove it here or there"));
        }
        let asked = (start, path);
        let known = self.asked.iter().position(|other| *other == asked);
        Ok(Slot(known.unwrap_or_else(|| {
            self.asked.push(asked);
            self.asked.len() - 1
        })))
    }

    /// The slot of a path as an expression writes it.
    fn slot_of_text(&mut self, text: &str, place: &Place) -> Result<Slot, Mistake> {
        let Some(path) = parse::names(text) else {
            let mend = "write names with dots between: `a.b`";
            return Err(Mistake::new(place.clone(), "this is no path of a field", mend));
        };
        let first = String::from_utf8_lossy(&path[0]).into_owned();
        if ROOTS.contains(&first.as_str()) {
            return self.slot(Start::Event, path, place);
        }
        let near = |root: &&str| {
            root.len() > 2
                && strsim::damerau_levenshtein(&root.to_lowercase(), &first.to_lowercase()) <= 2
        };
        if let Some(near) = ROOTS.iter().find(|root| near(root)) {
            let place = place.start..place.start + first.len().min(place.len());
            let what = format!("`{first}` is no field of a change event");
            let mend = format!(
                "did you mean `{near}`? A field of the document with this name: `fullDocument.{first}`"
            );
            return Err(Mistake::new(place, what, mend));
        }
        self.slot(Start::Image, path, place)
    }

    fn expression(&mut self, at: &At<String>) -> Option<Node> {
        let compiled = parse::parse(&at.value).and_then(|ast| {
            expression::compile(ast, &mut |text, place| self.slot_of_text(text, place))
        });
        match compiled {
            Ok((node, _)) => Some(node),
            Err(mistake) => {
                self.complain(at, mistake);
                None
            }
        }
    }

    /// Tells a mistake in an expression where it is in the file, as far as the text stands there as
    /// it is.
    fn complain(
        &self,
        At { place, value }: &At<String>,
        Mistake { place: of, what, mend }: Mistake,
    ) {
        let quote = self.text[place.clone()].chars().next().filter(|c| ['"', '\''].contains(c));
        let start = place.start + quote.map_or(0, char::len_utf8);
        // YAML writes a single quote within single quotes twice.
        let (doubled, quotes) = match quote {
            Some('\'') => (value.replace('\'', "''"), '\''),
            _ => (value.clone(), '\0'),
        };
        let byte = |at: usize| start + at + value[..at].matches(quotes).count();
        let verbatim = self.text.get(start..).is_some_and(|rest| rest.starts_with(&doubled));
        let at = if verbatim { byte(of.start)..byte(of.end) } else { place.clone() };
        self.reader.complain(&at, what, mend);
    }

    /// A text as it is, or an expression, which begins with `$`.
    fn text_or_expression(&mut self, at: At<String>) -> Option<Node> {
        match at.value.starts_with('$') {
            true => self.expression(&at),
            false => Some(Node::Literal(Literal::Text(at.value.into_bytes().into()))),
        }
    }

    fn outputs(&mut self, what: &str, list: &str, node: &tree::Node) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.output_list(what, list, node, &mut outputs);
        outputs
    }

    /// A list of names, and of `name: expression`.
    fn output_list(&mut self, what: &str, list: &str, node: &tree::Node, out: &mut Vec<Output>) {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for item in items {
            let Value::Section(entries) = &item.value else {
                let Some(name) = self.reader.text(list, item) else { continue };
                let at = At { place: item.place.clone(), value: name };
                if at.value.starts_with('$') {
                    let mend = format!("write `name: \"{}\"`", at.value);
                    self.reader.complain(&at.place, "an expression needs a name here", mend);
                    continue;
                }
                let Some(path) = parse::names(&at.value) else {
                    not_a_path(&at.place, self.reader);
                    continue;
                };
                if list == "computed" {
                    let mend = "write `name: \"$expression\"`, or put it under `attrs`";
                    self.reader.complain(&at.place, "nothing is computed here", mend);
                    continue;
                }
                let start = Start::Image;
                match self.slot(start, path.clone(), &(0..at.value.len())) {
                    Ok(slot) => self.output(what, path, Node::Slot(slot), &at, out),
                    Err(mistake) => self.complain(&at, mistake),
                }
                continue;
            };
            for (key, node) in entries {
                let at = At { place: key.place.clone(), value: key.name.clone() };
                let Some(path) = parse::names(&at.value) else {
                    not_a_path(&at.place, self.reader);
                    continue;
                };
                let Some(value) = self.reader.text(&key.name, node) else { continue };
                let expression = At { place: node.place.clone(), value };
                if let Some(node) = self.expression(&expression) {
                    self.output(what, path, node, &at, out);
                }
            }
        }
    }

    fn output(&self, what: &str, path: Path, node: Node, at: &At<String>, out: &mut Vec<Output>) {
        let content = Content::Value(node, format!("{what} `{}`", at.value));
        if insert(out, &path, content).is_none() {
            let what = format!("`{}` is there already, or a part of it is", at.value);
            self.reader.complain(&at.place, what, "remove one of them");
        }
    }
}

/// Puts a value under its path; none where there is one, or a part of one.
fn insert(outputs: &mut Vec<Output>, path: &[Box<[u8]>], content: Content) -> Option<()> {
    let (name, rest) = path.split_first()?;
    let at = outputs.iter().position(|output| output.name == *name);
    match (at, rest) {
        (None, []) => outputs.push(Output { name: name.clone(), content }),
        (None, _) => {
            let mut below = Vec::new();
            insert(&mut below, rest, content)?;
            outputs.push(Output { name: name.clone(), content: Content::Fields(below) });
        }
        (Some(at), _) => match &mut outputs[at].content {
            Content::Fields(below) if !rest.is_empty() => insert(below, rest, content)?,
            _ => return None,
        },
    }
    Some(())
}

/// Hashes what a file says: order of keys, layout and comments say nothing. `skip` is the path of a
/// value that is left out.
pub(super) fn canonical(node: &tree::Node, skip: &[&str], hash: &mut impl Hasher) {
    let text = |hash: &mut dyn Hasher, text: &str| {
        hash.write(&(text.len() as u64).to_le_bytes());
        hash.write(text.as_bytes());
    };
    match &node.value {
        Value::Null | Value::Fraction => hash.write(b"0"),
        Value::Bool(value) => hash.write(if *value { b"t" } else { b"f" }),
        Value::Integer(number) => {
            hash.write(b"i");
            hash.write(&number.to_le_bytes());
        }
        Value::Text(value) => {
            hash.write(b"s");
            text(hash, value);
        }
        Value::List(items) => {
            hash.write(b"[");
            for item in items {
                canonical(item, &[], hash);
            }
            hash.write(b"]");
        }
        Value::Section(entries) => {
            let skips = |name: &str| match skip.split_first() {
                Some((first, rest)) if *first == name => Some(rest),
                _ => None,
            };
            let mut entries: Vec<_> = entries
                .iter()
                .filter(|(key, node)| {
                    !matches!(node.value, Value::Null) && skips(&key.name) != Some(&[])
                })
                .collect();
            entries.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
            hash.write(b"{");
            for (key, node) in entries {
                text(hash, &key.name);
                canonical(node, skips(&key.name).unwrap_or_default(), hash);
            }
            hash.write(b"}");
        }
    }
}
