//! `tailwater engine serve`: a process that is the engine, from its lock to its end.
//!
//! As a child it ends with its parent, however that one died: the parent holds the write end of
//! the child's stdin, and its end of file means that nobody is left.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tailwater_core::{Error, ErrorKind, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::ffi;
use crate::library::find_library;
use crate::lock::FolderLock;
use crate::report::Report;
use crate::server::Server;

/// How the engine is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The state folder; the engine's files are in `engine/` below it.
    pub state: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The password that every client must give. Needed on any address but loopback.
    pub password: Option<String>,
    /// This process is a child: it reports its start on stdout, and ends when its stdin ends.
    pub child: bool,
}

/// How long a child waits for the lock of a predecessor that is about to die.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The same for an engine that a person starts: long enough for a quick restart by hand.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How long running queries may go on once the process is told to end.
const GRACE: Duration = Duration::from_secs(3);

/// Below the state folder: where its engine listens, or last listened.
const ADDRESS: &str = "engine/address";

/// Where the engine of a state folder last listened; it may be gone. `None` without an engine.
pub fn last_address(state: &std::path::Path) -> Option<SocketAddr> {
    std::fs::read_to_string(state.join(ADDRESS)).ok()?.parse().ok()
}

/// Serves the engine until the process is told to end. Then this process **exits**, without
/// coming back here: destructors of the engine would race its threads.
///
/// # Errors
///
/// [`ErrorKind::Config`] for an address that needs a password or a missing library,
/// [`ErrorKind::InUse`] when the folder or the address is taken, [`ErrorKind::Storage`] when the
/// folder cannot be used.
pub async fn serve(options: ServeOptions) -> Result<()> {
    let child = options.child;
    let address_file = options.state.join(ADDRESS);
    let stop = CancellationToken::new();
    if child {
        watch_parent(stop.clone());
    }
    raise_file_limit();
    let started = start(options).await;
    let (listener, server, _lock) = match started {
        Ok(parts) => parts,
        Err(error) if child => {
            Report::failed(&error).write();
            ffi::exit_now(1);
        }
        Err(error) => return Err(error),
    };
    let address = listener.local_addr().map_err(|error| {
        Error::new(ErrorKind::Bug, "the listening socket has no address").with_source(error)
    })?;
    std::fs::write(&address_file, address.to_string()).map_err(|error| {
        Error::new(ErrorKind::Storage, format!("cannot write `{}`", address_file.display()))
            .with_source(error)
    })?;
    if child {
        Report::ready(address).write();
    }
    tracing::info!(%address, "the engine listens");
    let told = stop.clone();
    tokio::spawn(async move {
        signalled(told.clone()).await;
        told.cancel();
        tokio::time::sleep(GRACE).await;
        ffi::exit_now(0);
    });
    let served =
        axum::serve(listener, server.router()).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        return Err(Error::new(ErrorKind::Unreachable, format!("cannot serve on {address}"))
            .with_source(error));
    }
    // Data is on disk once an insert is answered; the kernel frees the rest.
    ffi::exit_now(0)
}

async fn start(options: ServeOptions) -> Result<(TcpListener, Server, FolderLock)> {
    let ServeOptions { state, listen, password, child } = options;
    let password = password.filter(|password| !password.is_empty());
    if !listen.ip().is_loopback() && password.is_none() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("listening on `{listen}` would let everybody in without a password"),
        )
        .with_hint(
            "set a password in `TAILWATER_ENGINE_PASSWORD`, or listen on a loopback address such as 127.0.0.1:8123",
        ));
    }
    let library = find_library()?;
    let folder = state.join("engine");
    let patience = if child { LOCK_PATIENCE } else { SHORT_PATIENCE };
    // All of it blocks: the lock waits, and the engine takes its time to start.
    tokio::task::spawn_blocking(move || {
        let lock = FolderLock::take(&folder, patience)?;
        let listener = bind(listen)?;
        let engine = Engine::start(&library, &folder.join("data"))?;
        tracing::info!(version = engine.version(), folder = %folder.display(), "the engine is up");
        let listener = TcpListener::from_std(listener).map_err(|error| {
            Error::new(ErrorKind::Bug, "cannot use the listening socket").with_source(error)
        })?;
        Ok((listener, Server::new(engine, password.as_deref()), lock))
    })
    .await
    .map_err(|error| Error::new(ErrorKind::Bug, "the engine's start panicked").with_source(error))?
}

fn bind(listen: SocketAddr) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind(listen)
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .map_err(|error| {
            let taken = error.kind() == std::io::ErrorKind::AddrInUse;
            let kind = if taken { ErrorKind::InUse } else { ErrorKind::Config };
            Error::new(kind, format!("cannot listen on `{listen}`")).with_source(error).with_hint(
                "name another address with `--listen`, or stop the process that uses this one",
            )
        })
}

/// A wide JSON part opens a file for each of its columns; the soft limit of most systems is too low.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Ends this process when stdin ends; on a thread of its own, so that a busy runtime cannot delay
/// it.
fn watch_parent(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut byte = [0];
        while !matches!(stdin.read(&mut byte), Ok(0) | Err(_)) {}
        stop.cancel();
        std::thread::sleep(GRACE);
        ffi::exit_now(0);
    });
}

/// Waits for SIGTERM, SIGINT or the parent's end.
async fn signalled(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot listen for a signal");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
        () = stop.cancelled() => {}
    }
}

/// Writes the report's line to stdout, which the parent reads.
impl Report {
    fn write(&self) {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(&line).and_then(|()| stdout.flush()) {
            tracing::debug!(%error, "nobody reads the report");
        }
    }
}
