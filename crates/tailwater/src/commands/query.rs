//! `tailwater query`: sends one query and prints the answer.

use std::io::{IsTerminal as _, Read as _};

use clap::Args;
use tailwater_clickhouse::{Connection, Endpoint};

use crate::console;

/// Ask ClickHouse, or the embedded engine, one question.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Query {
    /// The SQL text; `-` reads it from standard input
    sql: String,
    /// The ClickHouse to ask; by default the embedded engine of a `tailwater run` on this host
    #[arg(long, value_name = "URL", env = "TAILWATER_TARGET", hide_env_values = true)]
    #[arg(default_value = "http://127.0.0.1:8123/default", hide_default_value = false)]
    target: String,
    /// The ClickHouse format of the answer; by default a table for people, or tab-separated values
    /// for a pipe
    #[arg(long, value_name = "FORMAT")]
    output: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  tailwater query \"SELECT op, count() FROM record_raw GROUP BY op\"
  tailwater query --target http://127.0.0.1:9000/default --output JSONEachRow \"SELECT * FROM ingest__files_current\"";

impl Query {
    pub(crate) async fn execute(self) -> anyhow::Result<()> {
        let sql = match self.sql.as_str() {
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                text
            }
            _ => self.sql,
        };
        let connection = Connection::new(Endpoint::parse(&self.target)?);
        let terminal = std::io::stdout().is_terminal();
        let format = self.output.as_deref().unwrap_or(match terminal {
            true => "PrettyCompact",
            false => "TabSeparatedWithNames",
        });
        let what = format!("the query failed at `{}`", connection.endpoint().url);
        console::print(&connection.fetch(&sql, format, &what).await?);
        Ok(())
    }
}
