//! The loop. A batch is delivered while the next one is read and transformed.
//!
//! ```text
//!   read n+1 ─▶ transform n+1 ─┐
//!                              ├─▶ both done: n+1 is next to be delivered
//!   deliver n ─────────────────┘
//! ```
//!
//! The loop never moves a position: only a delivery does, after its write is durable.
//!
//! A lane that is revoked is let go once its delivery has ended. Where that takes too long, whatever
//! the loop does is dropped, and the lanes that stay are started anew: a crash in small.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_core::position::{Checkpoint, LaneId};
use tailwater_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::part::{Batch, BatchLimits, Delivery, Part, Read, Source, Transform};

/// Runs until `stop`, or until an error that only an operator can mend.
///
/// # Delivery
/// On `Ok` everything that was delivered is settled; what was read and not delivered is read again
/// by the next run. What an error says is missing for good is written down before this returns.
pub async fn run<S, T, D>(
    source: S,
    transform: Arc<T>,
    mut delivery: D,
    limits: BatchLimits,
    stop: CancellationToken,
) -> Result<()>
where
    S: Source,
    T: Transform<In = S::Body>,
    D: Delivery<Body = T::Out>,
{
    let result = work(source, transform, &mut delivery, limits, stop).await;
    if let Err(error) = &result
        && error.kind() != ErrorKind::Storage
        && let Err(unsaved) = delivery.settle().await
    {
        // Nothing is lost: the next run finds it delivered.
        warn!(error = %unsaved, "what was delivered last is not noted");
    }
    if let Err(error) = &result
        && let Some(gap) = error.gap()
        && let Err(unwritten) = delivery.record_gap(gap).await
    {
        // The next run meets the same gap.
        warn!(stream = %gap.lane, error = %unwritten, "the gap is not written down yet");
    }
    result
}

async fn work<S, T, D>(
    mut source: S,
    transform: Arc<T>,
    delivery: &mut D,
    limits: BatchLimits,
    stop: CancellationToken,
) -> Result<()>
where
    S: Source,
    T: Transform<In = S::Body>,
    D: Delivery<Body = T::Out>,
{
    let recall = source.recall();
    let mut ready: Option<Batch<T::Out>> = None;
    let mut lanes = Lanes::default();
    loop {
        // What is wanted back goes first: only a read brings the word.
        if lanes.are_to_start() && !recall.is_wanted() {
            tokio::select! {
                biased;
                started = start(&mut lanes, &mut source, &transform, delivery) => started?,
                () = recall.overdue() => {}
                () = stop.cancelled() => break,
            }
            continue;
        }
        let mut said = None;
        let deliver = async {
            match ready.take() {
                Some(batch) => delivery.deliver(batch).await,
                None => Ok(()),
            }
        };
        let read = async {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                read = source.read(&limits) => read?,
            };
            said = Some(match read {
                Read::Assigned(lanes) => Read::Assigned(lanes),
                Read::Revoked(lanes, release) => Read::Revoked(lanes, release),
                Read::Batch(batch) => {
                    let mut parts = Vec::with_capacity(batch.parts.len());
                    for part in batch.parts {
                        parts.push(on_a_thread(&transform, |it| it.apply(part)).await?);
                    }
                    Read::Batch(Batch { parts })
                }
            });
            Ok(())
        };
        let finished = tokio::select! {
            biased;
            (delivered, read) = async { tokio::join!(deliver, read) } => {
                delivered?;
                read?;
                true
            }
            () = recall.overdue() => false,
        };
        if !finished {
            // Whatever was under way is dropped, as by a crash, and finished as after one.
            warn!("lanes are wanted back: what is under way is left to their next owner");
            lanes.start_again();
        }
        match said {
            None if finished => break,
            Some(Read::Batch(batch)) if finished => ready = Some(batch),
            None | Some(Read::Batch(_)) => {}
            Some(Read::Assigned(assigned)) => lanes.assign(assigned),
            Some(Read::Revoked(revoked, release)) => {
                tokio::select! {
                    biased;
                    settled = delivery.settle() => settled?,
                    () = recall.overdue() => {}
                }
                delivery.release(&revoked);
                source.release(&revoked);
                lanes.revoke(&revoked);
                info!(lanes = revoked.len(), "lanes let go");
                release.done();
            }
        }
    }
    delivery.settle().await
}

/// The lanes of a worker, and which of them have still to be brought to where they go on.
#[derive(Debug, Default)]
struct Lanes(BTreeMap<LaneId, Stage>);

/// How far a lane is on its way into the loop.
#[derive(Debug)]
enum Stage {
    Assigned,
    Claimed(Checkpoint),
    Started,
}

impl Lanes {
    fn are_to_start(&self) -> bool {
        self.0.values().any(|stage| !matches!(stage, Stage::Started))
    }

    fn to_claim(&self) -> Vec<LaneId> {
        let assigned = self.0.iter().filter(|(_, stage)| matches!(stage, Stage::Assigned));
        assigned.map(|(lane, _)| lane.clone()).collect()
    }

    fn next_claimed(&self) -> Option<(LaneId, Checkpoint)> {
        self.0.iter().find_map(|(lane, stage)| match stage {
            Stage::Claimed(checkpoint) => Some((lane.clone(), checkpoint.clone())),
            Stage::Assigned | Stage::Started => None,
        })
    }

    fn set(&mut self, lane: LaneId, stage: Stage) {
        self.0.insert(lane, stage);
    }

    fn assign(&mut self, lanes: Vec<LaneId>) {
        self.0.extend(lanes.into_iter().map(|lane| (lane, Stage::Assigned)));
    }

    fn revoke(&mut self, lanes: &[LaneId]) {
        self.0.retain(|lane, _| !lanes.contains(lane));
    }

    fn start_again(&mut self) {
        self.0.values_mut().for_each(|stage| *stage = Stage::Assigned);
    }
}

/// Claims the lanes that are new, all at once; else brings the next one to where it goes on.
async fn start<S, T, D>(
    lanes: &mut Lanes,
    source: &mut S,
    transform: &Arc<T>,
    delivery: &mut D,
) -> Result<()>
where
    S: Source,
    T: Transform<In = S::Body>,
    D: Delivery<Body = T::Out>,
{
    let new = lanes.to_claim();
    if !new.is_empty() {
        let claimed = delivery.claim(&new).await?;
        for (lane, checkpoint) in new.into_iter().zip(claimed) {
            lanes.set(lane, Stage::Claimed(checkpoint));
        }
    } else if let Some((lane, checkpoint)) = lanes.next_claimed() {
        go_on(&lane, checkpoint, source, transform, delivery).await?;
        lanes.set(lane, Stage::Started);
    }
    Ok(())
}

/// Brings a lane to where it goes on, and finishes what was pending.
async fn go_on<S, T, D>(
    lane: &LaneId,
    checkpoint: Checkpoint,
    source: &mut S,
    transform: &Arc<T>,
    delivery: &mut D,
) -> Result<()>
where
    S: Source,
    T: Transform<In = S::Body>,
    D: Delivery<Body = T::Out>,
{
    info!(stream = %lane, seq = %checkpoint.next.seq, pending = checkpoint.pending.is_some(), "stream goes on");
    source.seek(lane, checkpoint.epoch, &checkpoint.next).await?;
    let part = match &checkpoint.pending {
        Some(intent) => Some(source.read_exactly(lane, intent.range).await?),
        None => None,
    };
    for gap in source.take_gaps() {
        delivery.record_gap(&gap).await?;
    }
    if let Some((part, intent)) = part.zip(checkpoint.pending) {
        let plan = intent.plan;
        let part = on_a_thread(transform, move |it| it.apply_declared(part, &plan)).await?;
        delivery.recover(part).await?;
    }
    Ok(())
}

/// Transforms on a thread of its own: encoding a large part must not hold up the delivery that
/// runs beside it.
async fn on_a_thread<T: Transform>(
    transform: &Arc<T>,
    work: impl FnOnce(&T) -> Result<Part<T::Out>> + Send + 'static,
) -> Result<Part<T::Out>> {
    let transform = Arc::clone(transform);
    tokio::task::spawn_blocking(move || work(&transform))
        .await
        .map_err(|panic| Error::new(ErrorKind::Bug, "the transform panicked").with_source(panic))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tailwater_core::gap::Gap;
    use tailwater_core::position::{Epoch, Intent, Millis, Plan, Position, Seq, SeqRange};
    use tokio::time::Instant;

    use super::*;

    /// How long after its claim a lane may be recovered.
    const LIFE: Duration = Duration::from_secs(90);

    /// Assigns three lanes, then stops.
    struct Three(bool, CancellationToken);

    fn part(lane: &LaneId, range: SeqRange) -> Part<()> {
        let next = Position { seq: range.last.plus(1), cursor: Bytes::new() };
        let epoch = Epoch::new([0; 16]);
        Part { lane: lane.clone(), epoch, range: Some(range), next, body: (), held: Vec::new() }
    }

    impl Source for Three {
        type Body = ();

        async fn read(&mut self, _: &BatchLimits) -> Result<Read<()>> {
            if std::mem::replace(&mut self.0, true) {
                self.1.cancel();
                return Ok(Read::Batch(Batch { parts: Vec::new() }));
            }
            let lanes = (0..3).map(|partition| LaneId::partition_of("t", partition));
            Ok(Read::Assigned(lanes.collect()))
        }

        async fn seek(&mut self, _: &LaneId, _: Epoch, _: &Position) -> Result<()> {
            Ok(())
        }

        async fn read_exactly(&mut self, lane: &LaneId, range: SeqRange) -> Result<Part<()>> {
            Ok(part(lane, range))
        }
    }

    struct Same;

    impl Transform for Same {
        type In = ();
        type Out = ();

        fn apply(&self, part: Part<()>) -> Result<Part<()>> {
            Ok(part)
        }
    }

    /// Every lane has something pending, which must be outlived.
    #[derive(Default)]
    struct Pending {
        claimed: BTreeMap<LaneId, Instant>,
        recovered: usize,
    }

    impl Delivery for &mut Pending {
        type Body = ();

        async fn claim(&mut self, lanes: &[LaneId]) -> Result<Vec<Checkpoint>> {
            let pending = Intent {
                range: SeqRange { first: Seq::ZERO, last: Seq(1) },
                plan: Plan {
                    ts_min: Millis(0),
                    ts_max: Millis(0),
                    rows: BTreeMap::new(),
                    digest: 0,
                    mapping: None,
                },
                declared_at: Millis(0),
                foreign: false,
            };
            let next = Position { seq: Seq::ZERO, cursor: Bytes::new() };
            let epoch = Epoch::new([0; 16]);
            let at = Checkpoint { epoch, next, pending: Some(pending), renumbered: false };
            self.claimed.extend(lanes.iter().map(|lane| (lane.clone(), Instant::now())));
            Ok(vec![at; lanes.len()])
        }

        async fn recover(&mut self, part: Part<()>) -> Result<()> {
            tokio::time::sleep_until(self.claimed[&part.lane] + LIFE).await;
            self.recovered += 1;
            Ok(())
        }

        async fn deliver(&mut self, _: Batch<()>) -> Result<()> {
            Ok(())
        }

        fn release(&mut self, _: &[LaneId]) {}

        async fn record_gap(&mut self, _: &Gap) -> Result<()> {
            Ok(())
        }

        async fn settle(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_be_outlived_passes_for_all_lanes_at_the_same_time() {
        let (began, stop) = (Instant::now(), CancellationToken::new());
        let mut pending = Pending::default();
        let source = Three(false, stop.clone());
        let limits = BatchLimits::default();
        run(source, Arc::new(Same), &mut pending, limits, stop).await.unwrap();
        assert_eq!(pending.recovered, 3);
        assert!(began.elapsed() < LIFE * 2, "{:?}", began.elapsed());
    }
}
