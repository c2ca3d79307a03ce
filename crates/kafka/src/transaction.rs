//! Transaction: delivers batches into topics, each with its checkpoints in one Kafka transaction.
//!
//! Progress is what the transaction commits, so nothing is ever half there. A transaction that fails
//! is aborted, and its batch is sent again.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use tailwater_core::gap::Gap;
use tailwater_core::position::{Checkpoint, Epoch, LaneId, Position, Seq};
use tailwater_core::record::Message;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::retry::Backoff;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::{Batch, Delivery, Part, failpoint, write_ahead};
use tracing::{info, warn};

use crate::checkpoints::{Advance, CheckpointTopic};
use crate::client::Client;
use crate::group_progress::GroupProgress;
use crate::losses;
use crate::offsets::GroupOffsets;
use crate::producer::{OWN_TRANSACTION_TIMEOUT, Offsets, Open, Producer, TRANSACTION_TIMEOUT};
use crate::sending::Sending;
use crate::to_messages::Messages;
use crate::topics::{Topic, Topics};

/// How far lanes are, as a transaction says it.
pub trait Progress: Clone + Send + Sync + 'static {
    /// How far lanes are, in their order.
    fn checkpoints(
        &mut self,
        lanes: &[LaneId],
    ) -> impl Future<Output = Result<Vec<Checkpoint>>> + Send;

    /// The number of partitions of a topic that a document's partition was chosen among, with the id
    /// of the topic that it was.
    fn pinned(&self, topic: &str) -> Option<(Epoch, NonZeroU32)>;

    /// What is lost with topics that are others now.
    fn deleted(&self, _: &Routes) -> Vec<Gap> {
        Vec::new()
    }

    /// Makes anew what may be missing where a transaction failed.
    fn mend(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Puts into an open transaction what of `advance` need not wait for its records.
    ///
    /// # Errors
    /// Those of sending.
    fn put_early(&self, _: &Open<'_>, _: &Advance) -> Result<()> {
        Ok(())
    }

    /// Puts into an open transaction how far lanes are, once its records are there. Gives what is known
    /// once it is committed.
    ///
    /// # Errors
    /// Those of sending.
    fn put(&self, open: &Open<'_>, advance: &Advance, offsets: &Offsets) -> Result<Self>;

    /// Puts into an open transaction what is missing for good. To tell it twice is to tell it once.
    ///
    /// # Errors
    /// Those of sending.
    fn put_gap(&self, open: &Open<'_>, gap: &Gap) -> Result<Self>;
}

/// Delivers into topics, with the progress `P` in the same transaction.
#[derive(Debug)]
pub struct Transaction<P> {
    producer: Producer,
    topics: Topics,
    progress: P,
    vitals: Vitals,
    /// The lanes that are claimed, and where each goes on.
    lanes: BTreeMap<LaneId, (Epoch, Seq)>,
}

/// Where the messages of a batch go.
pub(crate) type Routes = BTreeMap<Arc<str>, Topic>;

impl Transaction<CheckpointTopic> {
    /// Takes over the pipeline's transactional id, and then reads how far it is: in this order, so
    /// that nothing can be added behind our back.
    ///
    /// # Errors
    /// Those of the cluster; `InUse` when somebody takes over meanwhile.
    pub async fn begin(
        client: &Client,
        topics: Topics,
        pipeline: &str,
        checkpoints: &Arc<str>,
        vitals: Vitals,
    ) -> Result<Self> {
        topics.ensure_checkpoints(checkpoints).await?;
        let id = format!("{pipeline}.source");
        let producer = Producer::start(client, &id, TRANSACTION_TIMEOUT, Arc::default()).await?;
        let progress = CheckpointTopic::read(client, &id, checkpoints).await?;
        let losses = losses::find(client, &topics, &id, &progress).await?;
        let mut this = Self { producer, topics, progress, vitals, lanes: BTreeMap::new() };
        for gap in losses {
            warn!(stream = %gap.lane, reason = gap.reason.as_str(), "a topic has lost acknowledged records");
            this.record_gap(&gap).await?;
        }
        Ok(this)
    }

    /// What was read, and what was committed since.
    pub fn checkpoints(&self) -> &CheckpointTopic {
        &self.progress
    }

    /// Begins every stream that has no checkpoint, durably.
    ///
    /// # Errors
    /// Those of the transaction.
    pub async fn begin_missing(
        &mut self,
        lanes: impl IntoIterator<Item = LaneId>,
        position: &Position,
    ) -> Result<()> {
        let mut streams = Vec::new();
        for lane in lanes.into_iter().filter(|lane| self.progress.stream(lane).is_none()) {
            let epoch = write_ahead::new_epoch()?;
            info!(stream = %lane, %epoch, "stream begins");
            let next = position.clone();
            streams.push((lane, Checkpoint { epoch, next, pending: None, renumbered: false }));
        }
        if streams.is_empty() {
            return Ok(());
        }
        let advance = Advance { streams, topics: BTreeMap::new() };
        self.commit(Arc::default(), Routes::new(), advance).await
    }
}

impl Transaction<GroupProgress> {
    /// Delivers what a group reads, with how far it is in the same transactions. The id is nobody's
    /// else: who is no longer in the group is refused by the offsets.
    ///
    /// # Errors
    /// Those of the cluster.
    pub async fn of_group(
        client: &Client,
        topics: Topics,
        group: &str,
        offsets: GroupOffsets,
        checkpoints: &Arc<str>,
        vitals: Vitals,
    ) -> Result<Self> {
        let id = format!("{group}.{}", write_ahead::new_epoch()?);
        let producer =
            Producer::start(client, &id, OWN_TRANSACTION_TIMEOUT, offsets.busy()).await?;
        let progress =
            GroupProgress::new(client, topics.clone(), group, offsets, checkpoints).await?;
        Ok(Self { producer, topics, progress, vitals, lanes: BTreeMap::new() })
    }
}

impl<P: Progress> Transaction<P> {
    /// The topics of these messages, made where they are missing.
    async fn routes<'m>(&self, messages: impl Iterator<Item = &'m Message>) -> Result<Routes> {
        let mut routes = Routes::new();
        for message in messages {
            if !routes.contains_key(&message.topic) {
                let pinned = self.progress.pinned(&message.topic);
                let topic = self.topics.ensure(&message.topic, pinned).await?;
                routes.insert(Arc::clone(&message.topic), topic);
            }
        }
        Ok(routes)
    }

    /// Sends messages and checkpoints in one transaction, as often as it takes.
    async fn commit(
        &mut self,
        messages: Arc<Vec<Message>>,
        routes: Routes,
        advance: Advance,
    ) -> Result<()> {
        let (before, sent) = (self.progress.clone(), Arc::clone(&messages));
        let committed = self.producer.transact(move |open| {
            let mut sending = Sending::over(open);
            for message in sent.iter() {
                sending.send(message, routes.get(&message.topic))?;
            }
            before.put_early(open, &advance)?;
            failpoint::reach(failpoint::SENT);
            let offsets = open.flush()?;
            let after = before.put(open, &advance, &offsets)?;
            failpoint::reach(failpoint::COMMITTING);
            Ok(after)
        });
        self.progress = committed.await?;
        failpoint::reach(failpoint::COMMITTED);
        Ok(())
    }

    async fn try_deliver(
        &mut self,
        messages: &Arc<Vec<Message>>,
        streams: &[(LaneId, Checkpoint)],
    ) -> Result<()> {
        let routes = self.routes(messages.iter()).await?;
        for gap in self.progress.deleted(&routes) {
            warn!(topic = %gap.lane, "the topic was deleted: what nobody had read of it is lost");
            self.record_gap(&gap).await?;
        }
        let topics =
            routes.iter().map(|(name, topic)| (name.to_string(), (topic.id, topic.partitions)));
        let advance = Advance { streams: streams.to_vec(), topics: topics.collect() };
        self.commit(Arc::clone(messages), routes, advance).await
    }

    fn checkpoint(&self, part: &Part<Messages>) -> Result<(LaneId, Checkpoint)> {
        let Some((epoch, expected)) = self.lanes.get(&part.lane).copied() else {
            let what = format!("`{}` was never claimed", part.lane);
            return Err(Error::new(ErrorKind::Bug, what));
        };
        if let Some(range) = part.range.filter(|range| range.first != expected) {
            let what = format!("`{}` is at {expected}, but {range} was read", part.lane);
            return Err(Error::new(ErrorKind::Bug, what));
        }
        let next = part.next.clone();
        Ok((part.lane.clone(), Checkpoint { epoch, next, pending: None, renumbered: false }))
    }
}

impl<P: Progress> Delivery for Transaction<P> {
    type Body = Messages;

    async fn claim(&mut self, lanes: &[LaneId]) -> Result<Vec<Checkpoint>> {
        let checkpoints = self.progress.checkpoints(lanes).await?;
        let places = checkpoints.iter().map(|at| (at.epoch, at.next.seq));
        self.lanes.extend(lanes.iter().cloned().zip(places));
        Ok(checkpoints)
    }

    async fn recover(&mut self, part: Part<Messages>) -> Result<()> {
        Err(Error::new(ErrorKind::Bug, format!("`{}` cannot be half delivered", part.lane)))
    }

    async fn deliver(&mut self, batch: Batch<Messages>) -> Result<()> {
        let hint = "nothing is lost: Tailwater begins again from the checkpoint";
        self.producer.refuse_worn(hint)?;
        if batch.parts.is_empty() {
            return self.producer.look().await;
        }
        let streams = batch.parts.iter().map(|part| self.checkpoint(part));
        let streams = streams.collect::<Result<Vec<_>>>()?;
        let mut messages = Vec::new();
        let mut delivered = Vec::new();
        let mut held = Vec::new();
        for part in batch.parts {
            let Part { lane, body, held: share, .. } = part;
            delivered.push((lane, body.events, body.newest));
            messages.extend(body.messages);
            held.extend(share);
        }
        let messages = Arc::new(messages);
        let mut backoff = Backoff::new();
        while let Err(error) = self.try_deliver(&messages, &streams).await {
            for (lane, ..) in &delivered {
                self.vitals.delivery_failed(lane);
            }
            for message in messages.iter() {
                // One of them may be gone, or another one by now.
                self.topics.forget(&message.topic);
            }
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            warn!(%error, cause = std::error::Error::source(&error), "transaction aborted, sending again");
            self.producer.refuse_worn(hint)?;
            backoff.pause().await;
            match self.progress.mend().await {
                Err(error) if error.kind().action() == Action::Stop => return Err(error),
                Err(error) => warn!(%error, "cannot look at what transactions need"),
                Ok(()) => {}
            }
        }
        for (lane, at) in streams {
            self.lanes.insert(lane, (at.epoch, at.next.seq));
        }
        for (lane, events, newest) in delivered {
            self.vitals.delivered(&lane, events, newest);
        }
        drop(held);
        Ok(())
    }

    fn release(&mut self, lanes: &[LaneId]) {
        self.lanes.retain(|lane, _| !lanes.contains(lane));
    }

    async fn record_gap(&mut self, gap: &Gap) -> Result<()> {
        let progress = self.progress.clone();
        let gap = gap.clone();
        let recorded = self.producer.transact(move |open| progress.put_gap(open, &gap));
        self.progress = recorded.await?;
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}
