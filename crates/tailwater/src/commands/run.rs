//! `tailwater run`: copies every change of MongoDB into ClickHouse until stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tailwater_clickhouse::{Connection, Endpoint, Tables, ToRows, schema};
use tailwater_core::position::LaneId;
use tailwater_core::rows::{Layout, Namespace};
use tailwater_core::scope::{self, Scope};
use tailwater_core::table::TableName;
use tailwater_core::{Error, ErrorKind};
use tailwater_embedded::{EngineOptions, EngineProcess, PASSWORD_VARIABLE};
use tailwater_mongodb::{Server, Start, Streams, connect};
use tailwater_pipeline::BatchLimits;
use tailwater_pipeline::budget::Budget;
use tailwater_pipeline::retry;
use tailwater_pipeline::state_folder::StateFolder;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::worker;
use tailwater_pipeline::write_ahead::{
    self, CheckpointStore as _, DEFAULT_INSERT_DEADLINE, WriteAhead,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{http, signals};

/// Copy every change of MongoDB into ClickHouse until stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// The MongoDB connection string, of a replica set or a sharded cluster
    #[arg(long, value_name = "URI", env = "TAILWATER_SOURCE", hide_env_values = true)]
    source: String,
    #[command(flatten)]
    watch: WatchArguments,
    /// The folder that holds the checkpoints, and the embedded engine's data
    #[arg(long, value_name = "DIR", default_value = "./tailwater-state")]
    state: PathBuf,
    /// A ClickHouse to write to, as `http[s]://user:password@host:port/database`, instead of the
    /// embedded engine
    #[arg(long, value_name = "URL", env = "TAILWATER_TARGET", hide_env_values = true)]
    target: Option<String>,
    /// Where the embedded engine answers ClickHouse clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123", conflicts_with = "target")]
    listen: SocketAddr,
    /// Where a stream begins that has no checkpoint: `now`, `oldest`, or a time such as
    /// 2026-01-31T12:00:00Z
    #[arg(long, value_name = "START", default_value = "now", value_parser = parse_start)]
    start: Start,
    /// Where to serve /metrics and /health
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
}

/// What to watch.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WatchArguments {
    /// Collections to watch, each with its database; `*` and `?` stand for any text and any
    /// character. One stream each
    #[arg(long, value_name = "DB.COLL,…", value_delimiter = ',')]
    collections: Vec<String>,
    /// Databases to watch, all their collections. One stream each
    #[arg(long, value_name = "DB,…", value_delimiter = ',')]
    databases: Vec<String>,
    /// Watch everything, in one stream
    #[arg(long)]
    deployment: bool,
}

impl WatchArguments {
    fn scopes(&self) -> Result<Vec<Scope>, Error> {
        let collections = self.collections.iter().map(|entry| Scope::collection(entry.trim()));
        let databases = self.databases.iter().map(|entry| Scope::database(entry.trim()));
        let deployment = self.deployment.then_some(Ok(Scope::Deployment));
        let scopes =
            collections.chain(databases).chain(deployment).collect::<Result<Vec<_>, _>>()?;
        scope::check_overlaps(&scopes)?;
        Ok(scopes)
    }
}

const EXAMPLES: &str = "\
Examples:
  Into the embedded engine, which any ClickHouse client can ask at 127.0.0.1:8123:
    tailwater run --source mongodb://localhost:27017 --collections ingest.files
  Into a ClickHouse of yours:
    tailwater run --source mongodb://db.example/?replicaSet=rs0 --collections ingest.files,ingest.jobs \\
      --target https://tailwater:secret@ch.example:8443/events --state /var/lib/tailwater";

/// The pipeline's name where no config file gives one.
const PIPELINE: &str = "tailwater";
/// The event table where no config file names one.
const RECORDS: &str = "record_raw";
/// The table of dead letters.
const DEAD_LETTERS: &str = "tailwater_dead_letters";
/// Everything in flight, in bytes.
const MEMORY_BYTES: usize = 1 << 30;
/// How long the last batch may take after a signal.
const SHUTDOWN: Duration = Duration::from_secs(25);

impl Run {
    pub(crate) async fn execute(self) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        signals::cancel_on_signal(stop.clone())?;
        let scopes = self.watch.scopes()?;
        let endpoint = self.target.as_deref().map(Endpoint::parse).transpose()?;
        let vitals = Vitals::default();
        let http = match self.http {
            Some(address) => Some(http::serve(address, vitals.clone()).await?),
            None => None,
        };
        let mut folder = StateFolder::open(&self.state)?;

        let prepare = async {
            let patience = connect::DEFAULT_FIRST_CONNECTION;
            let server = Server::connect(&self.source, scopes.len(), patience).await?;
            // Before anything slow: what changes from here on is ours.
            let lanes: Vec<LaneId> =
                scopes.iter().map(|scope| LaneId::stream(&scope.entry())).collect();
            if lanes.iter().any(|lane| folder.load(lane).is_none()) {
                let origin = server.origin(self.start).await?;
                write_ahead::begin_missing(&mut folder, lanes, &origin).await?;
            }
            let (endpoint, engine) = match endpoint {
                Some(endpoint) => (endpoint, None),
                None => {
                    let engine = self.start_engine().await?;
                    (Endpoint::parse(&engine.url())?, Some(engine))
                }
            };
            let connection = Connection::new(endpoint);
            let layout = Layout {
                records: TableName::new(RECORDS),
                dead_letters: TableName::new(DEAD_LETTERS),
            };
            let facts =
                retry::patiently(patience, || schema::prepare(&connection, &layout)).await?;
            info!(url = %connection.endpoint().url, database = connection.database(), "ready");
            let tables =
                Tables::new(connection, PIPELINE.to_owned(), layout, scopes.clone(), facts);
            for scope in &scopes {
                if let Scope::Collection { db, coll } = scope {
                    let namespace = Namespace { db: db.clone(), coll: coll.clone() };
                    retry::patiently(patience, || tables.current(&namespace)).await?;
                }
            }
            anyhow::Ok((server, engine, tables))
        };
        let (server, engine, tables) = tokio::select! {
            prepared = prepare => prepared?,
            () = stop.cancelled() => {
                info!("stopped before anything was under way");
                return Ok(());
            }
        };

        let transform = Arc::new(ToRows::new(tables.layout().clone()));
        let watch = tailwater_core::watch::Watch::default();
        let streams =
            Streams::new(server, scopes, watch, Budget::new(MEMORY_BYTES), vitals.clone());
        let delivery = WriteAhead::new(folder, tables, DEFAULT_INSERT_DEADLINE, vitals);
        let run = worker::run(streams, transform, delivery, BatchLimits::default(), stop.clone());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(SHUTDOWN).await;
        };
        tokio::select! {
            result = run => result?,
            () = overdue => {
                let what = format!("could not settle within {} s", SHUTDOWN.as_secs());
                return Err(Error::new(ErrorKind::Unreachable, what)
                    .with_hint("nothing is lost: the next run finishes what was under way")
                    .into());
            }
        }
        if let Some(engine) = engine {
            engine.shutdown().await;
        }
        drop(http);
        info!("stopped");
        Ok(())
    }

    async fn start_engine(&self) -> anyhow::Result<EngineProcess> {
        let program = std::env::current_exe().context("cannot find the program's own file")?;
        let password = std::env::var(PASSWORD_VARIABLE).ok();
        let options =
            EngineOptions { program, state: self.state.clone(), listen: self.listen, password };
        Ok(EngineProcess::start(options).await?)
    }
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "now" => Ok(Start::Now),
        "oldest" => Ok(Start::Oldest),
        time => {
            let time: jiff::Timestamp = time.parse().map_err(|_| {
                "expected `now`, `oldest`, or a time such as 2026-01-31T12:00:00Z".to_owned()
            })?;
            u32::try_from(time.as_second())
                .map(Start::At)
                .map_err(|_| "MongoDB's time begins in 1970 and ends in 2106".to_owned())
        }
    }
}
