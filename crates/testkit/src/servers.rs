//! Real servers as child processes: free loopback ports, folders of their own, dead with the test.
//!
//! Never reuses a server between tests, but where one says that it is shared, and never kills a
//! process that it did not start.

mod child;
mod engine;
mod kafka;
mod kafka_proxy;
mod lasting;
mod mongod;
mod proxy;
mod resident;
mod tailwater;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::Rng as _;

pub use child::Exit;
pub use engine::Engine;
pub use kafka::{Kafka, Options, Secured};
pub use kafka_proxy::KafkaProxy;
pub use lasting::lasting_folder;
pub use mongod::Mongod;
pub use proxy::{Caught, Fault, Proxy, Weather};
pub use resident::Resident;
pub use tailwater::{RunArguments, Tailwater, Target};

/// How long a healthy server may take until it answers, and a tool until it is done, on the slowest
/// machine, whose disk has to be read first.
const START_DEADLINE: Duration = Duration::from_secs(240);

/// What the tests need and that `cargo xtask setup` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// The MongoDB server.
    Mongod,
    /// The ClickHouse engine as a library.
    Libchdb,
    /// The folder with Kafka's jars.
    Kafka,
}

impl Needed {
    const fn name(self) -> &'static str {
        match self {
            Self::Mongod => "mongod",
            Self::Libchdb => "libchdb.so",
            Self::Kafka => "kafka-libs",
        }
    }

    /// The environment variable that names it.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Mongod => "TAILWATER_MONGOD",
            Self::Libchdb => "TAILWATER_LIBCHDB",
            Self::Kafka => "TAILWATER_KAFKA",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Mongod | Self::Libchdb => "file",
            Self::Kafka => "folder",
        }
    }

    fn is_at(self, path: &Path) -> bool {
        match self {
            Self::Mongod | Self::Libchdb => path.is_file(),
            Self::Kafka => path.is_dir(),
        }
    }

    /// Finds it: environment variable, then `PATH`, then the cache of `cargo xtask setup`.
    ///
    /// `None` means: skip the test; a loud line has been printed.
    ///
    /// # Errors
    ///
    /// Under `CI` it is an error when it is missing, and everywhere when the variable names nothing.
    pub fn find(self) -> anyhow::Result<Option<PathBuf>> {
        if let Some(named) = std::env::var_os(self.variable()) {
            let path = PathBuf::from(named);
            if !self.is_at(&path) {
                let (variable, kind) = (self.variable(), self.kind());
                bail!("{variable} names `{}`, which is no {kind}", path.display());
            }
            return Ok(Some(path));
        }
        let on_path = std::env::var_os("PATH")
            .into_iter()
            .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
            .map(|folder| folder.join(self.name()));
        let found = on_path.chain(cached(self)).find(|candidate| self.is_at(candidate));
        if found.is_none() {
            if std::env::var_os("CI").is_some() {
                bail!("no `{}`: run `cargo xtask setup`", self.name());
            }
            announce(&format!("SKIPPED: no `{}`; run `cargo xtask setup`", self.name()));
        }
        Ok(found)
    }
}

/// What the cache holds under this name, the newest version last in the name's order first.
fn cached(needed: Needed) -> Vec<PathBuf> {
    let Some(cache) = cache_folder() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(cache) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path().join(needed.name())).collect();
    found.sort();
    found.reverse();
    found
}

/// Where `cargo xtask setup` puts the servers.
fn cache_folder() -> Option<PathBuf> {
    let from = |variable| std::env::var_os(variable).map(PathBuf::from);
    from("TAILWATER_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|folder| folder.join("tailwater")))
        .or_else(|| from("HOME").map(|folder| folder.join(".cache/tailwater")))
}

/// Writes a line that nobody can overlook: the test harness captures what macros print.
fn announce(line: &str) {
    drop(writeln!(std::io::stderr(), "\n##### {line} #####\n"));
}

/// A loopback port that is free now, below the range from which the system takes ports for
/// outgoing connections: a server that is started again finds its port still free.
///
/// # Errors
///
/// When no port can be bound.
pub fn free_port() -> anyhow::Result<u16> {
    let mut random = rand::rng();
    (0..200)
        .map(|_| random.random_range(15_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port between 15000 and 32000 on 127.0.0.1")
}

/// Makes a folder for a server inside `parent`.
fn folder(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = parent.join(name);
    std::fs::create_dir_all(&path)
        .with_context(|| format!("cannot create `{}`", path.display()))?;
    Ok(path)
}
