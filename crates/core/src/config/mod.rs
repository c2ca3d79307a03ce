//! The config file: a text becomes a valid [`Config`], or the list of all that is wrong with it.
//!
//! ```text
//!   text ─▶ tree (values with places) ─▶ sections (known keys, units) ─▶ what must fit together
//! ```
//!
//! Pure: what a value's `{ env }` or `{ file }` leads to is asked of [`Secrets`]. No secret may be
//! shown. `docs/config.md` lists the keys.

mod clickhouse;
mod endpoint;
mod kafka;
mod mongodb;
mod normalizer;
mod parts;
pub(crate) mod problem;
pub(crate) mod section;
pub(crate) mod tree;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

pub use self::clickhouse::{Batch, ClickHouse, DEFAULT_LISTEN, TableNames, Target};
pub use self::endpoint::Endpoint;
pub use self::kafka::{
    Client, Compat, DEFAULT_DEAD_LETTER, DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_NORMALIZED,
    DEFAULT_PARTITIONS, DEFAULT_REPLICATION_FACTOR, DEFAULT_RETENTION, Kafka, OAuthBearer,
    PasswordMechanism, Publish, Sasl, SecurityProtocol, Tls, Topics,
};
pub use self::mongodb::MongoDb;
pub use self::normalizer::{Normalizer, Output};
pub use self::parts::{Parts, Reading};
use self::section::{At, Reader, Section};
use self::tree::Place;
use crate::scope::Scope;
use crate::watch::Watch;
use crate::{Error, ErrorKind, Result};

/// What a pipeline is.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name, the prefix of its tokens.
    pub pipeline: String,
    /// What it reads.
    pub mongodb: Option<MongoDb>,
    /// What is in the middle; `None`: direct mode.
    pub kafka: Option<Kafka>,
    /// What becomes of events on their way; `None`: they stay as they are.
    pub normalizer: Option<Normalizer>,
    /// Where its rows go.
    pub clickhouse: Option<ClickHouse>,
    /// The folder of its checkpoints.
    pub state: PathBuf,
    /// Where it serves `/metrics` and `/health`.
    pub http: Option<SocketAddr>,
    /// What it may take.
    pub limits: Limits,
}

/// What a pipeline may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events in flight, in bytes.
    pub memory_bytes: usize,
    /// How long the last batch may take after a signal.
    pub shutdown: Duration,
}

/// The pipeline's name where nothing gives one.
pub const DEFAULT_PIPELINE: &str = "tailwater";
/// The state folder where nothing names one.
pub const DEFAULT_STATE: &str = "./tailwater-state";
/// Room for sixteen batches of the usual size.
pub const DEFAULT_MEMORY_BYTES: usize = 1 << 30;
/// Less than the 30 s after which supervisors kill.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(25);
/// A batch is read while another is written, each twice: as events and as rows.
const BATCHES_IN_MEMORY: usize = 4;
/// Four documents of the greatest size.
const LEAST_MEMORY_BYTES: u64 = 64 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: DEFAULT_MEMORY_BYTES, shutdown: DEFAULT_SHUTDOWN }
    }
}

impl Limits {
    /// The largest batch for which there is room.
    pub const fn largest_batch(&self) -> usize {
        self.memory_bytes / BATCHES_IN_MEMORY
    }
}

/// What flags give; it stands above the file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The connection string.
    pub source: Option<SecretString>,
    /// What to watch.
    pub scopes: Option<Vec<Scope>>,
    /// The server to write to.
    pub target: Option<Endpoint>,
    /// Where the embedded engine listens.
    pub listen: Option<SocketAddr>,
    /// The state folder.
    pub state: Option<PathBuf>,
    /// Where to serve `/metrics` and `/health`.
    pub http: Option<SocketAddr>,
    /// The parts that are asked for; `None`: all that the file names. What a `{ env }` or `{ file }`
    /// of another part leads to need not be there.
    pub parts: Option<Parts>,
}

/// Where values come from that are not in the file itself.
pub trait Secrets {
    /// The value of an environment variable, or why there is none.
    ///
    /// # Errors
    /// A sentence that names the variable.
    fn variable(&self, name: &str) -> Result<String, String>;

    /// The contents of a file, or why there are none.
    ///
    /// # Errors
    /// A sentence that names the file.
    fn file(&self, path: &str) -> Result<String, String>;
}

impl Config {
    /// The config of a run without a file, into the embedded engine unless a target is given.
    ///
    /// # Errors
    /// `Config` when there is no source, or nothing to watch.
    pub fn of_flags(given: Given) -> Result<Self> {
        let lacks = |flag: &str| {
            Error::new(ErrorKind::Config, format!("there is neither a config file nor `{flag}`"))
                .with_hint("name a file with `-c`, or see `tailwater run --help`")
        };
        let mongodb = MongoDb {
            uri: given.source.ok_or_else(|| lacks("--source"))?,
            scopes: given.scopes.ok_or_else(|| lacks("--collections"))?,
            watch: Watch::default(),
        };
        let listen = given.listen.unwrap_or(DEFAULT_LISTEN);
        let target =
            given.target.map_or(Target::Embedded { listen, password: None }, Target::Server);
        Ok(Self {
            pipeline: DEFAULT_PIPELINE.to_owned(),
            mongodb: Some(mongodb),
            kafka: None,
            normalizer: None,
            clickhouse: Some(ClickHouse::at(target)),
            state: given.state.unwrap_or_else(|| DEFAULT_STATE.into()),
            http: given.http,
            limits: Limits::default(),
        })
    }

    /// Reads a file's text; `file` is its name for messages.
    ///
    /// # Errors
    /// `Config`, with all that is wrong, each with line and caret.
    pub fn read(file: &str, text: &str, given: &Given, secrets: &dyn Secrets) -> Result<Self> {
        read_file(file, text, secrets, |root, reader| read(root, given, reader))
    }

    /// Reads only where a file's pipeline writes to, and its state folder: nothing else of it is
    /// checked or looked up.
    ///
    /// # Errors
    /// `Config`, with all that is wrong with these.
    pub fn read_target(
        file: &str,
        text: &str,
        given: &Given,
        secrets: &dyn Secrets,
    ) -> Result<(Target, PathBuf)> {
        read_file(file, text, secrets, |mut root, reader| {
            for (key, node) in root.free_entries() {
                if !["clickhouse", "state"].contains(&key.name.as_str()) {
                    reader.hide(node);
                }
            }
            if root.is_absent("clickhouse") {
                root.lacks(
                    "clickhouse",
                    "clickhouse: { url: … }` or `clickhouse: { embedded: true }",
                );
            }
            let nothing = clickhouse::Around::default();
            let target = clickhouse::read(root.section("clickhouse"), given, &nothing, reader);
            let state = root.text("state").map(|at| PathBuf::from(at.value));
            let state = given.state.clone().or(state).unwrap_or_else(|| DEFAULT_STATE.into());
            Some((target.clickhouse?.target, state))
        })
    }
}

/// Reads a file's text; all that is wrong becomes one error.
fn read_file<T>(
    file: &str,
    text: &str,
    secrets: &dyn Secrets,
    read: impl FnOnce(Section<'_>, &Reader<'_>) -> Option<T>,
) -> Result<T> {
    let failed = |problems, hidden: &[Place]| {
        let all = problem::render(file, text, problems, hidden);
        Error::new(ErrorKind::Config, all).with_hint("docs/config.md lists every key")
    };
    let root = tree::parse(text).map_err(|problem| failed(vec![problem], &[]))?;
    let reader = Reader::new(secrets);
    let config = read(Section::root(&root, &reader), &reader);
    let (problems, others) = (reader.problems.take(), reader.others.take());
    match config {
        Some(config) if problems.is_empty() && others.is_empty() => Ok(config),
        _ => {
            let of_this = (!problems.is_empty() || others.is_empty())
                .then(|| failed(problems, &reader.hidden.take()));
            let together = |all: Error, other: Error| {
                let hint = format!("{}; {}", all.hint(), other.hint());
                Error::new(ErrorKind::Config, format!("{all}\n\n{other}")).with_hint(hint)
            };
            let all = of_this.into_iter().chain(others).reduce(together);
            Err(all.unwrap_or_else(|| {
                Error::new(ErrorKind::Bug, "a config is wrong without a reason")
            }))
        }
    }
}

/// The config, as far as its parts are sound; what is not is a problem of the reader.
fn read(mut root: Section<'_>, given: &Given, reader: &Reader<'_>) -> Option<Config> {
    match root.number("version", 0..=u64::MAX) {
        Some(At { value: 1, .. }) => {}
        Some(At { place, .. }) => {
            reader.complain(&place, "this Tailwater reads version 1", "write `version: 1`");
        }
        None if root.is_absent("version") => root.lacks("version", "version: 1"),
        None => {}
    }
    let pipeline = root.text("pipeline");
    if let Some(At { place, value }) = &pipeline
        && !(value.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && value.len() <= 100)
    {
        let mend = "letters, digits, `.`, `_` and `-`, 100 at most";
        reader.complain(place, "`pipeline` is no name for a pipeline", mend);
    }
    let pipeline = pipeline.map_or(DEFAULT_PIPELINE.to_owned(), |at| at.value);
    let needs = |part: fn(&Parts) -> bool| given.parts.as_ref().is_none_or(part);
    let of_flags = given.source.is_some() && given.scopes.is_some();
    let has_mongodb = !root.is_absent("mongodb") || of_flags;
    let has_clickhouse = !root.is_absent("clickhouse") || given.target.is_some();
    let has_kafka = !root.is_absent("kafka");
    let reads = has_kafka && (has_clickhouse || !root.is_absent("normalizer"));
    if !has_mongodb && (!reads || given.source.is_some() || given.scopes.is_some()) {
        root.lacks("mongodb", "mongodb: { uri: …, collections: [db.coll] }");
    }
    if !has_clickhouse && !has_kafka {
        root.lacks("clickhouse", "clickhouse: { url: … }` or `clickhouse: { embedded: true }");
    }
    let mongodb = root.section("mongodb");
    let kafka = root.section("kafka");
    let normalizer = root.section("normalizer");
    let clickhouse = root.section("clickhouse");
    reader.lenient.set(!needs(|parts| parts.source));
    let source = mongodb::read(mongodb, given, reader);
    let scopes = source.scopes.as_ref().map(|at| at.value.as_slice());
    reader.lenient.set(!needs(|parts| parts.normalize || parts.sink));
    let around = normalizer::Around { kafka: has_kafka, rows: has_clickhouse || !has_kafka };
    let normalizer = normalizer::read(normalizer, &around, reader);
    reader.lenient.set(false);
    let (kafka, mut lies) = match kafka {
        Some(section) => {
            let around = kafka::Around {
                pipeline: &pipeline,
                scopes,
                writes: has_mongodb,
                reads,
                no_documents: source.no_documents.as_ref(),
            };
            kafka::read(section, &around, reader)
        }
        None => Default::default(),
    };
    lies.current.extend(source.lies);
    reader.lenient.set(!needs(|parts| parts.sink));
    let target = clickhouse::read(clickhouse, given, &clickhouse::Around { scopes, lies }, reader);
    reader.lenient.set(false);
    root.not_built("archive", "the archive is");
    root.not_built("alerts", "alerts are");
    let state = root.text("state").map(|at| PathBuf::from(at.value));
    let mut listen = None;
    if let Some(mut http) = root.section("http") {
        listen = http.address("listen");
        if http.is_absent("listen") {
            http.lacks("listen", "listen: 127.0.0.1:9464");
        }
        http.end();
    }
    if let Some(At { place, value }) = &listen
        && !value.ip().is_loopback()
    {
        reader.complain(
            place,
            "other hosts could read this without a token, and tokens are not built yet",
            "listen on 127.0.0.1, behind a proxy that asks for credentials",
        );
    }
    let limits = read_limits(&mut root, target.max_bytes.as_ref(), reader);
    root.end();
    Some(Config {
        pipeline,
        mongodb: source.mongodb,
        kafka,
        normalizer,
        clickhouse: target.clickhouse,
        state: given.state.clone().or(state).unwrap_or_else(|| DEFAULT_STATE.into()),
        http: given.http.or(listen.map(|at| at.value)),
        limits,
    })
}

fn read_limits(root: &mut Section<'_>, max_bytes: Option<&At<u64>>, reader: &Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    if let Some(mut section) = root.section("limits") {
        if let Some(at) = section.number("memory_bytes", LEAST_MEMORY_BYTES..=1 << 41) {
            limits.memory_bytes = usize::try_from(at.value).unwrap_or(usize::MAX);
        }
        if let Some(at) = section.number("shutdown_s", 1..=3600) {
            limits.shutdown = Duration::from_secs(at.value);
        }
        section.end();
    }
    let most = limits.largest_batch();
    if let Some(At { place, value }) = max_bytes
        && *value > most as u64
    {
        let memory = limits.memory_bytes;
        reader.complain(
            place,
            format!("a batch of {value} bytes is too large for `memory_bytes`, {memory}"),
            format!("write {most} at most, or more memory"),
        );
    }
    limits
}
