//! MongoDB is away, or does not answer.

use std::time::Duration;

use tailwater_testkit::servers::Weather;

use crate::DEADLINE;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_that_was_stopped_is_read_on_from_where_it_was() {
    let Some(mut stage) = Stage::start().await else { return };
    let load = stage.load();
    stage.rig.mongod.pause().unwrap();
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
