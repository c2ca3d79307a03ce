//! Everything at once: a server, the truth, the product, and the checker between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bson::{Document, doc};
use mongodb::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::checker::{Checker, Flow, Verdict};
use crate::clickhouse::ClickHouse;
use crate::servers::{Mongod, Needed, RunArguments, Tailwater, Target, free_port};
use crate::truth::Truth;
use crate::watch::Watch;

/// How long the first row may take, on the slowest machine.
const FIRST_ROW_DEADLINE: Duration = Duration::from_secs(120);

/// A replica set and a `tailwater run` that copies some of its collections.
#[derive(Debug)]
pub struct Rig {
    /// The product. First, so that it ends before the server does.
    pub tailwater: Tailwater,
    /// The server.
    pub mongod: Mongod,
    /// A client of the server.
    pub client: Client,
    /// The independent stream.
    pub truth: Truth,
    /// The judge.
    pub checker: Checker,
    /// What `tailwater run` was started with.
    pub arguments: RunArguments,
    binary: PathBuf,
    folder: tempfile::TempDir,
}

/// Inserts age quickly here: what a recovery must outlive is over before a test waits for it.
pub const INSERT_DEADLINE: Duration = Duration::from_secs(5);

fn config_for(target: Target) -> String {
    let embedded = match target {
        Target::Embedded(_) => "embedded: true, ",
        Target::Server { .. } => "",
    };
    let seconds = INSERT_DEADLINE.as_secs();
    format!("version: 1\nclickhouse: {{ {embedded}insert_deadline_s: {seconds} }}\n")
}

impl Rig {
    /// Starts everything and waits until each stream's changes arrive. `None`: a server is missing
    /// here, skip.
    ///
    /// # Errors
    ///
    /// When something does not start, or no row arrives.
    pub async fn start(binary: &Path, watch: Watch) -> anyhow::Result<Option<Self>> {
        let Some(mongod) = Mongod::start().await? else { return Ok(None) };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let Some(mut rig) = Self::over(mongod, binary, watch, Target::Embedded(listen)).await?
        else {
            return Ok(None);
        };
        rig.warm_up(|number| doc! { "_id": format!("warm-up {number}") }).await?;
        Ok(Some(rig))
    }

    /// Starts a server and everything else, over some collections, with the rows going there, and
    /// without waiting for a row.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn assemble(
        binary: &Path,
        namespaces: &[String],
        target: Target,
    ) -> anyhow::Result<Option<Self>> {
        let Some(mongod) = Mongod::start().await? else { return Ok(None) };
        Self::over(mongod, binary, Watch::Collections(namespaces.to_vec()), target).await
    }

    /// Starts everything but the server, without waiting for a row.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn over(
        mongod: Mongod,
        binary: &Path,
        watch: Watch,
        target: Target,
    ) -> anyhow::Result<Option<Self>> {
        if Needed::Libchdb.find()?.is_none() {
            return Ok(None);
        }
        let client = mongod.client().await?;
        let truth = Truth::start(&client).await?;
        let folder = tempfile::Builder::new().prefix("tailwater-rig-").tempdir()?;
        let config = folder.path().join("tailwater.yaml");
        std::fs::write(&config, config_for(target))?;
        let arguments = RunArguments {
            source: mongod.uri(),
            watch: watch.clone(),
            state: folder.path().join("state"),
            target,
            http: free_port()?,
            config: Some(config),
        };
        let log = folder.path().join("run.log");
        let tailwater = Tailwater::start(binary, &arguments.to_vec(), &log)?;
        let checker = Checker {
            mongodb: client.clone(),
            clickhouse: ClickHouse::new(&format!("http://{}", target.address()), "default"),
            watch,
            flow: Flow::Direct,
        };
        let binary = binary.to_owned();
        Ok(Some(Self { tailwater, mongod, client, truth, checker, arguments, binary, folder }))
    }

    /// How many events the product says it has read, and how many of them it has delivered.
    ///
    /// # Errors
    ///
    /// When its metrics do not answer.
    pub async fn counters(&self) -> anyhow::Result<(u64, u64)> {
        let address = (Ipv4Addr::LOCALHOST, self.arguments.http);
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let sum = |name: &str| -> anyhow::Result<u64> {
            let lines = answer.lines().filter(|line| line.starts_with(name));
            let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse());
            let values: Vec<u64> = values.collect::<Result<_, _>>()?;
            ensure!(!values.is_empty(), "no `{name}` in {answer}");
            Ok(values.iter().sum())
        };
        Ok((sum("tailwater_events_read_total{")?, sum("tailwater_events_delivered_total{")?))
    }

    /// Starts the product again with the same arguments. The one before must have ended.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let log = self.folder.path().join("run.log");
        self.tailwater = Tailwater::start(&self.binary, &self.arguments.to_vec(), &log)?;
        Ok(())
    }

    /// Writes documents until each stream has a row: `--start now` begins at a moment that only
    /// the product knows. The judged truth begins with the first row.
    ///
    /// # Errors
    ///
    /// When no row arrives.
    pub async fn warm_up(
        &mut self,
        mut document: impl FnMut(u32) -> Document,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        for number in 0.. {
            let firsts = self.checker.first_keys().await;
            let streams = self.checker.watch.streams();
            let cold: Vec<_> =
                streams.iter().filter(|stream| !firsts.contains_key(&stream.topic)).collect();
            if cold.is_empty() {
                return Ok(());
            }
            self.tailwater.expect_running()?;
            if started.elapsed() > FIRST_ROW_DEADLINE {
                bail!("no row after {FIRST_ROW_DEADLINE:?}:\n{}", self.tailwater.log_tail());
            }
            for stream in cold {
                let namespace = stream.a_collection();
                let (database, name) = namespace.split_once('.').context("it is `db.coll`")?;
                let collection = self.client.database(database).collection::<Document>(name);
                collection.insert_one(document(number)).await?;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until everything that was written has arrived, and judges it. Nothing may be written
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When a server does not answer.
    pub async fn judge(&mut self) -> anyhow::Result<Verdict> {
        let events = self.truth.up_to_now().await?;
        self.tailwater.expect_running()?;
        self.checker.check(events).await
    }

    /// Keeps the state folder and the log for a look after a failure, and tells where they are.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}
