//! `tailwater query`: sends one query and prints the answer.

use clap::Args;

/// Ask ClickHouse, or the embedded engine, one question.
#[derive(Debug, Args)]
pub struct Query {
    /// The SQL text
    sql: String,
}

impl Query {
    #[expect(clippy::unused_async, reason = "being written")]
    pub(crate) async fn execute(self) -> anyhow::Result<()> {
        anyhow::bail!("being written: {}", self.sql)
    }
}
