//! Entry: what one entry of `mappings` makes of an event.

use std::borrow::Cow;
use std::collections::HashSet;

use regex_lite::Regex;

use super::expression::{Fault, Node};
use super::pseudonym::Pseudonyms;
use super::trie::{Slots, Trie};
use super::value::Term;
use super::{Fields, Normalized};
use crate::bson::{BsonError, Doc, Value, write};
use crate::event::ChangeEvent;
use crate::exclude::{self, Act, Path, Rest};
use crate::json_column::{self, DATE_TIME64};
use crate::position::Millis;
use crate::rows::Rejection;
use crate::{Result, scope};

/// What an expression that an event cannot be run through is called in the dead letters.
const REASON: &str = "expression";

/// One entry, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) db: Name,
    pub(super) coll: Name,
    pub(super) drops: Vec<Path>,
    pub(super) pii: Vec<Path>,
    /// What becomes of `pii`; `None`: it is dropped.
    pub(super) pseudonyms: Option<Pseudonyms>,
    pub(super) paths: Paths,
    pub(super) event_type: Option<EventType>,
    pub(super) tags: Vec<Output>,
    pub(super) attrs: Attrs,
    pub(super) ts: Option<Node>,
    pub(super) raw: bool,
}

/// Which names of databases or collections an entry is for.
#[derive(Debug)]
pub(super) enum Name {
    Any,
    Exact(String),
    Glob(String),
    Regex(Regex),
}

impl Name {
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_bytes() == name,
            Self::Glob(glob) => scope::matches(glob, &String::from_utf8_lossy(name)),
            Self::Regex(regex) => regex.is_match(&String::from_utf8_lossy(name)),
        }
    }
}

/// The paths of all expressions, and where a bare name leads to.
///
/// There are two slots a path: that of the event or its image, and that of the document key, which
/// is looked into for deletes whose pre-image has no such path.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) count: usize,
    /// For all events but deletes.
    pub(super) of_images: Trie,
    pub(super) of_deletes: Trie,
}

impl Paths {
    fn slots<'a>(&self, event: &'a ChangeEvent) -> Result<Slots<'a>, BsonError> {
        let mut slots = Slots::new();
        if !is_delete(event) {
            slots.resize(self.count, Term::Missing);
            self.of_images.walk(event.document()?, &mut slots)?;
            return Ok(slots);
        }
        slots.resize(2 * self.count, Term::Missing);
        self.of_deletes.walk(event.document()?, &mut slots)?;
        let keys = slots.split_off(self.count);
        for (slot, key) in slots.iter_mut().zip(keys) {
            if matches!(slot, Term::Missing) {
                *slot = key;
            }
        }
        Ok(slots)
    }
}

fn is_delete(event: &ChangeEvent) -> bool {
    event.operation_type() == b"delete"
}

/// `event_type_override`.
#[derive(Debug)]
pub(super) struct EventType {
    pub(super) when: Node,
    pub(super) value: Node,
    pub(super) otherwise: Option<Node>,
}

/// A field of `tags` or `attrs`.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: Box<[u8]>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// A value, and what it is called in messages.
    Value(Node, String),
    /// Fields below it.
    Fields(Vec<Output>),
}

/// What `attrs` holds.
#[derive(Debug)]
pub(super) struct Attrs {
    /// Nothing was listed: all scalars at the top of the document, but `_id` and these.
    pub(super) all_but: Option<Vec<Box<[u8]>>>,
    pub(super) listed: Vec<Output>,
}

impl Entry {
    /// The event without what is dropped, and with pseudonyms.
    ///
    /// # Errors
    /// As `ChangeEvent::index`.
    pub(super) fn redact(&self, event: &ChangeEvent) -> Result<ChangeEvent> {
        if self.drops.is_empty() && self.pii.is_empty() {
            return Ok(event.clone());
        }
        let hide = |value: &Value<'_>, out: &mut Vec<u8>| match &self.pseudonyms {
            Some(pseudonyms) => pseudonyms.write(value, out),
            None => Ok(()),
        };
        let of_pii = if self.pseudonyms.is_some() { Act::Hide(&hide) } else { Act::Remove };
        let drops = self.drops.iter().map(|names| Rest { names, act: Act::Remove });
        let pii = self.pii.iter().map(|names| Rest { names, act: of_pii });
        let paths: Vec<Rest<'_>> = drops.chain(pii).collect();
        let rewritten = event.document().and_then(|document| exclude::rewrite(document, &paths));
        event.rewritten(rewritten.map_err(super::malformed)?)
    }

    /// What the event, redacted already, becomes.
    ///
    /// # Errors
    /// `Refused` when it is not BSON.
    pub(super) fn normalize(&self, event: &ChangeEvent) -> Result<Result<Normalized, Rejection>> {
        let slots = self.paths.slots(event).map_err(super::malformed)?;
        let all = match &self.attrs.all_but {
            None => Vec::new(),
            Some(names) => scalars(event, names).map_err(super::malformed)?,
        };
        Ok(self.computed(event, &slots, all).map_err(|Fault(error)| {
            let db = String::from_utf8_lossy(event.db());
            let coll = String::from_utf8_lossy(event.coll());
            let error = format!("cannot map an event of `{db}.{coll}`: {error}");
            Rejection { reason: REASON, error }
        }))
    }

    fn computed<'a>(
        &'a self,
        event: &ChangeEvent,
        slots: &'a Slots<'a>,
        all: Vec<u8>,
    ) -> Result<Normalized, Fault> {
        let event_type = match &self.event_type {
            Some(event_type) => event_type.of(slots)?,
            None => None,
        };
        let tags = Fields::filled(|out| fields(&self.tags, slots, out))?;
        let attrs = Fields::filled(|out| {
            out.extend_from_slice(&all);
            fields(&self.attrs.listed, slots, out)
        })?;
        let ts = match &self.ts {
            Some(node) => node.eval(slots).map_err(|fault| fault.within("`ts`"))?,
            None => Term::Missing,
        };
        let ts = match ts.value() {
            Some(Value::DateTime(millis)) if DATE_TIME64.contains(&millis) => Millis(millis),
            _ => event.ts(),
        };
        let operation = || String::from_utf8_lossy(event.operation_type()).into_owned();
        Ok(Normalized {
            ts,
            event_type: event_type.unwrap_or_else(operation),
            tags,
            attrs,
            keep_raw: self.raw,
        })
    }
}

impl Fault {
    fn within(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl EventType {
    fn of<'a>(&'a self, slots: &'a Slots<'a>) -> Result<Option<String>, Fault> {
        let within = |fault: Fault| fault.within("`event_type_override`");
        let node = match self.when.eval(slots).map_err(within)?.is_true() {
            true => Some(&self.value),
            false => self.otherwise.as_ref(),
        };
        let Some(node) = node else { return Ok(None) };
        let term = node.eval(slots).map_err(within)?;
        match term.value() {
            _ if term.is_nothing() => Ok(None),
            Some(Value::String(text)) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
            _ => {
                let kind = term.type_name();
                Err(within(Fault(format!("an event type is a string, not {kind}"))))
            }
        }
    }
}

/// Appends the fields that have a value: nulls are absent, as in the columns.
fn fields<'a>(outputs: &'a [Output], slots: &'a Slots<'a>, out: &mut Vec<u8>) -> Result<(), Fault> {
    for Output { name, content } in outputs {
        match content {
            Content::Value(node, label) => {
                let term = node.eval(slots).map_err(|fault| fault.within(label))?;
                if let Some(value) = term.value().filter(|_| !term.is_nothing()) {
                    write::element(name, &value, out);
                }
            }
            Content::Fields(below) => {
                let inner = Fields::filled(|out| fields(below, slots, out))?;
                if !inner.document().is_empty() {
                    write::element(name, &Value::Document(inner.document()), out);
                }
            }
        }
    }
    Ok(())
}

/// The fields of the document, as in a row without a mapping, but those names.
pub(crate) fn scalars(event: &ChangeEvent, but: &[Box<[u8]>]) -> Result<Vec<u8>, BsonError> {
    let image = if is_delete(event) { event.before() } else { event.full_document() };
    let mut elements = Vec::new();
    exclude::each(image.unwrap_or(Doc::EMPTY), |element, raw| {
        elements.push((element, raw));
        Ok::<(), BsonError>(())
    })?;
    // Of equal names the last wins, also when it is one that is not kept.
    let mut names = HashSet::with_capacity(elements.len());
    elements.reverse();
    elements.retain(|(element, _)| names.insert(name_in_column(element.key)));
    let mut out = Vec::new();
    for (element, raw) in elements.into_iter().rev() {
        let kept = !matches!(
            element.value,
            Value::Document(_) | Value::Array(_) | Value::Null | Value::Undefined
        );
        if kept && element.key != b"_id" && !but.iter().any(|name| **name == *element.key) {
            out.extend_from_slice(raw);
        }
    }
    Ok(out)
}

/// The name that a field has in a JSON column.
fn name_in_column(key: &[u8]) -> Cow<'_, [u8]> {
    match key.is_ascii() && !key.contains(&b'.') {
        true => Cow::Borrowed(key),
        false => Cow::Owned(json_column::escape(key).into()),
    }
}
