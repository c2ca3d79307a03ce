//! `tailwater engine`: installs or serves the embedded ClickHouse engine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tailwater_embedded::{ServeOptions, install};

use crate::console;

/// Install or serve the embedded ClickHouse engine.
#[derive(Debug, Subcommand)]
pub(crate) enum Engine {
    /// Fetch the engine with npm into the cache folder
    #[command(after_help = INSTALL_EXAMPLES)]
    Install,
    /// Serve the engine over the ClickHouse HTTP protocol until stopped
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
}

const INSTALL_EXAMPLES: &str = "\
Examples:
  tailwater engine install
  TAILWATER_CACHE=/var/cache/tailwater tailwater engine install";

const SERVE_EXAMPLES: &str = "\
Examples:
  tailwater engine serve --state ./tailwater-state
  tailwater engine serve --state ./tailwater-state --listen 127.0.0.1:8123
  TAILWATER_ENGINE_PASSWORD=secret tailwater engine serve --state /srv/tailwater --listen 0.0.0.0:8123
  curl 'http://127.0.0.1:8123/?query=SELECT+version()'";

/// Serve the engine over the ClickHouse HTTP protocol until stopped.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The state folder; the engine's data is in `engine/` below it
    #[arg(long, value_name = "DIR", default_value = "./tailwater-state")]
    state: PathBuf,
    /// Where to listen; any address but loopback needs a password
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
    /// The password that every client must give
    #[arg(long, env = tailwater_embedded::PASSWORD_VARIABLE, hide_env_values = true)]
    password: Option<String>,
    /// Started by `tailwater run`: report on stdout, end when stdin ends
    #[arg(long, hide = true)]
    child: bool,
}

impl Engine {
    pub(crate) async fn execute(self) -> anyhow::Result<()> {
        match self {
            Self::Install => {
                install::engine(&mut |step| console::print(format!("{step}\n").as_bytes()))?;
            }
            Self::Serve(Serve { state, listen, password, child }) => {
                tailwater_embedded::serve(ServeOptions { state, listen, password, child }).await?;
            }
        }
        Ok(())
    }
}
