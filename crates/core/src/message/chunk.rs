//! Values that are larger than a topic takes: cut into chunks, and joined again.
//!
//! ```text
//!   value ─▶ 0/3 ─▶ 1/3 ─▶ 2/3        one after the other in one partition, in one transaction
//!   0/3 ─▶ 1/3 ─▶ 2/3 ─▶ the record, at the offset of the last chunk
//!   0/3 ─▶ 2/3        ─▶ missing: both, with their bytes
//! ```
//!
//! What cannot be joined is handed back and never dropped.

use bytes::{Bytes, BytesMut};

use super::header;
use crate::decode;
use crate::record::{Message, Record};
use crate::rows::Rejection;
use crate::{Error, ErrorKind, Result};

/// A batch of one record, by Kafka's format 2, around the record itself: the head of the batch is 61
/// bytes.
const BATCH: usize = 61;
/// Around the key, the value and the headers of a record: its attributes, its time, and five lengths and
/// counts, each number at its longest.
const RECORD: usize = 1 + 10 + 5 * 5;
/// Around the name and the value of a header: their lengths.
const HEADER: usize = 2 * 5;
/// What the header [`header::CHUNK`] holds at its longest.
const CHUNK: usize = 2 * 10 + 1;

/// Of a chunk that does not follow those before it.
const REASON: &str = "chunk_missing";

/// The bytes that a message takes as the only one of its batch, uncompressed: never less than what
/// the broker counts, and more by at most some twenty a header.
pub fn bytes_in_batch(message: &Message) -> usize {
    frame(message) + message.value.as_ref().map_or(0, Bytes::len)
}

/// All but the value. A copy that makes no row is told so on the way, so its header counts as well.
fn frame(message: &Message) -> usize {
    let header = |name: &str, value: usize| HEADER + name.len() + value;
    let headers = message.headers.iter().map(|(name, value)| header(name, value.len()));
    BATCH
        + RECORD
        + message.key.as_ref().map_or(0, Bytes::len)
        + headers.sum::<usize>()
        + header(header::ROW, header::NO.len())
}

/// Appends the message, in chunks where it takes more than `limit` bytes.
///
/// # Errors
/// `Refused` when it cannot be cut: its key and headers alone are too large, or it has no headers, as
/// those of `compat`, so that no reader could join it.
pub fn chunks(message: Message, limit: usize, out: &mut Vec<Message>) -> Result<()> {
    if bytes_in_batch(&message) <= limit {
        out.push(message);
        return Ok(());
    }
    let refused = |why| {
        let what = format!("cannot cut a message for the topic `{}`: {why}", message.topic);
        Error::new(ErrorKind::Refused, what).with_hint("enlarge `max.message.bytes` of the topic")
    };
    let value = message.value.clone().unwrap_or_default();
    if message.headers.is_empty() {
        return Err(refused("messages without headers cannot be joined again"));
    }
    let around = frame(&message) + HEADER + header::CHUNK.len() + CHUNK;
    let room = limit.saturating_sub(around);
    if room == 0 || value.is_empty() {
        return Err(refused("its key and headers are larger than the topic takes"));
    }
    let count = value.len().div_ceil(room);
    for index in 0..count {
        let mut chunk = message.clone();
        chunk.value = Some(value.slice(index * room..value.len().min((index + 1) * room)));
        chunk.headers.push((header::CHUNK.into(), format!("{index}/{count}").into()));
        out.push(chunk);
    }
    Ok(())
}

/// Joins the chunks of one lane, whose records it must get in their order.
#[derive(Debug, Default)]
pub struct Joiner {
    /// The chunks 0 to the last one so far.
    parts: Vec<Record>,
    /// How many there are in all.
    count: usize,
    /// What the values come to.
    length: usize,
}

/// What a record led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Chunks that will never be joined, each as it came. They are rejected, by [`Joiner::rejection`].
    pub missing: Vec<Record>,
    /// A record as it was before it was cut; `None` while chunks must follow.
    pub record: Option<Record>,
}

impl Joiner {
    /// Takes the next record.
    pub fn push(&mut self, record: Record) -> Joined {
        let Some(place) = record.header(header::CHUNK) else {
            return Joined { missing: self.take(), record: Some(record) };
        };
        let Some((index, count)) = place_of(place).filter(|_| record.value.is_some()) else {
            return self.broken(record);
        };
        if index == 0 {
            let missing = self.take();
            self.count = count;
            return Joined { missing, record: self.add(record) };
        }
        match self.follows(index, count, &record) {
            true => Joined { missing: Vec::new(), record: self.add(record) },
            false => self.broken(record),
        }
    }

    /// The chunks that wait for those that follow them: no record, so no position lies behind them.
    pub fn waiting(&self) -> &[Record] {
        &self.parts
    }

    /// What the waiting chunks hold in memory.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Record::bytes).sum()
    }

    /// Why chunks are rejected.
    pub fn rejection() -> Rejection {
        let error = "a chunk does not follow the chunks before it, or others are missing";
        Rejection { reason: REASON, error: error.to_owned() }
    }

    fn take(&mut self) -> Vec<Record> {
        (self.count, self.length) = (0, 0);
        std::mem::take(&mut self.parts)
    }

    fn broken(&mut self, record: Record) -> Joined {
        let mut missing = self.take();
        missing.push(record);
        Joined { missing, record: None }
    }

    fn follows(&self, index: usize, count: usize, record: &Record) -> bool {
        let Some(first) = self.parts.first() else { return false };
        let length = self.length + record.value.as_ref().map_or(0, Bytes::len);
        (index, count) == (self.parts.len(), self.count)
            && length <= decode::MAX_BYTES
            && first.key == record.key
            && others(first).eq(others(record))
    }

    fn add(&mut self, record: Record) -> Option<Record> {
        self.length += record.value.as_ref().map_or(0, Bytes::len);
        self.parts.push(record);
        if self.parts.len() < self.count {
            return None;
        }
        let mut value = BytesMut::with_capacity(self.length);
        let mut last = None;
        for part in self.take() {
            value.extend_from_slice(part.value.as_deref().unwrap_or_default());
            last = Some(part);
        }
        last.map(|mut last| {
            last.value = Some(value.freeze());
            last.headers.retain(|(name, _)| **name != *header::CHUNK);
            last
        })
    }
}

/// The headers that all chunks of a message share.
fn others(record: &Record) -> impl Iterator<Item = (&str, &Bytes)> {
    let headers = record.headers.iter().map(|(name, value)| (&**name, value));
    headers.filter(|(name, _)| *name != header::CHUNK)
}

/// Reads `i/n`.
fn place_of(text: &[u8]) -> Option<(usize, usize)> {
    let (index, count) = str::from_utf8(text).ok()?.split_once('/')?;
    let (index, count) = (index.parse().ok()?, count.parse().ok()?);
    (index < count).then_some((index, count))
}
