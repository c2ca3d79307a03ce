//! What `schema` makes is what `run` needs; what it shows is what it does.

use crate::stage::Stage;

const TABLES: &str = "SELECT arrayStringConcat(groupArray(name), ' ') FROM \
                      (SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name)";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_what_a_run_needs_and_what_differs_is_changed() {
    let Some(mut stage) = Stage::set("applied").await else { return };
    let plan = stage.run(&["schema", "plan"]).await.done();
    for text in [
        "make   topic `events.mongo.applied.files`\n    2 partitions, 1 replica, kept for 72 h",
        "make   topic `applied.checkpoints`\n    1 partition, 1 replica, compacted",
        "make   table `record_raw`\n    CREATE TABLE",
        "make   view `applied__files_current`",
    ] {
        assert!(plan.contains(text), "no `{text}` in\n{plan}");
    }
    assert_eq!(stage.ask_rows(TABLES).await, "");
    stage.run(&["schema", "apply"]).await.refused(&["nothing was done", "--yes"]);
    assert_eq!(stage.ask_rows(TABLES).await, "");
    stage.run(&["schema", "apply", "--yes"]).await.done();
    let tables = stage.ask_rows(TABLES).await;
    let all =
        "applied__files applied__files_current record_raw tailwater_dead_letters tailwater_gaps";
    assert_eq!(tables, all);
    assert_eq!(stage.cluster.ends("events.mongo.applied.files").await.unwrap().len(), 2);
    let again = stage.run(&["schema", "apply"]).await.done();
    assert!(again.ends_with("\nnothing to do\n"), "{again}");

    // A run makes no more than that, and refuses what a plan names.
    stage.write(0, 5).await;
    let mut parts = stage.start(&["source", "sink"]);
    stage.wait_for_rows(5, &mut [&mut parts]).await;
    assert_eq!(stage.ask_rows(TABLES).await, all);
    parts.stop().await;
    stage.execute("ALTER TABLE applied.record_raw DROP COLUMN superseded").await;
    stage.execute(
        "ALTER TABLE applied.tailwater_dead_letters MODIFY SETTING non_replicated_deduplication_window = 5",
    )
    .await;
    stage.clickhouse = "ttl_days: 90,".to_owned();
    let log = stage.start(&["sink"]).refused().await;
    assert!(log.contains("has no column `superseded`"), "{log}");
    let plan = stage.run(&["schema", "apply", "--yes"]).await.done();
    assert!(plan.contains("the table `record_raw` has no column `superseded`; rows of"), "{plan}");
    assert!(plan.contains("2 to change"), "{plan}");
    stage.write(5, 5).await;
    let mut parts = stage.start(&["source", "sink"]);
    stage.wait_for_rows(10, &mut [&mut parts]).await;
    let described = stage.ask_rows("SHOW CREATE TABLE record_raw").await;
    assert!(described.contains("toIntervalDay(90)"), "{described}");
    parts.stop().await;

    // What only somebody who decides can mend is done by nobody, nor is anything beside it.
    stage.execute("ALTER TABLE applied.record_raw MODIFY COLUMN superseded UInt8").await;
    stage.execute("DROP TABLE applied.applied__files_current").await;
    let plan = stage.run(&["schema", "apply", "--yes"]).await;
    assert!(plan.out.contains("wrong  table `record_raw`: column `superseded`"), "{plan:?}");
    plan.refused(&["nothing was done", "table `record_raw`"]);
    assert_eq!(stage.ask_rows("EXISTS TABLE applied__files_current").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kafka_what_was_made_goes_and_what_others_have_made_stays() {
    let Some(mut stage) = Stage::set("dropped").await else { return };
    stage.direct = true;
    stage.run(&["schema", "apply", "--ingest", "kafka-engine"]).await.refused(&["`kafka`"]);
    stage.execute("CREATE TABLE dropped.mine (n UInt8) ENGINE = Log").await;
    let other =
        "CREATE TABLE dropped.theirs (n UInt8) ENGINE = Log COMMENT 'tailwater: pipeline `x`'";
    let mut all = stage.start(&[]);
    stage.write(0, 5).await;
    stage.wait_for_rows(5, &mut [&mut all]).await;
    let teardown = ["schema", "teardown", "--data", "--yes"];
    stage.run(&teardown).await.refused(&["is in use by another tailwater"]);
    all.stop().await;
    let plan = stage.run(&["schema", "teardown", "--yes"]).await.done();
    assert!(plan.contains("stays  table `record_raw`") && plan.contains("nothing to do"), "{plan}");

    // Of a collection, and of gaps, whose they are is not known while others have tables there.
    stage.execute(other).await;
    let plan = stage.run(&teardown[..3]).await;
    assert!(plan.out.contains("it may serve the pipeline `x`"), "{plan:?}");
    plan.refused(&["there is nobody to ask"]);
    stage.execute("DROP TABLE dropped.theirs").await;
    let plan = stage.run(&teardown).await.done();
    assert!(plan.contains("drop   table `record_raw`: its 6 rows are lost"), "{plan}");
    assert!(plan.contains("note: the checkpoints in"), "{plan}");
    assert_eq!(stage.ask_rows(TABLES).await, "mine");
}
