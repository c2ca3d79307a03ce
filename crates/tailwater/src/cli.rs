//! The command line as clap sees it: commands, flags, help. It parses, and does nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{check, checkpoint, dlq, engine, grants, query, run, schema, status};

/// Keeps ClickHouse in step with MongoDB, losing nothing and duplicating nothing.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tailwater engine install
  tailwater run --source mongodb://localhost:27017 --collections ingest.files
  tailwater run -c tailwater.yaml
  tailwater query \"SELECT op, count() FROM record_raw GROUP BY op\"";

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The config file; without it `tailwater.yaml`, where there is one and no `--source` is given
    #[arg(short, long, global = true, value_name = "FILE", env = "TAILWATER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The least severe lines to log: error, warn, info, debug, trace, or a filter such as `tailwater_mongodb=debug`
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    #[arg(value_parser = parse_log_level)]
    pub(crate) log_level: String,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// How results look; logs have a flag of their own
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Do what was planned without asking
    #[arg(short = 'y', long, global = true)]
    pub(crate) yes: bool,
}

fn parse_log_level(text: &str) -> Result<String, String> {
    let known = tracing_subscriber::EnvFilter::try_new(text).is_ok();
    // A bare word that is no level would be taken for the name of a module.
    let level = text.parse::<tracing::Level>().is_ok() || text == "off" || text.contains('=');
    if known && level { Ok(text.to_owned()) } else { Err("no such level".to_owned()) }
}

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object a line.
    Json,
}

/// What `tailwater` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy every change of MongoDB into ClickHouse until stopped
    Run(run::Run),
    /// Ask ClickHouse, or the embedded engine, one question
    Query(query::Query),
    /// Probe every end of a pipeline, and whether it moves
    Check(check::Check),
    /// Tell how far each part is, and where what it still has to do waits
    Status(status::Status),
    /// Show, make or drop the tables and topics of a config
    #[command(subcommand)]
    Schema(schema::Schema),
    /// List, show or replay the records that could not be processed
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// List, show or set back how far streams and groups are
    #[command(subcommand)]
    Checkpoint(checkpoint::Checkpoint),
    /// Print the least rights that a config needs
    Grants(grants::Grants),
    /// Install or serve the embedded ClickHouse engine
    #[command(subcommand)]
    Engine(engine::Engine),
}
