//! What `cargo xtask demo` and `cargo xtask soak` become: everything that needs servers.

mod demo;
mod soak;

use std::path::PathBuf;

use clap::Parser;

/// Runs Tailwater against real servers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Show it: a real MongoDB with live writes, Tailwater, a real ClickHouse
    Demo(demo::Demo),
    /// Run long loops
    #[command(subcommand)]
    Soak(soak::Soak),
}

/// The program under test.
#[derive(Debug, clap::Args)]
struct Binary {
    /// The `tailwater` to run
    #[arg(long, value_name = "FILE", hide = true)]
    tailwater: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Demo(demo) => demo.run().await,
        Command::Soak(soak) => soak.run().await,
    }
}

/// The one place that prints.
#[expect(clippy::print_stdout, reason = "a program that shows things")]
fn print(text: &str) {
    use std::io::Write as _;
    print!("{text}");
    drop(std::io::stdout().flush());
}
