//! Item: an entry whose fate is known: which tables have a row of it, and what stands in them.

use std::hash::Hasher as _;

use twox_hash::XxHash64;

use crate::event::ChangeEvent;
use crate::mapping::{Mapping, Normalized, Outcome};
use crate::normalized::NormalizedEvent;
use crate::position::{LaneId, Millis, Seq};
use crate::{Result, doc_id};

use super::entry::{Content, Entry, Rejected};
use super::records::Record;
use super::{Append, Identity, Layout, RecordsFrom, Rejection, malformed};

/// An entry whose fate is known.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) seq: Seq,
    what: What,
}

#[derive(Debug)]
enum What {
    /// An event as it may be seen, and what becomes of it in the event table.
    Event(ChangeEvent, Fate),
    Normalized(Box<NormalizedEvent>),
    Rejected(Rejected),
    Nothing,
}

/// What becomes of an event in the event table.
#[derive(Debug)]
enum Fate {
    /// A row of the event as it is.
    AsItIs,
    /// A row of what the mapping made of it.
    Mapped(Box<Normalized>),
    /// A dead letter.
    Rejected(Rejection),
    /// Nothing, by a rule of the mapping.
    Dropped,
    /// Its row comes through the normalized topic.
    Elsewhere,
}

/// By what a row's event is known, in every table that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) db: &'a [u8],
    pub(super) coll: &'a [u8],
    pub(super) doc_id: &'a [u8],
    pub(super) op: &'a [u8],
    /// 0 where there is none.
    pub(super) version: u128,
}

impl Subject<'_> {
    /// As `table::IDENTITY` has it in SQL. What has no version is known by its place alone.
    pub(super) fn identity(&self, lane: &LaneId, seq: Seq) -> Identity {
        let mut hash = XxHash64::with_seed(0);
        let mut put = |part: &[u8]| {
            hash.write(part);
            hash.write_u8(0);
        };
        if self.version == 0 {
            put(b"at");
            put(lane.topic().as_bytes());
            put(lane.partition().to_string().as_bytes());
            hash.write(seq.to_string().as_bytes());
        } else {
            put(self.db);
            put(self.coll);
            put(self.doc_id);
            put(self.op);
            hash.write(self.version.to_string().as_bytes());
        }
        Identity(hash.finish())
    }
}

impl Item {
    /// Applies the mapping. What it hides is gone from here on.
    ///
    /// # Errors
    /// As `Mapping::apply`.
    pub(super) fn of(entry: Entry, layout: &Layout, mapping: Option<&Mapping>) -> Result<Self> {
        let what = match entry.content {
            Content::Event(event) => {
                let (event, fate) = match mapping {
                    None => (event, Fate::AsItIs),
                    Some(mapping) => {
                        let mapped = mapping.apply(&event)?;
                        let fate = match mapped.outcome {
                            Outcome::Unmapped => Fate::AsItIs,
                            Outcome::Dropped => Fate::Dropped,
                            Outcome::Normalized(normalized) => Fate::Mapped(Box::new(normalized)),
                            Outcome::Rejected(rejection) => Fate::Rejected(rejection),
                        };
                        (mapped.event, fate)
                    }
                };
                match layout.records_from {
                    RecordsFrom::Inline => What::Event(event, fate),
                    RecordsFrom::Normalized => What::Event(event, Fate::Elsewhere),
                }
            }
            Content::Normalized(event) => What::Normalized(event),
            Content::Rejected(rejected) => What::Rejected(rejected),
            Content::Nothing => What::Nothing,
        };
        Ok(Self { seq: entry.seq, what })
    }

    /// The event, where it is one that the current state follows.
    pub(super) fn event(&self) -> Option<&ChangeEvent> {
        match &self.what {
            What::Event(event, _) => Some(event),
            What::Normalized(_) | What::Rejected(_) | What::Nothing => None,
        }
    }

    /// The bytes that were to be an event.
    pub(super) fn original(&self) -> Option<&[u8]> {
        match &self.what {
            What::Rejected(rejected) => Some(&rejected.bytes),
            What::Event(..) | What::Normalized(_) | What::Nothing => None,
        }
    }

    /// What its row of the event table is made of, where it has one.
    pub(super) fn record(&self) -> Option<Record<'_>> {
        match &self.what {
            What::Event(event, fate) if event.has_row() => match fate {
                Fate::AsItIs => Some(Record::Event(event, None)),
                Fate::Mapped(normalized) => Some(Record::Event(event, Some(normalized))),
                Fate::Rejected(_) | Fate::Dropped | Fate::Elsewhere => None,
            },
            What::Normalized(event) => Some(Record::Normalized(event)),
            What::Event(..) | What::Rejected(_) | What::Nothing => None,
        }
    }

    /// Why it is a dead letter from the start, where it is one.
    pub(super) fn rejection(&self) -> Option<&Rejection> {
        match &self.what {
            What::Event(event, Fate::Rejected(why)) if event.has_row() => Some(why),
            What::Rejected(rejected) => Some(&rejected.why),
            What::Event(..) | What::Normalized(_) | What::Nothing => None,
        }
    }

    /// Whether it would have a row but for a rule.
    pub(super) fn is_dropped(&self) -> bool {
        match &self.what {
            What::Event(event, Fate::Dropped) => event.has_row(),
            What::Nothing => true,
            What::Event(..) | What::Normalized(_) | What::Rejected(_) => false,
        }
    }

    /// Whether it has a row in a table when its Range is there as a whole.
    pub(super) fn is_in(&self, table: Append, layout: &Layout) -> bool {
        match table {
            Append::Records => self.record().is_some(),
            Append::RawCdc => {
                layout.raw_cdc.is_some() && self.event().is_some_and(ChangeEvent::has_row)
            }
            Append::DeadLetters => self.rejection().is_some(),
        }
    }

    /// The `ts` of its row in a table.
    pub(super) fn ts(&self, table: Append) -> Millis {
        match (&self.what, table) {
            (What::Event(_, Fate::Mapped(normalized)), Append::Records) => normalized.ts,
            (What::Event(event, _), _) => event.ts(),
            (What::Normalized(event), _) => event.ts,
            (What::Rejected(rejected), _) => rejected.ts,
            (What::Nothing, _) => Millis(0),
        }
    }

    pub(super) fn version(&self) -> u128 {
        match &self.what {
            What::Event(event, _) => event.version(),
            What::Normalized(event) => event.version,
            What::Rejected(_) | What::Nothing => 0,
        }
    }

    /// By what it is known; `None` for nothing. The document's id is put into `scratch`.
    pub(super) fn subject<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Option<Subject<'a>>> {
        Ok(match &self.what {
            What::Event(event, _) => {
                scratch.clear();
                if let Some(key) = event.document_key() {
                    doc_id::write(key, scratch)
                        .map_err(|error| malformed(event).with_source(error))?;
                }
                Some(Subject {
                    db: event.db(),
                    coll: event.coll(),
                    doc_id: scratch,
                    op: event.operation_type(),
                    version: event.version(),
                })
            }
            What::Normalized(event) => Some(Subject {
                db: event.db.as_bytes(),
                coll: event.coll.as_bytes(),
                doc_id: event.doc_id.as_bytes(),
                op: event.op.as_bytes(),
                version: event.version,
            }),
            What::Rejected(_) => {
                Some(Subject { db: b"", coll: b"", doc_id: b"", op: b"", version: 0 })
            }
            What::Nothing => None,
        })
    }

    /// Adds what the same entry always has, whatever mapping there is.
    pub(super) fn digest(&self, digest: &mut XxHash64) {
        let mut put = |parts: [&[u8]; 4]| {
            for part in parts {
                digest.write(part);
                digest.write_u8(0);
            }
        };
        match &self.what {
            // Not the token: another version of the server may write the same one differently.
            What::Event(event, _) => {
                let key = event.document_key().map_or(&[][..], |key| key.as_bytes());
                put([event.db(), event.coll(), event.operation_type(), key]);
            }
            What::Normalized(event) => {
                let [db, coll] = [&event.db, &event.coll].map(|name| name.as_bytes());
                put([db, coll, event.op.as_bytes(), event.doc_id.as_bytes()]);
            }
            What::Rejected(rejected) => {
                put([b"rejected", rejected.why.reason.as_bytes(), &rejected.bytes, b""]);
            }
            What::Nothing => return,
        }
        digest.write_u128(self.version());
    }

    /// What it holds in memory.
    pub(super) fn bytes(&self) -> usize {
        let content = match &self.what {
            What::Event(event, fate) => {
                event.bytes().len()
                    + match fate {
                        Fate::Mapped(normalized) => {
                            size_of::<Normalized>()
                                + normalized.event_type.len()
                                + normalized.tags.held()
                                + normalized.attrs.held()
                        }
                        Fate::Rejected(why) => why.error.len(),
                        Fate::AsItIs | Fate::Dropped | Fate::Elsewhere => 0,
                    }
            }
            What::Normalized(event) => held(event),
            What::Rejected(rejected) => rejected.bytes.len() + rejected.why.error.len(),
            What::Nothing => 0,
        };
        size_of::<Self>() + content
    }
}

fn held(event: &NormalizedEvent) -> usize {
    let NormalizedEvent { event_type, db, coll, idempotency_key, doc_id, op, mapping, .. } = event;
    let texts = [event_type, db, coll, idempotency_key, doc_id, op, mapping];
    size_of::<NormalizedEvent>()
        + texts.into_iter().map(String::len).sum::<usize>()
        + event.raw.as_ref().map_or(0, String::len)
        + event.tags.held()
        + event.attrs.held()
}
