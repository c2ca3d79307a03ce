//! `tailwater check`: probes every end of a pipeline, and whether it moves.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tailwater_core::config::Given;
use tailwater_core::{Error, ErrorKind};

use crate::cli::{Format, Global};
use crate::{check, config_file, console};

/// Probe every end of a pipeline, and whether it moves.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// Leave out the probes that write: a transaction in Kafka, a table in ClickHouse
    #[arg(long)]
    read_only: bool,
    /// How long to wait, at most, for something to move
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    /// The state folder of a run without a config file [default: ./tailwater-state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

const EXAMPLES: &str = "\
A line for each probe: `ok`; `warn`, which works and is weak, or cannot be told; `FAIL`, with what to
do. It ends with 1 when there is a FAIL, else with 0. What writes, writes to a topic and to a table of
its own, which are made for it and go with it.

Examples:
  Before the first start, and after each change of a server:
    tailwater check -c tailwater.yaml
  Where nothing may be written:
    tailwater check -c tailwater.yaml --read-only
  For a script, without waiting for anything:
    tailwater check -c tailwater.yaml --wait 0 --format json";

impl Check {
    pub(crate) async fn execute(self, global: &Global) -> anyhow::Result<()> {
        let Self { read_only, wait, state } = self;
        let config = match config_file::find(global.config.as_deref(), state.is_some()) {
            Some(file) => config_file::read(&file, &Given { state, ..Given::default() })?,
            None => check::of_folder(state),
        };
        let report = Box::pin(check::check(&config, read_only, Duration::from_secs(wait))).await;
        match global.format {
            Format::Text => console::print(report.to_text().as_bytes()),
            Format::Json => console::print_json(&report.to_json()?)?,
        }
        if report.has_failed() {
            return Err(Error::new(ErrorKind::Unsuitable, "not everything is as it must be")
                .with_hint("each line with FAIL says what to do")
                .into());
        }
        Ok(())
    }
}
