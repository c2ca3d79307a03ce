//! What cannot be made whole is written down; what comes under other numbers is known by its event.

use tailwater_pipeline::failpoint;
use tailwater_testkit::servers::Exit;

use crate::DEADLINE;
use crate::stage::{Stage, start_with_failpoint};

/// A view whose own table keeps a block that comes twice cannot be filled by sending one.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_nobody_can_fill_is_a_gap_record() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.restart().await;
    stage.execute("CREATE TABLE keys (key String) ENGINE = MergeTree ORDER BY key").await;
    stage
        .execute(
            "CREATE MATERIALIZED VIEW forgetful TO default.keys AS \
             SELECT idempotency_key AS key FROM record_raw",
        )
        .await;
    let rows = stage.rows().await;
    let log = stage.log_end();
    stage.start_with_failpoint(&format!("{}:2", failpoint::WRITTEN));
    stage.write(5).await;
    stage.wait_for_rows(rows + 5).await;
    let mended = "MODIFY SETTING non_replicated_deduplication_window = 10000";
    assert!(stage.rig.tailwater.log()[log..].contains(mended), "no statement that mends the view");
    let gaps = "SELECT count() AS count FROM tailwater_gaps";
    assert_eq!(stage.count(gaps).await, 0, "the first range was written once, and surely");
    stage.write(5).await;
    assert_eq!(stage.rig.tailwater.wait(DEADLINE).await.unwrap(), Exit::Signal);
    // Twice on the way to the end of the same range: one record.
    start_with_failpoint(&mut stage.rig, failpoint::RECOVERED);
    assert_eq!(stage.rig.tailwater.wait(DEADLINE).await.unwrap(), Exit::Signal);
    stage.rig.start_again().unwrap();
    stage.write(5).await;
    stage.wait_for_rows(rows + 15).await;
    let of_range = format!(
        "{gaps} WHERE reason = 'views_unsure' AND namespaces = ['forgetful'] \
         AND lane = 'ingest.files' AND from_offset = {} AND closed_at IS NULL AND from_ts <= to_ts",
        rows + 5
    );
    assert_eq!((stage.count(gaps).await, stage.count(&of_range).await), (1, 1));
    // The statement that was said makes the view one that can be filled.
    let log = stage.rig.tailwater.log();
    let statement = log.lines().rev().find_map(|line| line.split_once("run: ")).unwrap().1;
    let statement = statement.split(" view=").next().unwrap();
    stage.execute(statement).await;
    let log = stage.log_end();
    stage.restart().await;
    stage.write(5).await;
    stage.wait_for_rows(rows + 20).await;
    assert!(!stage.rig.tailwater.log()[log..].contains(mended));
    stage.judge().await;
}

/// After a crash the stream yields other events than before: one of those that have a row is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_yields_other_events_repeats_nothing() {
    let Some(mut stage) = Stage::start().await else { return };
    let first = stage.rows().await + 5;
    // What comes first behind a claim is read back before it is written.
    stage.start_with_failpoint(&format!("{}:2", failpoint::WRITTEN));
    stage.write(5).await;
    stage.wait_for_rows(first).await;
    stage.write(5).await;
    assert_eq!(stage.rig.tailwater.wait(DEADLINE).await.unwrap(), Exit::Signal);
    let other = first + 1;
    stage
        .alter(&format!(
            "UPDATE _offset = _offset + 1 WHERE _offset >= {other} SETTINGS mutations_sync = 2"
        ))
        .await;
    stage
        .execute(&format!(
            "INSERT INTO record_raw SELECT * REPLACE({other} AS _offset, 'gone' AS doc_id, \
             'gone' AS idempotency_key) FROM \
             (SELECT * FROM record_raw WHERE _offset = {first})"
        ))
        .await;
    stage.rig.start_again().unwrap();
    stage.wait_for_log(0, "other events than before", DEADLINE).await;
    stage.write(5).await;
    stage.wait_for_rows(first + 11).await;
    stage.restart().await;
    stage.write(5).await;
    stage.wait_for_rows(first + 16).await;
    let twice = "SELECT count() - uniqExact(idempotency_key) AS count FROM record_raw";
    assert_eq!(stage.count(twice).await, 0);
    stage
        .execute("ALTER TABLE record_raw DELETE WHERE doc_id = 'gone' SETTINGS mutations_sync = 2")
        .await;
    let checkpoints = stage.checkpoints();
    assert!(checkpoints[0].get("renumbered").is_none(), "{checkpoints}");
}
