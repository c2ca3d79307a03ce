//! `tailwater engine`: installs or serves the embedded ClickHouse engine.

use clap::Subcommand;

/// Install or serve the embedded ClickHouse engine.
#[derive(Debug, Subcommand)]
pub enum Engine {
    /// Fetch the engine into the cache folder
    Install,
}

impl Engine {
    #[expect(clippy::unused_async, reason = "the commands to come await")]
    pub(crate) async fn execute(self) -> anyhow::Result<()> {
        anyhow::bail!("being written")
    }
}
