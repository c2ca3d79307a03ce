//! `tailwater run`: copies every change of MongoDB into ClickHouse until stopped.

mod direct;
mod kafka;
pub(crate) mod tables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use tailwater_clickhouse::Endpoint;
use tailwater_core::config::{Config, Given, Parts};
use tailwater_core::scope::{self, Scope};
use tailwater_core::{Error, ErrorKind};
use tailwater_mongodb::Start;
use tailwater_pipeline::vitals::Vitals;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::Cli;
use crate::{config_file, http, signals};

/// Copy every change of MongoDB into ClickHouse until stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// The parts to run, with a Kafka; by default those that the config file names
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
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
    tailwater run -c tailwater.yaml --http 127.0.0.1:9464
  With a Kafka in the middle, each part in a process of its own, any number of each:
    tailwater run source -c tailwater.yaml
    tailwater run normalize sink -c tailwater.yaml";

const NOTHING_TO_RUN: &str = "\
name a config file with `-c`, or give `--source` and one of `--collections`, `--databases` and \
`--deployment`";

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
            parts: self.chosen(),
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
        let parts = self.chosen().unwrap_or_else(|| config.parts());
        let all = match config.kafka {
            Some(_) => kafka::vitals(parts),
            None if self.parts.is_empty() => vec![Vitals::default()],
            // There are no parts to choose from.
            None => {
                config.require_kafka()?;
                Vec::new()
            }
        };
        let stop = CancellationToken::new();
        signals::cancel_on_signal(stop.clone())?;
        let http = match config.http {
            Some(address) => Some(http::serve(address, all.clone()).await?),
            None => None,
        };
        let limits = config.limits;
        let run = async {
            match config.kafka {
                Some(_) => kafka::run(config, parts, self.start, all, stop.clone()).await,
                None => Box::pin(direct::run(config, self.start, all, stop.clone())).await,
            }
        };
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
        drop(http);
        info!("stopped");
        Ok(())
    }

    /// The parts that were asked for; `None`: those that the config names.
    fn chosen(&self) -> Option<Parts> {
        let asked = |part| self.parts.contains(&part);
        (!self.parts.is_empty()).then(|| Parts {
            source: asked(Part::Source),
            normalize: asked(Part::Normalize),
            sink: asked(Part::Sink),
        })
    }
}

/// A part of Tailwater that may run in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From MongoDB into raw topics.
    Source,
    /// From raw topics into the normalized topic.
    Normalize,
    /// From topics into ClickHouse.
    Sink,
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
