//! Slots: the checkpoint topic as it is for who only looks at it, with the earlier checkpoints that it
//! still holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::message::Message as _;
use tailwater_core::Result;
use tailwater_core::position::{Checkpoint, LaneId, Millis, Seq};

use super::{CheckpointTopic, Numbered, StoredStream, scan};
use crate::client::{Isolation, blocking};
use crate::observer::Observer;

/// A checkpoint that a stream had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The stream.
    pub lane: LaneId,
    /// The greatest one counts.
    pub n: u64,
    /// When it was written.
    pub at: Option<Millis>,
    /// What it says.
    pub checkpoint: Checkpoint,
}

/// What the topic says.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What counts.
    pub topic: CheckpointTopic,
    /// All checkpoints of all streams that are still there, the newest first.
    pub slots: Vec<Slot>,
}

impl CheckpointTopic {
    /// Reads the topic as far as it is committed now, without waiting for anybody; `None` where there
    /// is none.
    ///
    /// # Errors
    /// `Corrupt` for a record that nobody here wrote; those of asking.
    pub async fn look(observer: &Observer, name: &Arc<str>) -> Result<Option<Looked>> {
        if observer.topic(name).await?.is_none() {
            return Ok(None);
        }
        let reader = observer.client.reader(Isolation::Committed, &observer.group)?;
        let (client, name) = (observer.client.clone(), Arc::clone(name));
        let (topic, slots) = blocking(move || {
            let mut topic = CheckpointTopic::empty(&name);
            let mut slots: BTreeMap<(LaneId, u64), Slot> = BTreeMap::new();
            scan(&client, &reader, &name, Seq::ZERO, |message, key, value| {
                topic.take(key, value)?;
                if key.starts_with(b"stream/") {
                    let (stream, Numbered { n, value }) = StoredStream::read(value)?;
                    let lane = LaneId::stream(&stream);
                    let at = message.timestamp().to_millis().map(Millis);
                    slots.insert((lane.clone(), n), Slot { lane, n, at, checkpoint: value });
                }
                Ok(())
            })?;
            Ok((topic, slots))
        })
        .await?;
        let mut slots: Vec<Slot> = slots.into_values().collect();
        slots.sort_by(|a, b| (&a.lane, b.n).cmp(&(&b.lane, a.n)));
        Ok(Some(Looked { topic, slots }))
    }
}
