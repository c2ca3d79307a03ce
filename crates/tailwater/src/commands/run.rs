//! `tailwater run`: copies every change of MongoDB into ClickHouse until stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use secrecy::{ExposeSecret as _, SecretString};
use tailwater_clickhouse::{Connection, Endpoint, Tables, ToRows, Watched, schema};
use tailwater_core::config::{Batch, ClickHouse, Config, Given, Limits, MongoDb, Target};
use tailwater_core::position::LaneId;
use tailwater_core::rows::{Layout, Namespace, RecordsFrom};
use tailwater_core::scope::{self, Scope};
use tailwater_core::table::{self, DEFAULT_DEDUPLICATION_WINDOW, TableName};
use tailwater_core::{Error, ErrorKind};
use tailwater_embedded::{EngineOptions, EngineProcess, PASSWORD_VARIABLE};
use tailwater_mongodb::{Server, Start, Streams, connect, streams};
use tailwater_pipeline::BatchLimits;
use tailwater_pipeline::bisect::MaxRejected;
use tailwater_pipeline::budget::Budget;
use tailwater_pipeline::retry;
use tailwater_pipeline::state_folder::StateFolder;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::worker;
use tailwater_pipeline::write_ahead::{self, DEFAULT_INSERT_DEADLINE, WriteAhead};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::Cli;
use crate::{config_file, http, signals};

/// Copy every change of MongoDB into ClickHouse until stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// The MongoDB connection string, of a replica set or a sharded cluster
    #[arg(long, value_name = "URI", env = "TAILWATER_SOURCE", hide_env_values = true)]
    source: Option<SecretString>,
    #[command(flatten)]
    watch: WatchArguments,
    /// The folder that holds the checkpoints, and the embedded engine's data [default:
    /// ./tailwater-state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A ClickHouse to write to, as `http[s]://user:password@host:port/database`, instead of the
    /// embedded engine
    #[arg(long, value_name = "URL", env = "TAILWATER_TARGET", hide_env_values = true)]
    target: Option<SecretString>,
    /// Where the embedded engine answers ClickHouse clients [default: 127.0.0.1:8123]
    #[arg(long, value_name = "ADDR", conflicts_with = "target")]
    listen: Option<SocketAddr>,
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
#[group(multiple = false)]
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
    /// `None` where nothing is said.
    fn scopes(&self) -> Result<Option<Vec<Scope>>, Error> {
        let collections = self.collections.iter().map(|entry| Scope::collection(entry.trim()));
        let databases = self.databases.iter().map(|entry| Scope::database(entry.trim()));
        let deployment = self.deployment.then_some(Ok(Scope::Deployment));
        let scopes =
            collections.chain(databases).chain(deployment).collect::<Result<Vec<_>, _>>()?;
        scope::check_overlaps(&scopes)?;
        Ok((!scopes.is_empty()).then_some(scopes))
    }
}

const EXAMPLES: &str = "\
Examples:
  Into the embedded engine, which any ClickHouse client can ask at 127.0.0.1:8123:
    tailwater run --source mongodb://localhost:27017 --collections ingest.files
  Into a ClickHouse of yours:
    tailwater run --source mongodb://db.example/?replicaSet=rs0 --collections ingest.files,ingest.jobs \\
      --target https://tailwater:secret@ch.example:8443/events --state /var/lib/tailwater
  As a file says; flags stand above it:
    tailwater run -c tailwater.yaml --http 127.0.0.1:9464";

const NOTHING_TO_RUN: &str = "\
name a config file with `-c`, or give `--source` and one of `--collections`, `--databases` and \
`--deployment`";

/// The table of dead letters.
const DEAD_LETTERS: &str = "tailwater_dead_letters";

impl Run {
    /// What the file and the flags say together.
    fn config(&self, file: Option<&Path>) -> anyhow::Result<Config> {
        let target = self.target.as_ref().map(|url| Endpoint::parse(url.expose_secret()));
        let given = Given {
            source: self.source.clone(),
            scopes: self.watch.scopes()?,
            target: target.transpose()?,
            listen: self.listen,
            state: self.state.clone(),
            http: self.http,
            parts: None,
        };
        match config_file::find(file, self.source.is_some()) {
            Some(file) => Ok(config_file::read(&file, &given)?),
            None if given.source.is_some() && given.scopes.is_some() => {
                Ok(Config::of_flags(given)?)
            }
            None => {
                let mut command = Cli::command();
                command.build();
                let run = command.find_subcommand_mut("run").context("there is a command `run`")?;
                let missing = clap::error::ErrorKind::MissingRequiredArgument;
                run.error(missing, NOTHING_TO_RUN).exit()
            }
        }
    }

    pub(crate) async fn execute(self, file: Option<&Path>) -> anyhow::Result<()> {
        let config = self.config(file)?;
        if config.kafka.is_some() || config.normalizer.is_some() {
            let what = "`kafka` and `normalizer` cannot be run yet";
            return Err(Error::new(ErrorKind::Config, what).with_hint("leave them out").into());
        }
        let MongoDb { uri, scopes, watch } = config.require_mongodb()?.clone();
        let clickhouse = config.require_clickhouse()?.clone();
        if clickhouse.tables.raw_cdc.is_some() {
            let what = "`tables.raw_cdc` cannot be filled yet";
            return Err(Error::new(ErrorKind::Config, what).with_hint("leave it out").into());
        }
        let Config { pipeline, state, http, limits, .. } = config;
        let stop = CancellationToken::new();
        signals::cancel_on_signal(stop.clone())?;
        let vitals = Vitals::default();
        let http = match http {
            Some(address) => Some(http::serve(address, vitals.clone()).await?),
            None => None,
        };
        let mut folder = StateFolder::open(&state)?;
        let batch = batch_limits(&clickhouse, &limits);
        let deadline = clickhouse.insert_deadline.unwrap_or(DEFAULT_INSERT_DEADLINE);
        let pace = streams::patience(batch.max_wait, scopes.len());
        let needed = blocks_within(2 * deadline, pace, scopes.len());
        let window = clickhouse.deduplication_window;

        let prepare = async {
            let patience = connect::DEFAULT_FIRST_CONNECTION;
            let server = Server::connect(uri.expose_secret(), scopes.len(), patience).await?;
            // Before anything slow: what changes from here on is ours.
            let lanes: Vec<LaneId> =
                scopes.iter().map(|scope| LaneId::stream(&scope.entry())).collect();
            if lanes.iter().any(|lane| folder.checkpoint(lane).is_none()) {
                let origin = server.origin(self.start).await?;
                write_ahead::begin_missing(&mut folder, lanes, &origin).await?;
            }
            let (endpoint, engine) = reach(&clickhouse.target, &state).await?;
            let connection = Connection::new(endpoint)?;
            let layout = Layout {
                records: clickhouse.tables.records.clone(),
                records_from: RecordsFrom::Inline,
                raw_cdc: None,
                dead_letters: TableName::new(DEAD_LETTERS),
                current: clickhouse.tables.current.clone(),
            };
            let wanted = schema::Wanted {
                pipeline: pipeline.clone(),
                window: window.unwrap_or(DEFAULT_DEDUPLICATION_WINDOW),
                new_window: window.unwrap_or_else(|| usual_window(needed)),
                ttl_days: clickhouse.ttl_days,
            };
            let prepared = || schema::prepare(&connection, &layout, &wanted);
            let facts = retry::patiently(patience, prepared).await?;
            info!(url = %connection.endpoint().url, database = connection.database(), "ready");
            if needed > facts.window {
                let mend =
                    table::set_window(connection.database(), &layout.records, usual_window(needed));
                warn!(
                    lanes = scopes.len(),
                    window = facts.window,
                    needed,
                    mend,
                    "the deduplication window may be too short at full pace: run the statement of \
                     `mend`, or watch whole databases in one stream"
                );
            }
            let watched = Watched::Streams(scopes.clone());
            let tables = Tables::new(connection, pipeline, layout, watched, facts);
            for scope in scopes.iter().filter(|_| clickhouse.tables.current.is_some()) {
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
        let budget = Budget::new(limits.memory_bytes);
        let streams = Streams::new(server, scopes, watch, budget, vitals.clone());
        let delivery = WriteAhead::new(folder, tables, deadline, vitals)
            .with_max_rejected(max_rejected(&clickhouse));
        let run = worker::run(streams, transform, delivery, batch, stop.clone());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(limits.shutdown).await;
        };
        tokio::select! {
            result = run => result?,
            () = overdue => {
                let what = format!("could not settle within {} s", limits.shutdown.as_secs());
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
}

/// The server to write to; the embedded one is started.
async fn reach(target: &Target, state: &Path) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
    let (listen, password) = match target {
        Target::Server(endpoint) => return Ok((endpoint.clone(), None)),
        Target::Embedded { listen, password } => (*listen, password),
    };
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let password = match password {
        Some(password) => Some(password.expose_secret().to_owned()),
        None => std::env::var(PASSWORD_VARIABLE).ok(),
    };
    let options = EngineOptions { program, state: state.to_owned(), listen, password };
    let password = options.password.clone().unwrap_or_default();
    let engine = EngineProcess::start(options).await?;
    let mut endpoint = Endpoint::parse(&engine.url())?;
    endpoint.password = password.into();
    Ok((endpoint, Some(engine)))
}

/// How many blocks so many lanes can write in a time, each at most one per `pace`.
fn blocks_within(time: Duration, pace: Duration, lanes: usize) -> u64 {
    let each = time.as_millis().div_ceil(pace.as_millis().max(1));
    u64::try_from(each.saturating_mul(lanes as u128)).unwrap_or(u64::MAX)
}

/// As much as may be configured: the server keeps these tokens in memory.
const LARGEST_WINDOW: u64 = 1_000_000;

/// The window of new tables where none is configured.
fn usual_window(needed: u64) -> u64 {
    needed.div_ceil(1000).saturating_mul(1000).clamp(DEFAULT_DEDUPLICATION_WINDOW, LARGEST_WINDOW)
}

fn max_rejected(clickhouse: &ClickHouse) -> MaxRejected {
    let MaxRejected { percent, rows } = MaxRejected::default();
    MaxRejected {
        percent: clickhouse.max_rejected_percent.unwrap_or(percent),
        rows: clickhouse.max_rejected_rows.unwrap_or(rows),
    }
}

fn batch_limits(clickhouse: &ClickHouse, limits: &Limits) -> BatchLimits {
    let BatchLimits { max_rows, max_bytes, max_wait } = BatchLimits::default();
    let Batch { max_rows: rows, max_bytes: bytes, max_wait: wait } = clickhouse.batch;
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    BatchLimits {
        max_rows: rows.map_or(max_rows, number),
        max_bytes: bytes.map_or(max_bytes.min(limits.largest_batch()), number),
        max_wait: wait.unwrap_or(max_wait),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hundreds_of_busy_lanes_outrun_the_usual_window() {
        let blocks = |lanes| {
            let pace = streams::patience(BatchLimits::default().max_wait, lanes);
            blocks_within(2 * DEFAULT_INSERT_DEADLINE, pace, lanes)
        };
        assert_eq!([1, 8, 60, 300].map(blocks), [480, 3840, 7200, 36_000]);
        assert_eq!([480, 10_001, 36_000].map(usual_window), [10_000, 11_000, 36_000]);
    }

    #[test]
    fn what_is_configured_counts_and_the_rest_is_as_the_code_has_it() {
        let target = Target::Embedded { listen: ([127, 0, 0, 1], 0).into(), password: None };
        let mut clickhouse = ClickHouse::at(target);
        let usual = BatchLimits::default();
        let batch = batch_limits(&clickhouse, &Limits::default());
        assert_eq!(
            (batch.max_rows, batch.max_bytes, batch.max_wait),
            (usual.max_rows, usual.max_bytes, usual.max_wait)
        );
        assert_eq!(max_rejected(&clickhouse), MaxRejected::default());
        // A small memory makes small batches.
        let small = Limits { memory_bytes: 64 << 20, ..Limits::default() };
        assert_eq!(batch_limits(&clickhouse, &small).max_bytes, 16 << 20);

        let wait = Some(Duration::from_millis(5));
        clickhouse.batch = Batch { max_rows: Some(3), max_bytes: Some(4), max_wait: wait };
        clickhouse.max_rejected_rows = Some(7);
        let batch = batch_limits(&clickhouse, &small);
        assert_eq!(
            (batch.max_rows, batch.max_bytes, batch.max_wait),
            (3, 4, Duration::from_millis(5))
        );
        assert_eq!(max_rejected(&clickhouse), MaxRejected { percent: 10, rows: 7 });
    }
}
