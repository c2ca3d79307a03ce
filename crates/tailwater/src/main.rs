//! The `tailwater` binary: arguments, logging, then the runtime, then one command.
//!
//! Everything synchronous that can fail comes first. An error is printed once, here, with its
//! causes and a hint. Exit codes: 0 done, 1 you must act, 2 wrong flags, 3 a bug.

mod check;
mod checkpoints;
mod cli;
mod cluster;
mod commands;
mod config_file;
mod console;
mod http;
mod letters;
mod reading;
mod schema;
mod signals;
mod status;
mod target;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start_logging(&cli.global);
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => console::report(&error),
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    // One provider for every TLS connection of the process; a second call would be refused.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("the TLS provider was installed twice");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(commands::dispatch(cli));
    // A blocking read (stdin of the engine) must not hold the exit.
    runtime.shutdown_background();
    result
}
