//! Where libchdb.so is: the environment, the system's folders, then the cache that
//! `tailwater engine install` fills. It never downloads anything.

use std::path::PathBuf;

use tailwater_core::{Error, ErrorKind, Result};

use crate::install;

/// Names the library to load, before any other place.
pub const LIBRARY_VARIABLE: &str = "TAILWATER_LIBCHDB";

const SYSTEM_FOLDERS: [&str; 4] =
    ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];

/// Finds the library.
///
/// # Errors
///
/// [`ErrorKind::Config`] when it is nowhere, or not where the environment says.
pub fn find_library() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        if path.is_file() {
            return Ok(path);
        }
        return Err(Error::new(
            ErrorKind::Config,
            format!("`{LIBRARY_VARIABLE}` names `{}`, which is not a file", path.display()),
        )
        .with_hint(format!("unset `{LIBRARY_VARIABLE}`, or let it name libchdb.so")));
    }
    let system = SYSTEM_FOLDERS.iter().map(|folder| PathBuf::from(folder).join("libchdb.so"));
    system.chain(install::library_path().ok()).find(|path| path.is_file()).ok_or_else(|| {
        Error::new(ErrorKind::Config, "the embedded ClickHouse engine is not installed").with_hint(
            format!("run `tailwater engine install`, or let `{LIBRARY_VARIABLE}` name libchdb.so"),
        )
    })
}
