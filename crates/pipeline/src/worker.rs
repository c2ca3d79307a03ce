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
use std::time::Duration;

use tailwater_core::position::{Checkpoint, LaneId};
use tailwater_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::part::{Batch, BatchLimits, Delivery, Part, Read, Source, Transform};

/// How long the last save may take of who ends with an error: perhaps it will never be taken.
const LAST_SAVE: Duration = Duration::from_secs(10);
/// Nothing is lost: whoever goes on finds it delivered.
const UNNOTED: &str = "what was delivered last is not noted";

/// Runs until `stop`, or until an error that only an operator can mend.
///
/// # Delivery
/// On `Ok` everything that was delivered is settled; what was read and not delivered is read again
/// by the next run. What an error says is missing for good is written down before this returns.
pub async fn run<S, T, D>(
    mut source: S,
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
    let result = work(&mut source, transform, &mut delivery, limits, stop).await;
    if let Err(error) = &result
        && error.kind() != ErrorKind::Storage
    {
        match tokio::time::timeout(LAST_SAVE, delivery.settle()).await {
            Ok(Ok(())) => {}
            Ok(Err(unsaved)) => warn!(error = %unsaved, "{UNNOTED}"),
            Err(_) => warn!("{UNNOTED}"),
        }
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
    source: &mut S,
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
                started = start(&mut lanes, source, &transform, delivery) => started?,
                // A recovery that was dropped half way is begun again from its claim.
                () = recall.overdue() => lanes.claim_again(),
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
            (delivered, read) = async { tokio::join!(deliver, read) } => delivered.and(read).map(|()| true),
            () = recall.overdue() => Ok(false),
        };
        let finished = finished.inspect_err(|_| {
            // The last save must not be of lanes that are let go when this ends.
            if let Some(Read::Revoked(revoked, _)) = &said {
                delivery.release(revoked);
            }
        })?;
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
                let settled = tokio::select! {
                    biased;
                    settled = delivery.settle() => settled,
                    () = recall.overdue() => Ok(()),
                };
                delivery.release(&revoked);
                settled?;
                source.release(&revoked);
                lanes.revoke(&revoked);
                info!(lanes = revoked.len(), "lanes let go");
                release.done();
            }
        }
    }
    tokio::select! {
        biased;
        settled = delivery.settle() => settled,
        () = recall.overdue() => {
            warn!("{UNNOTED}");
            Ok(())
        }
    }
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

    fn claim_again(&mut self) {
        let claimed = self.0.values_mut().filter(|stage| matches!(stage, Stage::Claimed(_)));
        claimed.for_each(|stage| *stage = Stage::Assigned);
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
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use bytes::Bytes;
    use tailwater_core::gap::Gap;
    use tailwater_core::position::{Epoch, Intent, Millis, Plan, Position, Seq, SeqRange};
    use tokio::time::Instant;

    use super::*;
    use crate::recall::{Recall, Recaller};

    /// How long after its claim a lane may be recovered.
    const LIFE: Duration = Duration::from_secs(90);

    fn lane(partition: u32) -> LaneId {
        LaneId::partition_of("t", partition)
    }

    fn three() -> Read<()> {
        Read::Assigned((0..3).map(lane).collect())
    }

    /// Says what it is told to, then stops.
    struct Script {
        said: Arc<Mutex<VecDeque<Read<()>>>>,
        recaller: Recaller,
        stop: CancellationToken,
        ended: Ended,
    }

    /// What was done at the end, in its order.
    #[derive(Debug, Clone, Default)]
    struct Ended(Arc<Mutex<Vec<String>>>);

    impl Ended {
        fn note(&self, what: impl Into<String>) {
            self.0.lock().unwrap().push(what.into());
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            self.ended.note("all lanes let go");
        }
    }

    impl Source for Script {
        type Body = ();

        async fn read(&mut self, _: &BatchLimits) -> Result<Read<()>> {
            let said = self.said.lock().unwrap().pop_front();
            Ok(said.unwrap_or_else(|| {
                self.stop.cancel();
                Read::Batch(Batch { parts: Vec::new() })
            }))
        }

        async fn seek(&mut self, _: &LaneId, _: Epoch, _: &Position) -> Result<()> {
            Ok(())
        }

        async fn read_exactly(&mut self, lane: &LaneId, range: SeqRange) -> Result<Part<()>> {
            let next = Position { seq: range.last.plus(1), cursor: Bytes::new() };
            let (lane, epoch) = (lane.clone(), Epoch::new([0; 16]));
            Ok(Part { lane, epoch, range: Some(range), next, body: (), held: Vec::new() })
        }

        fn recall(&self) -> Recall {
            self.recaller.listen()
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
    struct Pending {
        said: Arc<Mutex<VecDeque<Read<()>>>>,
        recaller: Recaller,
        /// At the first recovery the last lane is wanted back.
        disturbed: bool,
        /// Nobody takes its commits.
        thrown_out: bool,
        /// What it delivers is refused.
        refused: bool,
        ended: Ended,
        claims: Vec<(LaneId, Instant)>,
        recovered: Vec<LaneId>,
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
            self.claims.extend(lanes.iter().map(|lane| (lane.clone(), Instant::now())));
            Ok(vec![at; lanes.len()])
        }

        async fn recover(&mut self, part: Part<()>) -> Result<()> {
            if std::mem::take(&mut self.disturbed) {
                let (release, _) = self.recaller.want_back(Duration::from_secs(10));
                self.said.lock().unwrap().push_back(Read::Revoked(vec![lane(2)], release));
            }
            let claimed = self.claims.iter().rfind(|(lane, _)| *lane == part.lane).unwrap().1;
            tokio::time::sleep_until(claimed + LIFE).await;
            self.recovered.push(part.lane);
            Ok(())
        }

        async fn deliver(&mut self, _: Batch<()>) -> Result<()> {
            match self.refused {
                true => Err(Error::new(ErrorKind::Refused, "refused")),
                false => Ok(()),
            }
        }

        fn release(&mut self, lanes: &[LaneId]) {
            self.ended.note(format!("{lanes:?} released"));
        }

        async fn record_gap(&mut self, _: &Gap) -> Result<()> {
            Ok(())
        }

        async fn settle(&mut self) -> Result<()> {
            if self.thrown_out {
                std::future::pending::<()>().await;
            }
            self.ended.note("saved");
            Ok(())
        }
    }

    fn scene(said: Vec<Read<()>>) -> (Script, Pending) {
        let (said, recaller) = (Arc::new(Mutex::new(said.into())), Recaller::new());
        let ended = Ended::default();
        let pending = Pending {
            said: Arc::clone(&said),
            recaller: recaller.clone(),
            disturbed: false,
            thrown_out: false,
            refused: false,
            ended: ended.clone(),
            claims: Vec::new(),
            recovered: Vec::new(),
        };
        (Script { said, recaller, stop: CancellationToken::new(), ended }, pending)
    }

    async fn play(script: Script, pending: &mut Pending) {
        let stop = script.stop.clone();
        run(script, Arc::new(Same), pending, BatchLimits::default(), stop).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_be_outlived_passes_for_all_lanes_at_the_same_time() {
        let began = Instant::now();
        let (script, mut pending) = scene(vec![three()]);
        play(script, &mut pending).await;
        assert_eq!(pending.recovered, [0, 1, 2].map(lane));
        assert!(began.elapsed() < LIFE * 2, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_recovery_that_was_dropped_is_begun_again_from_a_new_claim() {
        let (script, mut pending) = scene(vec![three()]);
        pending.disturbed = true;
        play(script, &mut pending).await;
        assert_eq!(pending.recovered, [0, 1].map(lane));
        let claims: Vec<LaneId> = pending.claims.into_iter().map(|(lane, _)| lane).collect();
        assert_eq!(claims, [0, 1, 2, 0, 1].map(lane));
    }

    /// The last save is of the lanes that are still ours, and only then the others get them.
    #[tokio::test(start_paused = true)]
    async fn who_fails_while_a_lane_is_wanted_back_saves_nothing_of_it() {
        let (script, mut pending) = scene(vec![three(), Read::Batch(Batch { parts: Vec::new() })]);
        let (release, _) = Recaller::new().want_back(LIFE);
        script.said.lock().unwrap().push_back(Read::Revoked(vec![lane(2)], release));
        pending.refused = true;
        let (stop, ended) = (script.stop.clone(), pending.ended.clone());
        let outcome = run(script, Arc::new(Same), &mut pending, BatchLimits::default(), stop).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Refused);
        let two = format!("{:?} released", [lane(2)]);
        assert_eq!(*ended.0.lock().unwrap(), [&*two, "saved", "all lanes let go"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_thrown_out_ends_although_nobody_takes_its_commits() {
        let began = Instant::now();
        let (script, mut pending) = scene(Vec::new());
        pending.thrown_out = true;
        let (_release, _) = script.recaller.want_back(Duration::ZERO);
        play(script, &mut pending).await;
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
