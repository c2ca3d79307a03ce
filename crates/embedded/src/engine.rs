//! The running engine of this process, and the few things every request needs of it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tailwater_core::{Error, ErrorKind, Result};

use crate::exception::Exception;
use crate::ffi::{Api, Connection};

/// The engine over one data folder. Each request opens a connection of its own, so that settings,
/// parameters and databases of requests never meet.
pub(crate) struct Engine {
    api: &'static Api,
    data: CString,
    version: String,
    timezone: String,
    /// Keeps the engine up while no request runs.
    _base: std::sync::Mutex<Connection>,
}

/// How long to wait before a query that did not end is killed again: it may not have been known
/// to the engine the first time.
const KILL_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Loads `library` and starts the engine over `data`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when the library is not usable, [`ErrorKind::Storage`] when the engine
    /// does not start over the folder.
    pub(crate) fn start(library: &Path, data: &Path) -> Result<Self> {
        let api = Api::load(library).map_err(|error| {
            Error::new(ErrorKind::Config, format!("cannot load `{}`", library.display()))
                .with_source(error)
                .with_hint("install the pinned engine with `tailwater engine install`")
        })?;
        let failed = |reason: &str| {
            Error::new(
                ErrorKind::Storage,
                format!("the engine does not start over `{}`: {reason}", data.display()),
            )
            .with_hint("see the engine's own lines above; free the disk or restore the folder")
        };
        let folder =
            CString::new(data.as_os_str().as_bytes()).map_err(|_| failed("a NUL in its name"))?;
        let base = api.connect(&folder).ok_or_else(|| failed("it refused to open it"))?;
        let answer = base
            .query("SELECT version(), timezone()", "TabSeparated", &[])
            .map_err(|refusal| failed(&refusal))?;
        let line = String::from_utf8_lossy(answer.bytes()).trim_end().to_owned();
        drop(answer);
        let (version, timezone) = line.split_once('\t').unwrap_or((&line, "UTC"));
        Ok(Self {
            api,
            data: folder,
            version: version.to_owned(),
            timezone: timezone.to_owned(),
            _base: std::sync::Mutex::new(base),
        })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn timezone(&self) -> &str {
        &self.timezone
    }

    /// Opens a connection with nothing set.
    pub(crate) fn connect(&self) -> Result<Connection, Exception> {
        self.api.connect(&self.data).ok_or_else(|| {
            Exception::new((439, "CANNOT_SCHEDULE_TASK"), "the engine takes no new connection")
        })
    }

    /// Kills the query whose text holds `mark`, again and again until `ended` says that it is gone.
    ///
    /// The C API knows no query ids, so a comment in the text tells queries apart.
    pub(crate) fn kill_until(&self, mark: &str, ended: &AtomicBool) {
        let sql = format!("KILL QUERY WHERE position(query, '{mark}') > 0 ASYNC");
        while !ended.load(Ordering::Acquire) {
            let killed = self.connect().and_then(|connection| {
                connection
                    .query(&sql, "Null", &[])
                    .map(|_| ())
                    .map_err(|refusal| Exception::parse(&refusal))
            });
            if let Err(exception) = killed {
                tracing::warn!(code = exception.code, "cannot kill an abandoned query");
            }
            std::thread::sleep(KILL_AGAIN);
        }
    }
}
