//! Setting back: what is there already does not come twice where that is promised, and comes twice
//! where that is said.

use serde_json::Value;

use crate::dlq::map;
use crate::stage::Stage;

const ROWS: &str = "SELECT count(), uniqExact(idempotency_key) FROM record_raw WHERE op = 'insert'";

/// Where the sink is in each topic-partition.
fn of_sink(checkpoints: &Value) -> Vec<(u64, u64, bool)> {
    let groups = checkpoints["groups"].as_array().unwrap();
    let sink = groups.iter().filter(|it| it["group"].as_str().unwrap().ends_with(".sink"));
    let place = |it: &Value| {
        let number = |name: &str| it[name].as_u64().unwrap();
        (number("partition"), number("next"), it["epoch"].is_string())
    };
    sink.map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_set_back_writes_what_is_missing_and_nothing_twice() {
    let Some(stage) = Stage::set("rewound").await else { return };
    stage.write(0, 30).await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(30, &mut [&mut source, &mut sink]).await;
    let rewind = ["checkpoint", "rewind", "sink", "--to", "beginning", "--yes"];
    stage
        .run(&rewind)
        .await
        .refused(&["the group `rewound.sink` has a member", "stop every process"]);
    sink.stop().await;
    source.stop().await;

    let before = stage.json(&["checkpoint", "list"]).await;
    assert_eq!(of_sink(&before).len(), 2, "{before:#}");
    assert!(of_sink(&before).iter().all(|(_, next, ours)| *next > 0 && *ours), "{before:#}");
    // A plan alone changes nothing.
    let planned = stage.run(&rewind[..5]).await;
    planned.refused(&["there is nobody to ask", "--yes"]);
    assert_eq!(of_sink(&stage.json(&["checkpoint", "list"]).await), of_sink(&before));
    for (wrong, why) in [("99999", "is ahead of it"), ("12", "has committed nothing of `nothing`")]
    {
        let to = ["checkpoint", "rewind", "sink", "--yes", "--to", wrong];
        let only: &[&str] = if wrong == "12" { &["nothing"] } else { &[] };
        stage.run(&[&to[..], only].concat()).await.refused(&[why]);
    }

    // What is gone from the table comes again; what is there does not.
    let delete = "ALTER TABLE record_raw DELETE WHERE doc_id IN ('3', '7', '11') SETTINGS mutations_sync = 2";
    assert_eq!(stage.ask_rows(delete).await, "");
    assert_eq!(stage.ask_rows(ROWS).await, "27\t27");
    let text = stage.run(&rewind).await.done();
    assert!(text.contains("rewound.sink events.mongo.rewound.files-1"), "{text}");
    assert!(text.contains("nothing comes twice"), "{text}");
    let after = of_sink(&stage.json(&["checkpoint", "list"]).await);
    assert!(after.iter().all(|(_, next, ours)| *next == 0 && !*ours), "{after:?}");
    let mut sink = stage.start(&["sink"]);
    stage.wait_for(ROWS, "30\t30", &mut [&mut sink]).await;
    let caught_up = |list: &Value| of_sink(list) == of_sink(&before);
    stage.wait_for_json(&["checkpoint", "list"], caught_up).await;
    sink.stop().await;
    assert_eq!(stage.ask_rows(ROWS).await, "30\t30");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_set_back_publishes_again_and_says_so_before() {
    let Some(stage) = Stage::set("published").await else { return };
    let mut source = stage.start(&["source"]);
    stage.write(0, 5).await;
    let five = |status: &Value| status["streams"][0]["seq"].as_u64().is_some_and(|seq| seq >= 5);
    stage.wait_for_json(&["checkpoint", "list"], five).await;
    stage.write(5, 5).await;
    let ten = |status: &Value| status["streams"][0]["seq"].as_u64().is_some_and(|seq| seq >= 10);
    stage.wait_for_json(&["checkpoint", "list"], ten).await;
    source.expect_running();
    let rewind = ["checkpoint", "rewind", "source", "--yes", "--to"];
    let time = ["2999-01-01T00:00:00Z"];
    stage.run(&[&rewind[..], &time].concat()).await.refused(&["the group `published.source`"]);
    source.stop().await;
    stage.run(&[&rewind[..], &time].concat()).await.refused(&["is ahead of it"]);
    stage.run(&[&rewind[..], &["999"]].concat()).await.refused(&["has no checkpoint 999 any more"]);
    stage.run(&[&rewind[..], &["end"]].concat()).await.refused(&["neither a beginning nor an end"]);

    let shown = stage.json(&["checkpoint", "show", "published.files"]).await;
    let slots = shown["streams"].as_array().unwrap();
    let n = |slot: &Value| slot["n"].as_u64().unwrap();
    assert!(slots.len() > 2 && n(&slots[0]) > n(&slots[1]), "{shown:#}");
    let first = slots.iter().find(|slot| slot["seq"] == 0).unwrap();
    let number = n(first).to_string();
    let text = stage.run(&[&rewind[..], &[&number]].concat()).await.done();
    assert!(text.contains("a second time") && text.contains("idempotency_key"), "{text}");
    let newest = stage.json(&["checkpoint", "list"]).await;
    assert_eq!(n(&newest["streams"][0]), n(&slots[0]) + 1, "{newest:#}");
    assert_eq!(newest["streams"][0]["cluster_time"], first["cluster_time"], "{newest:#}");

    let mut both = stage.start(&["source", "sink"]);
    stage.wait_for(ROWS, "20\t10", &mut [&mut both]).await;
    both.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normalizer_that_is_set_back_writes_again_and_says_so_before() {
    let Some(mut stage) = Stage::set("rewritten").await else { return };
    map(&mut stage, "files", "topic");
    let mut others = stage.start(&["source", "sink"]);
    let mut normalize = stage.start(&["normalize"]);
    stage.write(0, 10).await;
    stage.wait_for(ROWS, "10\t10", &mut [&mut others, &mut normalize]).await;
    normalize.stop().await;
    // How far it is does not stand in the group's offsets alone.
    stage.cluster.delete_group("rewritten.normalize").await.unwrap();
    let text = stage.run(&["checkpoint", "rewind", "normalize", "--to", "beginning", "--yes"]);
    let text = text.await.done();
    assert!(text.contains("a second time"), "{text}");
    let mut normalize = stage.start(&["normalize"]);
    stage.wait_for(ROWS, "20\t10", &mut [&mut others, &mut normalize]).await;
    normalize.stop().await;
    others.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kafka_a_stream_that_is_set_back_repeats_nothing() {
    let Some(mut stage) = Stage::set("folded").await else { return };
    stage.direct = true;
    let mut all = stage.start(&[]);
    stage.write(0, 10).await;
    stage.wait_for_rows(10, &mut [&mut all]).await;
    let long_ago = "2020-01-01T00:00:00Z";
    let rewind = ["checkpoint", "rewind", "source", "--yes", "--to"];
    stage
        .run(&[&rewind[..], &[long_ago]].concat())
        .await
        .refused(&["is in use by another tailwater"]);
    let show = ["checkpoint", "show", "folded.files"];
    let past = |shown: &Value| shown["streams"][0]["seq"].as_u64().is_some_and(|seq| seq >= 10);
    stage.wait_for_json(&show, past).await;
    all.stop().await;
    stage.run(&[&rewind[..], &["3"]].concat()).await.refused(&["keeps one checkpoint"]);
    stage.run(&["checkpoint", "show", "nothing"]).await.refused(&["nothing is known of `nothing`"]);

    let delete =
        "ALTER TABLE record_raw DELETE WHERE doc_id IN ('3', '7') SETTINGS mutations_sync = 2";
    assert_eq!(stage.ask_rows(delete).await, "");
    let text = stage.run(&[&rewind[..], &[long_ago]].concat()).await;
    let said = text.done();
    assert!(said.contains("nothing comes twice"), "{said}");
    let mut all = stage.start(&[]);
    stage.write(10, 5).await;
    stage.wait_for(ROWS, "15\t15", &mut [&mut all]).await;
    all.stop().await;
    assert_eq!(stage.ask_rows(ROWS).await, "15\t15");
}
