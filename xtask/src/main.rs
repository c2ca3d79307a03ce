//! The project's commands: `cargo xtask setup | test | ci | demo | soak | bench`.
//!
//! Wires `cargo` and the package clients together and holds no logic of the product. It must stay
//! quick to compile: what needs servers is in the testkit's binary, which it builds and becomes.

mod cache;
mod cargo;
mod kafka;
mod mongod;

use clap::{Args, Parser, Subcommand};

/// The project's commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Fetch the servers that demo and tests need, pinned and checked, into the cache folder
    Setup,
    /// Fetch the servers, then run every test
    Test,
    /// What CI runs: format, lints, docs, a short demo, every test; a missing server is a failure
    Ci,
    /// Show it: a real MongoDB with live writes, Tailwater, a real ClickHouse
    Demo(Passed),
    /// Run long loops that the tests only begin, such as `soak kill --kills 200 --seed 7`
    #[command(subcommand)]
    Soak(Soak),
    /// Measure, in release: what `docs/benchmarks.md` says
    #[command(subcommand)]
    Bench(Bench),
}

/// Long loops.
#[derive(Debug, Subcommand)]
enum Soak {
    /// Kill Tailwater and its engine at random moments under load, then judge the tables
    Kill(Passed),
    /// Kill source, normalize, sink, the broker and the servers at random moments under load, let members
    /// come and go, then judge the topics and the tables
    Kafka(Passed),
    /// Lose answers, tokens and rows, delay and cut inserts, and kill Tailwater in between
    Fault(Passed),
    /// Take ClickHouse away under load, show what Tailwater holds in memory, give it back, judge
    Outage(Passed),
    /// Explore the three models much further than the tests do
    Model,
    /// Run the real loop over scripted ends, 60 000 random cases of each property
    Scripted,
}

/// Measurements.
#[derive(Debug, Subcommand)]
enum Bench {
    /// What one core needs for a 700-byte event, step by step; fails above 5 us
    Micro,
    /// How fast a backlog is read into the embedded engine
    Throughput(Passed),
    /// How long a change takes through Kafka, to the topic and to the row
    Latency(Passed),
}

/// Arguments that the testkit's binary reads itself.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Setup => setup(true),
        Command::Test => {
            setup(true)?;
            cargo::test()
        }
        Command::Ci => ci(),
        Command::Demo(passed) => testkit(&["demo"], &passed),
        Command::Soak(Soak::Kafka(passed)) => {
            setup(true)?;
            cargo::become_testkit(&["soak", "kafka"], &passed.arguments)
        }
        Command::Soak(Soak::Kill(passed)) => testkit(&["soak", "kill"], &passed),
        Command::Soak(Soak::Fault(passed)) => testkit(&["soak", "fault"], &passed),
        Command::Soak(Soak::Outage(passed)) => testkit(&["soak", "outage"], &passed),
        Command::Soak(Soak::Model) => {
            let models = ["--test", "model", "--test", "group_model", "--test", "checkpoint_model"];
            let test = [&["test", "--release", "-p", "tailwater-pipeline"], &models[..]].concat();
            cargo::run_with(("TAILWATER_MODEL", "large"), &test)
        }
        Command::Soak(Soak::Scripted) => {
            let test = ["test", "--release", "-p", "tailwater-pipeline", "--test", "faults"];
            cargo::run_with(("PROPTEST_CASES", "60000"), &test)
        }
        Command::Bench(Bench::Micro) => {
            cargo::run(&["bench", "-p", "tailwater-core", "--bench", "micro"])
        }
        Command::Bench(Bench::Throughput(passed)) => measure("throughput", false, &passed),
        Command::Bench(Bench::Latency(passed)) => measure("latency", true, &passed),
    }
}

/// Builds in release, and measures.
fn measure(what: &str, with_kafka: bool, passed: &Passed) -> anyhow::Result<()> {
    setup(with_kafka)?;
    cargo::run(&["build", "--release", "-p", "tailwater", "-p", "tailwater-testkit"])?;
    cargo::become_release_testkit(&["bench", what], &passed.arguments)
}

/// Fetches what is missing; quick when nothing is. Kafka needs a Java, so only those commands ask
/// for it that start it.
fn setup(with_kafka: bool) -> anyhow::Result<()> {
    mongod::install()?;
    if with_kafka {
        kafka::install()?;
    }
    // Everything at once: with the features of one package alone much would be built twice.
    cargo::run(&["build", "--workspace", "--bins"])?;
    if with_kafka {
        cargo::run_beside("tailwater-testkit", &["prepare"])?;
    }
    cargo::run_beside("tailwater", &["engine", "install"])
}

fn ci() -> anyhow::Result<()> {
    cargo::run(&["fmt", "--all", "--check"])?;
    cargo::run(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo::document()?;
    setup(true)?;
    cargo::run_beside("tailwater-testkit", &["demo", "--for", "10s"])?;
    cargo::test_in_ci()
}

fn testkit(command: &[&str], passed: &Passed) -> anyhow::Result<()> {
    setup(passed.arguments.iter().any(|argument| argument == "--kafka"))?;
    cargo::become_testkit(command, &passed.arguments)
}

/// Tells what is done.
#[expect(clippy::print_stdout, reason = "the one place that prints")]
fn say(line: &str) {
    println!("{line}");
}
