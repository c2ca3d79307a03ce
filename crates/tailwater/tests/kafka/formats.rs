//! What values travel in: each format, every kind of document, and what the MongoDB Kafka connector
//! makes of changes.

#[path = "../documents/cases.rs"]
#[expect(dead_code, reason = "the wide documents are not for here")]
mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bson::{Binary, Bson, DateTime, RawDocumentBuf, doc};
use serde_json::Value;
use tailwater_testkit::kafka::{Message, Record};
use tailwater_testkit::servers::Mongod;
use tailwater_testkit::tree::{self, Fields, Node};
use tailwater_testkit::truth::Event;

use crate::part::Part;
use crate::stage::{Settings, Stage};
use crate::{DEADLINE, LOOK};

/// In `clickhouse`, where the current state would lie.
const NO_CURRENT: &str = "tables: { current: null },";
/// The server's code for an `_id` that is there already.
const DUPLICATE_KEY: i32 = 11_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_format_arrives() {
    for (name, format) in
        [("asjson", "json"), ("ascanonical", "json_canonical"), ("asbson", "bson")]
    {
        let Some(mut stage) = Stage::set(name).await else { return };
        stage.settings.kafka = format!("  format: {format}\n  tombstones: true\n");
        stage.make_topics().await;
        let mut source = stage.start(&["source"]);
        let mut sink = stage.start(&["sink"]);
        change(&stage).await;
        stage.judge(&mut [&mut source, &mut sink]).await;
        let records = stage.cluster.read_committed(&stage.topic("files")).await.unwrap();
        let nulls = records.iter().filter(|record| record.value.is_none());
        assert_eq!(headers(nulls, "tw-op"), ["tombstone"; 5]);
        let formats = BTreeSet::from_iter(headers(&records, "tw-format"));
        assert_eq!(formats, BTreeSet::from([format]));
        sink.stop().await;
        source.stop().await;
    }
}

/// Without headers, and by the connector's names of topics.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_connector_would_write_arrives() {
    let Some(mut stage) = Stage::set("asconnector").await else { return };
    stage.settings.kafka = "  compat: mongo-kafka\n".to_owned();
    let topic = format!("{}.files", stage.name);
    stage.cluster.create_topic(&topic, 3, &[]).await.unwrap();
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    change(&stage).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    let records = stage.cluster.read_committed(&topic).await.unwrap();
    assert!(records.iter().all(|record| record.headers.is_empty()));
    sink.stop().await;
    source.stop().await;
}

/// By their headers the current state is the same as from change events.
#[tokio::test(flavor = "multi_thread")]
async fn documents_alone_are_the_collection_to_a_sink_that_knows_no_mongodb() {
    for (name, format) in
        [("alonejson", "json"), ("alonecanonical", "json_canonical"), ("alonebson", "bson")]
    {
        let Some(mut stage) = Stage::set(name).await else { return };
        stage.settings.kafka = format!("  format: {format}\n  publish: full_document\n");
        let lie = "documents alone say nothing of drops and renames";
        stage.start(&["sink"]).refuses(&[lie]).await;
        let topics = [stage.topic("files"), stage.topic("jobs")].join(", ");
        let of_others = Settings {
            kafka: String::new(),
            topics: format!("read: [{topics}],"),
            mongodb: false,
            ..stage.settings.clone()
        };
        stage.settings.clickhouse = NO_CURRENT.to_owned();
        stage.make_topics().await;
        let mut source = stage.start(&["source"]);
        let mut sink = stage.start_as(&of_others, &["sink"], None);
        change(&stage).await;
        stage.judge(&mut [&mut source, &mut sink]).await;
        let records = stage.cluster.read_committed(&stage.topic("files")).await.unwrap();
        let nulls = records.iter().filter(|record| record.value.is_none());
        assert_eq!(headers(nulls, "tw-op"), ["delete"; 5]);
        sink.stop().await;
        source.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_lose_their_types_make_rows_and_no_current_state() {
    let Some(mut stage) = Stage::set("assimplified").await else { return };
    stage.settings.kafka = "  format: json_simplified\n".to_owned();
    let lie = "`format: json_simplified` loses types, so that the current-state tables would lie";
    stage.start(&["sink"]).refuses(&[lie]).await;
    stage.settings.clickhouse = NO_CURRENT.to_owned();
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    change(&stage).await;
    let events = stage.events().await;
    stage.wait_for_rows(events.len() as u64, &mut [&mut source, &mut sink]).await;
    stage.judge_rows(&events).await;
    assert_eq!(stage.rows("tailwater_dead_letters").await, 0);
    let name = stage.name;
    let current = format!("database = '{name}' AND startsWith(name, '{name}__')");
    assert_eq!(stage.rows(&format!("system.tables WHERE {current}")).await, 0);
    sink.stop().await;
    source.stop().await;
}

/// In a MongoDB of its own, without a truth: that of any test ends where text is not UTF-8. But for the
/// wide ones, whose columns take more files than an engine may open that serves other tests, too.
#[tokio::test(flavor = "multi_thread")]
async fn every_document_through_kafka_is_equal_by_bytes() {
    let Some(mut stage) = Stage::set("everydocument").await else { return };
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    stage.read_from(&mongod).await;
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    let parts = &mut [&mut source, &mut sink];

    let mut documents = [cases::types(), cases::names(), cases::wrappers(), cases::deep()].concat();
    documents.extend((0..8).flat_map(cases::mixed));
    let small = documents.len();
    documents.extend(cases::large());
    // Each set numbers its own.
    for (number, document) in (0..).zip(&mut documents) {
        document[0].1 = cases::of(number);
    }
    let (small, large) = documents.split_at(small);
    // Both collections are made.
    let mut rows = 2;
    for some in small.chunks(200) {
        assert_eq!(stage.insert("files", some).await, []);
        rows += some.len() as u64;
    }

    // Those that are equal to the server (`1` and `1.0`) come when the one before is gone.
    let mut ids = cases::ids();
    while !ids.is_empty() {
        let documents: Vec<Fields> =
            ids.iter().map(|id| cases::fields([("_id", id.clone())])).collect();
        let refused = stage.insert("jobs", &documents).await;
        assert!(refused.len() < documents.len(), "no progress: {refused:?}");
        rows += (documents.len() - refused.len()) as u64;
        stage.judge_bytes("jobs", rows, parts).await;
        let equal = refused.iter().filter(|(_, code)| *code == DUPLICATE_KEY);
        ids = equal.map(|(index, _)| ids[*index].clone()).collect();
        rows += stage.coll("jobs").delete_many(doc! {}).await.unwrap().deleted_count;
    }

    // A command has room for just one.
    for some in large.chunks(1) {
        assert_eq!(stage.insert("files", some).await, []);
        rows += 1;
    }
    stage.judge_bytes("files", rows, parts).await;
    stage.judge_bytes("jobs", rows, parts).await;
    assert_eq!(stage.rows("record_raw").await, rows);
    let keys = stage.number("uniqExact(idempotency_key)", "record_raw").await;
    assert_eq!(keys, Some(rows));
    assert_eq!(stage.rows("tailwater_dead_letters").await, 0);
    let records = stage.cluster.read_committed(&stage.topic("jobs")).await.unwrap();
    let formats = BTreeSet::from_iter(headers(&records, "tw-format"));
    assert_eq!(formats, BTreeSet::from(["bson", "json"]));
    sink.stop().await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_the_mongodb_connector_are_read_by_a_sink_that_knows_no_mongodb() {
    let Some(mut stage) = Stage::set("connector").await else { return };
    let all = golden();
    stage
        .read_connector(&all, |number, golden| {
            Message::new(golden.text("default", "key"), converted(number, golden))
        })
        .await;
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(all.len() as u64, &mut [&mut sink]).await;
    let events: Vec<Event> = all.iter().map(|golden| golden.change.clone()).collect();
    stage.judge_rows(&events).await;
    assert_eq!(stage.rows("tailwater_dead_letters").await, 0);
    for coll in ["types", "ops", "pre", "old"] {
        let documents = left(all.iter().filter(|golden| golden.change.collection == coll));
        stage.judge_documents(&format!("golden__{coll}"), &documents, &mut [&mut sink]).await;
    }
    // The connector tells of a drop in one partition.
    let dropped = all.iter().find(|golden| golden.change.operation == "drop").unwrap();
    let of_ops = |field| dropped.text("default", field).replace("todrop", "ops");
    let topic = format!("{}.golden.ops", stage.name);
    stage.cluster.produce(&topic, &[Message::new(of_ops("key"), of_ops("value"))]).await.unwrap();
    stage.judge_documents("golden__ops", &[], &mut [&mut sink]).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simplified_topics_of_the_connector_make_rows_and_no_current_state() {
    let Some(mut stage) = Stage::set("connectorsimplified").await else { return };
    let all = golden();
    stage
        .read_connector(&all, |_, golden| {
            Message::new(golden.text("simplified", "key"), golden.text("simplified", "value"))
        })
        .await;
    let lie = ["has lost its types", "hint: write `tables: { current: null }`"];
    stage.start(&["sink"]).refuses(&lie).await;
    stage.settings.clickhouse = NO_CURRENT.to_owned();
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(all.len() as u64, &mut [&mut sink]).await;
    let events: Vec<Event> = all.iter().map(Golden::simplified).collect();
    stage.judge_rows(&events).await;
    assert_eq!(stage.rows("tailwater_dead_letters").await, 0);
    sink.stop().await;
}

/// By `publish.full.document.only`, with its tombstones: only the topic tells whose they are.
#[tokio::test(flavor = "multi_thread")]
async fn documents_of_the_connector_are_of_the_collection_of_their_topic() {
    let Some(mut stage) = Stage::set("connectordocuments").await else { return };
    stage.make_topics().await;
    stage.settings.mongodb = false;
    stage.settings.topics = format!("read: [{}],", stage.topic("files"));
    let mut all = golden();
    all.retain(|golden| ["types", "ops"].contains(&golden.change.collection.as_str()));
    let (mut messages, mut expected) = (Vec::new(), Vec::new());
    for golden in &all {
        let (op, value) = match tree::get(&golden.fields, "fullDocument") {
            Some(Node::Document(_)) => ("replace", Some(golden.document())),
            None => ("delete", None),
            // The connector leaves it out.
            Some(_) => continue,
        };
        expected.push((op.to_owned(), golden.change.doc_id.clone()));
        let key = golden.text("default", "key");
        messages.push(Message { value: value.map(Vec::from), ..Message::new(key, "") });
    }
    stage.cluster.produce(&stage.topic("files"), &messages).await.unwrap();
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(expected.len() as u64, &mut [&mut sink]).await;
    let mut found: Vec<(String, String)> =
        stage.clickhouse.compact("SELECT op, doc_id FROM record_raw").await.unwrap();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(stage.rows("tailwater_dead_letters").await, 0);
    let current = format!("{}__files", stage.name);
    stage.judge_documents(&current, &left(&all), &mut [&mut sink]).await;
    sink.stop().await;
}

/// All that can happen to documents, with values of types that JSON does not have, and five deletes.
async fn change(stage: &Stage) {
    let files = stage.coll("files");
    stage.write(20).await;
    let odd = doc! {
        "long": 1_i64,
        "whole": 1.0,
        "at": DateTime::from_millis(-1),
        "price": Bson::Decimal128("1.00".parse().unwrap()),
    };
    files.update_many(doc! {}, doc! { "$set": { "odd": odd.clone() } }).await.unwrap();
    files.replace_one(doc! { "_id": 7 }, odd).await.unwrap();
    files.delete_many(doc! { "_id": { "$gte": 15 } }).await.unwrap();
}

/// The texts of a header, of the records that have it.
fn headers<'r>(records: impl IntoIterator<Item = &'r Record>, name: &str) -> Vec<&'r str> {
    let values = records.into_iter().filter_map(|record| record.header(name));
    values.map(|value| str::from_utf8(value).unwrap()).collect()
}

/// A change on a real server, and what the real connector made of it.
#[derive(Debug)]
struct Golden {
    change: Event,
    /// The same by bytes, as far as a text can say it, which has no payload of a NaN.
    fields: Fields,
    json: Value,
}

fn golden() -> Vec<Golden> {
    let lines = include_str!("../../../core/tests/it/golden-connector.jsonl").lines();
    let read = |line| {
        let json: Value = serde_json::from_str(line).unwrap();
        let base64 = serde_json::json!({ "base64": json["bson"], "subType": "00" });
        let bytes = Bson::try_from(serde_json::json!({ "$binary": base64 })).unwrap();
        let Bson::Binary(Binary { bytes, .. }) = bytes else { panic!("no bytes: {line}") };
        let fields = tree::lossy(&tree::read(&bytes).unwrap());
        let change = Event::of(tree::decode(&fields).unwrap()).unwrap();
        Golden { change, fields, json }
    };
    lines.map(read).collect()
}

impl Golden {
    fn text(&self, setting: &str, field: &str) -> &str {
        self.json[setting][field].as_str().unwrap()
    }

    /// The text of the document in the value.
    fn document(&self) -> &str {
        let (_, behind) = self.text("default", "value").split_once("\"fullDocument\": ").unwrap();
        behind.split_once(", \"ns\": {\"db\": ").unwrap().0
    }

    /// The change with the document key that `SimplifiedJson` leaves.
    fn simplified(&self) -> Event {
        let mut document = self.change.document.clone();
        if self.change.concerns_a_document() {
            let key: Value = serde_json::from_str(self.text("simplified", "key")).unwrap();
            document.insert("documentKey", Bson::try_from(key).unwrap());
        }
        Event::of(document).unwrap()
    }
}

/// What the connector's settings and Connect's converters may make of a change event: each in its turn.
fn converted(turn: usize, golden: &Golden) -> Vec<u8> {
    let text = golden.text("default", "value");
    let quoted = Value::from(text).to_string();
    let schema = r#"{"type":"string","optional":false}"#;
    match turn % 4 {
        0 => text.into(),
        1 => quoted.into(),
        2 => format!("{{\"schema\":{schema},\"payload\":{quoted}}}").into(),
        _ => tree::write(&golden.fields),
    }
}

/// The documents that are there after these changes.
fn left<'g>(changes: impl IntoIterator<Item = &'g Golden>) -> Vec<Vec<u8>> {
    let mut left = BTreeMap::new();
    for Golden { fields, .. } in changes {
        let Some(Node::Document(key)) = tree::get(fields, "documentKey") else { continue };
        match tree::get(fields, "fullDocument") {
            Some(Node::Document(document)) => {
                left.insert(tree::write(key), tree::write(document));
            }
            None => {
                left.remove(&tree::write(key));
            }
            // Gone before it was looked up: a later change says what became of it.
            Some(_) => {}
        }
    }
    left.into_values().collect()
}

impl Stage {
    /// Lets the sink read topics that the connector fills, and know nothing else.
    async fn read_connector(&mut self, all: &[Golden], write: impl Fn(usize, &Golden) -> Message) {
        let mut topics: BTreeMap<String, Vec<Message>> = BTreeMap::new();
        for (number, golden) in all.iter().enumerate() {
            let topic = format!("{}.{}", self.name, golden.change.namespace());
            topics.entry(topic).or_default().push(write(number, golden));
        }
        for (topic, messages) in &topics {
            self.cluster.create_topic(topic, self.settings.partitions, &[]).await.unwrap();
            self.cluster.produce(topic, messages).await.unwrap();
        }
        self.settings.mongodb = false;
        self.settings.topics = format!("read: ['^{}[.]golden[.].*$'],", self.name);
    }

    /// Inserts documents by bytes, and gives which ones the server refuses, with its codes.
    async fn insert(&self, coll: &str, documents: &[Fields]) -> Vec<(usize, i32)> {
        let documents = documents.iter().cloned().map(Node::Document).collect();
        let command = cases::fields([
            ("insert", cases::of(coll)),
            ("documents", Node::Array(documents)),
            ("ordered", cases::of(false)),
        ]);
        let command = RawDocumentBuf::from_bytes(tree::write(&command)).unwrap();
        let answer = self.mongodb.database(self.name).run_raw_command(command).await.unwrap();
        let mut refused = Vec::new();
        for error in answer.get_array("writeErrors").into_iter().flatten() {
            let error = error.as_document().unwrap();
            let index = usize::try_from(error.get_i32("index").unwrap()).unwrap();
            refused.push((index, error.get_i32("code").unwrap()));
        }
        refused
    }

    /// Waits until the event table holds so many rows, and the current state is the collection.
    async fn judge_bytes(&self, coll: &str, rows: u64, parts: &mut [&mut Part]) {
        self.wait_for_rows(rows, parts).await;
        let documents = self.coll(coll).clone_with_type::<RawDocumentBuf>();
        let mut cursor = documents.find(doc! {}).await.unwrap();
        let mut expected = Vec::new();
        while cursor.advance().await.unwrap() {
            expected.push(cursor.current().as_bytes().to_vec());
        }
        let current = format!("{}__{coll}", self.name);
        self.judge_documents(&current, &expected, parts).await;
    }

    /// Waits until a current state is these documents.
    async fn judge_documents(&self, current: &str, documents: &[Vec<u8>], parts: &mut [&mut Part]) {
        let expected: BTreeSet<String> = documents.iter().map(|bytes| hex(bytes)).collect();
        let sql = format!("SELECT hex(_bson) FROM `{current}_current`");
        let started = Instant::now();
        loop {
            // A table is made with its first row.
            let rows: Vec<(String,)> = self.clickhouse.compact(&sql).await.unwrap_or_default();
            let count = rows.len();
            let found: BTreeSet<String> = rows.into_iter().map(|(bson,)| bson).collect();
            if found == expected && count == documents.len() {
                return;
            }
            parts.iter_mut().for_each(|part| part.expect_running());
            let some = |of: &BTreeSet<String>, but: &BTreeSet<String>| -> Vec<String> {
                of.difference(but).take(5).map(|bson| bson.chars().take(400).collect()).collect()
            };
            let (lost, extra) = (some(&expected, &found), some(&found, &expected));
            let waited = started.elapsed() > DEADLINE;
            assert!(!waited, "`{current}`: {count} rows, lost {lost:?}, extra {extra:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
