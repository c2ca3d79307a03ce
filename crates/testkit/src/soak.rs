//! Long loops, to be run by hand or at night.

use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use tailwater_testkit::kafka_rig::Records;
use tailwater_testkit::weighing::Way;
use tailwater_testkit::{fault_loop, kafka_loop, kill_loop, outage};

use crate::{print, tailwater};

/// Long loops.
#[derive(Debug, Subcommand)]
pub(crate) enum Soak {
    /// Kill Tailwater, its engine and MongoDB at random moments under load, then judge the tables
    Kill(Kill),
    /// Kill source, normalize, sink, the broker and the servers at random moments under load, let members
    /// come and go, then judge the topics and the tables
    Kafka(KillKafka),
    /// Lose answers, tokens and rows, delay and cut inserts, and kill Tailwater in between
    Fault(Fault),
    /// Take ClickHouse away under load, show what Tailwater holds in memory, give it back, judge
    Outage(Outage),
}

/// The outage.
#[derive(Debug, clap::Args)]
pub(crate) struct Outage {
    /// How long ClickHouse is away
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// With a Kafka in the middle
    #[arg(long)]
    kafka: bool,
}

/// The fault loop.
#[derive(Debug, clap::Args)]
pub(crate) struct Fault {
    /// How often each fault comes
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// Repeats a loop; without it each loop is another
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// A kill loop with a Kafka in the middle.
#[derive(Debug, clap::Args)]
pub(crate) struct KillKafka {
    #[command(flatten)]
    kill: Kill,
    /// What rows are made of
    #[arg(long, value_enum, default_value_t = Records::Topic)]
    records: Records,
}

/// A kill loop.
#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// How many kills
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: u32,
    /// Repeats a loop; without it each loop is another
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

impl Soak {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let tell = |line: &str| print(&format!("{line}\n"));
        let seed = |seed: Option<u64>| seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        let report = match self {
            Self::Kill(Kill { kills, seed: given }) => {
                let plan = kill_loop::Plan::new(seed(given), kills);
                tell(&format!("{kills} kills, seed {}", plan.seed));
                let report = kill_loop::run(&tailwater()?, &plan, tell).await?;
                report.map(|report| report.to_string())
            }
            Self::Kafka(KillKafka { kill: Kill { kills, seed: given }, records }) => {
                let plan = kafka_loop::Plan::new(seed(given), kills).with_records(records);
                let kafka_loop::Plan { seed, watch, records, .. } = &plan;
                tell(&format!("{kills} kills, seed {seed}: {watch:?}, {records:?}"));
                let report = kafka_loop::run(&tailwater()?, &plan, tell).await?;
                report.map(|report| report.to_string())
            }
            Self::Fault(Fault { rounds, seed: given }) => {
                let plan = fault_loop::Plan { seed: seed(given), rounds };
                tell(&format!("{rounds} rounds, seed {}", plan.seed));
                let report = fault_loop::run(&tailwater()?, plan, tell).await?;
                report.map(|report| report.to_string())
            }
            Self::Outage(Outage { minutes, kafka }) => {
                let way = if kafka { Way::Kafka } else { Way::Direct };
                let plan = outage::Plan::long(way, Duration::from_secs(60 * minutes));
                let report = outage::run(&tailwater()?, &plan, tell).await?;
                report.map(|report| report.to_string())
            }
        };
        tell(&report.context("a server is missing: run `cargo xtask setup`")?);
        Ok(())
    }
}
