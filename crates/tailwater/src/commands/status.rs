//! `tailwater status`: how far each part is, and where what it still has to do waits.

use std::path::PathBuf;

use clap::Args;
use tailwater_core::config::{DEFAULT_STATE, Given, Parts};

use crate::cli::{Format, Global};
use crate::{config_file, console, status};

/// Tell how far each part is, and where what it still has to do waits.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Status {
    /// The state folder of a run without a config file [default: ./tailwater-state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

const EXAMPLES: &str = "\
It looks and changes nothing: it takes no lock, joins no group and waits for no transaction.
Records are counted where few are left; `≤` stands before what may be less, since marks of
transactions take offsets too. A stream that is quiet is written down every ten seconds.

Examples:
  tailwater status -c tailwater.yaml
  tailwater status -c tailwater.yaml --format json
  tailwater status --state /var/lib/tailwater";

impl Status {
    pub(crate) async fn execute(self, global: &Global) -> anyhow::Result<()> {
        let file = config_file::find(global.config.as_deref(), self.state.is_some());
        // What a secret of another part leads to need not be there.
        let parts = Some(Parts::default());
        let given = Given { state: self.state, parts, ..Given::default() };
        let status = match file {
            None => {
                let state = given.state.unwrap_or_else(|| DEFAULT_STATE.into());
                status::of_direct(None, &state).await?
            }
            Some(file) => {
                let config = config_file::read(&file, &given)?;
                match config.kafka {
                    Some(_) => Box::pin(status::of_kafka(&config)).await?,
                    None => status::of_direct(Some(&config), &config.state).await?,
                }
            }
        };
        match global.format {
            Format::Text => console::print(status.to_text().as_bytes()),
            Format::Json => console::print_json(&status.to_json()?)?,
        }
        Ok(())
    }
}
