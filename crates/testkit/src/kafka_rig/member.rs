//! A process of the product: `tailwater run` of one part, or of all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::servers::{Exit, Resident, Tailwater, free_port};

/// How long a settling process may take.
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// From MongoDB into raw topics.
    Source,
    /// From raw topics into the normalized topic.
    Normalize,
    /// From topics into ClickHouse.
    Sink,
    /// All that is configured.
    All,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Normalize => "normalize",
            Self::Sink => "sink",
            Self::All => "all",
        }
    }
}

/// A process that may run, or be stopped now.
#[derive(Debug)]
pub struct Member {
    /// What it does.
    pub role: Role,
    /// Its name, which its log has too.
    pub name: String,
    /// Port of its metrics.
    pub http: u16,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Tailwater>,
}

impl Member {
    pub(super) fn new(
        role: Role,
        name: String,
        binary: &Path,
        config: &Path,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let http = free_port()?;
        let mut arguments: Vec<String> = vec!["run".into()];
        if role != Role::All {
            arguments.push(role.name().into());
        }
        let config = config.display().to_string();
        // Nothing is left out: what the truth holds, all of it must arrive.
        let more = ["-c", &config, "--start", "oldest", "--http", &format!("127.0.0.1:{http}")];
        arguments.extend(more.map(String::from));
        Ok(Self { role, name, http, binary: binary.to_owned(), arguments, log, process: None })
    }

    /// Starts it, if it does not run.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            self.process = Some(Tailwater::start(&self.binary, &self.arguments, &self.log)?);
        }
        Ok(())
    }

    /// Whether it was started, and not stopped.
    pub const fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Kills it at once (SIGKILL).
    ///
    /// # Errors
    ///
    /// When it had ended by itself.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.expect_running()?;
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Asks it to end (SIGTERM); it must do so with 0.
    ///
    /// # Errors
    ///
    /// When it ends otherwise, or not in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let exit = process.terminate(SETTLE_DEADLINE).await?;
        ensure!(
            exit == Exit::Code(0),
            "`{}` ended with {exit:?} after SIGTERM:\n{}",
            self.name,
            process.log_tail()
        );
        Ok(())
    }

    /// Fails if it has ended by itself, with the end of its log.
    ///
    /// # Errors
    ///
    /// When it has.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => {
                process.expect_running().with_context(|| format!("`{}` is gone", self.name))
            }
            None => Ok(()),
        }
    }

    /// What it holds in memory.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resident(&self) -> anyhow::Result<Resident> {
        self.process.as_ref().with_context(|| format!("`{}` is stopped", self.name))?.resident()
    }

    /// Everything that it has logged, over all starts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}
