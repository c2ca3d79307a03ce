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
//!
//! | file | what |
//! |---|---|
//! | `target` | where the rows go |
//! | `finish` | what a Range may need until it is complete |

mod finish;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tailwater_core::gap::Gap;
use tailwater_core::position::{Checkpoint, Epoch, Intent, LaneId, Millis, Position, Seq};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::target::{Block, Declared, Planned, ReadBack, Round, Target};
use crate::bisect::MaxRejected;
use crate::clock;
use crate::failpoint;
use crate::part::{Batch, Delivery, Part};
use crate::retry;
use crate::vitals::Vitals;

/// Keeps checkpoints.
pub trait CheckpointStore: Send + Sync {
    /// The checkpoints of some lanes, as they were last saved, in their order.
    fn load(
        &mut self,
        lanes: &[LaneId],
    ) -> impl Future<Output = Result<Vec<Option<Checkpoint>>>> + Send;

    /// A lane that was never saved and may begin by itself: the life of its numbering, and the first
    /// event that can still be read. `None`: such a lane is a mistake.
    fn begin(
        &mut self,
        _lane: &LaneId,
    ) -> impl Future<Output = Result<Option<(Epoch, Seq)>>> + Send {
        std::future::ready(Ok(None))
    }

    /// Whether who had a lane before may live on, stopped, and go on sending what it had declared.
    fn may_be_taken_from_the_living(&self) -> bool {
        false
    }

    /// Saves the checkpoints of some lanes. Durable on return.
    fn save(
        &mut self,
        changes: Vec<(LaneId, Checkpoint)>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// An insert starts at most this long after its declaration, and arrives at most half as long after
/// its client gave up or died: the server's deduplication window must outlast both together.
pub const DEFAULT_INSERT_DEADLINE: Duration = Duration::from_secs(60);

/// Lanes that are claimed together ask the target for so many of them at once.
const QUESTIONS_AT_ONCE: usize = 4;

/// How far an earlier life of a claimed lane may have come.
#[derive(Debug, Clone, Copy)]
struct Guard {
    /// Up to here events may have rows, that came in Ranges of other bounds.
    foreign: Option<Seq>,
    /// Up to here nothing counts as written that was not read back.
    prove: Seq,
}

/// Delivers by write-ahead: checkpoints in `C`, rows in `T`.
#[derive(Debug)]
pub struct WriteAhead<C, T> {
    store: C,
    target: T,
    insert_deadline: Duration,
    max_rejected: MaxRejected,
    vitals: Vitals,
    lanes: BTreeMap<LaneId, Checkpoint>,
    guards: BTreeMap<LaneId, Guard>,
    /// Until when unanswered requests may arrive.
    arrivals: Mutex<BTreeMap<LaneId, Instant>>,
    /// The lanes whose checkpoint is further than what is saved.
    unsaved: BTreeSet<LaneId>,
}

impl<C: CheckpointStore, T: Target> WriteAhead<C, T> {
    /// A delivery that owns its store and its target.
    pub fn new(store: C, target: T, insert_deadline: Duration, vitals: Vitals) -> Self {
        Self {
            store,
            target,
            insert_deadline,
            max_rejected: MaxRejected::default(),
            vitals,
            lanes: BTreeMap::new(),
            guards: BTreeMap::new(),
            arrivals: Mutex::default(),
            unsaved: BTreeSet::new(),
        }
    }

    /// The same, with other limits for dead letters.
    #[must_use]
    pub fn with_max_rejected(self, max_rejected: MaxRejected) -> Self {
        Self { max_rejected, ..self }
    }

    /// Saves the lanes that have changed.
    async fn save(&mut self) -> Result<()> {
        let changed = self.unsaved.iter();
        let changes =
            changed.filter_map(|lane| Some((lane.clone(), self.lanes.get(lane)?.clone())));
        self.store.save(changes.collect()).await?;
        self.unsaved.clear();
        Ok(())
    }

    /// A lane's checkpoint, to be changed and then saved.
    fn checkpoint(&mut self, lane: &LaneId) -> Result<&mut Checkpoint> {
        let checkpoint = self
            .lanes
            .get_mut(lane)
            .ok_or_else(|| Error::new(ErrorKind::Bug, format!("`{lane}` was never claimed")))?;
        if !self.unsaved.contains(lane) {
            self.unsaved.insert(lane.clone());
        }
        Ok(checkpoint)
    }

    fn declared<'a>(&'a self, lane: &'a LaneId) -> Result<Declared<'a>> {
        let checkpoint = self.lanes.get(lane);
        let pending = checkpoint.and_then(|at| Some((at.epoch, at.pending.as_ref()?)));
        let Some((epoch, intent)) = pending else {
            return Err(Error::new(ErrorKind::Bug, format!("`{lane}` has nothing declared")));
        };
        let wait = i64::try_from(self.insert_deadline.as_millis()).unwrap_or(i64::MAX);
        let deadline = Millis(intent.declared_at.0.saturating_add(wait));
        // A topic keeps its numbers, whatever becomes of a checkpoint.
        let stale = !lane.is_partition() && self.is_stale(lane, intent.range.first);
        let renumbered = stale || self.lanes.get(lane).is_some_and(|at| at.renumbered);
        Ok(Declared { lane, epoch, intent, deadline, renumbered })
    }

    /// Declares the Range of each part that has one, all in one save.
    async fn declare<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a Part<T::Body>>,
    ) -> Result<()> {
        let declared_at = clock::now();
        for part in parts {
            let foreign = self.may_be_foreign(part);
            let checkpoint = self.checkpoint(&part.lane)?;
            let Some(range) = part.range else { continue };
            if checkpoint.next.seq != range.first {
                let expected = checkpoint.next.seq;
                return Err(Error::new(
                    ErrorKind::Bug,
                    format!("`{}` is at {expected}, but {range} was read", part.lane),
                ));
            }
            let mut plan = part.body.plan().clone();
            if let Some(pending) = &checkpoint.pending {
                // What was written of it before may lie where it was planned before.
                plan.ts_min = plan.ts_min.min(pending.plan.ts_min);
                plan.ts_max = plan.ts_max.max(pending.plan.ts_max);
            }
            let foreign = foreign || checkpoint.renumbered || checkpoint.pending.is_some();
            checkpoint.pending = Some(Intent { range, plan, declared_at, foreign });
        }
        self.save().await
    }

    /// Moves a lane past a part whose rows are there.
    fn advance(&mut self, part: Part<T::Body>) -> Result<()> {
        let vitals = self.vitals.clone();
        let Part { lane, next, body, .. } = part;
        let checkpoint = self.checkpoint(&lane)?;
        debug_assert!(next.seq >= checkpoint.next.seq, "progress never moves backwards");
        if checkpoint.pending.take().is_some() {
            vitals.delivered(&lane, body.events(), body.newest());
        }
        checkpoint.next = next;
        Ok(())
    }

    /// Writes for the first time what of a part must come once. Gives whether it is surely there: the
    /// server said so, to tokens that were never sent before. Else only a read-back can tell.
    async fn append_all(&self, part: &Part<T::Body>) -> Result<bool> {
        let declared = self.declared(&part.lane)?;
        let tables = part.body.plan().rows.keys();
        // Each is waited for: what is dropped half way may arrive yet.
        let appended =
            join_all(tables.map(|table| self.append(declared, part, table, Block::Whole))).await;
        self.is_sure(part, appended.into_iter().collect())
    }

    /// Writes what of some parts may come twice. Gives of each whether it is surely there.
    async fn upsert_all(&self, parts: &[&Part<T::Body>]) -> Result<Vec<Result<bool>>> {
        let declared = parts.iter().map(|part| Ok((self.declared(&part.lane)?, &part.body)));
        let declared = declared.collect::<Result<Vec<_>>>()?;
        let answers = self.target.upsert_all(&declared).await;
        Ok(parts.iter().zip(answers).map(|(part, answer)| self.is_sure(part, answer)).collect())
    }

    fn is_sure(&self, part: &Part<T::Body>, answer: Result<()>) -> Result<bool> {
        match answer {
            Ok(()) => Ok(true),
            Err(error) if error.kind().action() == Action::Stop => Err(error),
            Err(error) => {
                self.report(part, &error);
                Ok(false)
            }
        }
    }

    /// Whether a part must be read back, whatever the server answers.
    fn must_prove(&self, part: &Part<T::Body>) -> bool {
        if self.lanes.get(&part.lane).is_some_and(|at| at.renumbered) {
            return true;
        }
        let first = part.range.map(|range| range.first);
        let guard = self.guards.get(&part.lane);
        guard.is_some_and(|guard| first.is_some_and(|first| first <= guard.prove))
    }

    /// Whether rows of a part may have come in Ranges of other bounds.
    fn may_be_foreign(&self, part: &Part<T::Body>) -> bool {
        part.range.is_some_and(|range| self.is_stale(&part.lane, range.first))
    }

    /// Whether a lane's checkpoint was older than the table, and still is at this event.
    fn is_stale(&self, lane: &LaneId, seq: Seq) -> bool {
        let greatest = self.guards.get(lane).and_then(|guard| guard.foreign);
        greatest.is_some_and(|greatest| seq <= greatest)
    }

    /// Finds out how far an earlier life may have come: further than its checkpoint says, when that
    /// is older than the table, as after a restored state folder.
    async fn guard(&self, lane: &LaneId, checkpoint: &Checkpoint) -> Result<Guard> {
        let (target, epoch) = (&self.target, checkpoint.epoch);
        if checkpoint.next.seq == Seq::ZERO && checkpoint.pending.is_none() {
            retry::patiently(retry::FOR_EVER, move || target.check_new(lane, epoch)).await?;
        }
        let expected = match &checkpoint.pending {
            Some(intent) => intent.range.last.plus(1),
            None => checkpoint.next.seq,
        };
        let ask = move || target.greatest(lane, epoch, expected);
        let foreign = retry::patiently(retry::FOR_EVER, ask).await?;
        if let Some(greatest) = foreign {
            warn!(
                stream = %lane, checkpoint = %expected, table = %greatest,
                "the checkpoint is older than the table: reading back before every write up to there"
            );
        }
        // The Range behind is proven too: an earlier life may have declared it, and left a token
        // without rows, before this checkpoint was put in its place.
        let prove = foreign.map_or(expected, |greatest| greatest.plus(1));
        Ok(Guard { foreign, prove })
    }

    /// How long requests of an earlier life may still arrive.
    fn left_behind(&self, intent: &Intent) -> Duration {
        let (life, deadline) = (self.request_life(), self.insert_deadline);
        if self.store.may_be_taken_from_the_living() {
            // It sends as long as the deadline by its own clock lasts.
            return deadline + life;
        }
        let age = u64::try_from(clock::now().0.saturating_sub(intent.declared_at.0));
        let age = Duration::from_millis(age.unwrap_or(0));
        life.min((deadline + life).saturating_sub(age))
    }

    /// The checkpoint of a lane that has none. Where it has rows, its checkpoint was lost: the first
    /// event that can still be read is where to begin to compare.
    async fn begin(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        let Some((epoch, earliest)) = self.store.begin(lane).await? else {
            return Err(Error::new(ErrorKind::Bug, format!("`{lane}` was never begun")));
        };
        let target = &self.target;
        let ask = move || target.greatest(lane, epoch, Seq::ZERO);
        let greatest = retry::patiently(retry::FOR_EVER, ask).await?;
        let seq = greatest.map_or(Seq::ZERO, |greatest| earliest.min(greatest.plus(1)));
        let next = Position { seq, cursor: Bytes::new() };
        Ok(Checkpoint { epoch, next, pending: None, renumbered: false })
    }

    fn report(&self, part: &Part<T::Body>, error: &Error) {
        self.vitals.delivery_failed(&part.lane);
        warn!(stream = %part.lane, error = %Chain(error), "write failed, reading back");
    }
}

impl<C, T> Delivery for WriteAhead<C, T>
where
    C: CheckpointStore,
    T: Target,
{
    type Body = T::Body;

    async fn claim(&mut self, lanes: &[LaneId]) -> Result<Vec<Checkpoint>> {
        self.release(lanes);
        let mut claimed = Vec::with_capacity(lanes.len());
        for (lane, saved) in lanes.iter().zip(self.store.load(lanes).await?) {
            let checkpoint = match saved {
                Some(checkpoint) => checkpoint,
                None => self.begin(lane).await?,
            };
            claimed.push((lane, checkpoint));
        }
        let this = &*self;
        let asked: Vec<_> =
            (claimed.iter()).map(|(lane, checkpoint)| this.guard(lane, checkpoint)).collect();
        let asked = stream::iter(asked).buffered(QUESTIONS_AT_ONCE);
        let guards: Vec<Guard> = asked.try_collect().await?;
        let mut checkpoints = Vec::with_capacity(claimed.len());
        for ((lane, checkpoint), guard) in claimed.into_iter().zip(guards) {
            if let Some(intent) = &checkpoint.pending {
                // What an earlier process sent, and how it was answered, nobody knows.
                self.expect_arrivals(lane, self.left_behind(intent));
            }
            self.guards.insert(lane.clone(), guard);
            self.lanes.insert(lane.clone(), checkpoint.clone());
            checkpoints.push(checkpoint);
        }
        Ok(checkpoints)
    }

    async fn recover(&mut self, part: Part<T::Body>) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        let (stored, read) = (&declared.intent.plan, part.body.plan());
        let (same_events, same_mapping) =
            (stored.digest == read.digest, stored.mapping == read.mapping);
        info!(stream = %part.lane, range = %declared.intent.range, "finishing the pending range");
        if !same_events {
            // What was planned is of other events: what to look for is to be said anew.
            self.set_renumbered(&part).await?;
            self.declare([&part]).await?;
        } else if !same_mapping {
            // The rows are of another mapping now, and may lie elsewhere in time: what was sent of
            // the earlier one must not arrive beside them.
            self.set_foreign(&part.lane).await?;
            self.declare([&part]).await?;
        }
        if self.may_be_foreign(&part) {
            self.set_foreign(&part.lane).await?;
        }
        self.finish(&part).await?;
        failpoint::reach(failpoint::RECOVERED);
        self.advance(part)?;
        self.save().await
    }

    async fn deliver(&mut self, batch: Batch<T::Body>) -> Result<()> {
        if batch.parts.is_empty() {
            return self.settle().await;
        }
        for part in &batch.parts {
            self.max_rejected.check_planned(&part.lane, &part.body)?;
        }
        if batch.parts.iter().any(|part| part.range.is_some()) {
            self.declare(&batch.parts).await?;
            failpoint::reach(failpoint::DECLARED);
        }
        let is_plain = |part: &Part<T::Body>| part.range.is_some() && !self.must_prove(part);
        let plain: Vec<_> = batch.parts.iter().filter(|part| is_plain(part)).collect();
        let turns = Semaphore::new(QUESTIONS_AT_ONCE);
        let each = join_all(batch.parts.iter().map(async |part| match part.range {
            Some(_) if self.must_prove(part) => {
                let _turn = turns.acquire().await;
                self.prove(part).await
            }
            Some(_) => self.append_all(part).await,
            None => Ok(true),
        }));
        let (upserted, written) = tokio::join!(self.upsert_all(&plain), each);
        failpoint::reach(failpoint::WRITTEN);
        let mut upserted = upserted?.into_iter();
        let mut sure = Vec::with_capacity(batch.parts.len());
        for (part, written) in batch.parts.iter().zip(written) {
            let upserted = if is_plain(part) { upserted.next() } else { None };
            sure.push(written.and_then(|written| Ok(upserted.unwrap_or(Ok(true))? && written)));
        }
        // The sound ones need not wait for the others.
        let mut unsure = Vec::new();
        for (part, sure) in batch.parts.into_iter().zip(sure) {
            match sure {
                Ok(true) => self.advance(part)?,
                sure => unsure.push((part, sure)),
            }
        }
        for (part, sure) in unsure {
            sure?;
            self.finish(&part).await?;
            self.advance(part)?;
        }
        Ok(())
    }

    async fn record_gap(&mut self, gap: &Gap) -> Result<()> {
        self.target.record_gap(gap).await
    }

    async fn settle(&mut self) -> Result<()> {
        if self.unsaved.is_empty() { Ok(()) } else { self.save().await }
    }

    fn release(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            self.lanes.remove(lane);
            self.guards.remove(lane);
            self.unsaved.remove(lane);
        }
    }
}

/// Begins every lane that has no checkpoint, durably, before anything slow can fail.
///
/// # Errors
/// Those of the store.
pub async fn begin_missing(
    store: &mut impl CheckpointStore,
    lanes: impl IntoIterator<Item = LaneId>,
    position: &Position,
) -> Result<()> {
    let mut begun = Vec::new();
    let lanes: Vec<LaneId> = lanes.into_iter().collect();
    let saved = store.load(&lanes).await?;
    for (lane, saved) in lanes.into_iter().zip(saved) {
        if saved.is_some() {
            continue;
        }
        let epoch = new_epoch()?;
        info!(stream = %lane, %epoch, "stream begins");
        begun.push((
            lane,
            Checkpoint { epoch, next: position.clone(), pending: None, renumbered: false },
        ));
    }
    failpoint::reach(failpoint::BEGINNING);
    store.save(begun).await
}

/// A life of a lane's numbering that nobody had before.
///
/// # Errors
/// `Storage` when the system gives no random numbers.
pub fn new_epoch() -> Result<Epoch> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Storage, "the system gives no random numbers").with_source(error)
    })?;
    Ok(Epoch::new(bytes))
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
