//! Write-ahead delivery: declare, write under a token, advance; after a crash, read back and write
//! what is missing.
//!
//! ```text
//!   save(next = a, pending = [a..b])      the Range is declared
//!   write the blocks of [a..b], token T
//!   next = b+1                            saved with the next declaration, or when idle
//! ```
//!
//! The rules and their reasons: `docs/delivery.md`. This file must never move `next` past rows
//! that were not seen written, and never send a block that is not declared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tailwater_core::position::{Checkpoint, Epoch, Intent, LaneId, Millis, Plan, Position, Seq};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tracing::{info, warn};

use crate::clock;
use crate::failpoint;
use crate::part::{Batch, Delivery, Part};
use crate::retry::{self, Backoff};
use crate::vitals::Vitals;

/// Keeps checkpoints.
pub trait CheckpointStore: Send + Sync {
    /// The checkpoint of a lane, as it was last saved.
    fn load(&self, lane: &LaneId) -> Option<&Checkpoint>;

    /// Saves the checkpoints of some lanes. Durable on return.
    fn save(
        &mut self,
        changes: Vec<(LaneId, Checkpoint)>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// A Range that may be written: it is declared, durably.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// The lane.
    pub lane: &'a LaneId,
    /// The life of the lane's numbering.
    pub epoch: Epoch,
    /// What was declared.
    pub intent: &'a Intent,
    /// The moment after which no block of this declaration is sent any more.
    pub deadline: Millis,
}

/// A body that knows what it is going to write.
pub trait Planned: Send + Sync + 'static {
    /// What the Range writes.
    fn plan(&self) -> &Plan;
}

/// A block of a Range, each with a token of its own.
#[derive(Debug, Clone, Copy)]
pub enum Block<'a> {
    /// The Range as a whole, under its token T.
    Whole,
    /// What a read-back found missing, under `T~n`, n from 1 on.
    Missing(&'a BTreeSet<Seq>, u32),
}

/// What a read-back did not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The events without a row.
    pub rows: BTreeSet<Seq>,
    /// The whole block may be sent under T again: none of its rows are there, or T is surely among
    /// the tokens that the server still remembers.
    pub token_holds: bool,
}

/// Where rows go that carry their identity.
pub trait Target: Send + Sync {
    /// The rows of one part.
    type Body: Planned;
    /// Checks that a lane without a checkpoint has no rows of an earlier life.
    fn check_new(&self, lane: &LaneId) -> impl Future<Output = Result<()>> + Send;

    /// Writes the rows that may come twice, since a version tells which one counts.
    fn upsert(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Appends rows that must come once.
    fn append(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
        block: Block<'_>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Waits until no write of the Range runs on the server any more.
    fn quiesce(&self, declared: Declared<'_>) -> impl Future<Output = Result<()>> + Send;

    /// Reads back which rows of the Range are not there; `None` when all are.
    fn missing(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
    ) -> impl Future<Output = Result<Option<Missing>>> + Send;
}

/// An insert starts at most this long after its declaration: the server's deduplication window
/// must outlast it.
pub const DEFAULT_INSERT_DEADLINE: Duration = Duration::from_secs(60);

/// Delivers by write-ahead: checkpoints in `C`, rows in `T`.
#[derive(Debug)]
pub struct WriteAhead<C, T> {
    store: C,
    target: T,
    insert_deadline: Duration,
    vitals: Vitals,
    lanes: BTreeMap<LaneId, Checkpoint>,
    /// Some lane's `next` is further than what is saved.
    unsaved: bool,
}

impl<C: CheckpointStore, T: Target> WriteAhead<C, T> {
    /// A delivery that owns its store and its target.
    pub fn new(store: C, target: T, insert_deadline: Duration, vitals: Vitals) -> Self {
        Self { store, target, insert_deadline, vitals, lanes: BTreeMap::new(), unsaved: false }
    }

    /// Saves every lane as it is in memory.
    async fn save(&mut self) -> Result<()> {
        let all = self.lanes.iter().map(|(lane, checkpoint)| (lane.clone(), checkpoint.clone()));
        self.store.save(all.collect()).await?;
        self.unsaved = false;
        Ok(())
    }

    fn checkpoint(&mut self, lane: &LaneId) -> Result<&mut Checkpoint> {
        self.lanes
            .get_mut(lane)
            .ok_or_else(|| Error::new(ErrorKind::Bug, format!("`{lane}` was never claimed")))
    }

    fn declared<'a>(&'a self, lane: &'a LaneId) -> Result<Declared<'a>> {
        let checkpoint = self.lanes.get(lane);
        let pending = checkpoint.and_then(|at| Some((at.epoch, at.pending.as_ref()?)));
        let Some((epoch, intent)) = pending else {
            return Err(Error::new(ErrorKind::Bug, format!("`{lane}` has nothing declared")));
        };
        let wait = i64::try_from(self.insert_deadline.as_millis()).unwrap_or(i64::MAX);
        let deadline = Millis(intent.declared_at.0.saturating_add(wait));
        Ok(Declared { lane, epoch, intent, deadline })
    }

    /// Declares the Range of each part that has one, all in one save.
    async fn declare<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a Part<T::Body>>,
    ) -> Result<()> {
        let declared_at = clock::now();
        for part in parts {
            let checkpoint = self.checkpoint(&part.lane)?;
            let Some(range) = part.range else { continue };
            if checkpoint.next.seq != range.first {
                let expected = checkpoint.next.seq;
                return Err(Error::new(
                    ErrorKind::Bug,
                    format!("`{}` is at {expected}, but {range} was read", part.lane),
                ));
            }
            let plan = part.body.plan().clone();
            checkpoint.pending = Some(Intent { range, plan, declared_at });
        }
        self.save().await
    }

    /// Moves a lane past a part whose rows are there.
    fn advance(&mut self, lane: &LaneId, next: Position) -> Result<()> {
        let vitals = self.vitals.clone();
        let checkpoint = self.checkpoint(lane)?;
        debug_assert!(next.seq >= checkpoint.next.seq, "progress never moves backwards");
        if let Some(intent) = checkpoint.pending.take() {
            vitals.delivered(lane, intent.range.count(), intent.plan.ts_max);
        }
        checkpoint.next = next;
        self.unsaved = true;
        Ok(())
    }

    /// Writes a part for the first time.
    async fn write(&self, part: &Part<T::Body>) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        let (upserted, appended) = tokio::join!(
            self.target.upsert(declared, &part.body),
            self.target.append(declared, &part.body, Block::Whole),
        );
        upserted.and(appended)
    }

    /// Makes a declared Range complete, whatever of it is there, and however often that takes.
    async fn finish(&mut self, part: &Part<T::Body>) -> Result<()> {
        let mut backoff = Backoff::new();
        loop {
            let error = match self.read_back_and_write(part).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            self.report(part, &error);
            backoff.pause().await;
        }
    }

    async fn read_back_and_write(&mut self, part: &Part<T::Body>) -> Result<()> {
        // A new declaration gives the blocks a new deadline. It is durable before they are sent.
        self.declare([part]).await?;
        failpoint::reach(failpoint::REDECLARED);
        let declared = self.declared(&part.lane)?;
        self.target.quiesce(declared).await?;
        self.target.upsert(declared, &part.body).await?;
        let mut repairs = 0;
        let mut whole_sent = false;
        // An OK from a token that was sent before is no proof: the server keeps the token and the
        // rows in two writes, and a crash between them leaves the token alone. So only a read-back
        // ends this. Every recovery walks the tokens from T on, so that an earlier request under
        // one of them, held somewhere on its way, finds its token used in every table partition.
        while let Some(missing) = self.target.missing(declared, &part.body).await? {
            let block = if missing.token_holds && !whole_sent {
                whole_sent = true;
                Block::Whole
            } else {
                repairs += 1;
                Block::Missing(&missing.rows, repairs)
            };
            failpoint::reach(failpoint::READ_BACK);
            self.target.append(declared, &part.body, block).await?;
            failpoint::reach(failpoint::RESENT);
        }
        Ok(())
    }

    fn report(&self, part: &Part<T::Body>, error: &Error) {
        self.vitals.delivery_failed(&part.lane);
        warn!(stream = %part.lane, error = %Chain(error), "write failed, trying again");
    }
}

impl<C, T> Delivery for WriteAhead<C, T>
where
    C: CheckpointStore,
    T: Target,
{
    type Body = T::Body;

    async fn claim(&mut self, lane: &LaneId) -> Result<Option<Checkpoint>> {
        let Some(checkpoint) = self.store.load(lane).cloned() else {
            let target = &self.target;
            retry::patiently(retry::FOR_EVER, move || target.check_new(lane)).await?;
            return Ok(None);
        };
        self.lanes.insert(lane.clone(), checkpoint.clone());
        Ok(Some(checkpoint))
    }

    async fn begin(&mut self, lane: &LaneId, position: Position) -> Result<Checkpoint> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            Error::new(ErrorKind::Storage, "the system gives no random numbers").with_source(error)
        })?;
        let checkpoint = Checkpoint {
            epoch: Epoch::new(bytes),
            next: Position { seq: Seq::ZERO, cursor: position.cursor },
            pending: None,
        };
        self.lanes.insert(lane.clone(), checkpoint.clone());
        failpoint::reach(failpoint::BEGINNING);
        self.save().await?;
        Ok(checkpoint)
    }

    async fn recover(&mut self, part: Part<T::Body>) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        let (stored, read) = (declared.intent.plan.digest, part.body.plan().digest);
        if stored != read {
            return Err(Error::new(
                ErrorKind::WrongHistory,
                format!(
                    "the stream `{}` no longer yields the events {} that were being written",
                    part.lane, declared.intent.range
                ),
            )
            .with_hint("start once more with the server and the flags of the last run"));
        }
        info!(stream = %part.lane, range = %declared.intent.range, "finishing the pending range");
        self.finish(&part).await?;
        failpoint::reach(failpoint::RECOVERED);
        self.advance(&part.lane, part.next)?;
        self.save().await
    }

    async fn deliver(&mut self, batch: Batch<T::Body>) -> Result<()> {
        if batch.parts.is_empty() {
            return self.settle().await;
        }
        if batch.parts.iter().any(|part| part.range.is_some()) {
            self.declare(&batch.parts).await?;
            failpoint::reach(failpoint::DECLARED);
        }
        let written = join_all(batch.parts.iter().map(async |part| match part.range {
            Some(_) => self.write(part).await,
            None => Ok(()),
        }))
        .await;
        failpoint::reach(failpoint::WRITTEN);
        for (part, written) in batch.parts.into_iter().zip(written) {
            if let Err(error) = written {
                if error.kind().action() != Action::Retry {
                    return Err(error);
                }
                self.report(&part, &error);
                self.finish(&part).await?;
            }
            self.advance(&part.lane, part.next)?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        if self.unsaved { self.save().await } else { Ok(()) }
    }
}

/// An error with its causes, for a log line.
struct Chain<'a>(&'a Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
