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

use tailwater_core::position::LaneId;
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
        if let Some(lane) = lanes.to_start().filter(|_| !recall.is_wanted()) {
            tokio::select! {
                biased;
                started = start(&lane, &mut source, &transform, delivery) => {
                    started?;
                    lanes.started(&lane);
                }
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
struct Lanes(BTreeMap<LaneId, bool>);

impl Lanes {
    fn to_start(&self) -> Option<LaneId> {
        self.0.iter().find(|(_, started)| !**started).map(|(lane, _)| lane.clone())
    }

    fn started(&mut self, lane: &LaneId) {
        self.0.insert(lane.clone(), true);
    }

    fn assign(&mut self, lanes: Vec<LaneId>) {
        self.0.extend(lanes.into_iter().map(|lane| (lane, false)));
    }

    fn revoke(&mut self, lanes: &[LaneId]) {
        self.0.retain(|lane, _| !lanes.contains(lane));
    }

    fn start_again(&mut self) {
        self.0.values_mut().for_each(|started| *started = false);
    }
}

/// Brings one lane to where it goes on, and finishes what was pending.
async fn start<S, T, D>(
    lane: &LaneId,
    source: &mut S,
    transform: &Arc<T>,
    delivery: &mut D,
) -> Result<()>
where
    S: Source,
    T: Transform<In = S::Body>,
    D: Delivery<Body = T::Out>,
{
    let checkpoint = delivery.claim(lane).await?;
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
