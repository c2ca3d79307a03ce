//! The product itself as a black box: started, watched, terminated, killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::watch::Watch;

use super::child::{Child, Exit, children_of, signal_process};
use super::resident::Resident;

/// A running `tailwater` and its log.
#[derive(Debug)]
pub struct Tailwater {
    child: Child,
}

impl Tailwater {
    /// Starts `binary` with these arguments; output is appended to `log`.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start(binary: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Self> {
        Ok(Self { child: Child::start(binary, arguments, log)? })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it holds in memory. The engine that it starts is a process of its own.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident(&self) -> anyhow::Result<Resident> {
        Resident::of(self.id())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// When the process cannot be asked.
    pub fn ended(&mut self) -> anyhow::Result<Option<Exit>> {
        self.child.ended()
    }

    /// Fails if it has ended, with the last lines of its log.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        self.child.expect_running()
    }

    /// Kills it at once (SIGKILL).
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()
    }

    /// Kills the engine that it has started, and nothing else. False if it has none now.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn kill_engine(&self) -> anyhow::Result<bool> {
        let children = children_of(self.id())?;
        for child in &children {
            signal_process(*child, Signal::KILL)?;
        }
        Ok(!children.is_empty())
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    ///
    /// When it does not end within the deadline.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<Exit> {
        self.child.signal(Signal::TERM)?;
        self.child.wait(deadline).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end within the deadline.
    pub async fn wait(&mut self, deadline: Duration) -> anyhow::Result<Exit> {
        self.child.wait(deadline).await
    }

    /// Everything that it has logged, over all starts with the same log.
    pub fn log(&self) -> String {
        self.child.output()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        self.child.tail()
    }
}

/// Where the rows go.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// To the engine that `run` starts, which listens here.
    Embedded(SocketAddr),
    /// To a server that stands alone.
    Server {
        /// What `run` is told.
        through: SocketAddr,
        /// Where the server itself is.
        direct: SocketAddr,
    },
}

impl Target {
    /// Where anybody but `run` asks.
    pub const fn address(self) -> SocketAddr {
        match self {
            Self::Embedded(address) | Self::Server { direct: address, .. } => address,
        }
    }
}

/// The arguments of `tailwater run`.
#[derive(Debug, Clone)]
pub struct RunArguments {
    /// The MongoDB URI.
    pub source: String,
    /// What to watch.
    pub watch: Watch,
    /// The state folder.
    pub state: PathBuf,
    /// Where the rows go.
    pub target: Target,
    /// Port of metrics and health.
    pub http: u16,
    /// A config file; the flags stand above it.
    pub config: Option<PathBuf>,
}

impl RunArguments {
    /// As they stand on the command line.
    pub fn to_vec(&self) -> Vec<String> {
        let target = match self.target {
            Target::Embedded(listen) => ["--listen".into(), listen.to_string()],
            Target::Server { through, .. } => {
                ["--target".into(), format!("http://{through}/default")]
            }
        };
        let mut arguments: Vec<String> = [
            "run".into(),
            "--source".into(),
            self.source.clone(),
            "--state".into(),
            self.state.display().to_string(),
            "--http".into(),
            format!("127.0.0.1:{}", self.http),
        ]
        .into();
        arguments.extend(self.watch.flags());
        arguments.extend(target);
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), config.display().to_string()]);
        }
        arguments
    }
}
