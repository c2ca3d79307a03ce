//! Joiner: the chunks of a lane become the values that they were cut from.
//!
//! ```text
//!   0/3 ─▶ 1/3 ─▶ 2/3 ─▶ the record, at the offset of the last chunk
//!   0/3 ─▶ 2/3        ─▶ rejected: both, with their bytes
//! ```
//!
//! A raw topic has one producer, so a chunk follows the one before it. The normalized topic has several,
//! whose transactions run side by side: between two chunks of one there may be records of others, of
//! other documents. Those are held back until no value waits for a chunk, since no position may lie
//! between two of its chunks: whoever began there would have half of it. So it is with replayed dead
//! letters, in every topic.
//!
//! ```text
//!   A 0/2 ─▶ B ─▶ A 1/2        held: A 0/2, B        then at once: B, A
//! ```
//!
//! What cannot be joined is rejected and never dropped. The same records in, the same out: when a value
//! is given up for what came after it, that is told by bytes alone.

use bytes::{Bytes, BytesMut};

use super::header;
use crate::decode;
use crate::record::{Incoming, Record};
use crate::rows::Rejection;

/// Of a chunk that does not follow those before it.
const REASON: &str = "chunk_missing";
/// So much of others is held back for a value. What runs side by side is seconds old.
const MOST_HELD: usize = 64 << 20;

/// Joins the chunks of one lane, whose records it must get in their order.
#[derive(Debug, Default)]
pub struct Joiner {
    /// All since the first chunk of a value that waits.
    held: Vec<Slot>,
    /// The values that wait for chunks.
    waiting: Vec<Waiting>,
    /// What the records hold that wait for no chunk themselves.
    beside: usize,
}

#[derive(Debug)]
struct Slot {
    record: Record,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Chunk,
    Rejected,
    /// Joined with a later one.
    Gone,
}

/// A value that waits for chunks.
#[derive(Debug)]
struct Waiting {
    /// Where its chunks are held, 0 to the last one so far.
    parts: Vec<usize>,
    /// How many there are in all.
    count: usize,
    /// What the values come to.
    length: usize,
}

/// What a record is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Whole,
    Chunk(usize, usize),
    Nonsense,
}

impl Joiner {
    /// Takes the next record. Appends all that can be handed on: each is a whole record or rejected, in
    /// the order of their offsets.
    pub fn push(&mut self, record: Record, out: &mut Vec<Incoming>) {
        let place = place_of(&record);
        self.break_off(place, &record);
        match place {
            Place::Whole => self.hold(record, State::Whole),
            Place::Chunk(0, count) => self.begin(count, record),
            Place::Chunk(index, count) => match self.follows(index, count, &record) {
                Some(at) => self.add(at, record),
                None => self.hold(record, State::Rejected),
            },
            Place::Nonsense => self.hold(record, State::Rejected),
        }
        if self.beside > MOST_HELD {
            self.waiting.drain(..).for_each(|value| reject(&mut self.held, &value));
        }
        self.hand_on(out);
    }

    /// Whether a value waits for a chunk: no position lies behind what was handed on.
    pub const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits for no chunk any more: what is held is handed on, and chunks are rejected.
    pub fn give_up(&mut self, out: &mut Vec<Incoming>) {
        self.waiting.drain(..).for_each(|value| reject(&mut self.held, &value));
        self.hand_on(out);
    }

    /// Why chunks are rejected.
    pub fn rejection() -> Rejection {
        let error = "a chunk does not follow the chunks before it, or others are missing";
        Rejection { reason: REASON, error: error.to_owned() }
    }

    /// Gives up the values that can no longer become whole, since this record came.
    fn break_off(&mut self, place: Place, record: &Record) {
        let Self { held, waiting, .. } = self;
        waiting.retain(|value| {
            let first = value.first(held);
            let next = matches!(place, Place::Chunk(index, count) if value.takes(held, index, count, record));
            let lives = next
                || is_replayed(first)
                || is_replayed(record)
                || (has_company(first) && !is_of_one_document(first, record));
            if !lives {
                reject(held, value);
            }
            lives
        });
    }

    fn follows(&self, index: usize, count: usize, record: &Record) -> Option<usize> {
        self.waiting.iter().position(|value| value.takes(&self.held, index, count, record))
    }

    fn hold(&mut self, record: Record, state: State) {
        self.beside += record.bytes();
        self.held.push(Slot { record, state });
    }

    fn begin(&mut self, count: usize, record: Record) {
        let value = Waiting { parts: Vec::new(), count, length: 0 };
        self.waiting.push(value);
        self.add(self.waiting.len() - 1, record);
    }

    /// Adds a chunk to the value that waits there.
    fn add(&mut self, at: usize, record: Record) {
        let value = &mut self.waiting[at];
        value.length += length(&record);
        value.parts.push(self.held.len());
        self.held.push(Slot { record, state: State::Chunk });
        if value.parts.len() < value.count {
            return;
        }
        let value = self.waiting.swap_remove(at);
        let mut whole = BytesMut::with_capacity(value.length);
        for part in &value.parts {
            let slot = &mut self.held[*part];
            whole.extend_from_slice(slot.record.value.as_deref().unwrap_or_default());
            slot.record.value = None;
            slot.state = State::Gone;
        }
        if let Some(last) = self.held.last_mut() {
            last.record.value = Some(whole.freeze());
            last.record.headers.retain(|(name, _)| **name != *header::CHUNK);
            last.state = State::Whole;
            self.beside += last.record.bytes();
        }
    }

    fn hand_on(&mut self, out: &mut Vec<Incoming>) {
        if self.is_waiting() {
            return;
        }
        self.beside = 0;
        for Slot { record, state } in self.held.drain(..) {
            match state {
                State::Whole => out.push(Incoming { record, rejection: None }),
                State::Gone => {}
                State::Chunk | State::Rejected => {
                    out.push(Incoming { record, rejection: Some(Self::rejection()) });
                }
            }
        }
    }
}

impl Waiting {
    fn first<'h>(&self, held: &'h [Slot]) -> &'h Record {
        // It has one from the beginning.
        &held[self.parts[0]].record
    }

    /// Whether this is its next chunk.
    fn takes(&self, held: &[Slot], index: usize, count: usize, record: &Record) -> bool {
        let first = self.first(held);
        (index, count) == (self.parts.len(), self.count)
            && self.length + length(record) <= decode::MAX_BYTES
            && first.key == record.key
            && others(first).eq(others(record))
    }
}

fn reject(held: &mut [Slot], value: &Waiting) {
    for part in &value.parts {
        held[*part].state = State::Rejected;
    }
}

/// Whether records of other producers may stand between the chunks.
fn has_company(record: &Record) -> bool {
    record.header(header::FORMAT) == Some(header::NORMALIZED.as_bytes())
}

/// Whether records are of one document, which has one producer. Documents of two collections may have
/// one key.
fn is_of_one_document(one: &Record, other: &Record) -> bool {
    one.key == other.key && one.header(header::NS) == other.header(header::NS)
}

/// Whether somebody else produced it than the topic's own producers.
fn is_replayed(record: &Record) -> bool {
    record.header(header::REPLAYED).is_some()
}

fn length(record: &Record) -> usize {
    record.value.as_ref().map_or(0, Bytes::len)
}

/// The headers that all chunks of a message share.
fn others(record: &Record) -> impl Iterator<Item = (&str, &Bytes)> {
    let headers = record.headers.iter().map(|(name, value)| (&**name, value));
    headers.filter(|(name, _)| *name != header::CHUNK)
}

fn place_of(record: &Record) -> Place {
    let Some(text) = record.header(header::CHUNK) else { return Place::Whole };
    match numbers(text).filter(|_| record.value.is_some()) {
        Some((index, count)) => Place::Chunk(index, count),
        None => Place::Nonsense,
    }
}

/// Reads `i/n`.
fn numbers(text: &[u8]) -> Option<(usize, usize)> {
    let (index, count) = str::from_utf8(text).ok()?.split_once('/')?;
    let (index, count) = (index.parse().ok()?, count.parse().ok()?);
    (index < count).then_some((index, count))
}
