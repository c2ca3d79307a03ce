//! Finishing a Range that may be half written: read back, and send what is missing, until all is
//! there.
//!
//! ```text
//!   renew ─▶ ┌─ wait until no query runs ─▶ read back ─▶ nothing missing: fill the views, done
//!            │        ┌──────────────────────────┘
//!            └─ send ◀┴─ foreign: outlive every unanswered request, look again
//! ```
//!
//! Each table of the Range goes this way by itself, one behind the other.
//!
//! It must never take an answer for a proof, and never send another block than the whole one under
//! T before the Range is marked foreign. `docs/delivery.md` has the rules, `docs/model.md` what
//! happens without each.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use tailwater_core::gap::{Gap, GapReason, Moment};
use tailwater_core::position::{Intent, LaneId};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Block, Chain, CheckpointStore, Declared, Planned, ReadBack, Round, Target, WriteAhead,
};
use crate::bisect::Cut;
use crate::clock;
use crate::failpoint;
use crate::part::Part;
use crate::retry::Backoff;

/// So often a lack of memory is waited out before the rows go in smaller blocks: what other queries
/// take comes back, what one block needs does not.
const PATIENCE_WITH_MEMORY: u32 = 3;

/// More rounds than this without a row more mean that rows cannot be seen, whatever is written.
const MOST_ROUNDS_IN_VAIN: u32 = 5;

impl<C: CheckpointStore, T: Target> WriteAhead<C, T> {
    /// Writes a Range that must be proven, beside others, as long as only the usual is seen: nothing of it
    /// there, then all of it. These are the first steps of [`finish`](Self::finish), which goes on from
    /// wherever this ends; false: it has to.
    pub(super) async fn prove(&self, part: &Part<T::Body>) -> Result<bool> {
        match self.try_prove(part).await {
            Err(error) if error.kind().action() != Action::Stop => {
                self.report(part, &error);
                Ok(false)
            }
            proven => proven,
        }
    }

    async fn try_prove(&self, part: &Part<T::Body>) -> Result<bool> {
        let declared = self.declared(&part.lane)?;
        if declared.intent.foreign || declared.renumbered {
            return Ok(false);
        }
        self.target.upsert(declared, &part.body).await?;
        for (table, planned) in &part.body.plan().rows {
            self.target.quiesce(declared).await?;
            let before = self.target.read_back(declared, &part.body, table).await?;
            failpoint::reach(failpoint::READ_BACK);
            let nothing = before.missing.len() as u64 == *planned && before.dead.is_empty();
            if !nothing || before.of_others || is_past(declared) {
                return Ok(false);
            }
            self.append(declared, part, table, Block::Whole).await?;
            failpoint::reach(failpoint::RESENT);
            let after = self.target.read_back(declared, &part.body, table).await?;
            if !after.missing.is_empty() || after.of_others {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes a Range complete, whatever of it is there, and however often that takes.
    pub(super) async fn finish(&mut self, part: &Part<T::Body>) -> Result<()> {
        let mut backoff = Backoff::new();
        let mut too_large = 0;
        let mut progress = Progress::default();
        loop {
            let split = too_large >= PATIENCE_WITH_MEMORY;
            let error = match self.complete(part, split, &mut progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
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
    async fn complete(
        &mut self,
        part: &Part<T::Body>,
        split: bool,
        progress: &mut Progress,
    ) -> Result<()> {
        self.target.upsert(self.declared(&part.lane)?, &part.body).await?;
        let declared = self.declared(&part.lane)?;
        if !declared.intent.foreign && is_past(declared) {
            // What was sent under the old declaration may be out of the server's memory before a
            // new one ends.
            self.set_foreign(&part.lane).await?;
        }
        failpoint::reach(failpoint::REDECLARED);
        for table in part.body.plan().rows.keys() {
            if !progress.complete.contains(table) {
                progress.unsure.extend(self.complete_table(part, table, split).await?);
                progress.complete.insert(table.clone());
            }
        }
        self.tell_unsure(part, &progress.unsure).await?;
        self.pass_renumbered(part).await
    }

    /// Makes one table's rows of a Range complete, and gives the views on it that may lack or repeat
    /// some.
    async fn complete_table(
        &mut self,
        part: &Part<T::Body>,
        table: &str,
        split: bool,
    ) -> Result<Vec<String>> {
        let planned = part.body.plan().rows.get(table).copied().unwrap_or(0);
        let mut vain = Vain::default();
        let mut round = 0;
        loop {
            let declared = self.declared(&part.lane)?;
            let foreign = declared.intent.foreign;
            self.target.quiesce(declared).await?;
            let seen = self.target.read_back(declared, &part.body, table).await?;
            if seen.of_others && self.set_renumbered(part).await? {
                continue;
            }
            failpoint::reach(failpoint::READ_BACK);
            if seen.missing.is_empty() {
                return self.fill_views(part, table, seen, split).await;
            }
            let all = seen.missing.len() as u64 == planned;
            let whole = round == 0 && all;
            // Whatever is sent now, if it is not the whole block under T: no restart may take it for
            // that, and nothing that was sent before may arrive behind it.
            if !whole && !foreign {
                self.set_foreign(&part.lane).await?;
                continue;
            }
            if foreign && (self.outlive(&part.lane).await || is_past(self.declared(&part.lane)?)) {
                // Declared, then looked at, then sent: so a send is never far from its look.
                self.declare([part]).await?;
                continue;
            }
            let declared = self.declared(&part.lane)?;
            vain.look(&part.lane, declared.intent, seen.missing.len())?;
            if seen.dead.is_empty() {
                let block = Block::Missing(&seen.missing, round);
                match self.append(declared, part, table, block).await {
                    Err(refusal) if calls_for_cuts(&refusal, split) => {
                        if !foreign {
                            self.set_foreign(&part.lane).await?;
                            continue;
                        }
                        self.bisect(part, table, &seen, Some(refusal), round, split).await?;
                    }
                    appended => appended?,
                }
            } else {
                self.bisect(part, table, &seen, None, round, split).await?;
            }
            failpoint::reach(failpoint::RESENT);
            round += 1;
        }
    }

    /// Appends, and notes if the answer stays out: the request may arrive yet.
    pub(super) async fn append(
        &self,
        declared: Declared<'_>,
        part: &Part<T::Body>,
        table: &str,
        block: Block<'_>,
    ) -> Result<()> {
        let answer = self.target.append(declared, &part.body, table, block).await;
        self.note_silence(&part.lane, answer)
    }

    fn note_silence(&self, lane: &LaneId, answer: Result<()>) -> Result<()> {
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unreachable) {
            self.expect_arrivals(lane, self.request_life());
        }
        answer
    }

    /// How long a request may be on its way without its client.
    pub(super) fn request_life(&self) -> Duration {
        self.insert_deadline / 2
    }

    /// Requests of the lane may arrive for so long.
    pub(super) fn expect_arrivals(&self, lane: &LaneId, life: Duration) {
        let until = Instant::now() + life;
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.entry(lane.clone()).and_modify(|was| *was = until.max(*was)).or_insert(until);
    }

    /// Waits until no request of the lane can arrive any more; false if there was none. One that could
    /// arrive until a moment ago may have, behind the last look.
    async fn outlive(&self, lane: &LaneId) -> bool {
        let arrivals = || self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = arrivals().get(lane).copied() else { return false };
        let seconds = until.duration_since(Instant::now()).as_secs();
        info!(stream = %lane, seconds, "waiting until no earlier request can arrive");
        tokio::time::sleep_until(until).await;
        // Only now: whoever is dropped while waiting has outlived nothing.
        arrivals().remove(lane);
        true
    }

    /// Sends the whole block of a complete Range once more where views hang on the table: one that
    /// failed the first time is filled by the block it failed on, and the table drops it. Gives the
    /// views that may lack or repeat rows.
    async fn fill_views(
        &self,
        part: &Part<T::Body>,
        table: &str,
        seen: ReadBack,
        split: bool,
    ) -> Result<Vec<String>> {
        if seen.views.is_empty() {
            return Ok(Vec::new());
        }
        let declared = self.declared(&part.lane)?;
        if !declared.intent.foreign && seen.views_can_be_filled {
            match self.append(declared, part, table, Block::Whole).await {
                // The rows are there; what refuses is a view, and dead letters are not for views.
                Err(refusal) if calls_for_cuts(&refusal, split) => {}
                filled => return filled.map(|()| Vec::new()),
            }
        }
        Ok(seen.views)
    }

    /// Writes down, once for the Range, which views may lack or repeat rows.
    async fn tell_unsure(&self, part: &Part<T::Body>, views: &[String]) -> Result<()> {
        if views.is_empty() {
            return Ok(());
        }
        let Intent { range, plan, .. } = self.declared(&part.lane)?.intent;
        self.target
            .record_gap(&Gap {
                lane: part.lane.clone(),
                reason: GapReason::ViewsUnsure,
                times: (Moment::Wall(plan.ts_min), Moment::Wall(plan.ts_max)),
                events: Some((range.first, range.last)),
                names: views.to_vec(),
                repair: "fill the views again from the event table, for these times",
            })
            .await?;
        warn!(
            stream = %part.lane, %range,
            "views on the event table may lack or repeat rows of this range, see tailwater_gaps; \
             the table itself is right"
        );
        Ok(())
    }

    /// Notes, durably, that the stream yields other events than it did; false if it is noted.
    pub(super) async fn set_renumbered(&mut self, part: &Part<T::Body>) -> Result<bool> {
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
    pub(super) async fn set_foreign(&mut self, lane: &LaneId) -> Result<()> {
        if let Some(intent) = &mut self.checkpoint(lane)?.pending {
            intent.foreign = true;
        }
        self.save().await
    }

    /// Takes rows apart that the server refuses together: the sound ones are written, the others
    /// become dead letters. A cut that holds a dead letter counts as refused, so that every pass
    /// goes the same ways.
    async fn bisect(
        &mut self,
        part: &Part<T::Body>,
        table: &str,
        seen: &ReadBack,
        refusal: Option<Error>,
        round: Round,
        split: bool,
    ) -> Result<()> {
        let range = self.declared(&part.lane)?.intent.range;
        if let Some(refusal) = &refusal {
            let error = Chain(refusal);
            warn!(stream = %part.lane, %range, %error, "block refused, taking it apart");
        }
        let mut rejected = part.body.rejected() + seen.dead.len() as u64;
        let mut missing = seen.missing.clone();
        let mut refused = vec![(Cut::root(range), refusal)];
        while let Some((cut, refusal)) = refused.pop() {
            if refusal.is_some() {
                // A refusal may have taken as long as the declaration lasts.
                if is_past(self.declared(&part.lane)?) {
                    self.declare([part]).await?;
                }
                // A view refuses after the table took the rows: what is there must not be sent again.
                let declared = self.declared(&part.lane)?;
                missing = self.target.read_back(declared, &part.body, table).await?.missing;
            }
            let declared = self.declared(&part.lane)?;
            let Some(halves) = cut.halves() else {
                let refusal = refusal.filter(|_| missing.contains(&cut.range.first));
                let Some(refusal) = refusal else { continue };
                if refusal.kind() == ErrorKind::TooLarge {
                    return Err(refusal);
                }
                rejected += 1;
                self.max_rejected.check(rejected, part.body.events(), range, &refusal)?;
                let seq = cut.range.first;
                let reject = self.target.reject(declared, &part.body, table, seq, &refusal, round);
                let answer = reject.await;
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
                match self.append(declared, part, table, block).await {
                    Err(refusal) if calls_for_cuts(&refusal, split) => {
                        refused.push((half, Some(refusal)));
                    }
                    appended => appended?,
                }
            }
        }
        Ok(())
    }
}

/// What is done of a Range already.
#[derive(Debug, Default)]
struct Progress {
    /// These tables have all of their rows.
    complete: BTreeSet<String>,
    /// These views on them may lack or repeat some.
    unsure: Vec<String>,
}

/// Whether nothing may be sent under a declaration any more.
fn is_past(declared: Declared<'_>) -> bool {
    clock::now() > declared.deadline
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
