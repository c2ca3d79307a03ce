//! The offsets of a group are older than what was written, gone, or point at what is gone.

use tailwater_testkit::kafka::Committed;

use crate::normalizer::mapping;
use crate::stage::Stage;

/// `DELIVERY.md` §8, line 6: by ten Ranges, and what was noted beside them is gone too.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_set_back_repeat_nothing() {
    let Some(mut stage) = Stage::set("setback").await else { return };
    stage.settings.partitions = 2;
    stage.settings.clickhouse = "batch: { max_rows: 10, max_wait_ms: 50 },".to_owned();
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(300).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;

    let lanes = stage.committed("files").await;
    let back: Vec<Committed> = lanes
        .into_iter()
        .map(|lane| Committed { offset: lane.offset - 100, metadata: String::new(), ..lane })
        .collect();
    let (group, topic) = (stage.group("sink"), stage.topic("files"));
    stage.cluster.commit(&group, &topic, &back).await.unwrap();
    stage.write(50).await;
    let mut sink = stage.start(&["sink"]);
    sink.says("the checkpoint is older than the table").await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    // And nobody sees anything odd any more.
    let mut sink = stage.start(&["sink"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    assert!(!sink.stop().await.contains("older than the table"));
    source.stop().await;
}

/// `DELIVERY.md` §8, line 7.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_offsets_goes_on_from_the_table_and_never_from_the_end() {
    let Some(mut stage) = Stage::set("forgotten").await else { return };
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(200).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;

    stage.cluster.delete_group(&stage.group("sink")).await.unwrap();
    assert_eq!(stage.committed("files").await, []);
    stage.write(100).await;
    // A topic that nobody has read yet, too.
    let jobs = (0..10).map(|number| bson::doc! { "_id": number });
    stage.coll("jobs").insert_many(jobs).await.unwrap();
    stage.judge_topics(&mut source).await;
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}

/// What retention took before anybody read it is told; everything else arrives.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_before_they_are_read_are_a_gap_and_the_rest_arrives() {
    let Some(mut stage) = Stage::set("retained").await else { return };
    stage.settings.partitions = 1;
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    let rows = stage.rows("record_raw").await;

    stage.write(50).await;
    stage.judge_topics(&mut source).await;
    let topic = stage.topic("files");
    let end = stage.cluster.ends(&topic).await.unwrap()[0].end;
    stage.cluster.delete_records(&topic, 0, end).await.unwrap();
    stage.write(50).await;
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(rows + 50, &mut [&mut source, &mut sink]).await;
    assert_eq!(stage.rows("record_raw").await, rows + 50);
    let gone = "tailwater_gaps WHERE reason = 'records_gone'";
    assert_eq!(stage.rows(gone).await, 1);
    sink.stop().await;
    source.stop().await;
}

/// The sink has read the records: only the normalizer knows that something is missing.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_before_they_are_normalized_are_a_gap_too() {
    let Some(mut stage) = Stage::set("unnormalized").await else { return };
    stage.settings.mapping = Some((mapping(&stage, "n"), "topic"));
    stage.settings.partitions = 1;
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    let mut normalizer = stage.start(&["normalize"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut normalizer, &mut sink]).await;
    normalizer.stop().await;
    let rows = stage.rows("record_raw").await;

    stage.write(50).await;
    stage.judge_topics(&mut source).await;
    let topic = stage.topic("files");
    let end = stage.cluster.ends(&topic).await.unwrap()[0].end;
    let current = format!("{}__files_current", stage.name);
    stage.wait_for(&current, 100, &mut [&mut source, &mut sink]).await;
    stage.cluster.delete_records(&topic, 0, end).await.unwrap();
    stage.write(50).await;
    let mut normalizer = stage.start(&["normalize"]);
    stage.wait_for_rows(rows + 50, &mut [&mut source, &mut normalizer, &mut sink]).await;
    sink.stop().await;
    let mut sink = stage.start(&["sink"]);
    sink.says("partitions are ours").await;
    stage.wait_for("tailwater_gaps WHERE reason = 'records_gone'", 1, &mut [&mut sink]).await;
    assert_eq!(stage.rows("tailwater_gaps").await, 1);
    for part in [sink, normalizer, source] {
        part.stop().await;
    }
}

/// A normalizer has no table to look at: its own transactions say how far it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_normalizer_whose_offsets_are_set_back_or_gone_writes_nothing_twice() {
    let Some(mut stage) = Stage::set("renormalized").await else { return };
    stage.settings.mapping = Some((mapping(&stage, "n"), "topic"));
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    let mut normalizer = stage.start(&["normalize"]);
    stage.write(200).await;
    stage.judge(&mut [&mut source, &mut normalizer, &mut sink]).await;
    normalizer.stop().await;

    let (group, topic) = (stage.group("normalize"), stage.topic("files"));
    let lanes = stage.cluster.committed(&group, &topic).await.unwrap();
    let back: Vec<Committed> = lanes
        .iter()
        .map(|lane| Committed { offset: lane.offset / 2, metadata: String::new(), ..lane.clone() })
        .collect();
    stage.cluster.commit(&group, &topic, &back).await.unwrap();
    stage.write(20).await;
    let mut normalizer = stage.start(&["normalize"]);
    normalizer.says("the group's offset is older than what was written").await;
    stage.judge(&mut [&mut source, &mut normalizer, &mut sink]).await;
    normalizer.stop().await;

    stage.cluster.delete_group(&group).await.unwrap();
    let mut normalizer = stage.start(&["normalize"]);
    // Lanes to which nothing comes are not thought to lag.
    normalizer.says("the group's offset is older than what was written").await;
    stage.write(1).await;
    stage.judge(&mut [&mut source, &mut normalizer, &mut sink]).await;
    let now = stage.cluster.committed(&group, &topic).await.unwrap();
    let is_there = |was: &Committed| {
        now.iter().any(|lane| lane.partition == was.partition && lane.offset >= was.offset)
    };
    assert!(lanes.iter().all(is_there), "{lanes:?}, then {now:?}");
    stage.write(20).await;
    stage.judge(&mut [&mut source, &mut normalizer, &mut sink]).await;
    let normalized = stage.cluster.read_committed(&stage.normalized()).await.unwrap();
    assert_eq!(normalized.len(), stage.events().await.len());
    for part in [sink, normalizer, source] {
        part.stop().await;
    }
}
