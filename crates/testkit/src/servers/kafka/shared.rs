//! One broker for all tests of a process: starting one takes seconds.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tokio::sync::OnceCell;

use super::Kafka;

/// The broker; the first who asks starts it. It dies with the process.
pub(super) async fn broker() -> anyhow::Result<Option<&'static Kafka>> {
    static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();
    let start = async || {
        let kafka = Kafka::start().await?;
        if let Some(kafka) = &kafka {
            remove_in_the_end(kafka.home.path())?;
        }
        anyhow::Ok(kafka)
    };
    Ok(SHARED.get_or_try_init(start).await?.as_ref())
}

/// Nothing static is ever dropped, so somebody else removes the folder once this process has ended,
/// which closes the pipe.
fn remove_in_the_end(folder: &Path) -> anyhow::Result<()> {
    // The broker dies at the same time, and may write until then.
    let script = "cat; for _ in 1 2 3 4 5; do rm -rf -- \"$1\" && break; sleep 1; done";
    let mut child = Command::new("sh")
        .process_group(0)
        .args(["-c", script, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run `sh`")?;
    std::mem::forget(child.stdin.take());
    Ok(())
}
