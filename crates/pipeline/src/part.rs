//! What flows through the loop, and the three roles around it.

use std::time::Duration;

use tailwater_core::Result;
use tailwater_core::gap::Gap;
use tailwater_core::position::{Checkpoint, Epoch, LaneId, Plan, Position, SeqRange};

use crate::budget::Share;
use crate::recall::{Recall, Release};

/// What one lane contributes to a batch.
#[derive(Debug)]
pub struct Part<B> {
    /// The lane.
    pub lane: LaneId,
    /// The life of the lane's numbering.
    pub epoch: Epoch,
    /// The events; `None` for an idle heartbeat, which only moves the position.
    pub range: Option<SeqRange>,
    /// Where the lane goes on once this part is delivered.
    pub next: Position,
    /// The events themselves, in the form of the stage they are in.
    pub body: B,
    /// The share of the memory budget that the body holds.
    pub held: Vec<Share>,
}

impl<B> Part<B> {
    /// Counts so many bytes for its body from now on, instead of what was counted until now.
    pub fn hold(&mut self, bytes: usize) {
        if let Some(mut share) = self.held.drain(..).reduce(Share::and) {
            share.resize(bytes);
            self.held.push(share);
        }
    }

    /// The same part with another body.
    pub fn with_body<C>(self, body: C) -> Part<C> {
        let Self { lane, epoch, range, next, held, .. } = self;
        Part { lane, epoch, range, next, body, held }
    }
}

/// Parts of several lanes that are delivered together, at most one per lane.
#[derive(Debug)]
pub struct Batch<B> {
    /// The parts. None at all: nothing came for a while.
    pub parts: Vec<Part<B>>,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Read<B> {
    /// These lanes are ours from now on.
    Assigned(Vec<LaneId>),
    /// These lanes go to somebody else, who waits until they are let go.
    Revoked(Vec<LaneId>, Release),
    /// The next events.
    Batch(Batch<B>),
}

/// When a batch closes: whichever limit is reached first.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Events in one part; one part becomes one block of each table.
    pub max_rows: usize,
    /// Bytes of events in one part.
    pub max_bytes: usize,
    /// The longest that an event waits for others.
    pub max_wait: Duration,
}

/// As many rows as one ClickHouse block takes comfortably.
pub const DEFAULT_MAX_ROWS: usize = 100_000;
/// A quarter of the server's own block limit, and small against the budget.
pub const DEFAULT_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Seven inserts a second and table: merges keep up, and a row is visible within half a second, also
/// where everything shares two cores (`cargo xtask bench latency`).
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_millis(150);

/// So many lanes with events wait `max_wait`; twice as many twice as long.
const BUSY_LANES: usize = 8;
/// No number of lanes waits longer than this times `max_wait`.
const MOST_PATIENCE: usize = 7;
/// A source that has nothing to say says so this often.
const IDLE: Duration = Duration::from_millis(250);

impl BatchLimits {
    /// How long a batch stays open that holds events of so many lanes: with many of them longer, so
    /// that they do not make many tiny blocks.
    pub fn patience(&self, busy: usize) -> Duration {
        let factor = busy.div_ceil(BUSY_LANES).clamp(1, MOST_PATIENCE);
        self.max_wait.saturating_mul(u32::try_from(factor).unwrap_or(1))
    }

    /// How long to wait for a first event. What comes later than `max_wait` waits for no others.
    pub fn idle(&self) -> Duration {
        self.max_wait.max(IDLE)
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_rows: DEFAULT_MAX_ROWS,
            max_bytes: DEFAULT_MAX_BYTES,
            max_wait: DEFAULT_MAX_WAIT,
        }
    }
}

/// Where events come from.
pub trait Source: Send {
    /// The events of one part.
    type Body: Send + 'static;

    /// Waits for the next thing to say, at most about `max_wait`; then an empty batch.
    ///
    /// # Cancel safety
    /// Not cancel safe: events that were gathered are lost to this process when the future is
    /// dropped. The checkpoint still stands before them, so the next process reads them again.
    fn read(
        &mut self,
        limits: &BatchLimits,
    ) -> impl Future<Output = Result<Read<Self::Body>>> + Send;

    /// Goes on with `lane` from `position`.
    fn seek(
        &mut self,
        lane: &LaneId,
        epoch: Epoch,
        position: &Position,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Forgets lanes that were revoked.
    fn release(&mut self, _lanes: &[LaneId]) {}

    /// Tells when a revoked lane has been waited for too long.
    fn recall(&self) -> Recall {
        Recall::never()
    }

    /// What is known by now to be missing for good, each thing once. The source goes on behind it
    /// once it is written down.
    fn take_gaps(&mut self) -> Vec<Gap> {
        Vec::new()
    }

    /// Reads exactly `range` of a lane that was just sought to its start.
    fn read_exactly(
        &mut self,
        lane: &LaneId,
        range: SeqRange,
    ) -> impl Future<Output = Result<Part<Self::Body>>> + Send;
}

/// Turns what a source yields into what a delivery takes. Pure: no I/O, no waiting.
pub trait Transform: Send + Sync + 'static {
    /// What comes in.
    type In: Send + 'static;
    /// What goes out.
    type Out: Send + 'static;

    /// Turns one part into its other form.
    fn apply(&self, part: Part<Self::In>) -> Result<Part<Self::Out>>;

    /// The same for a part that an earlier life declared with this plan, as that life would have.
    fn apply_declared(&self, part: Part<Self::In>, _plan: &Plan) -> Result<Part<Self::Out>> {
        self.apply(part)
    }
}

/// Where batches go, together with the progress that they mean.
pub trait Delivery: Send {
    /// What is delivered.
    type Body: Send + 'static;

    /// Takes over lanes, and tells how far each is, in their order. All at once: what one of them has
    /// to outlive passes for all of them at the same time.
    fn claim(&mut self, lanes: &[LaneId]) -> impl Future<Output = Result<Vec<Checkpoint>>> + Send;

    /// Finishes the Range that was pending when the lane was claimed.
    ///
    /// # Delivery
    /// On return the Range is there exactly once, whatever was there before.
    fn recover(&mut self, part: Part<Self::Body>) -> impl Future<Output = Result<()>> + Send;

    /// Delivers a batch.
    ///
    /// # Delivery
    /// On return no crash can lose or repeat the batch. Progress never moves before that.
    fn deliver(&mut self, batch: Batch<Self::Body>) -> impl Future<Output = Result<()>> + Send;

    /// Lets go of lanes that were revoked: nothing of them is written or saved from here on.
    fn release(&mut self, lanes: &[LaneId]);

    /// Writes down what is missing for good.
    fn record_gap(&mut self, gap: &Gap) -> impl Future<Output = Result<()>> + Send;

    /// Makes all progress durable that is not yet.
    fn settle(&mut self) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_busy_lanes_wait_longer_but_not_for_ever() {
        let limits = BatchLimits::default();
        let wait = |busy| limits.patience(busy).as_millis();
        assert_eq!([0, 1, 8, 9, 17, 50, 1000].map(wait), [150, 150, 150, 300, 450, 1050, 1050]);
    }
}
