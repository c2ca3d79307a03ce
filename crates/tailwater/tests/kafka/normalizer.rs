//! The normalizer dies, or meets what it cannot normalize.

use std::path::PathBuf;

use tailwater_pipeline::failpoint;

use crate::records::{NO_JSON, bad};
use crate::stage::Stage;

/// A mapping file whose tags are those fields.
pub(crate) fn mapping(stage: &Stage, tags: &str) -> PathBuf {
    let file = stage.home.path().join("mapping.yaml");
    let text = format!(
        "mappings:\n  - match: {{ ns.db: {}, ns.coll: files }}\n    tags: [{tags}]\n",
        stage.name
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A stage on which a normalizer that dies is missed soon, with what it had open.
async fn mortal(name: &'static str) -> Option<Stage> {
    let mut stage = Stage::set(name).await?;
    stage.settings.mapping = Some((mapping(&stage, "n"), "topic"));
    stage.settings.properties[0].1 = "1500".to_owned();
    stage.settings.properties.push(("transaction.timeout.ms", "1500".to_owned()));
    stage.make_topics().await;
    Some(stage)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normalizer_that_dies_at_each_step_of_a_transaction_writes_each_event_once() {
    let Some(mut stage) = mortal("normalized").await else { return };
    let mut source = stage.start(&["source"]);
    for point in [failpoint::SENT, failpoint::COMMITTING, failpoint::COMMITTED] {
        for time in [1, 3] {
            let mut normalizer = stage.start_at(&["normalize"], &format!("{point}:{time}"));
            stage.write_until(|| normalizer.has_ended()).await;
            normalizer.dies().await;
        }
    }
    let mut normalizer = stage.start(&["normalize"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(20).await;
    stage.judge(&mut [&mut source, &mut normalizer, &mut sink]).await;
    let normalized = stage.cluster.read_committed(&stage.normalized()).await.unwrap();
    assert_eq!(normalized.len(), stage.events().await.len());
    for part in [sink, normalizer, source] {
        part.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_and_what_lacks_a_chunk_are_letters_in_a_topic() {
    let Some(mut stage) = Stage::set("letters").await else { return };
    stage.settings.mapping = Some((mapping(&stage, "n"), "topic"));
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    stage.write(10).await;
    stage.judge_topics(&mut source).await;
    stage.cluster.produce(&stage.topic("files"), &bad()).await.unwrap();
    stage.write(10).await;
    let mut normalizer = stage.start(&["normalize"]);
    let events = stage.events().await.len();
    stage.wait_for_records(&stage.normalized(), events, &mut normalizer).await;
    stage.wait_for_records(&stage.letters(), 3, &mut normalizer).await;
    let letters = stage.cluster.read_committed(&stage.letters()).await.unwrap();
    let mut found: Vec<[&[u8]; 3]> = letters
        .iter()
        .map(|letter| {
            let header = |name| letter.header(name).unwrap_or_default();
            [letter.value.as_deref().unwrap(), header("tw-reason"), header("tw-partition")]
        })
        .collect();
    found.sort_unstable();
    let expected = [
        ["one", "chunk_missing", "1"],
        ["three", "chunk_missing", "1"],
        [NO_JSON, "not_json", "0"],
    ];
    assert_eq!(found, expected.map(|letter| letter.map(str::as_bytes)));
    normalizer.stop().await;
    source.stop().await;
}

/// They are in the same transactions as everything else.
#[tokio::test(flavor = "multi_thread")]
async fn a_normalizer_that_dies_at_each_step_of_a_transaction_writes_each_dead_letter_once() {
    let Some(mut stage) = mortal("lettersonce").await else { return };
    let mut source = stage.start(&["source"]);
    for point in [failpoint::SENT, failpoint::COMMITTING, failpoint::COMMITTED] {
        stage.write(10).await;
        stage.judge_topics(&mut source).await;
        stage.cluster.produce(&stage.topic("files"), &bad()).await.unwrap();
        stage.start_at(&["normalize"], point).dies().await;
    }
    let mut normalizer = stage.start(&["normalize"]);
    stage.write(20).await;
    let events = stage.events().await.len();
    stage.wait_for_records(&stage.normalized(), events, &mut normalizer).await;
    stage.wait_for_records(&stage.letters(), 9, &mut normalizer).await;
    normalizer.stop().await;
    source.stop().await;
    let count = async |topic| stage.cluster.read_committed(topic).await.unwrap().len();
    assert_eq!([count(&stage.normalized()).await, count(&stage.letters()).await], [events, 9]);
}
