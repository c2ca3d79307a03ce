//! MongoDB is away, does not answer, is slow, or elects another primary.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bson::doc;
use tailwater_testkit::rig::Rig;
use tailwater_testkit::servers::{Exit, Mongod, Target, Weather, free_port};
use tailwater_testkit::watch::Watch;
use tailwater_testkit::workload::{self, Ddl, Workload};

use crate::stage::Stage;
use crate::{DEADLINE, binary};

/// What replies of 16 MB and what is made of them may take.
const MOST_OF_A_SLOW_SERVER: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_that_was_stopped_is_read_on_from_where_it_was() {
    let Some(mut stage) = Stage::start().await else { return };
    let load = stage.load();
    stage.rig.mongod.pause().unwrap();
    // No wait for a condition: so long nobody answers.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.rig.mongod.go_on().unwrap();
    for _ in 0..2 {
        let log = stage.log_end();
        stage.rig.mongod.kill().unwrap();
        stage.wait_for_log(log, "read failed", DEADLINE).await;
        stage.rig.mongod.start_again().await.unwrap();
        stage.wait_for_log(log, "reading again", DEADLINE).await;
    }
    load.stop().await.unwrap();
    stage.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_cut_off_for_half_a_minute_is_read_on_from_where_it_was() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.write(10).await;
    let log = stage.log_end();
    stage.mongodb.turn(Weather::Silent);
    stage.write(10).await;
    stage.wait_for_log(log, "read failed", DEADLINE).await;
    stage.write(10).await;
    stage.mongodb.turn(Weather::Clear);
    stage.judge().await;
}

/// Waits until changes arrive that were not there before.
async fn wait_for_more(rig: &mut Rig) {
    let before = rig.checker.keys().await;
    let started = Instant::now();
    while rig.checker.keys().await <= before {
        rig.tailwater.expect_running().unwrap();
        let tail = rig.tailwater.log_tail();
        assert!(started.elapsed() < DEADLINE, "no change arrives:\n{tail}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_lose_and_repeat_nothing() {
    let Some(mongod) = Mongod::start_three().await.unwrap() else { return };
    let target = Target::Embedded(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap())));
    let watch = Watch::Databases(vec!["ingest".into()]);
    let Some(mut rig) = Rig::over(mongod, binary(), watch, target).await.unwrap() else { return };
    rig.warm_up(|number| doc! { "_id": format!("warm-up {number}") }).await.unwrap();
    let names = ["ingest.files".to_owned(), "ingest.jobs".to_owned()];
    let mut plan = workload::Plan::new(7, names.to_vec());
    plan.ddl = Some(Ddl { renames: vec![names.into()], max_pause_ms: 1000, ..Ddl::default() });
    let load = Workload::start(&rig.client, &plan).unwrap();
    for _ in 0..3 {
        wait_for_more(&mut rig).await;
        rig.mongod.step_down().await.unwrap();
        wait_for_more(&mut rig).await;
        rig.mongod.kill_primary().await.unwrap();
        wait_for_more(&mut rig).await;
        rig.mongod.start_again().await.unwrap();
    }
    let written = load.stop().await.unwrap();
    println!("{written}");
    let verdict = rig.judge().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}\n{}", rig.tailwater.log_tail());
    let exit = rig.tailwater.terminate(DEADLINE).await.unwrap();
    assert_eq!(exit, Exit::Code(0), "{}", rig.tailwater.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_mongod_only_delays() {
    let Some(mut stage) = Stage::start().await else { return };
    // At most 64 KiB each time: a third of a megabyte a second.
    stage.mongodb.turn(Weather::Slow(Duration::from_millis(200)));
    let before = stage.rig.tailwater.resident().unwrap().now;
    let load = stage.load();
    let rows = stage.rows().await;
    stage.wait_for_rows(rows + 2000).await;
    load.stop().await.unwrap();
    let verdict = stage.rig.judge().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}\n{}", stage.rig.tailwater.log_tail());
    let most = stage.rig.tailwater.resident().unwrap().most;
    println!("{before} bytes before, {most} at most; {verdict}");
    assert!(most < before + MOST_OF_A_SLOW_SERVER, "{before} bytes before, {most} at most");
    stage.mongodb.turn(Weather::Clear);
    stage.judge().await;
}
