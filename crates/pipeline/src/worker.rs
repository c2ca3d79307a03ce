//! The loop. A batch is delivered while the next one is read and transformed.
//!
//! ```text
//!   read n+1 ─▶ transform n+1 ─┐
//!                              ├─▶ both done: n+1 is next to be delivered
//!   deliver n ─────────────────┘
//! ```
//!
//! The loop never moves a position: only a delivery does, after its write is durable.

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
    let mut ready: Option<Batch<T::Out>> = None;
    loop {
        let deliver = async {
            match ready.take() {
                Some(batch) => delivery.deliver(batch).await,
                None => Ok(()),
            }
        };
        let read = async {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                read = source.read(&limits) => read?,
            };
            match read {
                Read::Assigned(lanes) => Ok(Some(Read::Assigned(lanes))),
                Read::Batch(batch) => {
                    let mut parts = Vec::with_capacity(batch.parts.len());
                    for part in batch.parts {
                        parts.push(on_a_thread(&transform, |it| it.apply(part)).await?);
                    }
                    Ok(Some(Read::Batch(Batch { parts })))
                }
            }
        };
        let (delivered, read) = tokio::join!(deliver, read);
        delivered?;
        match read? {
            None => break,
            Some(Read::Batch(batch)) => ready = Some(batch),
            Some(Read::Assigned(lanes)) => {
                for lane in lanes {
                    start(&lane, &mut source, &transform, delivery).await?;
                }
            }
        }
    }
    delivery.settle().await
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
    source.seek(lane, checkpoint.epoch, &checkpoint.next)?;
    if let Some(intent) = checkpoint.pending {
        let part = source.read_exactly(lane, intent.range).await?;
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
