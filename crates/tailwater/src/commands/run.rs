//! `tailwater run`: copies every change of MongoDB into ClickHouse until stopped.

use clap::Args;

/// Copy every change of MongoDB into ClickHouse until stopped.
#[derive(Debug, Args)]
pub struct Run {
    /// Where MongoDB is: a connection string
    #[arg(long, value_name = "URI")]
    source: String,
}

impl Run {
    #[expect(clippy::unused_async, reason = "being written")]
    pub(crate) async fn execute(self) -> anyhow::Result<()> {
        anyhow::bail!("being written: {}", self.source)
    }
}
