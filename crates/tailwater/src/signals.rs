//! Signals: the first one settles, the second one exits at once, which is safe.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code of a program that a signal ended, as shells count it.
const INTERRUPTED: i32 = 130;

/// Cancels `stop` at the first SIGTERM or SIGINT, and exits at the second.
pub(crate) fn cancel_on_signal(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        info!("stopping: finishing the batch; a second signal exits at once");
        stop.cancel();
        next().await;
        warn!("exiting at once; the next run finishes what was under way");
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}
