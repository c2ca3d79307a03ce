//! `tailwater query`: sends one query and prints the answer.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use tailwater_clickhouse::{Connection, Endpoint};
use tailwater_core::config::{DEFAULT_STATE, Given, Target};
use tailwater_embedded::EngineProcess;

use crate::{config_file, console, target};

/// Ask ClickHouse, or the embedded engine, one question.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Query {
    /// The SQL text; `-` reads it from standard input
    sql: String,
    /// The state folder whose embedded engine to ask; it is started for the question if it does
    /// not run [default: ./tailwater-state]
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    state: Option<PathBuf>,
    /// The ClickHouse to ask instead, as `http[s]://user:password@host:port/database`
    #[arg(long, value_name = "URL", env = "TAILWATER_TARGET", hide_env_values = true)]
    target: Option<SecretString>,
    /// The ClickHouse format of the answer; by default a table on a terminal, and tab-separated
    /// values with a header elsewhere
    #[arg(long, value_name = "FORMAT")]
    output: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  tailwater query \"SELECT op, count() FROM record_raw GROUP BY op\"
  tailwater query --output JSONEachRow \"SELECT doc FROM ingest__files_current\"
  tailwater query --target https://me:secret@ch.example:8443/events \"SELECT count() FROM record_raw\"";

impl Query {
    /// Where to ask: what a flag says, what the config file says, or the usual state folder.
    async fn reach(
        &self,
        file: Option<&Path>,
    ) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
        if let Some(target) = &self.target {
            return Ok((Endpoint::parse(target.expose_secret())?, None));
        }
        let Some(file) = config_file::find(file, self.state.is_some()) else {
            let state = self.state.as_deref().unwrap_or(Path::new(DEFAULT_STATE));
            return target::embedded(state, None).await;
        };
        let given = Given { state: self.state.clone(), ..Given::default() };
        let (found, state) = config_file::read_target(&file, &given)?;
        match found {
            Target::Server(_) if self.state.is_some() => target::embedded(&state, None).await,
            found => target::reach(&found, &state).await,
        }
    }

    pub(crate) async fn execute(self, file: Option<&Path>) -> anyhow::Result<()> {
        let (endpoint, engine) = self.reach(file).await?;
        let sql = match self.sql.as_str() {
            "-" => std::io::read_to_string(std::io::stdin().lock())?,
            _ => self.sql,
        };
        let connection = Connection::new(endpoint)?;
        let format = self.output.as_deref().unwrap_or(match std::io::stdout().is_terminal() {
            true => "PrettyCompact",
            false => "TabSeparatedWithNames",
        });
        let what = format!("the query failed at `{}`", connection.endpoint().url);
        let answer = connection.fetch(&sql, format, &what).await;
        if let Some(engine) = engine {
            engine.shutdown().await;
        }
        console::print(&answer?);
        Ok(())
    }
}
