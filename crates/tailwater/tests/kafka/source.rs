//! The source dies, stands still, or finds somebody else in its way.

use std::time::Instant;

use bson::{Document, doc};
use tailwater_pipeline::failpoint;
use tailwater_testkit::kafka::Message;

use crate::stage::Stage;
use crate::{DEADLINE, LOOK};

/// `DELIVERY.md` §8, line 9.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_at_each_step_of_a_transaction_writes_each_change_once() {
    let Some(mut stage) = Stage::set("steps").await else { return };
    stage.settings.properties[0].1 = "1500".to_owned();
    for point in [failpoint::SENT, failpoint::COMMITTING, failpoint::COMMITTED] {
        for time in [1, 3] {
            let mut source = stage.start_at(&["source"], &format!("{point}:{time}"));
            stage.write_until(|| source.has_ended()).await;
            source.dies().await;
        }
    }
    let mut source = stage.start(&["source"]);
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

/// The broker ends a transaction that is open for too long, and its source with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stands_still_in_a_transaction_sends_it_again() {
    let Some(mut stage) = Stage::set("timedout").await else { return };
    stage.settings.properties.push(("transaction.timeout.ms", "2000".to_owned()));
    stage.make_topics().await;
    let mut source = stage.start_at(&["source"], "committing:3:stop");
    stage.write_until(|| source.is_still()).await;
    let topic = stage.topic("files");
    let started = Instant::now();
    // Until it is aborted, nothing behind it is stable.
    while stage.cluster.ends(&topic).await.unwrap().iter().any(|ends| ends.stable < ends.end) {
        assert!(started.elapsed() < DEADLINE, "the transaction stays open");
        tokio::time::sleep(LOOK).await;
    }
    source.go_on();
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

/// Of two sources one stands by. The first comes back when the second has taken over, and must not
/// commit what it still has; then it takes over itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_source_that_stands_still_or_dies() {
    let Some(mut stage) = Stage::set("standby").await else { return };
    stage.make_topics().await;
    let mut first = stage.start_at(&["source"], "committing:3:stop");
    first.says("checkpoints read").await;
    let mut second = stage.start(&["source"]);
    second.says("standing by").await;
    stage.write_until(|| first.is_still()).await;
    stage.judge_topics(&mut second).await;
    first.go_on();
    stage.write(20).await;
    stage.judge_topics(&mut second).await;
    first.expect_running();
    second.kill();
    stage.write(20).await;
    stage.judge_topics(&mut first).await;
    first.stop().await;
}

/// `DELIVERY.md` §8, line 8: behind the stranger's transaction nobody sees how far the source is.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_waits_for_an_open_transaction_on_its_checkpoints_and_repeats_nothing() {
    let Some(mut stage) = Stage::set("hanging").await else { return };
    let mut source = stage.start(&["source"]);
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    let stranger = open_on_checkpoints(&stage).await;
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    source.kill();

    stage.write(20).await;
    let before = stage.cluster.read_committed(&stage.topic("files")).await.unwrap().len();
    let mut source = stage.start(&["source"]);
    source.says("waiting for an open transaction").await;
    let after = stage.cluster.read_committed(&stage.topic("files")).await.unwrap().len();
    assert_eq!(after, before, "it does not wait");
    stranger.abort().await.unwrap();
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

/// The same, where it is never closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_on_the_checkpoints_is_named() {
    let Some(mut stage) = Stage::set("hanged").await else { return };
    // It waits for twice this.
    stage.settings.properties.push(("transaction.timeout.ms", "2000".to_owned()));
    let mut source = stage.start(&["source"]);
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    source.stop().await;
    let stranger = open_on_checkpoints(&stage).await;
    let offset = stranger.written[0].1;
    let refused = stage.start(&["source"]);
    let what = format!(
        "a transaction on the checkpoint topic `hanged.checkpoints` has been open at offset {offset}"
    );
    refused.refuses(&[&what, "hint: find it with `kafka-transactions.sh find-hanging`"]).await;

    stranger.abort().await.unwrap();
    let mut source = stage.start(&["source"]);
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

/// What a stranger leaves there is no checkpoint, even where it is committed.
async fn open_on_checkpoints(stage: &Stage) -> tailwater_testkit::kafka::Open {
    let nothing = Message { key: Some(b"stranger".to_vec()), ..Message::default() };
    let id = format!("{}.stranger", stage.name);
    stage.cluster.open(&id, &stage.checkpoints(), &[nothing]).await.unwrap()
}

/// `DELIVERY.md` §8, line 13.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_one_document_survives_deaths_in_its_middle() {
    const OPERATIONS: i64 = 1000;
    let Some(mut stage) = Stage::set("onedocument").await else { return };
    stage.settings.clickhouse = "batch: { max_rows: 200, max_wait_ms: 50 },".to_owned();
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    stage.write(1).await;
    stage.judge_topics(&mut source).await;
    let before = count(&stage).await;
    source.kill();

    let source = stage.start_at(&["source"], &format!("{}:2", failpoint::COMMITTING));
    let mut session = stage.mongodb.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let files = stage.coll("files");
    // So large that a transaction of Kafka ends inside.
    let one: Document = doc! { "_id": "one", "padding": "x".repeat(40_000) };
    files.insert_one(one).session(&mut session).await.unwrap();
    for number in 1..OPERATIONS {
        let set = doc! { "$set": { "number": number } };
        files.update_one(doc! { "_id": "one" }, set).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    source.dies().await;
    let there = count(&stage).await - before;
    assert!(there > 0 && there < OPERATIONS as usize, "{there} of {OPERATIONS}");

    let mut source = stage.start(&["source"]);
    let sink = stage.start_at(&["sink"], &format!("{}:3", failpoint::WRITTEN));
    sink.dies().await;
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    let last = format!("{}__files_current WHERE _id = 'one'", stage.name);
    let number = stage.number("toUInt64(doc.number::Int64)", &last).await;
    assert_eq!(number, Some(OPERATIONS as u64 - 1));
    sink.stop().await;
    source.stop().await;
}

/// How many committed records there are.
async fn count(stage: &Stage) -> usize {
    stage.cluster.read_committed(&stage.topic("files")).await.unwrap().len()
}

/// Else its place would fall off the oplog where others write much.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_to_which_nothing_comes_moves_its_checkpoint() {
    let Some(mut stage) = Stage::set("quiet").await else { return };
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    stage.write(1).await;
    stage.judge_topics(&mut source).await;
    let count = async |topic| stage.cluster.read_committed(topic).await.unwrap().len();
    let (checkpoints, files) = (stage.checkpoints(), stage.topic("files"));
    let before = [count(&checkpoints).await, count(&files).await];
    let started = Instant::now();
    while count(&checkpoints).await == before[0] {
        assert!(started.elapsed() < DEADLINE, "{}", source.log());
        stage.coll("of_others").insert_one(doc! {}).await.unwrap();
        source.expect_running();
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(count(&files).await, before[1]);
    source.stop().await;
}
