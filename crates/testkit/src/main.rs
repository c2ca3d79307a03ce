//! What `cargo xtask demo`, `soak` and `bench` become: everything that needs servers.

mod demo;
mod soak;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tailwater_testkit::servers::Kafka;
use tailwater_testkit::{latency, throughput};

/// Runs Tailwater against real servers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Show it: a real MongoDB with live writes, Tailwater, a real ClickHouse
    Demo(demo::Demo),
    /// Run long loops
    #[command(subcommand)]
    Soak(soak::Soak),
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
    /// Let the servers that start slowly start quickly from now on; `setup` calls it
    #[command(hide = true)]
    Prepare,
}

/// Measurements.
#[derive(Debug, Subcommand)]
enum Bench {
    /// How fast a backlog is read into the embedded engine
    Throughput {
        /// How many inserts
        #[arg(long, value_name = "N", default_value_t = 300_000)]
        events: u32,
    },
    /// How long a change takes through Kafka, to the topic and to the row
    Latency {
        /// Inserts a second
        #[arg(long, value_name = "N", default_value_t = 2000)]
        rate: u32,
        /// For how long
        #[arg(long, value_name = "N", default_value_t = 30)]
        seconds: u64,
        /// Of the topic: a batch is an insert for each, and each table
        #[arg(long, value_name = "N", default_value_t = 4)]
        partitions: u32,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Demo(demo) => demo.run().await,
        Command::Soak(soak) => soak.run().await,
        Command::Bench(Bench::Throughput { events }) => measure_throughput(events).await,
        Command::Bench(Bench::Latency { rate, seconds, partitions }) => {
            measure_latency(rate, seconds, partitions).await
        }
        Command::Prepare => Kafka::prepare().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

async fn measure_throughput(events: u32) -> anyhow::Result<()> {
    let report = throughput::run(&tailwater()?, events).await?;
    let report = report.context("a server is missing: run `cargo xtask setup`")?;
    print(&format!("{report}\n"));
    Ok(())
}

/// With the defaults, and with rows that wait for no others.
async fn measure_latency(rate: u32, seconds: u64, partitions: u32) -> anyhow::Result<()> {
    let period = Duration::from_secs(seconds);
    for max_wait_ms in [None, Some(20)] {
        let wait = max_wait_ms.map_or("the default".to_owned(), |millis| millis.to_string());
        let plan = latency::Plan { rate, period, partitions, max_wait_ms };
        let report = latency::run(&tailwater()?, plan)
            .await?
            .context("a server is missing: run `cargo xtask setup`")?;
        print(&format!(
            "{rate} inserts a second, {partitions} partitions, max_wait_ms {wait}: {report}\n"
        ));
    }
    Ok(())
}

/// The program under test, which stands beside this one.
fn tailwater() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("cannot find this program's folder")?;
    Ok(here.with_file_name("tailwater"))
}

/// The one place that prints.
#[expect(clippy::print_stdout, reason = "a program that shows things")]
fn print(text: &str) {
    use std::io::Write as _;
    print!("{text}");
    drop(std::io::stdout().flush());
}
