//! What lies between the product and its servers breaks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tailwater_testkit::fault_loop;
use tailwater_testkit::rig::INSERT_DEADLINE;
use tailwater_testkit::servers::{Fault, Weather};

use crate::stage::Stage;
use crate::{DEADLINE, binary};

/// Longer than the product waits for the answer to an insert.
const PAST_THE_TIME_OUT: Duration = Duration::from_secs(200);

/// Longer loops: `cargo xtask soak fault --rounds 20 --seed 7`.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_tokens_and_rows_and_late_inserts_change_nothing() {
    let plan = fault_loop::Plan { seed: 5, rounds: 2 };
    match fault_loop::run(binary(), plan, |line| println!("{line}")).await {
        Ok(Some(report)) => println!("{report}"),
        Ok(None) => {}
        Err(error) => panic!("{error:#}"),
    }
}

/// `DELIVERY.md` §8, line 4.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_held_past_the_clients_time_out_comes_once() {
    let Some(mut stage) = Stage::start().await else { return };
    let rows = stage.rows().await;
    let mut caught = stage.catch(Fault::HoldRequest).await;
    let log = stage.log_end();
    caught.go().await.unwrap();
    stage.wait_for_log(log, "write failed", PAST_THE_TIME_OUT).await;
    stage.wait_for_rows(rows + 3).await;
    caught.release().await.unwrap();
    assert_eq!(stage.rows().await, rows + 3);
    stage.judge().await;
}

/// `DELIVERY.md` §8, line 3.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_sends_nothing_under_an_old_declaration() {
    let Some(mut stage) = Stage::start().await else { return };
    // The first Range of a life is read back in any case.
    stage.start_with_failpoint("declared:2:stop");
    let rows = stage.rows().await;
    stage.write(1).await;
    stage.wait_for_rows(rows + 1).await;
    let rows = rows + 1;
    let caught = stage.clickhouse.arm(Fault::HoldAndHangUp);
    stage.write(3).await;
    stage.wait_until_stopped().await;
    let declared_at = stage.declared_at();
    let deadline = i64::try_from(INSERT_DEADLINE.as_millis()).unwrap();
    while now() <= declared_at + deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let went_on = now();
    stage.go_on();

    let mut caught = tokio::time::timeout(DEADLINE, caught).await.unwrap().unwrap();
    assert!(stage.declared_at() >= went_on, "it was sent under a declaration of long ago");
    // This very insert is held while others pass, and then it comes late.
    caught.go().await.unwrap();
    stage.wait_for_rows(rows + 3).await;
    for _ in 0..3 {
        let rows = stage.rows().await;
        stage.write(1).await;
        stage.wait_for_rows(rows + 1).await;
    }
    let rows = stage.rows().await;
    caught.release().await.unwrap();
    assert_eq!(stage.rows().await, rows);
    stage.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_silent_or_broken_network_only_delays() {
    let Some(mut stage) = Stage::start().await else { return };
    let load = stage.load();
    for weather in [
        Weather::Slow(Duration::from_millis(30)),
        Weather::Broken,
        Weather::Clear,
        Weather::Silent,
        Weather::Broken,
        Weather::Silent,
    ] {
        stage.clickhouse.turn(weather);
        // No wait for a condition: so long it lasts.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.mongodb.turn(weather);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.rig.tailwater.expect_running().unwrap();
    stage.clickhouse.turn(Weather::Clear);
    stage.mongodb.turn(Weather::Clear);
    load.stop().await.unwrap();
    stage.judge().await;
}

fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since_1970.as_millis()).unwrap()
}
