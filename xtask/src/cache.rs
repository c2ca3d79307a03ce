//! The cache folder that holds the servers: each in a folder of its own, which is filled aside and
//! then moved into place, so that it holds a whole server or is not there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

/// Where the server `name` is, or will be.
pub(crate) fn place(name: &str) -> anyhow::Result<PathBuf> {
    Ok(folder()?.join(name))
}

/// Makes the place of `name` with what `fetch` puts into its second argument; the first is a
/// folder for all else, which is gone afterwards.
pub(crate) fn fill(
    name: &str,
    fetch: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let target = place(name)?;
    let work = target.with_file_name(format!("{name}.{}.tmp", std::process::id()));
    let aside = work.join(name);
    fs::create_dir_all(&aside).with_context(|| format!("cannot create `{}`", aside.display()))?;
    let placed = fetch(&work, &aside).and_then(|()| match fs::rename(&aside, &target) {
        // Another setup was quicker.
        Err(_) if target.is_dir() => Ok(()),
        result => result.with_context(|| format!("cannot create `{}`", target.display())),
    });
    fs::remove_dir_all(&work)?;
    placed
}

fn folder() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("TAILWATER_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tailwater")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/tailwater")))
        .context("no folder for the servers: set TAILWATER_CACHE")
}

/// The sha256 of a file, in hex.
pub(crate) fn sha256(file: &Path) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    std::io::copy(&mut File::open(file)?, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}

/// Fails with what a program has told when it has failed.
pub(crate) fn succeeded(output: &Output) -> anyhow::Result<()> {
    // Maven tells its errors on standard output.
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&told).trim());
    Ok(())
}
