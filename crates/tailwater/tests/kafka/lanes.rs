//! Partitions move from one sink to another while the first is in the middle of a Range.

use std::collections::BTreeMap;
use std::time::Instant;

use tailwater_testkit::kafka::Committed;
use tailwater_testkit::servers::Weather;

use crate::stage::{Settings, Stage};
use crate::{DEADLINE, LOOK};

/// `DELIVERY.md` §8, line 5: all lanes go, and come back in part.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_lane_that_moves_in_an_eager_group_is_never_committed_by_its_former_owner() {
    let Some(mut stage) = Stage::set("movedeager").await else { return };
    stage.settings.properties.push(("partition.assignment.strategy", "range".to_owned()));
    moves(stage).await;
}

/// The same, where only those go that move.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_lane_that_moves_in_a_cooperative_group_is_never_committed_by_its_former_owner() {
    let Some(stage) = Stage::set("movedsticky").await else { return };
    moves(stage).await;
}

/// The same, where the broker says who has what (KIP-848).
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_lane_that_moves_in_a_group_of_the_broker_is_never_committed_by_its_former_owner() {
    let Some(mut stage) = Stage::set("movednew").await else { return };
    stage.settings.properties = vec![("group.protocol", "consumer".to_owned())];
    moves(stage).await;
}

/// The first sink's inserts get stuck, a second one joins, and what was stuck arrives late.
async fn moves(mut stage: Stage) {
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut first = stage.start(&["sink"]);
    stage.write(100).await;
    stage.judge(&mut [&mut source, &mut first]).await;
    stage.proxy.turn(Weather::Silent);
    stage.write(100).await;
    let stuck = wait_for(&stage, is_pending).await;
    assert!(stuck.len() > 1, "one lane is enough for the first sink: {stuck:?}");

    let direct = Some(stage.servers.engine.address());
    let directly = Settings { target: direct, ..stage.settings.clone() };
    let mut second = stage.start_as(&directly, &["sink"], None);
    let moved = wait_for(&stage, |lane| {
        stuck.get(&lane.partition).is_some_and(|stuck| lane.offset > stuck.offset)
    })
    .await;
    stage.write(100).await;
    // So far behind that a late word of the first one would show.
    let ends: BTreeMap<u32, u64> = wait_for(&stage, |lane| {
        moved.get(&lane.partition).is_some_and(|moved| lane.offset > moved.offset)
    })
    .await
    .into_iter()
    .map(|(partition, lane)| (partition, lane.offset))
    .collect();
    assert_eq!(ends.len(), moved.len());

    stage.proxy.turn(Weather::Clear);
    stage.judge(&mut [&mut source, &mut first, &mut second]).await;
    for lane in stage.committed("files").await {
        let before = ends.get(&lane.partition).copied();
        assert!(before.is_none_or(|before| lane.offset >= before), "{lane:?} was {before:?}");
    }
    stage.write(100).await;
    stage.judge(&mut [&mut source, &mut first, &mut second]).await;
    for part in [source, first, second] {
        part.stop().await;
    }
}

/// Waits until some lanes of `files` are so, and gives them. Others may follow within moments.
async fn wait_for(stage: &Stage, is_so: impl Fn(&Committed) -> bool) -> BTreeMap<u32, Committed> {
    let started = Instant::now();
    let mut most = BTreeMap::new();
    let mut since = Instant::now();
    while most.is_empty() || since.elapsed() < 10 * LOOK {
        let lanes = stage.committed("files").await;
        let found: BTreeMap<u32, Committed> = lanes
            .into_iter()
            .filter(|lane| is_so(lane))
            .map(|lane| (lane.partition, lane))
            .collect();
        if found.len() > most.len() {
            (most, since) = (found, Instant::now());
        }
        assert!(started.elapsed() < DEADLINE, "no lane is so");
        tokio::time::sleep(LOOK).await;
    }
    most
}

/// `tw1;<topic id>;<flags>;<range>;…`
fn is_pending(lane: &Committed) -> bool {
    lane.metadata.split(';').count() > 3
}
