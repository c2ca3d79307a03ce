//! Record: what a topic holds, as it is produced and as it is consumed. Values only.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::position::{Millis, Seq};
use crate::rows::Rejection;

/// What is to be produced for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// Which partition of it.
    pub route: Route,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in order.
    pub headers: Vec<(Cow<'static, str>, Bytes)>,
    /// When the event happened.
    pub timestamp: Millis,
}

/// A record on its way through the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The record; of an event in chunks, all of it.
    pub record: Record,
    /// Why it is no event, where that shows without reading it.
    pub rejection: Option<Rejection>,
}

/// Which partition of its topic a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// That of the document: the murmur2 of its partition bytes, still to be taken modulo the
    /// number of partitions.
    Hash(u32),
    /// A copy goes to each partition, since each lane must see it at its place. The first one's copy
    /// alone makes a row; the others get the header that says so.
    Every,
}

/// What a consumer got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset. Of an event in several chunks, that of the last one.
    pub offset: Seq,
    /// Its timestamp, where it has one.
    pub timestamp: Option<Millis>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in order.
    pub headers: Vec<(Box<str>, Bytes)>,
}

impl Record {
    /// The last value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().rev().find(|(header, _)| &**header == name);
        found.map(|(_, value)| &**value)
    }

    /// What it holds in memory.
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        size_of::<Self>() + length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }
}
