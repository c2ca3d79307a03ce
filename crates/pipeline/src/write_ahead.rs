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
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tailwater_core::gap::{Gap, GapReason, Moment};
use tailwater_core::position::{Checkpoint, Epoch, Intent, LaneId, Millis, Plan, Position, Seq};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::bisect::{Cut, MaxRejected};
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
    /// Its events may have rows under other numbers than their own.
    pub renumbered: bool,
}

/// A body that knows what it is going to write.
pub trait Planned: Send + Sync + 'static {
    /// What the Range writes.
    fn plan(&self) -> &Plan;
}

/// A block of a Range. Its token T names the Range; what a recovery sends in its rounds goes under
/// T in round 0, under `T~n` in round n.
#[derive(Debug, Clone, Copy)]
pub enum Block<'a> {
    /// The Range as a whole, under T.
    Whole,
    /// What a read-back found missing.
    Missing(&'a BTreeSet<Seq>, Round),
    /// Those of the missing rows that lie in one cut of a refused block, under the cut's own token.
    Cut(&'a BTreeSet<Seq>, &'a str, Round),
}

/// The number of a try within a recovery, from 0 on.
pub type Round = u32;

/// What a read-back saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// The events that have neither row nor dead letter.
    pub missing: BTreeSet<Seq>,
    /// The events that have a dead letter.
    pub dead: BTreeSet<Seq>,
    /// At the numbers of the Range there are rows of other events.
    pub of_others: bool,
    /// The views on the table. One that failed the first time is filled by the whole block.
    pub views: Vec<String>,
    /// All of them drop a block that comes twice.
    pub views_can_be_filled: bool,
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

    /// Puts one event into the dead letters, under a token of its own.
    fn reject(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
        seq: Seq,
        refusal: &Error,
        round: Round,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Reads back what of the Range is there.
    fn read_back(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
    ) -> impl Future<Output = Result<ReadBack>> + Send;

    /// Whether the lane has rows of events behind this part.
    fn has_ahead(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Writes down what is missing. To tell it twice is to tell it once.
    fn record_gap(&self, gap: &Gap) -> impl Future<Output = Result<()>> + Send;

    /// The greatest event of a lane's life that has a row or a dead letter.
    fn greatest(
        &self,
        lane: &LaneId,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Option<Seq>>> + Send;
}

/// An insert starts at most this long after its declaration, and arrives at most this long after
/// its client gave up: the server's deduplication window must outlast both together.
pub const DEFAULT_INSERT_DEADLINE: Duration = Duration::from_secs(60);

/// What is known after a first write.
enum Written {
    /// The server said so, to a token that was never sent before.
    Surely,
    /// Only a read-back can tell.
    Unproven(Sent),
}

/// Whether some of a Range may have been sent before.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Never,
    Perhaps,
}

/// Whether rows must be taken apart to get any of them in.
fn calls_for_cuts(refusal: &Error, split: bool) -> bool {
    match refusal.kind() {
        ErrorKind::Refused => true,
        ErrorKind::TooLarge => split,
        _ => false,
    }
}

/// Rounds that show no row more.
#[derive(Debug, Default)]
struct Vain {
    rounds: u32,
    missing: Option<usize>,
}

impl Vain {
    /// Takes note of what is missing still, before it is sent.
    fn look(&mut self, lane: &LaneId, intent: &Intent, missing: usize) -> Result<()> {
        let helped = self.missing.is_none_or(|before| missing < before);
        self.rounds = if helped { 0 } else { self.rounds + 1 };
        self.missing = Some(missing);
        if self.rounds <= MOST_ROUNDS_IN_VAIN {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsuitable,
            format!(
                "{missing} rows of `{lane}` {} were acknowledged {} times and are not to be seen",
                intent.range, self.rounds
            ),
        )
        .with_hint("look for a row policy, a TTL or a replica that lags behind"))
    }
}

/// How far an earlier life of a claimed lane may have come.
#[derive(Debug, Clone, Copy)]
struct Guard {
    /// Up to here events may have rows, that came in Ranges of other bounds.
    foreign: Option<Seq>,
    /// Up to here nothing counts as written that was not read back.
    prove: Seq,
}

/// So often a lack of memory is waited out before the rows go in smaller blocks: what other queries
/// take comes back, what one block needs does not.
const PATIENCE_WITH_MEMORY: u32 = 3;

/// More rounds than this without a row more mean that rows cannot be seen, whatever is written.
const MOST_ROUNDS_IN_VAIN: u32 = 5;

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
    /// Some lane's `next` is further than what is saved.
    unsaved: bool,
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
            unsaved: false,
        }
    }

    /// The same, with other limits for dead letters.
    #[must_use]
    pub fn with_max_rejected(self, max_rejected: MaxRejected) -> Self {
        Self { max_rejected, ..self }
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
        let guard = self.guards.get(lane).and_then(|guard| guard.foreign);
        let stale = guard.is_some_and(|greatest| intent.range.first <= greatest);
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
            let plan = part.body.plan().clone();
            let foreign = foreign || checkpoint.renumbered || checkpoint.pending.is_some();
            checkpoint.pending = Some(Intent { range, plan, declared_at, foreign });
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
    async fn write(&self, part: &Part<T::Body>) -> Result<Written> {
        let declared = self.declared(&part.lane)?;
        let (upserted, appended) = tokio::join!(
            self.target.upsert(declared, &part.body),
            self.append(declared, part, Block::Whole),
        );
        match upserted.and(appended) {
            Ok(()) => Ok(Written::Surely),
            Err(error) if error.kind().action() == Action::Stop => Err(error),
            Err(error) => {
                self.report(part, &error);
                Ok(Written::Unproven(Sent::Perhaps))
            }
        }
    }

    /// Makes a Range complete, whatever of it is there, and however often that takes.
    async fn finish(&mut self, part: &Part<T::Body>, mut sent: Sent) -> Result<()> {
        let mut backoff = Backoff::new();
        let mut too_large = 0;
        loop {
            let split = too_large >= PATIENCE_WITH_MEMORY;
            let error = match self.complete(part, sent, split).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            sent = Sent::Perhaps;
            too_large += u32::from(error.kind() == ErrorKind::TooLarge);
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            self.report(part, &error);
            backoff.pause().await;
        }
    }

    /// Makes a Range complete. With `split` what the server has no memory for goes in cuts.
    ///
    /// An OK from a token that was sent before is no proof: the server keeps the token and the rows
    /// in two writes, and a crash between them leaves the token alone. So only a read-back ends
    /// this. And every recovery walks the same tokens from T on, each with what is still missing, so
    /// that an earlier request under one of them, held somewhere on its way, finds its token used
    /// wherever its rows are.
    async fn complete(&mut self, part: &Part<T::Body>, sent: Sent, split: bool) -> Result<()> {
        // Before the declaration, which may not last as long as this takes.
        self.target.upsert(self.declared(&part.lane)?, &part.body).await?;
        self.renew(part).await?;
        failpoint::reach(failpoint::REDECLARED);
        let mut vain = Vain::default();
        // All rows in one block under T, and the server said so: then the views have them too.
        let mut in_one_block = false;
        let mut round = 0;
        loop {
            let declared = self.declared(&part.lane)?;
            let foreign = declared.intent.foreign;
            self.target.quiesce(declared).await?;
            let seen = self.target.read_back(declared, &part.body).await?;
            if seen.of_others && self.set_renumbered(part).await? {
                continue;
            }
            failpoint::reach(failpoint::READ_BACK);
            if seen.missing.is_empty() {
                if !in_one_block {
                    self.fill_views(self.declared(&part.lane)?, part, &seen).await?;
                }
                return self.pass_renumbered(part).await;
            }
            let declared = self.declared(&part.lane)?;
            let all = seen.missing.len() as u64 == declared.intent.plan.rows_to_append();
            let whole = round == 0 && all;
            // Whatever is sent now, if it is not the whole block under T: no restart may take it for
            // that, and nothing that was sent before may arrive behind it.
            if !whole && !foreign {
                self.set_foreign(&part.lane).await?;
                continue;
            }
            if foreign && self.outlive(&part.lane).await {
                self.renew(part).await?;
                continue;
            }
            vain.look(&part.lane, declared.intent, seen.missing.len())?;
            in_one_block = whole && matches!(sent, Sent::Never);
            if seen.dead.is_empty() {
                match self.append(declared, part, Block::Missing(&seen.missing, round)).await {
                    Err(refusal) if calls_for_cuts(&refusal, split) => {
                        in_one_block = false;
                        if !foreign {
                            self.set_foreign(&part.lane).await?;
                            continue;
                        }
                        self.bisect(part, &seen, Some(refusal), round, split).await?;
                    }
                    appended => appended?,
                }
            } else {
                self.bisect(part, &seen, None, round, split).await?;
            }
            failpoint::reach(failpoint::RESENT);
            round += 1;
        }
    }

    /// Declares a Range again whose deadline has passed. What was sent under the old declaration may
    /// be out of the server's memory before the new one ends, so the Range is foreign from then on.
    async fn renew(&mut self, part: &Part<T::Body>) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        if declared.intent.foreign || clock::now() > declared.deadline {
            self.declare([part]).await?;
        }
        Ok(())
    }

    /// Appends, and notes if the answer stays out: the request may arrive yet.
    async fn append(
        &self,
        declared: Declared<'_>,
        part: &Part<T::Body>,
        block: Block<'_>,
    ) -> Result<()> {
        let answer = self.target.append(declared, &part.body, block).await;
        self.note_silence(&part.lane, answer)
    }

    fn note_silence(&self, lane: &LaneId, answer: Result<()>) -> Result<()> {
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unreachable) {
            self.expect_arrivals(lane, self.insert_deadline);
        }
        answer
    }

    /// Requests of the lane may arrive for so long.
    fn expect_arrivals(&self, lane: &LaneId, life: Duration) {
        let until = Instant::now() + life;
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.entry(lane.clone()).and_modify(|was| *was = until.max(*was)).or_insert(until);
    }

    /// Waits until no request of the lane can arrive any more; false if none could.
    async fn outlive(&self, lane: &LaneId) -> bool {
        let until = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).remove(lane);
        let Some(until) = until.filter(|until| Instant::now() < *until) else { return false };
        let seconds = until.duration_since(Instant::now()).as_secs();
        info!(stream = %lane, seconds, "waiting until no earlier request can arrive");
        tokio::time::sleep_until(until).await;
        true
    }

    /// Sends the whole block of a complete Range once more where views hang on the table: one that
    /// failed the first time is filled by the block it failed on, and the table drops it.
    async fn fill_views(
        &self,
        declared: Declared<'_>,
        part: &Part<T::Body>,
        seen: &ReadBack,
    ) -> Result<()> {
        if seen.views.is_empty() {
            return Ok(());
        }
        if !declared.intent.foreign && seen.views_can_be_filled {
            match self.append(declared, part, Block::Whole).await {
                // The rows are there; what refuses is a view, and dead letters are not for views.
                Err(refusal) if refusal.kind() == ErrorKind::Refused => {}
                filled => return filled,
            }
        }
        let Intent { range, plan, .. } = declared.intent;
        warn!(
            stream = %part.lane, %range,
            "views on the event table may lack or repeat rows of this range; the table itself is right"
        );
        self.target
            .record_gap(&Gap {
                lane: part.lane.clone(),
                reason: GapReason::ViewsUnsure,
                times: (Moment::Wall(plan.ts_min), Moment::Wall(plan.ts_max)),
                events: Some((range.first, range.last)),
                names: seen.views.clone(),
                repair: "fill the views again from the event table, for these times",
            })
            .await
    }

    /// Notes, durably, that the stream yields other events than it did; false if it is noted.
    async fn set_renumbered(&mut self, part: &Part<T::Body>) -> Result<bool> {
        let checkpoint = self.checkpoint(&part.lane)?;
        if checkpoint.renumbered {
            return Ok(false);
        }
        checkpoint.renumbered = true;
        warn!(
            stream = %part.lane, at = %part.next.seq,
            "the stream yields other events than before: comparing each with the rows that are there"
        );
        self.set_foreign(&part.lane).await?;
        Ok(true)
    }

    /// Numbers prove again once the stream has passed all rows that were there. Saved with the next
    /// checkpoint: until then it is just asked again.
    async fn pass_renumbered(&mut self, part: &Part<T::Body>) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        let renumbered = self.lanes.get(&part.lane).is_some_and(|at| at.renumbered);
        if renumbered && !self.target.has_ahead(declared, &part.body).await? {
            self.checkpoint(&part.lane)?.renumbered = false;
            // As behind every claim, the Range behind is proven too.
            if let Some(guard) = self.guards.get_mut(&part.lane) {
                guard.prove = guard.prove.max(part.next.seq);
            }
        }
        Ok(())
    }

    /// Notes, durably, that rows of the pending Range may come under other tokens than T.
    async fn set_foreign(&mut self, lane: &LaneId) -> Result<()> {
        if let Some(intent) = &mut self.checkpoint(lane)?.pending {
            intent.foreign = true;
        }
        self.save().await
    }

    /// Takes rows apart that the server refuses together: the sound ones are written, the others
    /// become dead letters. A cut that holds a dead letter counts as refused, so that every pass
    /// goes the same ways.
    async fn bisect(
        &self,
        part: &Part<T::Body>,
        seen: &ReadBack,
        refusal: Option<Error>,
        round: Round,
        split: bool,
    ) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        let range = declared.intent.range;
        if let Some(refusal) = &refusal {
            let error = Chain(refusal);
            warn!(stream = %part.lane, %range, %error, "block refused, taking it apart");
        }
        let mut rejected = seen.dead.len() as u64;
        let mut missing = seen.missing.clone();
        let mut refused = vec![(Cut::root(range), refusal)];
        while let Some((cut, refusal)) = refused.pop() {
            if refusal.is_some() {
                // A view refuses after the table took the rows: what is there must not be sent again.
                missing = self.target.read_back(declared, &part.body).await?.missing;
            }
            let Some(halves) = cut.halves() else {
                let refusal = refusal.filter(|_| missing.contains(&cut.range.first));
                let Some(refusal) = refusal else { continue };
                if refusal.kind() == ErrorKind::TooLarge {
                    return Err(refusal);
                }
                rejected += 1;
                self.max_rejected.check(rejected, range, &refusal)?;
                let seq = cut.range.first;
                let answer = self.target.reject(declared, &part.body, seq, &refusal, round).await;
                self.note_silence(&part.lane, answer)?;
                failpoint::reach(failpoint::REJECTED);
                continue;
            };
            for half in halves {
                let rows = half.of(&missing);
                if rows.is_empty() {
                    continue;
                }
                if !half.of(&seen.dead).is_empty() {
                    refused.push((half, None));
                    continue;
                }
                let block = Block::Cut(&rows, &half.path, round);
                match self.append(declared, part, block).await {
                    Err(refusal) if calls_for_cuts(&refusal, split) => {
                        refused.push((half, Some(refusal)));
                    }
                    appended => appended?,
                }
            }
        }
        Ok(())
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
        let first = part.range.map(|range| range.first);
        let foreign = self.guards.get(&part.lane).and_then(|guard| guard.foreign);
        foreign.is_some_and(|until| first.is_some_and(|first| first <= until))
    }

    /// Finds out how far an earlier life may have come: further than its checkpoint says, when that
    /// is older than the table, as after a restored state folder.
    async fn guard(&mut self, lane: &LaneId, checkpoint: &Checkpoint) -> Result<()> {
        let (target, epoch) = (&self.target, checkpoint.epoch);
        let greatest =
            retry::patiently(retry::FOR_EVER, move || target.greatest(lane, epoch)).await?;
        let expected = match &checkpoint.pending {
            Some(intent) => intent.range.last.plus(1),
            None => checkpoint.next.seq,
        };
        let foreign = greatest.filter(|greatest| *greatest >= expected);
        if let Some(greatest) = foreign {
            warn!(
                stream = %lane, checkpoint = %expected, table = %greatest,
                "the checkpoint is older than the table: reading back before every write up to there"
            );
        }
        // The Range behind is proven too: an earlier life may have declared it, and left a token
        // without rows, before this checkpoint was put in its place.
        let prove = foreign.map_or(expected, |greatest| greatest.plus(1));
        self.guards.insert(lane.clone(), Guard { foreign, prove });
        Ok(())
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

    async fn claim(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        let Some(checkpoint) = self.store.load(lane).cloned() else {
            return Err(Error::new(ErrorKind::Bug, format!("`{lane}` was never begun")));
        };
        if checkpoint.next.seq == Seq::ZERO && checkpoint.pending.is_none() {
            let target = &self.target;
            retry::patiently(retry::FOR_EVER, move || target.check_new(lane)).await?;
        }
        self.guard(lane, &checkpoint).await?;
        if let Some(intent) = &checkpoint.pending {
            // What an earlier process sent, and how it was answered, nobody knows.
            let age = u64::try_from(clock::now().0.saturating_sub(intent.declared_at.0));
            let age = Duration::from_millis(age.unwrap_or(0));
            self.expect_arrivals(lane, (2 * self.insert_deadline).saturating_sub(age));
        }
        self.lanes.insert(lane.clone(), checkpoint.clone());
        Ok(checkpoint)
    }

    async fn recover(&mut self, part: Part<T::Body>) -> Result<()> {
        let declared = self.declared(&part.lane)?;
        let (stored, read) = (declared.intent.plan.digest, part.body.plan().digest);
        let as_declared = stored == read;
        info!(stream = %part.lane, range = %declared.intent.range, as_declared, "finishing the pending range");
        if self.may_be_foreign(&part) {
            self.set_foreign(&part.lane).await?;
        }
        self.finish(&part, Sent::Perhaps).await?;
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
            Some(_) if self.must_prove(part) => Ok(Written::Unproven(Sent::Never)),
            Some(_) => self.write(part).await,
            None => Ok(Written::Surely),
        }))
        .await;
        failpoint::reach(failpoint::WRITTEN);
        for (part, written) in batch.parts.into_iter().zip(written) {
            match written? {
                Written::Surely => {}
                Written::Unproven(sent) => self.finish(&part, sent).await?,
            }
            self.advance(&part.lane, part.next)?;
        }
        Ok(())
    }

    async fn record_gap(&mut self, gap: &Gap) -> Result<()> {
        self.target.record_gap(gap).await
    }

    async fn settle(&mut self) -> Result<()> {
        if self.unsaved { self.save().await } else { Ok(()) }
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
    for lane in lanes.into_iter().filter(|lane| store.load(lane).is_none()) {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            Error::new(ErrorKind::Storage, "the system gives no random numbers").with_source(error)
        })?;
        let epoch = Epoch::new(bytes);
        info!(stream = %lane, %epoch, "stream begins");
        begun.push((
            lane,
            Checkpoint { epoch, next: position.clone(), pending: None, renumbered: false },
        ));
    }
    failpoint::reach(failpoint::BEGINNING);
    store.save(begun).await
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
