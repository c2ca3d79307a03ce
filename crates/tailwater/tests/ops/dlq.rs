//! Dead letters: all are listed, one is shown as it was, and what is replayed comes once, however often
//! it is replayed.

use bson::doc;
use serde_json::Value;
use tailwater_pipeline::failpoint;
use tailwater_testkit::kafka::{Message, Record};

use crate::stage::{Running, Stage};

/// A mapping that knows that collection of the stage's database, and rejects all others.
pub(crate) fn map(stage: &mut Stage, coll: &str, output: &str) {
    let file = stage.path("mapping.yaml");
    let mapping = format!(
        "defaults: {{ unmapped: reject }}\nmappings:\n  - match: {{ ns.db: {}, ns.coll: {coll} }}\n    tags: [n]\n",
        stage.name
    );
    std::fs::write(&file, mapping).unwrap();
    stage.more = format!("normalizer: {{ mapping: {}, output: {output} }}\n", file.display());
}

async fn list(stage: &Stage, more: &[&str]) -> Vec<Value> {
    let found = stage.json(&[&["dlq", "list"], more].concat()).await;
    found.as_array().unwrap().clone()
}

async fn wait_for_letters(stage: &Stage, more: &[&str], count: usize) -> Vec<Value> {
    let listed = [&["dlq", "list"], more].concat();
    let found = stage.wait_for_json(&listed, |all| all.as_array().unwrap().len() == count).await;
    found.as_array().unwrap().clone()
}

fn id(letter: &Value) -> &str {
    letter["id"].as_str().unwrap()
}

const ROWS: &str = "SELECT count(), uniqExact(idempotency_key) FROM record_raw WHERE op = 'insert'";
const UNMAPPED: [&str; 2] = ["--reason", "unmapped"];
const REPLAY: [&str; 3] = ["dlq", "replay", "--yes"];

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_the_topic_are_shown_as_they_were_and_replayed_once() {
    let Some(mut stage) = Stage::set("replayed").await else { return };
    map(&mut stage, "others", "topic");
    let raw = stage.own("files");
    let raw = format!("events.mongo.{raw}");
    assert_eq!(stage.run(&["dlq", "list"]).await.done(), "no dead letters\n");
    let mut source = stage.start(&["source"]);
    let normalize = stage.start(&["normalize"]);
    stage.write(0, 5).await;
    let letters = wait_for_letters(&stage, &[], 5).await;
    let strange = Message {
        partition: Some(1),
        headers: vec![("x".to_owned(), Some(b"\xff\x01".to_vec()))],
        ..Message::new("key", "{no json\u{e9}")
    };
    let part = Message {
        partition: Some(1),
        headers: vec![("tw-chunk".to_owned(), Some(b"1/2".to_vec()))],
        ..Message::new("key", "half")
    };
    stage.cluster.produce(&raw, &[strange, part]).await.unwrap();
    let all = wait_for_letters(&stage, &[], 7).await;
    assert!(letters.iter().all(|it| it["reason"] == "unmapped" && it["in"] == "topic"), "{all:#?}");
    assert_eq!(list(&stage, &["--limit", "2"]).await, all[5..]);
    assert_eq!(list(&stage, &UNMAPPED).await.len(), 5);
    assert_eq!(list(&stage, &["--since", "2999-01-01T00:00:00Z"]).await, [Value::Null; 0]);

    // One, whole, with bytes that are no text.
    let bad = all.iter().find(|it| it["reason"] == "not_json").unwrap();
    let part = all.iter().find(|it| it["reason"] == "chunk_missing").unwrap();
    let shown = stage.json(&["dlq", "show", id(bad)]).await;
    assert_eq!(shown[0]["value"]["text"], "{no json\u{e9}", "{shown:#}");
    assert_eq!(shown[0]["key"]["text"], "key", "{shown:#}");
    assert_eq!(shown[0]["headers"], serde_json::json!([["x", { "hex": "ff01" }]]));
    let text = stage.run(&["dlq", "show", id(bad)]).await.done();
    for part in [id(bad), "topic", "{no json\u{e9}", "x: 0xff01", bad["error"].as_str().unwrap()] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }

    // What is wrong changes nothing.
    stage.run(&["dlq", "show", "nothing-0@7"]).await.refused(&["no dead letter `nothing-0@7`"]);
    let unknown = [&REPLAY[..], &[id(bad), "nothing-0@7"]].concat();
    stage.run(&unknown).await.refused(&["no dead letter `nothing-0@7`", "dlq list"]);
    stage.run(&REPLAY).await.refused(&["nothing says which", "--all"]);
    let planned = stage.run(&["dlq", "replay", "--all"]).await;
    assert!(planned.out.contains(&raw), "{planned:?}");
    planned.refused(&["there is nobody to ask", "--yes"]);
    let before = stage.cluster.read_committed(&raw).await.unwrap().len();
    assert_eq!(list(&stage, &[]).await, all);

    // Mended. One replay dies before its transaction counts, one behind it.
    normalize.stop().await;
    map(&mut stage, "files", "topic");
    let mut normalize = stage.start(&["normalize"]);
    let mut sink = stage.start(&["sink"]);
    let replay = [&REPLAY[..], &UNMAPPED].concat();
    stage.stopped(&replay, failpoint::COMMITTING).await.kill();
    let again = [&REPLAY[..], &[id(&letters[0])]].concat();
    stage.stopped(&again, failpoint::COMMITTED).await.kill();
    stage.wait_for(ROWS, "1\t1", &mut [&mut source, &mut normalize, &mut sink]).await;
    // While one has its plan and one its transaction, another does it all.
    let early = stage.stopped(&replay, failpoint::PLANNED).await;
    let mut late = stage.stopped(&replay, failpoint::COMMITTING).await;
    let done = stage.run(&replay).await;
    assert!(done.err.contains("produced again: 4"), "{done:?}");
    late.go_on();
    let said = late.refused().await;
    assert!(said.contains("`replayed.replay`"), "{said}");
    early.go_on();
    let said = early.done().await;
    assert!(said.contains("produced again: 0"), "{said}");
    stage.wait_for(ROWS, "5\t5", &mut [&mut source, &mut normalize, &mut sink]).await;
    // What is no event, normalize and sink have each a letter of, of one record.
    let left = wait_for_letters(&stage, &[], 4).await;
    assert_eq!(left.iter().map(id).collect::<Vec<_>>(), [id(bad), id(bad), id(part), id(part)]);
    assert_eq!(list(&stage, &["--replayed"]).await.len(), 7 + 2);
    // Once more, by filter and by name.
    let text = stage.run(&replay).await.done();
    assert!(text.contains("nothing is to be produced again"), "{text}");
    let text = stage.run(&again).await.done();
    assert!(text.contains("replayed before") && text.contains(id(&letters[0])), "{text}");
    let records = stage.cluster.read_committed(&raw).await.unwrap();
    assert_eq!(records.len(), before + 5);
    for record in records.iter().filter(|it| it.header("tw-op") == Some(b"insert")) {
        let same = |it: &&Record| {
            (&it.key, &it.value, it.partition) == (&record.key, &record.value, record.partition)
        };
        assert_eq!(records.iter().filter(same).count(), 2, "{record:?}");
    }

    // What nobody has mended is a letter again, and is not lost.
    let text = stage.run(&[&REPLAY[..], &["--all"]].concat()).await.done();
    assert!(text.contains(&format!("they are parts of events: {}", id(part))), "{text}");
    let left = wait_for_letters(&stage, &["--replayed"], 9 + 2).await;
    let open: Vec<_> = left.iter().filter(|it| it["replayed"] == false).map(id).collect();
    assert_eq!((open.len(), open.contains(&id(bad))), (4, false), "{left:#?}");
    assert_eq!(stage.cluster.read_committed(&raw).await.unwrap().len(), before + 5 + 1);
    stop([sink, normalize, source]).await;
    assert_eq!(stage.ask_rows(ROWS).await, "5\t5");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_the_table_are_replayed_from_their_topics_and_only_without_rows() {
    let Some(mut stage) = Stage::set("tabled").await else { return };
    map(&mut stage, "others", "inline");
    let raw = format!("events.mongo.{}", stage.own("files"));
    // Some of the events are in chunks.
    stage.cluster.create_topic(&raw, 2, &[("max.message.bytes", "3000")]).await.unwrap();
    let mut source = stage.start(&["source"]);
    let sink = stage.start(&["sink"]);
    stage.write(0, 4).await;
    let large = (4..7).map(|number| doc! { "_id": number, "n": number, "x": "x".repeat(9000) });
    stage.files().insert_many(large).await.unwrap();
    let letters = wait_for_letters(&stage, &UNMAPPED, 7).await;
    assert!(letters.iter().all(|it| it["in"] == "table" && it["op"] == "insert"), "{letters:#?}");
    let five = letters.iter().find(|it| it["document"] == "5").unwrap();
    let shown = stage.json(&["dlq", "show", id(five)]).await;
    assert!(shown[0]["value"]["text"].as_str().unwrap().contains(&"x".repeat(9000)), "{shown:#}");
    assert_eq!(stage.ask_rows(ROWS).await, "0\t0");

    sink.stop().await;
    map(&mut stage, "files", "inline");
    let mut sink = stage.start(&["sink"]);
    let one = [&REPLAY[..], &[id(five)]].concat();
    stage.run(&one).await.done();
    stage.wait_for(ROWS, "1\t1", &mut [&mut source, &mut sink]).await;
    stage.run(&[&REPLAY[..], &UNMAPPED].concat()).await.done();
    stage.wait_for(ROWS, "7\t7", &mut [&mut source, &mut sink]).await;
    let documents = "SELECT count(), max(length(x)) FROM (SELECT doc.x::String AS x FROM tabled__files_current)";
    assert_eq!(stage.ask_rows(documents).await, "7\t9000");

    // Where nothing tells any more what was replayed, rows do.
    stage.cluster.delete_topic(&stage.own("dead")).await.unwrap();
    assert_eq!(list(&stage, &UNMAPPED).await.len(), 7);
    let text = stage.run(&[&REPLAY[..], &["--all"]].concat()).await.done();
    for part in ["nothing is to be produced again", "their events have rows", id(five)] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    // And who compares with what is there finds letters and rows at their places.
    sink.stop().await;
    stage.run(&["checkpoint", "rewind", "sink", "--to", "beginning", "--yes"]).await.done();
    let mut sink = stage.start(&["sink"]);
    stage.write(7, 1).await;
    stage.wait_for(ROWS, "8\t8", &mut [&mut source, &mut sink]).await;
    assert_eq!(list(&stage, &UNMAPPED).await.len(), 7);
    stop([sink, source]).await;

    // Of what is gone from the topic nothing can be produced.
    let delete = "ALTER TABLE record_raw DELETE WHERE doc_id = '5' SETTINGS mutations_sync = 2";
    assert_eq!(stage.ask_rows(delete).await, "");
    let ends = stage.cluster.ends(&raw).await.unwrap();
    for (partition, end) in (0..).zip(ends) {
        stage.cluster.delete_records(&raw, partition, end.end).await.unwrap();
    }
    let text = stage.run(&one).await.done();
    assert!(text.contains("no longer in their topics") && text.contains(id(five)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kafka_letters_are_listed_and_nothing_is_replayed() {
    let Some(mut stage) = Stage::set("unreplayed").await else { return };
    let mut silent = Stage::set("silent").await.unwrap();
    silent.ask("127.0.0.1:1");
    stage.direct = true;
    map(&mut stage, "others", "inline");
    let all = stage.start(&[]);
    stage.write(0, 3).await;
    let work = async {
        let letters = wait_for_letters(&stage, &[], 3).await;
        assert!(id(&letters[0]).starts_with("unreplayed.files@"), "{letters:#?}");
        let shown = stage.json(&["dlq", "show", id(&letters[0])]).await;
        assert!(shown[0]["value"]["text"].as_str().unwrap().contains("\"fullDocument\""));
        let replay = [&REPLAY[..], &["--all"]].concat();
        stage
            .run(&replay)
            .await
            .refused(&["the config has no `kafka`", "write the documents again"]);
        all.stop().await;
    };
    let (answer, ()) = tokio::join!(silent.run(&["dlq", "list"]), work);
    answer.refused(&["127.0.0.1:1"]);
}

async fn stop<const N: usize>(parts: [Running; N]) {
    for part in parts {
        part.stop().await;
    }
}
