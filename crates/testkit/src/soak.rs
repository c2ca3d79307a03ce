//! Long loops, to be run by hand or at night.

use anyhow::Context as _;
use clap::Subcommand;
use tailwater_testkit::kill_loop;

use crate::{Binary, print};

/// Long loops.
#[derive(Debug, Subcommand)]
pub(crate) enum Soak {
    /// Kill Tailwater, its engine and MongoDB at random moments under load, then judge the tables
    Kill(Kill),
}

/// The kill loop.
#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    binary: Binary,
    /// How many kills
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: u32,
    /// Repeats a loop; without it each loop is another
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

impl Soak {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self::Kill(Kill { binary, kills, seed }) = self;
        let seed = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        print(&format!("{kills} kills, seed {seed}\n"));
        let plan = kill_loop::Plan::new(seed, kills);
        let report =
            kill_loop::run(&binary.tailwater, &plan, |line| print(&format!("{line}\n"))).await?;
        let report = report.context("a server is missing: run `cargo xtask setup`")?;
        print(&format!("{report}\n"));
        Ok(())
    }
}
