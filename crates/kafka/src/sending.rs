//! Sending: the messages of one transaction on their way to the partitions that are to have them.
//!
//! librdkafka knows one size of batches for all topics. A topic that takes less would refuse them, so
//! there nothing more is sent until what is on its way has arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_core::message::{self, header};
use tailwater_core::record::{Message, Route};
use tailwater_core::{Error, ErrorKind, Result};

use crate::producer::{Open, Outgoing};
use crate::topics::Topic;

/// Sends into an open transaction.
#[derive(Debug)]
pub(crate) struct Sending<'p> {
    open: &'p Open<'p>,
    /// The bytes that may be in one batch with what comes next, by partition, of topics that take less
    /// than a batch.
    on_the_way: BTreeMap<(Arc<str>, u32), usize>,
}

impl<'p> Sending<'p> {
    pub(crate) const fn over(open: &'p Open<'p>) -> Self {
        Self { open, on_the_way: BTreeMap::new() }
    }

    /// Sends a message to the partitions that are to have it.
    pub(crate) fn send(&mut self, message: &Message, topic: Option<&Topic>) -> Result<()> {
        let Some(topic) = topic else {
            let what = format!("topic `{}` was never asked for", message.topic);
            return Err(Error::new(ErrorKind::Bug, what));
        };
        let partitions = topic.partitions.get();
        let (first, count) = match message.route {
            Route::Hash(hash) => ((hash & 0x7fff_ffff) % partitions, 1),
            Route::Every => (0, partitions),
        };
        let limit = topic.max_message_bytes;
        let mut chunks = Vec::new();
        for partition in first..first + count {
            let copy = (partition != first).then(|| without_row(message));
            let message = copy.as_ref().unwrap_or(message);
            if message::bytes_in_batch(message) <= limit {
                self.send_one(message, partition, limit)?;
                continue;
            }
            chunks.clear();
            message::chunks(message.clone(), limit, &mut chunks)?;
            for chunk in &chunks {
                self.send_one(chunk, partition, limit)?;
            }
        }
        Ok(())
    }

    fn send_one(&mut self, message: &Message, partition: u32, limit: usize) -> Result<()> {
        if limit < self.open.batch_bytes() {
            self.make_room(message, partition, limit)?;
        }
        self.open.send(&Outgoing {
            topic: &message.topic,
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: &message.headers,
            timestamp: Some(message.timestamp),
        })
    }

    /// Waits, where the message may come into a batch with more than the topic takes.
    fn make_room(&mut self, message: &Message, partition: u32, limit: usize) -> Result<()> {
        let bytes = message::bytes_in_batch(message);
        let place = (Arc::clone(&message.topic), partition);
        let sofar = self.on_the_way.get(&place).copied().unwrap_or_default();
        if sofar > 0 && sofar + bytes > limit {
            self.open.flush()?;
            self.on_the_way.clear();
        }
        *self.on_the_way.entry(place).or_default() += bytes;
        Ok(())
    }
}

/// The copy of a marker in another partition than the first: the first one's makes the row.
fn without_row(message: &Message) -> Message {
    let mut copy = message.clone();
    if !copy.headers.is_empty() {
        copy.headers.push((header::ROW.into(), header::NO.into()));
    }
    copy
}
