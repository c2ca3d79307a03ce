//! What `status` tells is so, while the parts run, while they stand still, and while somebody holds a
//! transaction open.

use serde_json::Value;
use tailwater_testkit::kafka::Message;

use crate::stage::Stage;

fn left(status: &Value, part: &str) -> u64 {
    let partitions = status["partitions"].as_array().unwrap();
    let readers = partitions.iter().flat_map(|it| it["readers"].as_array().unwrap());
    readers.filter(|reader| reader["part"] == part).map(|it| it["left"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_counted_where_it_waits() {
    let Some(stage) = Stage::set("status").await else { return };
    let early = stage.json(&["status"]).await;
    assert!(early["unknown"][0].as_str().unwrap().contains("no source has run"), "{early:#}");

    stage.write(0, 30).await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(30, &mut [&mut source, &mut sink]).await;
    let settled = |status: &Value| {
        left(status, "sink") == 0 && status["streams"][0]["seq"].as_u64().unwrap() >= 30
    };
    let status = stage.wait_for_json(&["status"], settled).await;
    let members: Vec<_> =
        status["groups"].as_array().unwrap().iter().map(|it| &it["members"]).collect();
    assert_eq!(members, [1, 1], "{status:#}");
    assert!(status["longest_wait"].is_null(), "{status:#}");
    assert_eq!(status["unknown"].as_array().unwrap().len(), 0, "{status:#}");
    assert!(status["streams"][0]["cluster_time"].is_string(), "{status:#}");

    // With the sink at rest, what is written waits in Kafka: so many records, though marks of
    // transactions take offsets too.
    sink.stop().await;
    stage.write(30, 7).await;
    let status = stage.wait_for_json(&["status"], |status| left(status, "sink") == 7).await;
    assert_eq!(status["longest_wait"]["in"], "kafka", "{status:#}");
    assert_eq!(status["longest_wait"]["for"], "sink", "{status:#}");
    source.stop().await;

    // Nobody is waited for.
    let checkpoints = stage.own("checkpoints");
    let stranger = Message::new("gap/x", "nothing");
    let open = stage.cluster.open("stranger", &checkpoints, &[stranger]).await.unwrap();
    let text = stage.run(&["status"]).await.done();
    for part in ["status.files", "status.sink", "the longest wait is", "in kafka, for the sink"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    open.abort().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_is_looked_at_while_it_is_in_use() {
    let Some(stage) = Stage::set("looked").await else { return };
    let mut direct = stage.start_direct();
    stage.write(0, 3).await;
    stage.wait_for_rows(3, &mut [&mut direct]).await;
    let state = stage.path("state");
    let answer = crate::stage::run_alone(&["status", "--state", state.to_str().unwrap()]).await;
    let text = answer.done();
    assert!(text.contains("looked.files"), "{text}");
    direct.stop().await;
}
