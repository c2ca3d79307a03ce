//! One broker for all tests of a process, and one with sign-in: starting one takes seconds.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tokio::sync::OnceCell;

use super::{Kafka, Options};

/// The broker; the first who asks starts it. It dies with the process.
pub(super) async fn broker() -> anyhow::Result<Option<&'static Kafka>> {
    static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();
    let start = || started(Options::default());
    Ok(SHARED.get_or_try_init(start).await?.as_ref())
}

/// The broker where clients sign in and rights are checked; as above.
pub(super) async fn secured() -> anyhow::Result<Option<&'static Kafka>> {
    static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();
    let properties = vec![
        // So a sign-in ends with its token, and must have been renewed by then.
        ("connections.max.reauth.ms", "3600000".to_owned()),
        // Whoever is refused need not wait for the answer.
        ("connection.failed.authentication.delay.ms", "0".to_owned()),
    ];
    let options = Options { secured: true, authorized: true, properties };
    let start = || started(options.clone());
    Ok(SHARED.get_or_try_init(start).await?.as_ref())
}

async fn started(options: Options) -> anyhow::Result<Option<Kafka>> {
    let kafka = Kafka::start_with(&options).await?;
    if let Some(kafka) = &kafka {
        remove_in_the_end(kafka.home.path())?;
    }
    Ok(kafka)
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
