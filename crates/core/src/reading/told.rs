//! Told: what the headers of a record say.

use crate::event::ChangeEvent;
use crate::message::{Format, header};
use crate::position::Millis;
use crate::record::Record;
use crate::rows::{Namespace, Rejection};

use super::rejected;

/// What the headers say, where there are any.
#[derive(Debug, Default)]
pub(super) struct Told<'r> {
    pub(super) format: Option<Format>,
    pub(super) op: Option<&'r str>,
    namespace: Option<&'r str>,
    pub(super) version: Option<u128>,
    pub(super) ts: Option<Millis>,
    /// The value is the document.
    pub(super) is_document: bool,
    /// The document key as BSON.
    pub(super) key: Option<&'r [u8]>,
    has_no_row: bool,
    was_not_looked_up: bool,
}

impl<'r> Told<'r> {
    /// # Errors
    /// When a header has no value that Tailwater writes.
    pub(super) fn of(record: &'r Record) -> Result<Self, Rejection> {
        if record.headers.is_empty() {
            return Ok(Self::default());
        }
        let text = |name| match record.header(name).map(str::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(wrong(name)),
        };
        let format = text(header::FORMAT)?.map(|name| {
            let known = Format::of_name(name.as_bytes());
            known.ok_or_else(|| {
                rejected(
                    "unknown_format",
                    "the header `tw-format` names no format of change events",
                )
            })
        });
        let is = |name, expected| Ok::<_, Rejection>(text(name)? == Some(expected));
        Ok(Self {
            format: format.transpose()?,
            op: text(header::OP)?,
            namespace: text(header::NS)?,
            version: number(header::VERSION, text(header::VERSION)?)?,
            ts: number(header::TS, text(header::TS)?)?.map(Millis),
            is_document: is(header::VALUE, header::DOCUMENT)?,
            key: record.header(header::KEY),
            has_no_row: is(header::ROW, header::NO)?,
            was_not_looked_up: is(header::LOOKUP, header::NO)?,
        })
    }

    /// Whether Tailwater wrote the record. No other program says the version.
    pub(super) const fn is_ours(&self) -> bool {
        self.version.is_some()
    }

    pub(super) fn namespace(&self) -> Option<Namespace> {
        // Names of databases have no dots.
        let (db, coll) = self.namespace.map(|ns| ns.split_once('.').unwrap_or((ns, "")))?;
        Some(Namespace { db: db.to_owned(), coll: coll.to_owned() })
    }

    /// The event with what else is told of it.
    pub(super) fn mark(&self, mut event: ChangeEvent) -> ChangeEvent {
        if self.has_no_row {
            event = event.unlisted();
        }
        if self.was_not_looked_up {
            event = event.not_looked_up();
        }
        if self.format.is_some_and(|format| !format.is_lossless()) {
            event = event.untyped();
        }
        if !self.is_ours() {
            event = event.in_one_lane();
        }
        event
    }
}

fn number<T: std::str::FromStr>(
    name: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, Rejection> {
    text.map(|text| text.parse().map_err(|_| wrong(name))).transpose()
}

fn wrong(name: &str) -> Rejection {
    rejected("bad_header", format!("the header `{name}` has no value that Tailwater writes"))
}
