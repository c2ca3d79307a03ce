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
    /// Reads a letter; `None` when the record is none.
    pub fn read(letter: &Record) -> Option<Self> {
        let text = |name| letter.header(name).and_then(|value| str::from_utf8(value).ok());
        let offset = Seq(text(header::OFFSET)?.parse().ok()?);
        let kept = letter.headers.iter().filter(|(name, _)| !OWN.contains(&&**name));
        let headers = kept
            .map(|(name, value)| match &**name {
                header::WAS_CHUNK => (header::CHUNK.into(), value.clone()),
                _ => (name.clone(), value.clone()),
            })
            .collect();
        Some(Self {
            record: Record { offset, headers, ..letter.clone() },
            lane: LaneId::partition_of(
                text(header::TOPIC)?,
                text(header::PARTITION)?.parse().ok()?,
            ),
            epoch: Epoch::parse(text(header::EPOCH)?)?,
            reason: text(header::REASON)?.to_owned(),
            error: text(header::ERROR)?.to_owned(),
        })
    }
}
