//! Entry: what a lane yields under a number.

use bytes::Bytes;

use crate::event::ChangeEvent;
use crate::normalized::NormalizedEvent;
use crate::position::{Millis, Seq};

use super::Rejection;

/// What a lane yields under one number. The numbers of a part grow, and may have holes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The number.
    pub seq: Seq,
    /// What it is of.
    pub content: Content,
}

/// What a lane yields.
#[derive(Debug, Clone)]
pub enum Content {
    /// A change event.
    Event(ChangeEvent),
    /// An event after the mapping: a row of the event table, and nothing else.
    Normalized(Box<NormalizedEvent>),
    /// What no event could be made of: a dead letter.
    Rejected(Rejected),
    /// Nothing, by rule. It is counted.
    Nothing,
}

/// Bytes that no event could be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Why not.
    pub why: Rejection,
    /// The `ts` of the dead letter; the same whenever the bytes are read.
    pub ts: Millis,
    /// The bytes as they came.
    pub bytes: Bytes,
}

impl Entry {
    /// Events that have all numbers from `first` on.
    pub fn dense(first: Seq, events: impl IntoIterator<Item = ChangeEvent>) -> Vec<Self> {
        let numbered = (0..).map(|index| first.plus(index)).zip(events);
        numbered.map(|(seq, event)| Self { seq, content: Content::Event(event) }).collect()
    }
}
