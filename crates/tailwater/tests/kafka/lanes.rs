//! Partitions move from one sink to another while the first is in the middle of a Range.

use std::collections::BTreeMap;
use std::time::Instant;

use bson::doc;
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
    write(&stage).await;
    stage.judge(&mut [&mut source, &mut first]).await;
    stage.proxy.turn(Weather::Silent);
    write(&stage).await;
    let stuck = wait_for(&stage, |_, lane| is_pending(lane)).await;
    assert!(stuck.len() > 1, "one lane is enough for the first sink: {stuck:?}");

    let direct = Some(stage.servers.engine.address());
    let directly = Settings { target: direct, ..stage.settings.clone() };
    let mut second = stage.start_as(&directly, &["sink"], None);
    let moved =
        wait_for(&stage, |id, lane| stuck.get(&id).is_some_and(|stuck| lane.offset > stuck.offset))
            .await;
    write(&stage).await;
    // So far behind that a late word of the first one would show. Not all of them: who was dropped
    // from the group for keeping its lanes comes back, and gets some again, which then wait there.
    let ends =
        wait_for(&stage, |id, lane| moved.get(&id).is_some_and(|moved| lane.offset > moved.offset))
            .await;

    stage.proxy.turn(Weather::Clear);
    stage.judge(&mut [&mut source, &mut first, &mut second]).await;
    for (id, lane) in committed(&stage).await {
        let before = ends.get(&id).map(|lane| lane.offset);
        assert!(before.is_none_or(|before| lane.offset >= before), "{lane:?} was {before:?}");
    }
    write(&stage).await;
    stage.judge(&mut [&mut source, &mut first, &mut second]).await;
    for part in [source, first, second] {
        part.stop().await;
    }
}

/// Writes into all lanes: which of them move is for whoever assigns them to say.
async fn write(stage: &Stage) {
    stage.write(100).await;
    let jobs = (0..100).map(|number| doc! { "number": number });
    stage.coll("jobs").insert_many(jobs).await.unwrap();
}

/// A collection, and a partition of its topic.
type Lane = (&'static str, u32);

async fn committed(stage: &Stage) -> BTreeMap<Lane, Committed> {
    let mut lanes = BTreeMap::new();
    for coll in ["files", "jobs"] {
        let found = stage.committed(coll).await.into_iter();
        lanes.extend(found.map(|lane| ((coll, lane.partition), lane)));
    }
    lanes
}

/// Waits until some lanes are so, and gives them. Others may follow within moments.
async fn wait_for(
    stage: &Stage,
    is_so: impl Fn(Lane, &Committed) -> bool,
) -> BTreeMap<Lane, Committed> {
    let started = Instant::now();
    let mut most = BTreeMap::new();
    let mut since = Instant::now();
    while most.is_empty() || since.elapsed() < 10 * LOOK {
        let mut found = committed(stage).await;
        found.retain(|id, lane| is_so(*id, lane));
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
