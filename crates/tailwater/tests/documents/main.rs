//! Every document that a server takes comes through: its bytes, its identity, its event, and what
//! the JSON columns show of it; also after all parts were merged.
//!
//! Documents are written, and events and rows compared, as raw bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod judge;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Client, Cursor, Database};
use tailwater_testkit::clickhouse::ClickHouse;
use tailwater_testkit::servers::{Mongod, RunArguments, Tailwater, Target, free_port};
use tailwater_testkit::tree::{self, Fields, Node};
use tailwater_testkit::watch::Watch;

use judge::Judge;

const DEADLINE: Duration = Duration::from_secs(300);
const DATABASE: &str = "every";
const MARKER: &str = "marker";

/// Everything that must live on.
struct Stage {
    // First, so that it ends before the server does.
    tailwater: Tailwater,
    _mongod: Mongod,
    _home: tempfile::TempDir,
    database: Database,
    truth: Cursor<RawDocumentBuf>,
    judge: Judge,
}

impl Stage {
    async fn set() -> Option<Self> {
        let mongod = Mongod::start().await.unwrap()?;
        let client = mongod.client().await.unwrap();
        let database = client.database(DATABASE);
        let home = tempfile::tempdir().unwrap();
        let listen = ([127, 0, 0, 1], free_port().unwrap()).into();
        let arguments = RunArguments {
            source: mongod.uri(),
            watch: Watch::Databases(vec![DATABASE.to_owned()]),
            state: home.path().join("state"),
            target: Target::Embedded(listen),
            http: free_port().unwrap(),
            config: None,
        };
        let arguments = arguments.to_vec();
        let truth = open(&client, &database).await;
        let binary = Path::new(env!("CARGO_BIN_EXE_tailwater"));
        let tailwater = Tailwater::start(binary, &arguments, &home.path().join("log")).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !tailwater.log().contains("stream begins") {
            assert!(Instant::now() < deadline, "{}", tailwater.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let judge = Judge::new(ClickHouse::new(&format!("http://{listen}"), "default"));
        Some(Self { tailwater, _mongod: mongod, _home: home, database, truth, judge })
    }

    /// Inserts, and gives the codes of those that the server refuses.
    async fn insert(&self, collection: &str, documents: &[Fields]) -> Vec<(usize, i32)> {
        let mut refused = Vec::new();
        let mut from = 0;
        while from < documents.len() {
            // Large ones alone: a command has room for just one.
            let count = if collection == "large" { 1 } else { documents.len() };
            let some = &documents[from..from + count];
            let mut command = cases::fields([
                ("insert", cases::of(collection)),
                ("documents", Node::Array(some.iter().cloned().map(Node::Document).collect())),
            ]);
            command.push((b"ordered".to_vec(), cases::of(false)));
            let command = RawDocumentBuf::from_bytes(tree::write(&command)).unwrap();
            let answer = self.database.run_raw_command(command).await.unwrap();
            for error in answer.get_array("writeErrors").into_iter().flatten() {
                let error = error.as_document().unwrap();
                let index = usize::try_from(error.get_i32("index").unwrap()).unwrap();
                refused.push((from + index, error.get_i32("code").unwrap()));
            }
            from += count;
        }
        refused
    }

    async fn insert_all(&self, collection: &str, documents: &[Fields]) {
        assert_eq!(self.insert(collection, documents).await, [], "{collection}");
    }

    /// Waits until everything written so far has its rows.
    async fn arrive(&mut self) {
        let markers = self.database.collection::<Document>(MARKER);
        let marker = markers.insert_one(doc! {}).await.unwrap().inserted_id;
        loop {
            assert!(self.truth.advance().await.unwrap(), "the stream has ended");
            let event = tree::read(self.truth.current().as_bytes()).unwrap();
            let is_marker = judge::document_id(&event) == Some(&cases::of(marker.clone()));
            self.judge.events.push(event);
            if is_marker {
                break;
            }
        }
        let deadline = Instant::now() + DEADLINE;
        while self.judge.rows().await < self.judge.events.len() {
            self.tailwater.expect_running().unwrap();
            assert!(Instant::now() < deadline, "{}", self.tailwater.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Judges everything that has arrived.
    async fn judge(&mut self) {
        self.arrive().await;
        self.judge.records().await;
        let collections: BTreeSet<String> =
            self.database.list_collection_names().await.unwrap().into_iter().collect();
        for collection in collections {
            let documents = self.database.collection::<RawDocumentBuf>(&collection);
            let mut cursor = documents.find(doc! {}).await.unwrap();
            let mut documents = Vec::new();
            while cursor.advance().await.unwrap() {
                documents.push(cursor.current().as_bytes().to_vec());
            }
            self.judge.current(DATABASE, &collection, &documents).await;
        }
    }
}

async fn open(client: &Client, database: &Database) -> Cursor<RawDocumentBuf> {
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await.unwrap();
    let mut from = hello.get_timestamp("operationTime").unwrap();
    from.increment += 1;
    let stream = doc! { "startAtOperationTime": from, "showExpandedEvents": true };
    let stream = database.aggregate([doc! { "$changeStream": stream }]);
    stream.with_type::<RawDocumentBuf>().await.unwrap()
}

/// Ids that are equal to the server (`1` and `1.0`) go to collections of their own.
async fn insert_ids(stage: &Stage) {
    let mut left = cases::ids();
    let mut forbidden = Vec::new();
    for number in 0.. {
        let documents: Vec<Fields> = left
            .iter()
            .map(|id| cases::fields([("_id", id.clone()), ("n", cases::of(1))]))
            .collect();
        let refused = stage.insert(&format!("ids{number}"), &documents).await;
        assert!(refused.len() < left.len(), "no progress: {refused:?}");
        let equal = refused.iter().filter(|(_, code)| *code == 11_000);
        let equal = equal.map(|(index, _)| left[*index].clone()).collect();
        forbidden.extend(
            refused
                .iter()
                .filter(|(_, code)| *code != 11_000)
                .map(|(index, _)| left[*index].clone()),
        );
        left = equal;
        if left.is_empty() {
            break;
        }
    }
    let allowed = |node: &Node| !matches!(node, Node::Array(_) | Node::Scalar(0x06 | 0x0b, _));
    assert!(!forbidden.iter().any(allowed), "the server takes more than these: {forbidden:?}");
}

/// One document whose `_id` changes between values that are equal to the server.
async fn renew_ids(stage: &Stage) {
    let collection = stage.database.collection::<Document>("renewed");
    let ones: [Bson; 5] = [
        1.into(),
        1.0.into(),
        1_i64.into(),
        Bson::Decimal128("1.00".parse().unwrap()),
        Bson::Decimal128("1".parse().unwrap()),
    ];
    collection.insert_one(doc! { "_id": 2.0 }).await.unwrap();
    collection.delete_one(doc! { "_id": 2 }).await.unwrap();
    collection.insert_one(doc! { "_id": 2 }).await.unwrap();
    collection.insert_one(doc! { "_id": 1, "n": 0 }).await.unwrap();
    for (n, one) in (1..).zip(&ones) {
        let filter = doc! { "_id": 1 };
        collection.replace_one(filter.clone(), doc! { "_id": one, "n": n }).await.unwrap();
        collection.update_one(filter, doc! { "$set": { "seen": true } }).await.unwrap();
    }
}

/// What no insert can write: names that an update pipeline and an aggregation make.
async fn write_by_pipelines(stage: &Stage) {
    let collection = stage.database.collection::<Document>("piped");
    collection.insert_one(doc! { "_id": 1, "a": { "b": 1 } }).await.unwrap();
    for (field, value) in [("a.b", 1), ("$price", 2), ("", 3), ("..", 4)] {
        let field = doc! { "$literal": field };
        let set = doc! { "$setField": { "field": field, "input": "$$ROOT", "value": value } };
        let pipeline = vec![doc! { "$replaceWith": set }];
        collection.update_one(doc! { "_id": 1 }, pipeline).await.unwrap();
    }
    let pipeline = [doc! { "$set": { "copy": "$$ROOT" } }, doc! { "$out": "out" }];
    collection.aggregate(pipeline).await.unwrap();
}

async fn change_large(stage: &Stage) {
    let collection = stage.database.collection::<Document>("large");
    for n in [1, 2] {
        collection
            .update_one(doc! { "_id": "updated" }, doc! { "$set": { "n": n } })
            .await
            .unwrap();
    }
    collection.delete_one(doc! { "_id": "deleted" }).await.unwrap();
}

async fn every_document() {
    let Some(mut stage) = Stage::set().await else { return };
    for round in 0..8 {
        stage.insert_all("mixed", &cases::mixed(round)).await;
        if round == 0 {
            stage.insert_all("types", &cases::types()).await;
            insert_ids(&stage).await;
            renew_ids(&stage).await;
        }
        if round == 1 {
            stage.insert_all("names", &cases::names()).await;
            stage.insert_all("wrappers", &cases::wrappers()).await;
            write_by_pipelines(&stage).await;
        }
        if round == 2 {
            stage.insert_all("deep", &cases::deep()).await;
            stage.insert_all("wide", &cases::wide()).await;
        }
        stage.arrive().await;
        if round == 0 {
            // Only tables that are there heed it.
            stage.judge.stop_merges().await;
        }
    }
    stage.judge().await;
    stage.insert_all("large", &cases::large()).await;
    change_large(&stage).await;
    stage.judge().await;
    stage.judge.merge().await;
    stage.judge().await;
}

#[test]
fn every_document_comes_through_and_survives_merges() {
    // Trees of 180 levels are walked by recursion.
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let test = thread.spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(every_document()));
    if let Err(panic) = test.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}
