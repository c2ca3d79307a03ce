//! GroupOffsets: checkpoints as committed offsets of a group, with what is pending in their metadata.
//!
//! A commit that the group refuses, since this member is no longer in it, is tried again until the lane
//! is taken back: only who took it may go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tailwater_core::position::{Checkpoint, Epoch, LaneId, Position, Seq};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::failpoint;
use tailwater_pipeline::retry::{self, Backoff};
use tailwater_pipeline::write_ahead::CheckpointStore;
use tracing::{info, warn};

use crate::client::{Client, NEVER_RESENT, PATIENCE, blocking, blocking_while_wanted};
use crate::member::Consumer;
use crate::metadata::{MAX_BYTES, Metadata};
use crate::producer::Open;
use crate::reader::{lane_of, named};
use crate::topics::Topics;

/// Checkpoints in a group's committed offsets.
#[derive(Clone)]
pub struct GroupOffsets {
    client: Client,
    consumer: Arc<Consumer>,
    topics: Topics,
    busy: Arc<Mutex<()>>,
    /// Until when a copy of the last commit may arrive.
    resent: Arc<Mutex<Option<Instant>>>,
}

/// A copy of a commit arrives at most this long behind its answer.
const COPY_LIFE: Duration = Duration::from_secs(10);

impl std::fmt::Debug for GroupOffsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupOffsets").finish_non_exhaustive()
    }
}

impl GroupOffsets {
    pub(crate) fn new(
        client: Client,
        consumer: Arc<Consumer>,
        topics: Topics,
        busy: Arc<Mutex<()>>,
    ) -> Self {
        Self { client, consumer, topics, busy, resent: Arc::default() }
    }

    /// Held while offsets are committed, also by a thread whose task is gone.
    pub(crate) fn busy(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.busy)
    }

    /// The id of a lane's topic.
    pub(crate) async fn topic_id(&self, lane: &LaneId) -> Result<Epoch> {
        let ask = || async {
            let description = self.topics.describe(lane.topic()).await?;
            description.map(|description| description.id).ok_or_else(|| is_gone(lane))
        };
        retry::patiently(retry::FOR_EVER, ask).await
    }

    /// Commits, unless the group has lost us: librdkafka says then that we are in no generation, and
    /// the broker of a group without members takes that.
    fn commit(&self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let lost = || match self.consumer.assignment_lost() {
            true => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost)),
            false => Ok(()),
        };
        let mut resent = self.resent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = resent.take() {
            // A copy of the one before that arrives behind this one would set the offset back.
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        lost()?;
        let asked = Instant::now();
        let answer = self.consumer.commit(list, CommitMode::Sync);
        if asked.elapsed() > NEVER_RESENT {
            *resent = Some(Instant::now() + COPY_LIFE);
        }
        answer?;
        lost()
    }

    /// Puts offsets into an open transaction.
    pub(crate) fn put(&self, open: &Open<'_>, lanes: &[(LaneId, Checkpoint)]) -> Result<()> {
        let group = self
            .consumer
            .group_metadata()
            .ok_or_else(|| Error::new(ErrorKind::Bug, "a group without a name"))?;
        if self.consumer.assignment_lost() {
            // In no generation, as a broker takes it of whoever is in no group.
            let lost = KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost);
            return Err(self.client.explain(
                lost,
                format!("cannot put offsets of {} into a transaction", some(lanes)),
            ));
        }
        open.commit_offsets(&list(lanes)?, &group, &some(lanes))
    }

    /// The committed offsets of lanes and the texts beside them, in their order.
    async fn committed(&self, lanes: &[LaneId]) -> Result<Vec<Option<(u64, String)>>> {
        let (this, lanes) = (self.clone(), lanes.to_vec());
        blocking(move || {
            let _busy = this.busy.lock().unwrap_or_else(PoisonError::into_inner);
            let what = || format!("cannot read committed offsets of {}", named(lanes.iter()));
            let explain = |error| this.client.explain(error, what());
            let mut asked = TopicPartitionList::with_capacity(lanes.len());
            for lane in &lanes {
                asked.add_partition(lane.topic(), number(lane.partition()));
            }
            let answer = this.consumer.committed_offsets(asked, PATIENCE).map_err(explain)?;
            let mut found = BTreeMap::new();
            for element in answer.elements() {
                element.error().map_err(explain)?;
                if let Offset::Offset(offset) = element.offset()
                    && let Ok(offset) = u64::try_from(offset)
                {
                    let lane = lane_of(element.topic(), element.partition());
                    found.insert(lane, (offset, element.metadata().to_owned()));
                }
            }
            Ok(lanes.iter().map(|lane| found.remove(lane)).collect())
        })
        .await
    }

    async fn try_load(&self, lanes: &[LaneId]) -> Result<Vec<Option<Checkpoint>>> {
        let names: BTreeSet<&str> = lanes.iter().map(LaneId::topic).collect();
        let names = names.into_iter().map(str::to_owned).collect();
        let topics = self.topics.describe_all(names).await?;
        let committed = self.committed(lanes).await?;
        let checkpoint = |(lane, committed): (&LaneId, Option<(u64, String)>)| {
            let topic = topics.get(lane.topic()).ok_or_else(|| is_gone(lane))?;
            committed.map_or(Ok(None), |(offset, text)| checkpoint(lane, topic.id, offset, &text))
        };
        lanes.iter().zip(committed).map(checkpoint).collect()
    }
}

/// The checkpoint that is committed for a lane; none where it is of an earlier topic of the name.
fn checkpoint(lane: &LaneId, epoch: Epoch, offset: u64, text: &str) -> Result<Option<Checkpoint>> {
    let found = Metadata::read(text).map_err(|why| {
        let what = format!("the group's metadata of `{lane}` cannot be read: {why}");
        Error::new(ErrorKind::Corrupt, what).with_hint(
            "another program commits offsets in this group: give the pipeline another name, \
             or set the offset anew with `kafka-consumer-groups.sh`, which empties the metadata",
        )
    })?;
    let next = Position { seq: Seq(offset), cursor: bytes::Bytes::new() };
    match found {
        Some(found) if found.epoch != epoch => {
            info!(stream = %lane, was = %found.epoch, is = %epoch, "the topic was made anew: a new lane");
            Ok(None)
        }
        Some(Metadata { renumbered, pending, .. }) => {
            Ok(Some(Checkpoint { epoch, next, pending, renumbered }))
        }
        None => Ok(Some(Checkpoint { epoch, next, pending: None, renumbered: false })),
    }
}

fn is_gone(lane: &LaneId) -> Error {
    Error::new(ErrorKind::Busy, format!("topic `{}` is gone", lane.topic()))
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn some(changes: &[(LaneId, Checkpoint)]) -> String {
    named(changes.iter().map(|(lane, _)| lane))
}

/// The offsets of these lanes with what belongs beside them.
fn list(changes: &[(LaneId, Checkpoint)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(changes.len());
    for (lane, checkpoint) in changes {
        let text = Metadata::of(checkpoint).write();
        if text.len() > MAX_BYTES {
            let what = format!(
                "the checkpoint of `{lane}` takes {} bytes, more than {MAX_BYTES}",
                text.len()
            );
            return Err(
                Error::new(ErrorKind::Unsuitable, what).with_hint("give the tables shorter names")
            );
        }
        let mut element = list.add_partition(lane.topic(), number(lane.partition()));
        let offset = i64::try_from(checkpoint.next.seq.0).unwrap_or(i64::MAX);
        element.set_offset(Offset::Offset(offset)).map_err(|error| {
            Error::new(ErrorKind::Bug, format!("`{lane}` has no offset {offset}"))
                .with_source(error)
        })?;
        element.set_metadata(text);
    }
    Ok(list)
}

impl CheckpointStore for GroupOffsets {
    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<Option<Checkpoint>>> {
        let this = self.clone();
        retry::patiently(retry::FOR_EVER, || this.try_load(lanes)).await
    }

    async fn begin(&mut self, lane: &LaneId) -> Result<Option<(Epoch, Seq)>> {
        let this = self.clone();
        retry::patiently(retry::FOR_EVER, || async {
            let epoch = this.topic_id(lane).await?;
            let (asked, of) = (this.clone(), lane.clone());
            let low = blocking(move || {
                let what = || format!("cannot look at `{of}`");
                let partition = number(of.partition());
                let marks = asked.consumer.fetch_watermarks(of.topic(), partition, PATIENCE);
                marks.map(|(low, _)| low).map_err(|error| asked.client.explain(error, what()))
            })
            .await?;
            Ok(Some((epoch, Seq(u64::try_from(low).unwrap_or_default()))))
        })
        .await
    }

    fn may_be_taken_from_the_living(&self) -> bool {
        true
    }

    async fn save(&mut self, changes: Vec<(LaneId, Checkpoint)>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let changes = Arc::new(changes);
        let mut backoff = Backoff::new();
        loop {
            let (this, these) = (self.clone(), Arc::clone(&changes));
            let committed = blocking_while_wanted(move |wanted| {
                let list = list(&these)?;
                let _busy = this.busy.lock().unwrap_or_else(PoisonError::into_inner);
                if wanted.is_over() {
                    return Err(Error::new(ErrorKind::Busy, "a commit of offsets was given up"));
                }
                let answer = this.commit(&list);
                let what = || format!("cannot commit offsets of {}", some(&these));
                answer.map_err(|error| this.client.explain(error, what()))
            });
            let error = match committed.await {
                Ok(()) => break,
                Err(error) => error,
            };
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            if backoff.attempts().is_multiple_of(10) {
                warn!(%error, cause = std::error::Error::source(&error), "committing again");
            }
            backoff.pause().await;
        }
        failpoint::reach(failpoint::CHECKPOINT_PLACED);
        Ok(())
    }
}
