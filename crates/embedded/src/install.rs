//! Fetches the engine with the ordinary npm client into the cache folder: pinned, checked,
//! unpacked aside and moved into place, so that the folder holds a whole engine or none.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tailwater_core::{Error, ErrorKind, Result};

/// The package that holds the engine.
pub const PACKAGE: &str = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1";
/// The digest of its tarball.
pub const SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";

const FOLDER: &str = "libchdb-26.7.3-stable.1";
const LIBRARY: &str = "libchdb.so";

/// The folder in which Tailwater keeps what it fetched.
///
/// # Errors
///
/// [`ErrorKind::Config`] when neither `TAILWATER_CACHE` nor a home folder is set.
pub fn cache_folder() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("TAILWATER_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tailwater")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/tailwater")))
        .ok_or_else(|| {
            Error::new(ErrorKind::Config, "there is no folder for the engine: `HOME` is not set")
                .with_hint("let `TAILWATER_CACHE` name a folder")
        })
}

/// Where [`engine`] puts the library.
///
/// # Errors
///
/// As [`cache_folder`].
pub fn library_path() -> Result<PathBuf> {
    Ok(cache_folder()?.join(FOLDER).join(LIBRARY))
}

/// Installs the engine if it is not yet there, and gives the library's path. `say` is told each
/// step. Two at once are safe: the second waits for the first.
///
/// # Errors
///
/// [`ErrorKind::Config`] without npm, [`ErrorKind::Unreachable`] when npm fails,
/// [`ErrorKind::Corrupt`] when the package is not the pinned one, [`ErrorKind::Storage`] when the
/// cache folder cannot be written.
pub fn engine(say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let library = library_path()?;
    if library.is_file() {
        say(&format!("the engine is already in {}", library.display()));
        return Ok(library);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err(Error::new(
            ErrorKind::Config,
            "the pinned engine is for Linux on x86-64 with glibc only",
        )
        .with_hint("let `TAILWATER_LIBCHDB` name a libchdb of version 26.7 for this machine"));
    }
    let cache = cache_folder()?;
    let storage = |error: io::Error| {
        Error::new(ErrorKind::Storage, format!("cannot install into `{}`", cache.display()))
            .with_source(error)
    };
    fs::create_dir_all(&cache).map_err(storage)?;
    let lock = File::create(cache.join("install.lock")).map_err(storage)?;
    lock.lock().map_err(storage)?;
    if library.is_file() {
        say(&format!("the engine is already in {}", library.display()));
        return Ok(library);
    }
    // What an interrupted install left is of no use; the lock makes this folder ours.
    let work = cache.join("install.tmp");
    if work.exists() {
        fs::remove_dir_all(&work).map_err(storage)?;
    }
    fs::create_dir_all(&work).map_err(storage)?;

    say(&format!("fetching {PACKAGE} with npm (about 150 MB)"));
    let tarball = fetch(&work)?;
    say("checking its digest");
    check(&tarball)?;
    say(&format!("unpacking into {}", cache.join(FOLDER).display()));
    unpack(&tarball, &work)?;

    // The name must not reach the disk before the bytes do.
    let unpacked = work.join("package");
    File::open(unpacked.join(LIBRARY)).and_then(|file| file.sync_all()).map_err(storage)?;
    let target = cache.join(FOLDER);
    if target.exists() {
        fs::remove_dir_all(&target).map_err(storage)?;
    }
    fs::rename(unpacked, &target).map_err(storage)?;
    fs::remove_dir_all(&work).map_err(storage)?;
    say(&format!("the engine is in {}", library.display()));
    Ok(library)
}

/// Runs `npm pack` and gives the tarball's path.
fn fetch(work: &Path) -> Result<PathBuf> {
    let output = Command::new("npm")
        .args(["pack", "--silent", PACKAGE])
        .current_dir(work)
        .output()
        .map_err(|error| {
            Error::new(ErrorKind::Config, "cannot run `npm`, which fetches the engine")
                .with_source(error)
                .with_hint(
                    "install npm (part of Node.js), or let `TAILWATER_LIBCHDB` name libchdb.so",
                )
        })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(
            ErrorKind::Unreachable,
            format!("`npm pack {PACKAGE}` failed: {}", reason.trim()),
        )
        .with_hint("check that npm reaches its registry, then try again"));
    }
    let unclear = || Error::new(ErrorKind::Corrupt, format!("`npm pack {PACKAGE}` left no file"));
    fs::read_dir(work)
        .map_err(|error| unclear().with_source(error))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or_else(unclear)
}

fn check(tarball: &Path) -> Result<()> {
    let unreadable = |error: io::Error| {
        Error::new(ErrorKind::Storage, format!("cannot read `{}`", tarball.display()))
            .with_source(error)
    };
    let mut file = File::open(tarball).map_err(unreadable)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        digest.update(buffer.get(..read).unwrap_or_default());
    }
    let found = hex::encode(digest.finalize());
    if found == SHA256 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("the package `{PACKAGE}` has the digest {found} instead of {SHA256}"),
    )
    .with_hint("do not use it; check which registry npm asks, then try again"))
}

fn unpack(tarball: &Path, work: &Path) -> Result<()> {
    let status = Command::new("tar")
        .arg("-xzf")
        .arg(tarball)
        .arg("-C")
        .arg(work)
        .arg(format!("package/{LIBRARY}"))
        .status()
        .map_err(|error| {
            Error::new(ErrorKind::Config, "cannot run `tar`, which unpacks the engine")
                .with_source(error)
                .with_hint("install tar")
        })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Storage, format!("cannot unpack `{}`", tarball.display()))
        .with_hint("free the disk of the cache folder (the engine takes 700 MB), then try again"))
}
