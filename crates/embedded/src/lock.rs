//! One engine per data folder, by a lock on a file in it that dies with the process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use tailwater_core::{Error, ErrorKind, Result};

/// The held lock of a data folder.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

const POLL: Duration = Duration::from_millis(20);

impl FolderLock {
    /// Makes `folder` if needed and locks it, waiting up to `patience` for another engine that is
    /// about to end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] when another engine holds it, [`ErrorKind::Storage`] when the folder
    /// cannot be used.
    pub(crate) fn take(folder: &Path, patience: Duration) -> Result<Self> {
        let storage = |error: std::io::Error| {
            Error::new(
                ErrorKind::Storage,
                format!("cannot use the engine's folder `{}`", folder.display()),
            )
            .with_source(error)
            .with_hint("make the folder writable, or name another one with `--state`")
        };
        fs::create_dir_all(folder).map_err(storage)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(storage)?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(storage(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        ErrorKind::InUse,
                        format!("another engine uses the folder `{}`", folder.display()),
                    )
                    .with_hint("stop the other engine, or name another folder with `--state`"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_engine() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path(), Duration::ZERO).unwrap();
        let second = FolderLock::take(folder.path(), Duration::ZERO).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::InUse);
        drop(first);
        FolderLock::take(folder.path(), Duration::ZERO).unwrap();
    }
}
