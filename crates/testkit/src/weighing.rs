//! Weighs a `run`: what it holds in memory while large documents, an outage or a slow ClickHouse
//! pass through it, and whether everything arrives once afterwards.
//!
//! A checker of its own, since the judge would hold hundreds of megabytes of truth: every document
//! carries its number and version, so that counting finds what is lost, changed or twice.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bson::{Bson, Document, doc};
use mongodb::{Client, Collection};
use serde::Deserialize;

use crate::clickhouse::ClickHouse;
use crate::servers::{Engine, Kafka, Mongod, Proxy, Resident, Tailwater};

/// How long nothing may move while everything is healthy.
const STANDSTILL: Duration = Duration::from_secs(60);
/// What did not grow for so long is full: a reply of MongoDB takes less.
const STEADY: Duration = Duration::from_secs(4);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// A mebibyte.
pub const MIB: u64 = 1 << 20;
/// What a `run` may take besides its budget: the program itself, the driver's copies of a reply, a
/// part while it is encoded, and what the allocator keeps. `docs/benchmarks.md` has the figures.
pub const ALLOWANCE: u64 = 384 * MIB;

/// How changes get from MongoDB to ClickHouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Straight.
    Direct,
    /// Through a broker, with source and sink in one process.
    Kafka,
}

/// A `run` between a MongoDB and a ClickHouse of its own, with a proxy before ClickHouse.
#[derive(Debug)]
pub struct Weighing {
    /// The product. First, so that it ends before the servers do.
    pub tailwater: Tailwater,
    /// Before ClickHouse.
    pub proxy: Proxy,
    /// What was written.
    pub written: Written,
    memory_bytes: u64,
    document_bytes: u64,
    binary: PathBuf,
    arguments: Vec<String>,
    files: Collection<Document>,
    clickhouse: ClickHouse,
    _engine: Engine,
    _mongod: Mongod,
    _kafka: Option<Kafka>,
    home: tempfile::TempDir,
}

/// What was written, and how much that makes in change events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Different documents.
    pub documents: u32,
    /// Changes, each of which becomes an event that holds its whole document.
    pub changes: u64,
    /// The sizes of the documents of all changes.
    pub bytes: u64,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, changes, bytes } = self;
        write!(f, "{changes} changes of {documents} documents, {} MiB", bytes / MIB)
    }
}

/// What ClickHouse holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Rows {
    rows: u64,
    keys: u64,
}

#[derive(Debug, Deserialize)]
struct Current {
    documents: u64,
    changes: u64,
    spoiled: u64,
}

impl Weighing {
    /// Starts everything, `run` with a budget of so many bytes, and waits until it reads. `None`: a
    /// server is missing here, skip.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(binary: &Path, memory_bytes: u64, way: Way) -> anyhow::Result<Option<Self>> {
        let home = tempfile::Builder::new().prefix("tailwater-weighing-").tempdir()?;
        let Some(engine) = Engine::start(binary, &home.path().join("engine")).await? else {
            return Ok(None);
        };
        let Some(mongod) = Mongod::start().await? else { return Ok(None) };
        let kafka = match way {
            Way::Direct => None,
            Way::Kafka => match Kafka::start().await? {
                Some(kafka) => Some(kafka),
                None => return Ok(None),
            },
        };
        let proxy = Proxy::start(engine.address()).await?;
        let through = kafka.as_ref().map_or(String::new(), |kafka| {
            format!(
                "kafka: {{ bootstrap_servers: \"{}\", topics: {{ partitions: 4, replication_factor: 1 }} }}\n",
                kafka.bootstrap()
            )
        });
        let config = format!(
            "version: 1\n\
             mongodb: {{ uri: \"{}\", collections: [ingest.files] }}\n\
             clickhouse: {{ url: \"http://{}\", database: default }}\n\
             state: \"{}\"\n\
             limits: {{ memory_bytes: {memory_bytes} }}\n{through}",
            mongod.uri(),
            proxy.address(),
            home.path().join("state").display(),
        );
        let file = home.path().join("tailwater.yaml");
        std::fs::write(&file, config)?;
        let arguments = vec!["run".into(), "--config".into(), file.display().to_string()];
        let log = home.path().join("run.log");
        let tailwater = Tailwater::start(binary, &arguments, &log)?;
        let clickhouse = ClickHouse::new(&format!("http://{}", engine.address()), "default");
        let client: Client = mongod.client().await?;
        let files = client.database("ingest").collection("files");
        let mut weighing = Self {
            tailwater,
            proxy,
            written: Written::default(),
            memory_bytes,
            document_bytes: 0,
            binary: binary.to_owned(),
            arguments,
            files,
            clickhouse,
            _engine: engine,
            _mongod: mongod,
            _kafka: kafka,
            home,
        };
        weighing.wait_until_ready().await?;
        Ok(Some(weighing))
    }

    /// `--start now` begins at a moment that only the product knows: it is there when its table is.
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.tailwater.log().contains("stream goes on") {
            self.tailwater.expect_running()?;
            ensure!(started.elapsed() < STANDSTILL, "not ready:\n{}", self.tailwater.log_tail());
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Inserts `count` documents of about `size` bytes, all of one size: half text, half small numbers, which grow
    /// most on their way.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn insert(&mut self, count: u32, size: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let number = self.written.documents;
            let document = document(number, size);
            self.document_bytes = u64::try_from(document.to_vec()?.len())?;
            self.written.documents += 1;
            self.written.changes += 1;
            self.written.bytes += self.document_bytes;
            self.files.insert_one(document).await?;
        }
        Ok(())
    }

    /// Changes every document `times` times, in turn.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn update(&mut self, times: u32) -> anyhow::Result<()> {
        for _ in 0..times * self.written.documents {
            self.update_next().await?;
        }
        Ok(())
    }

    /// Changes one document, another each time.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn update_next(&mut self) -> anyhow::Result<()> {
        let number = self.written.changes % u64::from(self.written.documents);
        let this = doc! { "_id": i64::try_from(number)? };
        let update = self.files.update_one(this, doc! { "$inc": { "changes": 1_i64 } });
        ensure!(update.await?.modified_count == 1, "document {number} is gone");
        self.written.changes += 1;
        self.written.bytes += self.document_bytes;
        Ok(())
    }

    /// Changes all documents at once.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn update_all(&mut self) -> anyhow::Result<()> {
        let update = doc! { "$inc": { "changes": 1_i64 } };
        let updated = self.files.update_many(doc! {}, update).await?.modified_count;
        ensure!(updated == u64::from(self.written.documents), "{updated} were changed");
        self.written.changes += updated;
        self.written.bytes += updated * self.document_bytes;
        Ok(())
    }

    /// Makes every document about `size` bytes large.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        for number in 0..self.written.documents {
            let mut content = document(number, size);
            self.document_bytes = u64::try_from(content.to_vec()?.len())?;
            content.remove("_id");
            content.remove("changes");
            let update = doc! { "$set": content, "$inc": { "changes": 1_i64 } };
            self.files.update_one(doc! { "_id": i64::from(number) }, update).await?;
            self.written.changes += 1;
            self.written.bytes += self.document_bytes;
        }
        Ok(())
    }

    /// Starts the killed `run` again.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let log = self.home.path().join("run.log");
        self.tailwater = Tailwater::start(&self.binary, &self.arguments, &log)?;
        Ok(())
    }

    /// What `run` has held at most, in bytes.
    ///
    /// # Errors
    ///
    /// When it was more than its budget and what is allowed besides.
    pub fn expect_bounded(&mut self) -> anyhow::Result<u64> {
        let (most, budget) = (self.resident()?.most, self.memory_bytes);
        ensure!(
            most <= budget + ALLOWANCE,
            "{} MiB resident at most, with a budget of {} MiB",
            most / MIB,
            budget / MIB
        );
        Ok(most)
    }

    /// Waits until `run` takes no more memory: everything fits, or nothing more does.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn wait_until_full(&mut self) -> anyhow::Result<Resident> {
        let (mut most, mut grew) = (0, Instant::now());
        loop {
            let resident = self.resident()?;
            // A timer's page or two is no growth.
            if resident.now > most + MIB {
                (most, grew) = (resident.now, Instant::now());
            }
            if grew.elapsed() > STEADY {
                return Ok(resident);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What `run` holds in memory now, and held at most.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident(&mut self) -> anyhow::Result<Resident> {
        self.tailwater.expect_running()?;
        self.tailwater.resident()
    }

    /// How many changes have a row.
    ///
    /// # Errors
    ///
    /// When ClickHouse does not answer.
    pub async fn rows(&self) -> anyhow::Result<u64> {
        Ok(self.counted().await?.rows)
    }

    async fn counted(&self) -> anyhow::Result<Rows> {
        let sql = "SELECT count() AS rows, uniqExact(idempotency_key) AS keys FROM record_raw \
                   WHERE op IN ('insert', 'update')";
        self.clickhouse.one(sql).await
    }

    /// Waits until so many changes have a row.
    ///
    /// # Errors
    ///
    /// When nothing moves for a minute, or `run` ends.
    pub async fn wait_for_rows(&mut self, rows: u64) -> anyhow::Result<()> {
        let (mut most, mut moved) = (0, Instant::now());
        loop {
            let there = self.rows().await?;
            if there >= rows {
                return Ok(());
            }
            self.tailwater.expect_running()?;
            if there > most {
                (most, moved) = (there, Instant::now());
            }
            if moved.elapsed() > STANDSTILL {
                bail!("{there} rows, not {rows}:\n{}", self.tailwater.log_tail());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until `run` says so, from `offset` of its log on.
    ///
    /// # Errors
    ///
    /// When it does not within a minute.
    pub async fn wait_for_log(&mut self, offset: usize, text: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.tailwater.log()[offset..].contains(text) {
            self.tailwater.expect_running()?;
            ensure!(
                started.elapsed() < 2 * STANDSTILL,
                "no `{text}`:\n{}",
                self.tailwater.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until everything has arrived, and fails unless it is there once and whole.
    ///
    /// # Errors
    ///
    /// When something is lost, twice, or changed.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        let Written { documents, changes, .. } = self.written;
        self.wait_for_rows(changes).await?;
        let rows = self.counted().await?;
        ensure!(rows == Rows { rows: changes, keys: changes }, "{rows:?}, not {changes}");
        // The current state follows within the same delivery.
        let started = Instant::now();
        let sql = "SELECT count() AS documents, sum(doc.changes::UInt64) AS changes, \
                   countIf(_hash != xxHash64(_bson)) AS spoiled FROM ingest__files_current";
        loop {
            let current: Current = self.clickhouse.one(sql).await?;
            ensure!(current.spoiled == 0, "{} spoiled documents", current.spoiled);
            if current.documents == u64::from(documents) && current.changes == changes {
                return Ok(());
            }
            ensure!(started.elapsed() < STANDSTILL, "{current:?}, not {:?}", self.written);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps the folder for a look after a failure, and tells where it is.
    pub fn keep(self) -> PathBuf {
        self.home.keep()
    }
}

/// A document of about `size` bytes.
fn document(number: u32, size: usize) -> Document {
    let line = format!("line {number:08} of a text that \"nobody\" reads; ");
    let text: String = line.chars().cycle().take(size / 2).collect();
    // An element of an array takes its type, its index, a zero byte and four bytes.
    let mut numbers = Vec::new();
    let mut bytes = 0;
    while bytes + 200 < size / 2 {
        bytes += numbers.len().to_string().len() + 6;
        numbers.push(Bson::Int32(i32::try_from(numbers.len() % 100).unwrap_or_default()));
    }
    doc! { "_id": i64::from(number), "changes": 1_i64, "text": text, "numbers": numbers }
}
