//! ClickHouse is away, refuses, or has lost something.

use crate::DEADLINE;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_was_away_gets_everything_once() {
    let Some(mut stage) = Stage::start().await else { return };
    let load = stage.load();
    let log = stage.log_end();
    stage.engine.kill().unwrap();
    stage.wait_for_log(log, "write failed", DEADLINE).await;
    stage.wait_for_failures("write failed").await;
    stage.engine.start_again().await.unwrap();
    load.stop().await.unwrap();
    stage.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_parts_are_waited_out() {
    let Some(mut stage) = Stage::start().await else { return };
    let rows = stage.rows().await;
    let limits = "parts_to_throw_insert = 1, parts_to_delay_insert = 1";
    stage.alter(&format!("MODIFY SETTING {limits}")).await;
    stage.write(5).await;
    stage.wait_for_failures("Code: 252").await;
    assert_eq!(stage.rows().await, rows);
    stage.alter("RESET SETTING parts_to_throw_insert, parts_to_delay_insert").await;
    stage.wait_for_rows(rows + 5).await;
    stage.judge().await;
}

/// A view that never has the memory for a block must not hold up everything for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_without_memory_is_waited_for_and_then_a_gap_record() {
    let Some(mut stage) = Stage::start().await else { return };
    let rows = stage.rows().await;
    // The code of a lack of memory, from the server's own mouth, after it has taken the block.
    stage
        .execute(
            "CREATE MATERIALIZED VIEW hungry ENGINE = MergeTree ORDER BY n \
             SETTINGS non_replicated_deduplication_window = 10000 AS \
             SELECT throwIf(1, 'no memory', toInt16(241)) AS n FROM record_raw \
             SETTINGS allow_custom_error_code_in_throwif = 1",
        )
        .await;
    stage.restart().await;
    let log = stage.log_end();
    stage.write(5).await;
    stage.wait_for_log(log, "Code: 241", DEADLINE).await;
    stage.wait_for_log(log, "views on the event table", DEADLINE).await;
    stage.execute("DROP TABLE hungry").await;
    let gaps = "SELECT count() AS count FROM tailwater_gaps WHERE namespaces = ['hungry']";
    assert!(stage.count(gaps).await > 0);
    stage.write(5).await;
    stage.wait_for_rows(rows + 10).await;
    stage.judge().await;
}

/// The current-state table has no memory for more than two rows at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_current_state_that_is_too_large_goes_in_smaller_blocks() {
    let Some(mut stage) = Stage::start().await else { return };
    let rows = stage.rows().await;
    stage
        .execute(
            "CREATE MATERIALIZED VIEW narrow ENGINE = Null AS \
             SELECT throwIf(count() > 2, 'no memory', toInt16(241)) AS n FROM `ingest__files` \
             SETTINGS allow_custom_error_code_in_throwif = 1",
        )
        .await;
    let log = stage.log_end();
    stage.write(9).await;
    stage.wait_for_rows(rows + 9).await;
    stage.wait_for_log(log, "in smaller blocks", DEADLINE).await;
    stage.judge().await;
}

/// `DELIVERY.md` §8, line 2.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_failed_once_is_filled() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.execute("CREATE TABLE broken (yes UInt8) ENGINE = MergeTree ORDER BY yes").await;
    stage
        .execute(
            "CREATE MATERIALIZED VIEW seen ENGINE = MergeTree ORDER BY key \
             SETTINGS non_replicated_deduplication_window = 10000 AS \
             SELECT idempotency_key AS key, _offset AS offset, \
             throwIf(1 IN (SELECT yes FROM broken), 'broken', toInt16(241)) AS thrown \
             FROM record_raw SETTINGS allow_custom_error_code_in_throwif = 1",
        )
        .await;
    stage.restart().await;
    let before = stage.rows().await;
    stage.write(5).await;
    stage.wait_for_rows(before + 5).await;
    stage.execute("INSERT INTO broken VALUES (1)").await;
    let log = stage.log_end();
    stage.write(5).await;
    stage.wait_for_log(log, "Code: 241", DEADLINE).await;
    stage.engine.kill().unwrap();
    stage.engine.start_again().await.unwrap();
    stage.execute("TRUNCATE TABLE broken").await;
    stage.write(5).await;
    stage.wait_for_rows(before + 15).await;
    let new = format!("_offset >= {before} AND idempotency_key NOT IN (SELECT key FROM seen)");
    let unseen = format!("SELECT count() AS count FROM record_raw WHERE {new}");
    assert_eq!(stage.count(&unseen).await, 0, "rows that the view has not seen");
    let twice = "SELECT count() - uniqExact(key) AS count FROM seen";
    assert_eq!(stage.count(twice).await, 0, "rows that the view has seen twice");
    stage.judge().await;
}
