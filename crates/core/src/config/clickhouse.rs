//! The section `clickhouse`: where the rows go, and how.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::endpoint::{DEFAULT_DATABASE, DEFAULT_USER, Endpoint};
use super::kafka::Lies;
use super::section::{At, Reader, Section};
use super::tree::Value;
use super::{Given, Place};
use crate::names::CurrentNames;
use crate::scope::{Scope, is_pattern};
use crate::table::TableName;

/// Where the rows go, and how.
#[derive(Debug, Clone)]
pub struct ClickHouse {
    /// The server.
    pub target: Target,
    /// Blocks that the server remembers to drop second copies; `None`: as many as the run needs.
    pub deduplication_window: Option<u64>,
    /// How long after its declaration a block may be sent; `None`: as the code has it.
    pub insert_deadline: Option<Duration>,
    /// How many percent of a Range's events may become dead letters; `None`: as the code has it.
    pub max_rejected_percent: Option<u64>,
    /// How many of a Range's events may become dead letters; `None`: as the code has it.
    pub max_rejected_rows: Option<u64>,
    /// What the tables are called.
    pub tables: TableNames,
    /// After how many days event rows go; `None`: never.
    pub ttl_days: Option<u32>,
    /// When a batch closes.
    pub batch: Batch,
}

/// A ClickHouse.
#[derive(Debug, Clone)]
pub enum Target {
    /// One that is there.
    Server(Endpoint),
    /// The embedded engine, which runs with the pipeline.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
        /// What its clients must give.
        password: Option<SecretString>,
    },
}

/// Where the embedded engine listens by default: the port that ClickHouse clients expect.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8123);

/// What the tables are called.
#[derive(Debug, Clone)]
pub struct TableNames {
    /// The event table.
    pub records: TableName,
    /// The current-state tables; `None`: there are none.
    pub current: Option<CurrentNames>,
    /// The table of whole change events; `None`: there is none.
    pub raw_cdc: Option<TableName>,
}

/// The event table, by default.
pub(super) const DEFAULT_RECORDS: &str = "record_raw";

impl Default for TableNames {
    fn default() -> Self {
        Self {
            records: TableName::new(DEFAULT_RECORDS),
            current: Some(CurrentNames::default()),
            raw_cdc: None,
        }
    }
}

/// When a batch closes, where that is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Batch {
    /// Events in one part.
    pub max_rows: Option<u64>,
    /// Bytes of events in one part.
    pub max_bytes: Option<u64>,
    /// The longest that an event waits for others.
    pub max_wait: Option<Duration>,
}

impl ClickHouse {
    /// Everything as it is by default.
    pub fn at(target: Target) -> Self {
        Self {
            target,
            deduplication_window: None,
            insert_deadline: None,
            max_rejected_percent: None,
            max_rejected_rows: None,
            tables: TableNames::default(),
            ttl_days: None,
            batch: Batch::default(),
        }
    }
}

/// The part of the section that other sections must fit.
pub(super) struct Read {
    pub(super) clickhouse: Option<ClickHouse>,
    pub(super) max_bytes: Option<At<u64>>,
}

/// What other sections say that the tables depend on.
#[derive(Default)]
pub(super) struct Around<'a> {
    /// What is watched, where that is said and sound.
    pub(super) scopes: Option<&'a [Scope]>,
    /// What events cannot tell.
    pub(super) lies: Lies,
}

pub(super) fn read(
    section: Option<Section<'_>>,
    given: &Given,
    around: &Around<'_>,
    reader: &Reader<'_>,
) -> Read {
    let Some(mut section) = section else {
        let target = given.target.clone().map(Target::Server);
        if target.is_some() {
            check_lies(&TableNames::default(), &around.lies, reader);
        }
        return Read { clickhouse: target.map(ClickHouse::at), max_bytes: None };
    };
    let target = read_target(&mut section, given, reader);
    section.not_built("cluster", "clusters are");
    let window = section.number("deduplication_window", 100..=1_000_000);
    let deadline = section.number("insert_deadline_s", 5..=3600);
    let (mut max_rejected_percent, mut max_rejected_rows) = (None, None);
    if let Some(mut limits) = section.section("max_rejected") {
        max_rejected_percent = limits.number("percent", 0..=100).map(|at| at.value);
        max_rejected_rows = limits.number("rows", 0..=u64::MAX).map(|at| at.value);
        limits.end();
    }
    let tables = read_tables(&mut section, around, reader);
    let ttl_days = section.number("ttl_days", 1..=36_500);
    let mut batch = Batch::default();
    let mut max_bytes = None;
    if let Some(mut limits) = section.section("batch") {
        batch.max_rows = limits.number("max_rows", 1..=1_000_000).map(|at| at.value);
        max_bytes = limits.number("max_bytes", 1024..=u64::MAX);
        batch.max_bytes = max_bytes.as_ref().map(|at| at.value);
        let wait = limits.number("max_wait_ms", 1..=60_000);
        batch.max_wait = wait.map(|at| Duration::from_millis(at.value));
        limits.end();
    }
    section.end();
    let clickhouse = target.zip(tables).map(|(target, tables)| ClickHouse {
        target,
        deduplication_window: window.map(|at| at.value),
        insert_deadline: deadline.map(|at| Duration::from_secs(at.value)),
        max_rejected_percent,
        max_rejected_rows,
        tables,
        ttl_days: ttl_days.and_then(|at| u32::try_from(at.value).ok()),
        batch,
    });
    Read { clickhouse, max_bytes }
}

fn read_target(section: &mut Section<'_>, given: &Given, reader: &Reader<'_>) -> Option<Target> {
    let embedded = section.flag("embedded").filter(|at| at.value);
    let url = section.secret("url");
    let listen = section.address("listen");
    let database = section.text("database");
    let username = section.text("username");
    let password = section.secret("password");
    let tls = section.entry("tls").map(|(key, _)| key.place.clone());
    let mut ca = None;
    if let Some(mut tls) = section.section("tls") {
        ca = tls.contents("ca");
        tls.end();
    }
    if let (Some(embedded), Some(_)) = (&embedded, &url) {
        let what = "`url` and `embedded` exclude each other";
        reader.complain(&embedded.place, what, "remove one of them");
    }
    if embedded.is_none()
        && let Some(listen) = &listen
    {
        let what = "`listen` is where the embedded engine listens, and there is none";
        reader.complain(&listen.place, what, "add `embedded: true`, or remove it");
    }
    if embedded.is_some() && url.is_none() {
        let places = [&database, &username].map(|at| at.as_ref().map(|at| at.place.clone()));
        for place in places.into_iter().chain([tls.clone()]).flatten() {
            let what = "the embedded engine has one database, one user and no TLS";
            reader.complain(&place, what, "remove this");
        }
    }
    let mut endpoint = None;
    if let Some(At { place, value }) = &url {
        match Endpoint::parse(value.expose_secret()) {
            Err(error) => reader.complain(place, error.to_string(), error.hint()),
            Ok(mut parsed) => {
                let twice = |what: &str, at: &Place| {
                    let what = format!("`url` names another {what} already");
                    reader.complain(at, what, "remove one of them");
                };
                if let Some(At { place, value }) = database {
                    if parsed.database != DEFAULT_DATABASE && parsed.database != value {
                        twice("database", &place);
                    }
                    parsed.database = value;
                }
                if let Some(At { place, value }) = username {
                    if parsed.username != DEFAULT_USER && parsed.username != value {
                        twice("user", &place);
                    }
                    parsed.username = value;
                }
                if let Some(At { place, value }) = &password {
                    if parsed.has_password() {
                        twice("password", place);
                    }
                    parsed.password = value.clone();
                }
                if let Some(tls) = &tls
                    && parsed.url.scheme() == "http"
                {
                    let what = "`tls` is for an https `url`, and this one is http";
                    reader.complain(tls, what, "write https, or remove it");
                }
                parsed.ca = ca;
                endpoint = Some(parsed);
            }
        }
    }
    if let Some(target) = &given.target {
        return Some(Target::Server(target.clone()));
    }
    if let (Some(_), Some(At { place, .. })) = (given.listen, &url) {
        let what = "`--listen` is where the embedded engine listens, and the file names a `url`";
        reader.complain(place, what, "leave `--listen` out");
    }
    if embedded.is_some() {
        if let (None, None, Some(At { place, value })) = (&password, given.listen, &listen)
            && !value.ip().is_loopback()
            && !reader.secrets.variable(ENGINE_PASSWORD).is_ok_and(|word| !word.is_empty())
        {
            let what = "other hosts could use the engine without a password";
            reader.complain(place, what, format!("add `password`, or set `{ENGINE_PASSWORD}`"));
        }
        return Some(Target::Embedded {
            listen: given.listen.or(listen.map(|at| at.value)).unwrap_or(DEFAULT_LISTEN),
            password: password.map(|at| at.value),
        });
    }
    if section.is_absent("url") {
        section.lacks("url", "url: http://host:8123` or `embedded: true");
    }
    endpoint.map(Target::Server)
}

/// Where the engine's password may be instead.
const ENGINE_PASSWORD: &str = "TAILWATER_ENGINE_PASSWORD";
/// Names that Tailwater gives to tables of its own.
const TAKEN: [&str; 2] = ["tailwater_dead_letters", "tailwater_gaps"];

fn read_tables(
    section: &mut Section<'_>,
    around: &Around<'_>,
    reader: &Reader<'_>,
) -> Option<TableNames> {
    let mut names = TableNames::default();
    let mut at_tables = section.place.clone();
    let mut sound = true;
    let mut at_current = None;
    if let Some(mut tables) = section.section("tables") {
        at_tables = tables.place.clone();
        if let Some(At { place, value }) = tables.text("records") {
            if TAKEN.contains(&value.as_str()) || value.len() > 150 {
                let what = "`records` is no name for the event table";
                reader.complain(&place, what, "choose another name, of 150 bytes at most");
            }
            names.records = TableName::new(value);
        }
        if let Some(At { place, value }) = tables.text("raw_cdc") {
            if TAKEN.contains(&value.as_str())
                || value.len() > 150
                || value == names.records.as_str()
            {
                let what = "`raw_cdc` is no name for the table of change events";
                reader.complain(&place, what, "choose another name, of 150 bytes at most");
            }
            names.raw_cdc = Some(TableName::new(value));
        }
        if let Some((_, node)) = tables.entry("current") {
            if matches!(node.value, Value::Null) {
                names.current = None;
            } else if let Some(At { place, value }) = tables.text("current") {
                match CurrentNames::parse(&value) {
                    Ok(current) => {
                        names.current = Some(current);
                        at_current = Some(place);
                    }
                    Err(why) => {
                        sound = false;
                        reader.complain(&place, why, "write for example \"{db}__{coll}\"");
                    }
                }
            } else {
                sound = false;
            }
        }
        tables.end();
    }
    if let (Some(current), Some(scopes)) = (&names.current, around.scopes) {
        let events = [Some(&names.records), names.raw_cdc.as_ref()];
        check_names(current, &events, scopes, reader, &at_current.unwrap_or(at_tables));
    }
    check_lies(&names, &around.lies, reader);
    sound.then_some(names)
}

/// Tables must not hold what events cannot tell.
fn check_lies(names: &TableNames, lies: &Lies, reader: &Reader<'_>) {
    for At { place, value } in lies.current.iter().filter(|_| names.current.is_some()) {
        let what = format!("{value}, so that the current-state tables would lie");
        let mend = "write `tables: { current: null }` in `clickhouse`, or change this";
        reader.complain(place, what, mend);
    }
    if let (Some(_), Some(At { place, value })) = (&names.raw_cdc, &lies.raw_cdc) {
        let what = format!("{value}, and `raw_cdc` is a table of these");
        reader.complain(place, what, "remove `raw_cdc`, or change this");
    }
}

/// Two collections must not share a table.
fn check_names(
    current: &CurrentNames,
    events: &[Option<&TableName>],
    scopes: &[Scope],
    reader: &Reader<'_>,
    place: &Place,
) {
    let mut databases: BTreeSet<&str> = BTreeSet::new();
    let mut many = false;
    for scope in scopes {
        match scope {
            Scope::Pattern { db, .. } if is_pattern(db) => many = true,
            Scope::Deployment => many = true,
            Scope::Collection { db, .. } | Scope::Pattern { db, .. } | Scope::Database(db) => {
                databases.insert(db);
            }
        }
    }
    many |= databases.len() > 1;
    if many && !current.names_databases() {
        let what = "collections of several databases would share tables: `current` has no `{db}`";
        reader.complain(place, what, "write for example \"{db}__{coll}\"");
        return;
    }
    let mut seen: Vec<(TableName, String)> = Vec::new();
    for scope in scopes {
        let Scope::Collection { db, coll } = scope else { continue };
        let table = current.table(db, coll);
        for name in [table.clone(), table.view()] {
            if events.contains(&Some(&name)) || TAKEN.contains(&name.as_str()) {
                let what = format!("the table `{name}` would hold `{db}.{coll}` and events");
                reader.complain(place, what, "choose another template or another name");
            }
            if let Some((_, other)) = seen.iter().find(|(seen, _)| *seen == name) {
                let what = format!("`{other}` and `{db}.{coll}` would share the table `{name}`");
                reader.complain(place, what, "write for example \"{db}__{coll}\"");
                break;
            }
            seen.push((name, format!("{db}.{coll}")));
        }
    }
}
