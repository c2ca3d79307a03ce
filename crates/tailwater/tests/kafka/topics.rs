//! Topics are deleted, made anew, and grow.

use bson::{Document, doc};
use tailwater_testkit::kafka::Message;

use crate::stage::Stage;

/// `DELIVERY.md` §8, line 10.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_with_more_records_is_read_from_its_beginning() {
    let Some(mut stage) = Stage::set("madeanew").await else { return };
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;

    let topic = stage.topic("files");
    stage.cluster.delete_topic(&topic).await.unwrap();
    stage.cluster.create_topic(&topic, stage.settings.partitions, &[]).await.unwrap();
    stage.write(300).await;
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    assert_eq!(stage.number("uniqExact(_epoch)", "record_raw").await, Some(2));
    sink.stop().await;
    // What the source remembers is of the new topic, too.
    source.stop().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}

/// The same under the eyes of both, and the source makes the topic.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_while_it_is_written_and_read_is_made_again_and_read_from_its_beginning()
 {
    let Some(mut stage) = Stage::set("deleted").await else { return };
    // So long it waits for the topic.
    stage.settings.properties.push(("transaction.timeout.ms", "4000".to_owned()));
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    stage.cluster.delete_topic(&stage.topic("files")).await.unwrap();
    stage.write(400).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    assert_eq!(stage.number("uniqExact(_epoch)", "record_raw").await, Some(2));
    sink.stop().await;
    // What the source has noted, a sink that starts tells.
    let mut sink = stage.start(&["sink"]);
    sink.says("partitions are ours").await;
    stage.wait_for("tailwater_gaps WHERE reason = 'topic_deleted'", 1, &mut [&mut sink]).await;
    assert_eq!(stage.rows("tailwater_gaps").await, 1);
    sink.stop().await;
    source.stop().await;
}

/// And they are named, with what to set.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_cannot_keep_what_they_are_for_are_refused() {
    let Some(stage) = Stage::set("unfit").await else { return };
    let (files, checkpoints) = (stage.topic("files"), stage.checkpoints());
    let compacted = [("cleanup.policy", "compact")];
    stage.cluster.create_topic(&checkpoints, 2, &compacted).await.unwrap();
    stage.start(&["source"]).refuses(&["has 2 partitions instead of one"]).await;
    stage.cluster.delete_topic(&checkpoints).await.unwrap();
    stage.cluster.create_topic(&checkpoints, 1, &[]).await.unwrap();
    let wrong = ["is not compacted: checkpoints would vanish", "hint: set its `cleanup.policy`"];
    stage.start(&["source"]).refuses(&wrong).await;
    stage.cluster.set_topic(&checkpoints, "cleanup.policy", "compact").await.unwrap();

    stage.cluster.create_topic(&files, 1, &compacted).await.unwrap();
    let source = stage.start(&["source"]);
    stage.write(1).await;
    let vanish = format!("topic `{files}` is compacted: changes");
    source.refuses(&[&vanish, "hint: set "]).await;
    stage.start(&["sink"]).refuses(&[&vanish, "`cleanup.policy` to `delete`"]).await;
    stage.cluster.set_topic(&files, "cleanup.policy", "delete").await.unwrap();
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(1, &mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}

/// A document stays where it is, and what others write into the new partitions is read.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_move_no_document_and_are_read() {
    let Some(mut stage) = Stage::set("grown").await else { return };
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(100).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    let topic = stage.topic("files");
    stage.cluster.add_partitions(&topic, 6).await.unwrap();
    let files = stage.coll("files");
    files.update_many(doc! {}, doc! { "$set": { "grown": 1 } }).await.unwrap();
    stage.write(100).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    source.stop().await;
    let mut source = stage.start(&["source"]);
    files.update_many(doc! {}, doc! { "$set": { "grown": 2 } }).await.unwrap();
    stage.judge(&mut [&mut source, &mut sink]).await;
    let log = source.stop().await;
    assert!(log.contains("partitions were added"), "{log}");

    let document = doc! { "_id": "of others" };
    let foreign = of_others(&stage, &document, 5);
    let rows = stage.rows("record_raw").await;
    stage.cluster.produce(&topic, &[foreign]).await.unwrap();
    stage.wait_for_rows(rows + 1, &mut [&mut sink]).await;
    let added = "record_raw WHERE _partition = 5 AND doc_id = 'of others'";
    assert_eq!(stage.rows(added).await, 1);
    sink.stop().await;
}

/// An insert as the MongoDB Kafka connector writes it.
pub(crate) fn of_others(stage: &Stage, document: &Document, partition: u32) -> Message {
    let key = doc! { "_id": document.get("_id") };
    let event = doc! {
        "_id": { "_data": "8265a1b2c3000000012b022c0100296e5a1004" },
        "operationType": "insert",
        "clusterTime": bson::Timestamp { time: 1_705_000_000, increment: 1 },
        "ns": { "db": stage.name, "coll": "files" },
        "documentKey": key.clone(),
        "fullDocument": document.clone(),
    };
    let json =
        |document: Document| bson::Bson::Document(document).into_canonical_extjson().to_string();
    Message { partition: Some(partition), ..Message::new(json(key), json(event)) }
}
