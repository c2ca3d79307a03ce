//! A pipeline with servers around it, and a proxy before ClickHouse.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use bson::{Document, doc};
use mongodb::{Client, Collection};
use tailwater_testkit::clickhouse::ClickHouse;
use tailwater_testkit::kafka::{Cluster, Committed};
use tailwater_testkit::servers::{Mongod, Proxy};
use tailwater_testkit::truth::Truth;
use tailwater_testkit::watch::Watch;

use crate::part::Part;
use crate::servers::Servers;
use crate::{DEADLINE, LOOK};

/// What the config file of a pipeline says, beside what every one says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The partitions of topics that are made.
    pub(crate) partitions: u32,
    /// Properties of librdkafka.
    pub(crate) properties: Vec<(&'static str, String)>,
    /// Lines in `kafka`, such as how to sign in.
    pub(crate) kafka: String,
    /// The MongoDB, if it is not the one that all share.
    pub(crate) uri: Option<String>,
    /// The Kafka, if it is not the one that all share.
    pub(crate) bootstrap: Option<String>,
    /// Keys in `topics`, each with a comma behind it.
    pub(crate) topics: String,
    /// Keys in `clickhouse`, each with a comma behind it.
    pub(crate) clickhouse: String,
    /// Whether the source writes, so that `mongodb` is there.
    pub(crate) mongodb: bool,
    /// The file of the mapping and where what it gives goes.
    pub(crate) mapping: Option<(PathBuf, &'static str)>,
    /// Where ClickHouse is, if not behind the stage's proxy.
    pub(crate) target: Option<SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partitions: 4,
            // The dead are noticed soon.
            properties: vec![
                ("session.timeout.ms", "3000".to_owned()),
                ("heartbeat.interval.ms", "500".to_owned()),
            ],
            kafka: String::new(),
            uri: None,
            bootstrap: None,
            topics: String::new(),
            clickhouse: String::new(),
            mongodb: true,
            mapping: None,
            target: None,
        }
    }
}

/// Everything that a test needs. Its collections are `<name>.files` and `<name>.jobs`.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Of the pipeline, of its database in MongoDB and of that in ClickHouse.
    pub(crate) name: &'static str,
    pub(crate) settings: Settings,
    pub(crate) servers: Servers,
    pub(crate) cluster: Cluster,
    pub(crate) mongodb: Client,
    pub(crate) truth: Truth,
    pub(crate) clickhouse: ClickHouse,
    /// Before ClickHouse.
    pub(crate) proxy: Proxy,
    pub(crate) home: tempfile::TempDir,
    start: String,
    starts: Cell<u32>,
    /// The next document.
    next: Cell<i64>,
}

impl Stage {
    /// Sets everything up but the product. `None`: a server is missing here, skip.
    pub(crate) async fn set(name: &'static str) -> Option<Self> {
        let servers = Servers::shared().await?;
        let mongodb = servers.mongod.client().await.unwrap();
        let url = format!("http://{}", servers.engine.address());
        let make = format!("CREATE DATABASE `{name}`");
        clickhouse::Client::default().with_url(&url).query(&make).execute().await.unwrap();
        Some(Self {
            name,
            settings: Settings::default(),
            servers,
            cluster: Cluster::at(&servers.kafka.bootstrap()),
            truth: Truth::start(&mongodb).await.unwrap(),
            start: now(&mongodb).await,
            mongodb,
            clickhouse: ClickHouse::new(&url, name),
            proxy: Proxy::start(servers.engine.address()).await.unwrap(),
            home: tempfile::tempdir().unwrap(),
            starts: Cell::new(0),
            next: Cell::new(0),
        })
    }

    /// Starts parts of the pipeline in one process.
    pub(crate) fn start(&self, parts: &[&str]) -> Part {
        self.start_as(&self.settings, parts, None)
    }

    /// The same, with a failpoint.
    pub(crate) fn start_at(&self, parts: &[&str], failpoint: &str) -> Part {
        self.start_as(&self.settings, parts, Some(failpoint))
    }

    /// The same, by another config file.
    pub(crate) fn start_as(&self, as_: &Settings, parts: &[&str], order: Option<&str>) -> Part {
        let number = self.starts.get();
        self.starts.set(number + 1);
        let config = self.home.path().join(format!("{number}.yaml"));
        std::fs::write(&config, self.config(as_)).unwrap();
        Part::start(parts, &config, &self.start, order)
    }

    fn config(&self, settings: &Settings) -> String {
        let Settings { partitions, properties, kafka, topics, clickhouse, mapping, .. } = settings;
        let name = self.name;
        let mut text = format!("version: 1\npipeline: {name}\n");
        let mut line = |line: String| writeln!(text, "{line}").unwrap();
        if settings.mongodb {
            let shared = self.servers.mongod.uri();
            let uri = settings.uri.as_ref().unwrap_or(&shared);
            let collections = self.collections().join(", ");
            line(format!("mongodb: {{ uri: \"{uri}\", collections: [{collections}] }}"));
        }
        let shared = self.servers.kafka.bootstrap();
        let bootstrap = settings.bootstrap.as_ref().unwrap_or(&shared);
        line(format!("kafka:\n  bootstrap_servers: \"{bootstrap}\"\n{kafka}"));
        let own = format!("normalized: {}, dead_letter: {}", self.normalized(), self.letters());
        let made = format!("partitions: {partitions}, replication_factor: 1");
        line(format!("  topics: {{ {topics} {own}, {made} }}"));
        let all = properties.iter().map(|(name, value)| format!("{name}: \"{value}\""));
        line(format!("  properties: {{ {} }}", all.collect::<Vec<_>>().join(", ")));
        if let Some((file, output)) = mapping {
            line(format!("normalizer: {{ mapping: {}, output: {output} }}", file.display()));
        }
        let target = settings.target.unwrap_or(self.proxy.address());
        let usual = "insert_deadline_s: 5";
        line(format!(
            "clickhouse: {{ {clickhouse} url: \"http://{target}\", database: {name}, {usual} }}"
        ));
        line(format!("state: {}/state", self.home.path().display()));
        text
    }

    /// The watched collections.
    pub(crate) fn collections(&self) -> [String; 2] {
        ["files", "jobs"].map(|coll| format!("{}.{coll}", self.name))
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch::Collections(self.collections().into())
    }

    /// The topic of a collection.
    pub(crate) fn topic(&self, coll: &str) -> String {
        format!("events.mongo.{}.{coll}", self.name)
    }

    pub(crate) fn normalized(&self) -> String {
        format!("{}.normalized", self.name)
    }

    pub(crate) fn letters(&self) -> String {
        format!("{}.dead", self.name)
    }

    pub(crate) fn checkpoints(&self) -> String {
        format!("{}.checkpoints", self.name)
    }

    pub(crate) fn group(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// Lets the pipeline read another MongoDB, of which the truth knows nothing.
    pub(crate) async fn read_from(&mut self, mongod: &Mongod) {
        self.mongodb = mongod.client().await.unwrap();
        self.start = now(&self.mongodb).await;
        self.settings.uri = Some(mongod.uri());
    }

    /// Makes the topics of the collections, so that nobody waits until they are noticed.
    pub(crate) async fn make_topics(&self) {
        for coll in ["files", "jobs"] {
            let topic = self.topic(coll);
            self.cluster.create_topic(&topic, self.settings.partitions, &[]).await.unwrap();
        }
    }

    /// A collection.
    pub(crate) fn coll(&self, coll: &str) -> Collection<Document> {
        self.mongodb.database(self.name).collection(coll)
    }

    /// Inserts so many more documents into `files`.
    pub(crate) async fn write(&self, count: i64) {
        let first = self.next.get();
        self.next.set(first + count);
        let documents = (first..first + count).map(|number| doc! { "_id": number, "n": number });
        self.coll("files").insert_many(documents).await.unwrap();
    }

    /// Goes on writing until something is so.
    pub(crate) async fn write_until(&self, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < DEADLINE, "it never comes to that");
            self.write(5).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs a statement in ClickHouse.
    pub(crate) async fn execute(&self, sql: &str) {
        let url = format!("http://{}", self.servers.engine.address());
        let client = clickhouse::Client::default().with_url(url).with_database(self.name);
        client.query(sql).execute().await.unwrap();
    }

    /// Asks for one number; `None` as long as there is no such table.
    pub(crate) async fn number(&self, expression: &str, from: &str) -> Option<u64> {
        #[derive(serde::Deserialize)]
        struct Row {
            number: u64,
        }
        let sql = format!("SELECT {expression} AS number FROM {from}");
        match self.clickhouse.one::<Row>(&sql).await {
            Ok(Row { number }) => Some(number),
            Err(error) if format!("{error:#}").contains("UNKNOWN_TABLE") => None,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// How many rows a table holds.
    pub(crate) async fn rows(&self, table: &str) -> u64 {
        self.number("count()", table).await.unwrap_or(0)
    }

    /// Waits until the event table holds so many rows.
    pub(crate) async fn wait_for_rows(&self, rows: u64, parts: &mut [&mut Part]) {
        self.wait_for("record_raw", rows, parts).await;
    }

    /// The same of any table.
    pub(crate) async fn wait_for(&self, table: &str, rows: u64, parts: &mut [&mut Part]) {
        let started = Instant::now();
        loop {
            let found = self.rows(table).await;
            if found >= rows {
                return;
            }
            parts.iter_mut().for_each(|part| part.expect_running());
            if started.elapsed() > DEADLINE {
                let logs: Vec<String> = parts.iter().map(|part| part.log()).collect();
                panic!("{found} rows in {table}, not {rows}:\n{}", logs.join("\n-----\n"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a topic holds so many committed records.
    pub(crate) async fn wait_for_records(&self, topic: &str, count: usize, part: &mut Part) {
        let started = Instant::now();
        loop {
            let found = self.cluster.read_committed(topic).await.map_or(0, |found| found.len());
            if found >= count {
                return;
            }
            part.expect_running();
            let log = part.log();
            assert!(started.elapsed() < DEADLINE, "{found} records, not {count}:\n{log}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the sinks have committed of a topic.
    pub(crate) async fn committed(&self, coll: &str) -> Vec<Committed> {
        self.cluster.committed(&self.group("sink"), &self.topic(coll)).await.unwrap()
    }
}

/// MongoDB's own time, which is behind the clock's where nothing is written.
async fn now(mongodb: &Client) -> String {
    let hello = mongodb.database("admin").run_command(doc! { "hello": 1 }).await.unwrap();
    let seconds = hello.get_timestamp("operationTime").unwrap().time;
    jiff::Timestamp::from_second(seconds.into()).unwrap().to_string()
}
