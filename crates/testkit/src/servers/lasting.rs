//! What lasts as long as the process. Nothing static is ever dropped, so somebody else removes its
//! folders once the process has ended.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// A folder that is there until this process ends, for what tests share.
///
/// # Errors
///
/// When it cannot be made.
pub fn lasting_folder() -> anyhow::Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("tailwater-shared-").tempdir()?.keep();
    remove_in_the_end(&folder)?;
    Ok(folder)
}

/// Removes a folder once this process has ended, which closes the pipe.
pub(super) fn remove_in_the_end(folder: &Path) -> anyhow::Result<()> {
    // What writes there dies at the same time, and may write until then.
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
