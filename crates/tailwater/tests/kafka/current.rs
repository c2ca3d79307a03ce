//! Collections are dropped, made again and renamed while some lanes stand still.

use std::time::Instant;

use bson::doc;
use tailwater_testkit::kafka::Ends;
use tailwater_testkit::servers::Weather;

use crate::part::Part;
use crate::stage::{Settings, Stage};
use crate::{DEADLINE, LOOK};

/// `DELIVERY.md` §8, line 15, and the same for a rename from topic to topic.
#[tokio::test(flavor = "multi_thread")]
async fn no_ghost_stays_and_no_document_is_lost_where_lanes_are_behind_a_drop_or_a_rename() {
    let Some(mut stage) = Stage::set("dropped").await else { return };
    stage.settings.partitions = 8;
    // Half of each topic to each of two.
    stage.settings.properties.push(("partition.assignment.strategy", "range".to_owned()));
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut slow = stage.start(&["sink"]);
    slow.says("partitions are ours").await;
    let directly =
        Settings { target: Some(stage.servers.engine.address()), ..stage.settings.clone() };
    let mut quick = stage.start_as(&directly, &["sink"], None);
    quick.says("partitions are ours").await;
    let (files, jobs) = (stage.coll("files"), stage.coll("jobs"));
    stage.write(100).await;
    jobs.insert_many((0..40_i64).map(|number| doc! { "_id": number, "job": true })).await.unwrap();
    stage.judge(&mut [&mut source, &mut slow, &mut quick]).await;

    // The half of the lanes stays behind, with changes before the drop.
    stage.proxy.turn(Weather::Silent);
    files.update_many(doc! {}, doc! { "$set": { "late": true } }).await.unwrap();
    files.drop().await.unwrap();
    let again = (0..200_i64).step_by(2).map(|number| doc! { "_id": number, "again": true });
    files.insert_many(again).await.unwrap();
    only_the_slow_lanes_are_behind(&mut stage, &mut [&mut source, &mut slow, &mut quick]).await;
    stage.proxy.turn(Weather::Clear);
    stage.judge(&mut [&mut source, &mut slow, &mut quick]).await;

    stage.proxy.turn(Weather::Silent);
    files.update_many(doc! {}, doc! { "$set": { "renamed": true } }).await.unwrap();
    jobs.update_many(doc! {}, doc! { "$set": { "gone": true } }).await.unwrap();
    let name = |coll: &str| format!("{}.{coll}", stage.name);
    let rename = doc! { "renameCollection": name("files"), "to": name("jobs"), "dropTarget": true };
    stage.mongodb.database("admin").run_command(rename).await.unwrap();
    jobs.update_many(doc! { "_id": { "$lt": 50 } }, doc! { "$set": { "then": true } })
        .await
        .unwrap();
    files.insert_many((0..50_i64).map(|number| doc! { "_id": number, "new": true })).await.unwrap();
    only_the_slow_lanes_are_behind(&mut stage, &mut [&mut source, &mut slow, &mut quick]).await;
    stage.proxy.turn(Weather::Clear);
    stage.judge(&mut [&mut source, &mut slow, &mut quick]).await;
    for part in [quick, slow, source] {
        part.stop().await;
    }
}

/// Waits until the half of the lanes has all of the topic, and the other half has not.
async fn only_the_slow_lanes_are_behind(stage: &mut Stage, parts: &mut [&mut Part]) {
    stage.judge_topics(parts[0]).await;
    let started = Instant::now();
    loop {
        let ends = stage.cluster.ends(&stage.topic("files")).await.unwrap();
        let committed = stage.committed("files").await;
        let is_behind = |(partition, ends): (u32, &Ends)| {
            let done = committed.iter().find(|done| done.partition == partition);
            // Behind the last record is the mark of its transaction.
            done.is_none_or(|done| done.offset + 1 < ends.stable)
        };
        let behind: Vec<bool> = (0..).zip(&ends).map(is_behind).collect();
        if behind.iter().filter(|behind| **behind).count() == behind.len() / 2 {
            return;
        }
        parts.iter_mut().for_each(|part| part.expect_running());
        assert!(started.elapsed() < DEADLINE, "behind: {behind:?}");
        tokio::time::sleep(LOOK).await;
    }
}
