//! GroupProgress: how far a group is that writes into topics, said twice by each of its transactions: in
//! its offsets, to the brokers and to everybody's tools, and in the checkpoint topic, to whoever takes
//! its lanes.
//!
//! Offsets alone are not enough: they expire, are set back, and brokers were seen that came back with
//! those of some minutes ago. Whatever was committed once would be written a second time.

use std::num::NonZeroU32;
use std::sync::Arc;

use tailwater_core::Result;
use tailwater_core::gap::{Gap, GapRecord};
use tailwater_core::position::{Checkpoint, Epoch, LaneId, Position, Seq};
use tailwater_pipeline::write_ahead::CheckpointStore as _;
use tailwater_pipeline::{clock, retry};
use tracing::warn;

use crate::checkpoints::{Advance, CheckpointTopic, Lanes};
use crate::client::Client;
use crate::offsets::GroupOffsets;
use crate::producer::{Offsets, Open};
use crate::topics::Topics;
use crate::transaction::Progress;

/// How far the lanes of a group are.
#[derive(Debug, Clone)]
pub struct GroupProgress {
    client: Client,
    topics: Topics,
    group: Arc<str>,
    offsets: GroupOffsets,
    checkpoints: Arc<str>,
    /// What the checkpoint topic said when lanes were last taken.
    read: Arc<Lanes>,
}

impl GroupProgress {
    /// Says it in these offsets of `group` and in this topic, which is made when it is missing.
    ///
    /// # Errors
    /// Those of making the topic.
    pub async fn new(
        client: &Client,
        topics: Topics,
        group: &str,
        offsets: GroupOffsets,
        checkpoints: &Arc<str>,
    ) -> Result<Self> {
        topics.ensure_checkpoints(checkpoints).await?;
        let (client, checkpoints) = (client.clone(), Arc::clone(checkpoints));
        let (group, read) = (group.into(), Arc::new(Lanes::NONE));
        Ok(Self { client, topics, group, offsets, checkpoints, read })
    }

    /// Reads what was said in the topic since lanes were last taken, also by transactions that are still
    /// open: who had a lane before us has put into his whatever his offsets will say.
    async fn read_on(&self) -> Result<Lanes> {
        let Self { client, group, checkpoints, read, .. } = self;
        let id = self.topics.ensure_checkpoints(checkpoints).await?;
        CheckpointTopic::lanes(client, group, checkpoints, id, read).await
    }
}

impl Progress for GroupProgress {
    async fn checkpoints(&mut self, lanes: &[LaneId]) -> Result<Vec<Checkpoint>> {
        let committed = self.offsets.load(lanes).await?;
        let this = &*self;
        let read = retry::patiently(retry::FOR_EVER, || this.read_on()).await?;
        self.read = Arc::new(read);
        let mut checkpoints = Vec::with_capacity(lanes.len());
        let mut behind = Vec::new();
        for (lane, committed) in lanes.iter().zip(committed) {
            let (epoch, committed) = match committed {
                Some(checkpoint) => (checkpoint.epoch, checkpoint.next.seq),
                None => (self.offsets.topic_id(lane).await?, Seq::ZERO),
            };
            let seq = self.read.next(lane, epoch).map_or(committed, |said| said.max(committed));
            let next = Position { seq, cursor: bytes::Bytes::new() };
            let checkpoint = Checkpoint { epoch, next, pending: None, renumbered: false };
            if seq > committed {
                warn!(
                    stream = %lane, group = %self.group, %committed, next = %seq,
                    "the group's offset is older than what was written: going on behind that"
                );
                behind.push((lane.clone(), checkpoint.clone()));
            }
            checkpoints.push(checkpoint);
        }
        // A quiet lane would be thought to lag.
        self.offsets.save(behind).await?;
        Ok(checkpoints)
    }

    fn pinned(&self, _: &str) -> Option<(Epoch, NonZeroU32)> {
        None
    }

    async fn mend(&self) -> Result<()> {
        self.topics.ensure_checkpoints(&self.checkpoints).await.map(drop)
    }

    fn put_early(&self, open: &Open<'_>, advance: &Advance) -> Result<()> {
        let lanes = advance.streams.iter().map(|(lane, at)| (lane.clone(), at.epoch, at.next.seq));
        CheckpointTopic::send_lanes(open, &self.checkpoints, &self.group, lanes)
    }

    fn put(&self, open: &Open<'_>, advance: &Advance, _: &Offsets) -> Result<Self> {
        // Brokers take offsets from members only. What the topic says of them is there by now: so whoever
        // takes a lane from us finds it, or finds us refused.
        self.offsets.put(open, &advance.streams)?;
        Ok(self.clone())
    }

    fn put_gap(&self, open: &Open<'_>, gap: &Gap) -> Result<Self> {
        CheckpointTopic::send_gap(open, &self.checkpoints, &GapRecord::of(gap, clock::now()))?;
        open.flush()?;
        Ok(self.clone())
    }
}
