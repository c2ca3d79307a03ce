//! Lanes, positions and checkpoints: how far a lane is, and what may be half written.
//!
//! Values only. Nothing here may move a position: the loop does, after the write is durable.
//!
//! ```text
//!   ... done ... | next ........ pending .......... | not read yet ...
//!                  first                       last
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One ordered flow with one checkpoint: a stream (direct mode) or a topic partition (Kafka).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    topic: Arc<str>,
    partition: Option<u32>,
}

impl LaneId {
    /// The lane of a stream, named as it is configured: `ingest.files`.
    pub fn stream(entry: &str) -> Self {
        Self { topic: entry.into(), partition: None }
    }

    /// The lane of a topic's partition.
    pub fn partition_of(topic: &str, partition: u32) -> Self {
        Self { topic: topic.into(), partition: Some(partition) }
    }

    /// The `_topic` column: the topic, or the configured entry of a stream.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether it is a topic's partition, not a stream.
    pub const fn is_partition(&self) -> bool {
        self.partition.is_some()
    }

    /// The `_partition` column.
    pub fn partition(&self) -> u32 {
        self.partition.unwrap_or(0)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            None => f.write_str(&self.topic),
            Some(partition) => write!(f, "{}-{partition}", self.topic),
        }
    }
}

/// The number of an event in its lane. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The first number of a lane.
    pub const ZERO: Self = Self(0);

    /// The number `count` further.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The events `first..=last` of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeqRange {
    /// The first event.
    pub first: Seq,
    /// The last event, itself inside the range.
    pub last: Seq,
}

impl SeqRange {
    /// The range of `count` events from `first` on; `None` when there are none.
    pub const fn starting_at(first: Seq, count: u64) -> Option<Self> {
        match count {
            0 => None,
            _ => Some(Self { first, last: Seq(first.0 + count - 1) }),
        }
    }

    /// How many events the range holds.
    pub const fn count(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Where a lane goes on: everything before `seq` is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The number that the next event gets.
    pub seq: Seq,
    /// The source's own bookmark; opaque to all but the source that made it.
    pub cursor: Bytes,
}

/// The life of a lane's numbering: made at random with the lane's state (direct mode), or the
/// topic's id (Kafka). Rows of another epoch are never taken for rows of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// An epoch of the given bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the 32 hex digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let epoch = u128::from_str_radix(text, 16).ok().map(|bits| Self(bits.to_be_bytes()))?;
        // Neither a sign nor upper case.
        (epoch.to_string() == text).then_some(epoch)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

/// What a Range will write, as far as recovery needs it. It is made from the events alone, so that
/// the same events make the same plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The least `ts` among the rows.
    pub ts_min: Millis,
    /// The greatest `ts` among the rows.
    pub ts_max: Millis,
    /// Rows for each append table.
    pub rows: BTreeMap<String, u64>,
    /// A digest over the identities of the events, to know them again.
    pub digest: u64,
    /// The hash of the mapping that the rows are made with; `None`: without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
}

impl Plan {
    /// The rows of all append tables.
    pub fn rows_to_append(&self) -> u64 {
        self.rows.values().sum()
    }
}

/// A Range that was declared and may be half written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The events that the Range holds.
    pub range: SeqRange,
    /// What the Range writes.
    pub plan: Plan,
    /// When it was declared, by this host's wall clock.
    pub declared_at: Millis,
    /// Some of its rows may have come, or may be on their way, otherwise than in its one block under
    /// T within one deadline: in Ranges of other bounds, which a checkpoint older than the table
    /// does not know, in parts and cuts of the block, or by an older declaration.
    #[serde(default)]
    pub foreign: bool,
}

/// How far a lane is: everything before `next` is done, and at most one Range is pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The life of the lane's numbering.
    pub epoch: Epoch,
    /// Where the lane goes on.
    pub next: Position,
    /// The Range that begins at `next` and may be half written.
    pub pending: Option<Intent>,
    /// The stream yields other events than it did, so that an event that has a row may come again
    /// under another number. Until all that have one are passed, no number proves anything.
    pub renumbered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_both_ends() {
        let range = SeqRange::starting_at(Seq(7), 3).unwrap();
        assert_eq!((range.first, range.last, range.count()), (Seq(7), Seq(9), 3));
        assert_eq!(SeqRange::starting_at(Seq(7), 0), None);
    }

    #[test]
    fn an_epoch_reads_back_what_it_prints() {
        let epoch = Epoch::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(epoch.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        assert_eq!(Epoch::parse("12"), None);
    }
}
