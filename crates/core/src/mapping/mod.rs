//! Mapping: what of an event becomes its tags and attributes, its type and its time, and what of it
//! nobody may see.
//!
//! ```text
//!   file ─▶ entries (paths in a trie, expressions compiled)
//!   event ─▶ first entry that matches ─▶ drops and pii ─▶ one walk ─▶ expressions ─▶ Normalized
//! ```
//!
//! Pure: the same file and the same event always give the same. Whatever the event is, it must not
//! panic, and no message may hold a value of a document. `docs/mapping.md` is the user's view.

mod entry;
mod expression;
mod operators;
mod order;
mod parse;
mod pseudonym;
mod read;
mod trie;
mod value;

pub(crate) use self::entry::scalars;

use std::hash::Hasher as _;

use twox_hash::XxHash64;

use self::entry::Entry;
use crate::bson::{BsonError, Doc, Value, write};
use crate::config::Secrets;
use crate::config::section::{Reader, Section};
use crate::config::tree::Place;
use crate::config::{problem, tree};
use crate::event::ChangeEvent;
use crate::exclude;
use crate::position::Millis;
use crate::rows::Rejection;
use crate::{Error, ErrorKind, Result};

/// As many values of a tag are plenty for a label, and few for an identifier.
pub const DEFAULT_MAX_LABEL_CARDINALITY: u64 = 100_000;

/// Why an event is rejected that no entry matches, under `unmapped: reject`.
const UNMAPPED: &str = "unmapped";

/// A mapping file, compiled.
#[derive(Debug)]
pub struct Mapping {
    entries: Vec<Entry>,
    unmapped: Unmapped,
    max_label_cardinality: u64,
    hash: String,
    warnings: Vec<String>,
}

/// What becomes of events of collections that no entry matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unmapped {
    Keep,
    Drop,
    Reject,
}

/// An event after the mapping.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// The event without what is dropped and with pseudonyms for what is personal. Everything that is
    /// written of the event must be written of this one, the current state and dead letters too.
    pub event: ChangeEvent,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its row is what it is without a mapping: nothing matches it, or it concerns no document.
    Unmapped,
    /// It has no row, by rule. It must be counted.
    Dropped,
    /// Its row is made of this.
    Normalized(Normalized),
    /// It is a dead letter.
    Rejected(Rejection),
}

/// What the mapping says of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalized {
    /// The row's time.
    pub ts: Millis,
    /// The type of the event.
    pub event_type: String,
    /// The tags.
    pub tags: Fields,
    /// The attributes.
    pub attrs: Fields,
    /// Whether the row keeps the change event.
    pub keep_raw: bool,
}

/// The fields of `tags` or `attrs`: a small BSON document without nulls at its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// The document of the elements that `fill` appends.
    pub(crate) fn filled<E>(fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        // Room for a few, so that it need not grow step by step.
        let mut bytes = Vec::with_capacity(256);
        write::document(&mut bytes, fill)?;
        Ok(Self(bytes))
    }

    /// The document of these elements, which follow each other.
    pub(crate) fn of_elements(elements: &[u8]) -> Self {
        Self(write::made(|out| out.extend_from_slice(elements)))
    }

    /// The fields of a document.
    ///
    /// # Errors
    /// When it is not BSON.
    pub(crate) fn without_nulls(doc: Doc<'_>) -> Result<Self, BsonError> {
        Self::filled(|out| {
            exclude::each(doc, |element, raw| {
                if !matches!(element.value, Value::Null | Value::Undefined) {
                    out.extend_from_slice(raw);
                }
                Ok(())
            })
        })
    }

    /// The fields as a document.
    pub fn document(&self) -> Doc<'_> {
        // Its frame was made here.
        Doc::new(&self.0).unwrap_or(Doc::EMPTY)
    }

    /// What they hold in memory.
    pub(crate) const fn held(&self) -> usize {
        self.0.capacity()
    }
}

impl Mapping {
    /// Reads a file's text; `file` is its name for messages.
    ///
    /// # Errors
    /// `Config`, with all that is wrong, each with line and caret.
    pub fn read(file: &str, text: &str, secrets: &dyn Secrets) -> Result<Self> {
        let failed = |problems, hidden: &[Place]| {
            let all = problem::render(file, text, problems, hidden);
            Error::new(ErrorKind::Config, all).with_hint("docs/mapping.md lists every key")
        };
        let root = tree::parse(text).map_err(|problem| failed(vec![problem], &[]))?;
        let reader = Reader::new(secrets);
        let found = read::read(Section::root(&root, &reader), text, &reader);
        let problems = reader.problems.take();
        if !problems.is_empty() {
            return Err(failed(problems, &reader.hidden.take()));
        }
        let mut hash = XxHash64::with_seed(0);
        // Another version of the language would be another mapping.
        hash.write(b"mapping 1");
        read::canonical(&root, &["defaults", "hash_key"], &mut hash);
        hash.write(&found.key_check);
        let hash = format!("{:016x}", hash.finish());
        let read::Found { entries, unmapped, max_label_cardinality, warnings, .. } = found;
        Ok(Self { entries, unmapped, max_label_cardinality, hash, warnings })
    }

    /// By what the mapping is known, 16 hex digits: the same for the same content, however it is laid
    /// out, and another one for another `hash_key`.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How many values a tag may have before it becomes an attribute.
    pub const fn max_label_cardinality(&self) -> u64 {
        self.max_label_cardinality
    }

    /// What the file's author should know, though the file is sound.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Maps an event.
    ///
    /// Events that concern no document, such as drops, are none of the mapping's business.
    ///
    /// # Errors
    /// `Refused` when the event is not BSON.
    pub fn apply(&self, event: &ChangeEvent) -> Result<Mapped> {
        let mapped = |outcome| Mapped { event: event.clone(), outcome };
        if event.document_key().is_none() {
            return Ok(mapped(Outcome::Unmapped));
        }
        let matches =
            |entry: &&Entry| entry.db.matches(event.db()) && entry.coll.matches(event.coll());
        let Some(entry) = self.entries.iter().find(matches) else {
            return Ok(mapped(match self.unmapped {
                Unmapped::Keep => Outcome::Unmapped,
                Unmapped::Drop => Outcome::Dropped,
                Unmapped::Reject => {
                    let db = String::from_utf8_lossy(event.db());
                    let coll = String::from_utf8_lossy(event.coll());
                    let error = format!("no entry of the mapping matches `{db}.{coll}`");
                    Outcome::Rejected(Rejection { reason: UNMAPPED, error })
                }
            }));
        };
        let event = entry.redact(event)?;
        let outcome = match entry.normalize(&event)? {
            Ok(normalized) => Outcome::Normalized(normalized),
            Err(rejection) => Outcome::Rejected(rejection),
        };
        Ok(Mapped { event, outcome })
    }
}

fn malformed(error: BsonError) -> Error {
    Error::new(ErrorKind::Refused, "cannot map a change event: it is not BSON").with_source(error)
}
