//! The parent's side: an engine in a child process, restarted on its address when it dies, and
//! never outliving its parent.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tailwater_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::report::Report;

/// What to start.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The `tailwater` program itself.
    pub program: PathBuf,
    /// The state folder; the engine's files are in `engine/` below it.
    pub state: PathBuf,
    /// Where the engine listens; port 0 takes a free one and keeps it over restarts.
    pub listen: SocketAddr,
    /// The password that clients must give; needed on any address but loopback.
    pub password: Option<String>,
}

/// The variable by which a child gets its password: arguments can be seen by everybody.
pub const PASSWORD_VARIABLE: &str = "TAILWATER_ENGINE_PASSWORD";

/// An engine has this long to start: it may have to wait for its predecessor and read many parts.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// An engine that is told to end has this long, then it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An engine that ran this long earns a quick restart again.
const SETTLED: Duration = Duration::from_secs(30);

/// A running engine. Dropping it ends the engine.
#[derive(Debug)]
pub struct EngineProcess {
    address: SocketAddr,
    stop: CancellationToken,
    supervisor: Option<tokio::task::JoinHandle<()>>,
}

impl EngineProcess {
    /// Starts an engine and waits until it serves.
    ///
    /// # Errors
    ///
    /// What the engine itself said: [`ErrorKind::InUse`] for a taken folder or address,
    /// [`ErrorKind::Config`] for a missing library or password, [`ErrorKind::Storage`] for a folder
    /// that cannot be used.
    pub async fn start(mut options: EngineOptions) -> Result<Self> {
        let (child, address) = spawn(&options).await?;
        options.listen = address;
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(options, child, stop.clone()));
        Ok(Self { address, stop, supervisor: Some(supervisor) })
    }

    /// Where clients find the engine.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the engine and waits for it.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.take()
            && let Err(error) = supervisor.await
        {
            tracing::warn!(%error, "the engine's supervisor failed");
        }
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(supervisor) = &self.supervisor {
            // The child is killed as its handle is dropped with the task.
            supervisor.abort();
        }
    }
}

async fn spawn(options: &EngineOptions) -> Result<(Child, SocketAddr)> {
    let mut command = Command::new(&options.program);
    let arguments: [OsString; 7] = [
        "engine".into(),
        "serve".into(),
        "--state".into(),
        options.state.clone().into(),
        "--listen".into(),
        options.listen.to_string().into(),
        "--child".into(),
    ];
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        // Ctrl-C in a terminal goes to the whole group; the engine must outlive the last insert.
        .process_group(0);
    match &options.password {
        Some(password) => command.env(PASSWORD_VARIABLE, password),
        None => command.env_remove(PASSWORD_VARIABLE),
    };
    let failed = |what: &str| {
        Error::new(
            ErrorKind::Storage,
            format!("the engine over `{}` {what}", options.state.display()),
        )
        .with_hint("see the engine's own lines above")
    };
    let mut child = command
        .spawn()
        .map_err(|error| failed("cannot be started as a process").with_source(error))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("has no stdout"))?;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    tokio::time::timeout(START_DEADLINE, stdout.read_line(&mut line))
        .await
        .map_err(|_| failed("does not start in time"))?
        .map_err(|error| failed("cannot be read from").with_source(error))?;
    match serde_json::from_str(&line) {
        Ok(Report::Ready { address }) => {
            // Nothing else is expected there, but a full pipe must not stop the engine.
            tokio::spawn(async move {
                let mut rest = Vec::new();
                if let Err(error) = stdout.read_to_end(&mut rest).await {
                    tracing::debug!(%error, "the engine's stdout failed");
                }
            });
            Ok((child, address))
        }
        Ok(Report::Failed { kind, context, hint }) => Err(Report::error(&kind, context, hint)),
        Err(_) => Err(failed("ended before it served")),
    }
}

/// Keeps one engine running until told to stop.
async fn supervise(options: EngineOptions, mut child: Child, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let born = Instant::now();
        // Waiting for a child closes its stdin, unless it is held elsewhere.
        let lifeline = child.stdin.take();
        tokio::select! {
            () = stop.cancelled() => {
                drop(lifeline);
                return end(child).await;
            }
            status = child.wait() => match status {
                Ok(status) => tracing::warn!(%status, "the engine died"),
                Err(error) => tracing::warn!(%error, "the engine is lost"),
            },
        }
        if born.elapsed() > SETTLED {
            pause = FIRST_PAUSE;
        }
        child = loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let spawned = tokio::select! {
                () = stop.cancelled() => return,
                spawned = spawn(&options) => spawned,
            };
            match spawned {
                Ok((child, address)) => {
                    tracing::info!(%address, "the engine runs again");
                    break child;
                }
                Err(error) => tracing::warn!(%error, "the engine does not start again"),
            }
        };
    }
}

/// Waits for an engine whose stdin is closed, which tells it to end.
async fn end(mut child: Child) {
    match tokio::time::timeout(STOP_DEADLINE, child.wait()).await {
        Ok(Ok(status)) => tracing::debug!(%status, "the engine ended"),
        Ok(Err(error)) => tracing::warn!(%error, "the engine is lost"),
        Err(_) => {
            tracing::warn!("the engine does not end; killing it");
            if let Err(error) = child.kill().await {
                tracing::warn!(%error, "cannot kill the engine");
            }
        }
    }
}
