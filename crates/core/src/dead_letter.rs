//! Dead letters: records that could not be processed, as they came, with the reason beside them.
//!
//! Key and value are the original bytes and the original headers stay, so that a letter can be
//! produced again as the record that it was. What a header of an earlier rejection said is replaced.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::{header, murmur2};
use crate::position::{Epoch, LaneId, Millis, Seq};
use crate::record::{Message, Record, Route};
use crate::rows::Rejection;

/// The headers that a rejection writes.
const OWN: [&str; 6] = [
    header::REASON,
    header::ERROR,
    header::TOPIC,
    header::PARTITION,
    header::OFFSET,
    header::EPOCH,
];

/// The letter for a record of that lane, to be produced to `topic`.
pub fn dead_letter(
    topic: &Arc<str>,
    record: &Record,
    lane: &LaneId,
    epoch: Epoch,
    why: &Rejection,
) -> Message {
    let kept = record.headers.iter().filter(|(name, _)| !OWN.contains(&&**name));
    let mut headers: Vec<(Cow<'static, str>, Bytes)> = kept
        .map(|(name, value)| match &**name {
            // Or a reader would wait for the other chunks.
            header::CHUNK => (header::WAS_CHUNK.into(), value.clone()),
            name => (name.to_owned().into(), value.clone()),
        })
        .collect();
    let texts = [
        why.reason.to_owned(),
        why.error.clone(),
        lane.topic().to_owned(),
        lane.partition().to_string(),
        record.offset.to_string(),
        epoch.to_string(),
    ];
    headers.extend(OWN.into_iter().zip(texts).map(|(name, text)| (name.into(), text.into())));
    let by = record.key.clone().unwrap_or_else(|| lane.to_string().into());
    Message {
        topic: Arc::clone(topic),
        route: Route::Hash(murmur2(&by)),
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        timestamp: record.timestamp.unwrap_or(Millis(0)),
    }
}

/// Where a record was that became a dead letter: no two have been at one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The lane.
    pub lane: LaneId,
    /// The life of the topic.
    pub epoch: Epoch,
    /// The offset.
    pub offset: Seq,
}

impl Place {
    /// The place that three headers name.
    fn read(record: &Record) -> Option<Self> {
        let text = |name| record.header(name).and_then(|value| str::from_utf8(value).ok());
        let lane =
            LaneId::partition_of(text(header::TOPIC)?, text(header::PARTITION)?.parse().ok()?);
        let epoch = Epoch::parse(text(header::EPOCH)?)?;
        let offset = Seq(text(header::OFFSET)?.parse().ok()?);
        Some(Self { lane, epoch, offset })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.lane, self.offset)
    }
}

/// The record of a letter, to be produced again into the topic that it was in. It says so:
/// then it may stand between the chunks of others.
pub fn again(place: &Place, record: Record, at: Millis) -> Message {
    let Record { timestamp, key, value, headers, .. } = record;
    let mut headers: Vec<(Cow<'static, str>, Bytes)> = headers
        .into_iter()
        .filter(|(name, _)| **name != *header::REPLAYED)
        .map(|(name, value)| (String::from(name).into(), value))
        .collect();
    headers.push((header::REPLAYED.into(), at.0.to_string().into()));
    Message {
        topic: place.lane.topic().into(),
        // There are the other events of its document.
        route: Route::Hash(place.lane.partition()),
        key,
        value,
        headers,
        timestamp: timestamp.unwrap_or(at),
    }
}

/// The mark that the letter of that place was produced again, for the topic of the dead letters. It is
/// no letter itself.
pub fn mark(topic: &Arc<str>, place: &Place, at: Millis) -> Message {
    let texts = [
        (header::REPLAYED, at.0.to_string()),
        (header::TOPIC, place.lane.topic().to_owned()),
        (header::PARTITION, place.lane.partition().to_string()),
        (header::OFFSET, place.offset.to_string()),
        (header::EPOCH, place.epoch.to_string()),
    ];
    Message {
        topic: Arc::clone(topic),
        route: Route::Hash(murmur2(place.to_string().as_bytes())),
        key: None,
        value: None,
        headers: texts.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
        timestamp: at,
    }
}

/// The place of the letter that a record marks as produced again; `None` when it is no such mark.
pub fn read_mark(record: &Record) -> Option<Place> {
    let is_mark =
        record.header(header::REPLAYED).is_some() && record.header(header::REASON).is_none();
    is_mark.then(|| Place::read(record)).flatten()
}

/// What a dead letter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it was.
    pub record: Record,
    /// Where it was.
    pub lane: LaneId,
    /// The life of the topic that it was in.
    pub epoch: Epoch,
    /// The short word for what was wrong.
    pub reason: String,
    /// What exactly was said.
    pub error: String,
}

impl DeadLetter {
    /// Where it was.
    pub fn place(&self) -> Place {
        Place { lane: self.lane.clone(), epoch: self.epoch, offset: self.record.offset }
    }

    /// Reads a letter; `None` when the record is none.
    pub fn read(letter: &Record) -> Option<Self> {
        let text = |name| letter.header(name).and_then(|value| str::from_utf8(value).ok());
        let place = Place::read(letter)?;
        let kept = letter.headers.iter().filter(|(name, _)| !OWN.contains(&&**name));
        let headers = kept
            .map(|(name, value)| match &**name {
                header::WAS_CHUNK => (header::CHUNK.into(), value.clone()),
                _ => (name.clone(), value.clone()),
            })
            .collect();
        Some(Self {
            record: Record { offset: place.offset, headers, ..letter.clone() },
            epoch: place.epoch,
            lane: place.lane,
            reason: text(header::REASON)?.to_owned(),
            error: text(header::ERROR)?.to_owned(),
        })
    }
}
