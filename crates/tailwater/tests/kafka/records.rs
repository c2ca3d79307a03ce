//! Records that are no events, come in pieces, or lack one.

use bson::{Binary, doc, spec::BinarySubtype};
use tailwater_pipeline::failpoint;
use tailwater_testkit::kafka::Message;

use crate::stage::Stage;

/// Documents of more than ten times what the topic takes.
#[tokio::test(flavor = "multi_thread")]
async fn documents_of_megabytes_pass_through_a_topic_that_takes_one() {
    let Some(mut stage) = Stage::set("large").await else { return };
    stage.settings.partitions = 2;
    stage.settings.topics = "max_message_bytes: 1048576,".to_owned();
    let mut source = stage.start(&["source"]);
    let files = stage.coll("files");
    let bytes = |count: usize| (0..count).map(|number| (number * number % 251) as u8).collect();
    for (id, megabytes) in [(1, 10), (2, 15)] {
        let binary = Binary { subtype: BinarySubtype::Generic, bytes: bytes(megabytes << 20) };
        files.insert_one(doc! { "_id": id, "payload": binary }).await.unwrap();
        let text = "\u{1}\"é".repeat((megabytes << 20) / 4);
        files.insert_one(doc! { "_id": id + 10, "payload": text }).await.unwrap();
    }
    stage.write(1).await;
    stage.judge_topics(&mut source).await;
    let setting = stage.cluster.topic_setting(&stage.topic("files"), "max.message.bytes").await;
    assert_eq!(setting.unwrap(), "1048576");
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}

/// What is wrong is told although much more is on its way behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_less_by_now_is_named_and_gets_chunks_from_then_on() {
    let Some(mut stage) = Stage::set("shrunk").await else { return };
    let order = format!("{}:3:stop", failpoint::COMMITTED);
    let mut source = stage.start_at(&["source"], &order);
    stage.write_until(|| source.is_still()).await;
    let topic = stage.topic("files");
    stage.cluster.set_topic(&topic, "max.message.bytes", "100000").await.unwrap();
    // The topic counts what is left of it once it is compressed.
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = (0..1 << 20).map(next).collect();
    let large = (1000..1016).map(|id| {
        let payload = Binary { subtype: BinarySubtype::Generic, bytes: bytes.clone() };
        doc! { "_id": id, "payload": payload }
    });
    stage.coll("files").insert_many(large).await.unwrap();
    source.go_on();
    source.refuses(&["raise the topic's `max.message.bytes`"]).await;
    let mut source = stage.start(&["source"]);
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

/// Both become dead letters with their bytes, and nothing waits behind them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_and_what_lacks_a_chunk_are_dead_letters_of_the_sink() {
    let Some(mut stage) = Stage::set("noevents").await else { return };
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    stage.write(10).await;
    stage.judge_topics(&mut source).await;
    let topic = stage.topic("files");
    stage.cluster.produce(&topic, &bad()).await.unwrap();
    stage.write(10).await;
    let mut sink = stage.start(&["sink"]);
    let events = stage.events().await;
    stage.wait_for_rows(events.len() as u64, &mut [&mut source, &mut sink]).await;
    stage.write(10).await;
    let events = stage.events().await;
    stage.wait_for_rows(events.len() as u64, &mut [&mut source, &mut sink]).await;
    stage.judge_rows(&events).await;
    let letters = "tailwater_dead_letters";
    assert_eq!(stage.rows(letters).await, 3);
    assert_eq!(stage.rows(&format!("{letters} WHERE event = '{NO_JSON}'")).await, 1);
    let chunks = format!("{letters} WHERE reason = 'chunk_missing' AND event IN ('one', 'three')");
    assert_eq!(stage.rows(&chunks).await, 2);
    sink.stop().await;
    source.stop().await;
}

pub(crate) const NO_JSON: &str = "{no json";

/// A record that is no JSON, and two chunks of three.
pub(crate) fn bad() -> [Message; 3] {
    let chunk = |place: &str, value: &str| Message {
        partition: Some(1),
        headers: vec![
            ("tw-format".to_owned(), Some(b"json".to_vec())),
            ("tw-op".to_owned(), Some(b"insert".to_vec())),
            ("tw-chunk".to_owned(), Some(place.as_bytes().to_vec())),
        ],
        ..Message::new("{\"_id\":1}", value)
    };
    let no_json = Message { partition: Some(0), ..Message::new("{\"_id\":1}", NO_JSON) };
    [no_json, chunk("0/3", "one"), chunk("2/3", "three")]
}
