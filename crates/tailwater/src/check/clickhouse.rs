//! Probes of ClickHouse: what a run finds before it writes, and a table of its own, written to.

use tailwater_clickhouse::probe as look;
use tailwater_clickhouse::schema::check::{self as schema, Found as Table};
use tailwater_clickhouse::{Connection, Endpoint};
use tailwater_core::check::{End, Findings, Probe, Verdict};
use tailwater_core::config::{Config, Target};
use tailwater_core::rows::Namespace;
use tailwater_core::scope::Scope;
use tailwater_core::table::{self, TableName};
use tailwater_core::{Error, ErrorKind, Result};

use super::failed;
use crate::commands::run::tables;
use crate::target;

const END: End = End::ClickHouse;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) probes: Vec<Probe>,
    pub(super) connection: Option<Connection>,
}

pub(super) async fn probe(config: &Config, read_only: bool) -> Found {
    let mut found = Found::default();
    let Some(clickhouse) = &config.clickhouse else { return found };
    let connection = match target::running(&clickhouse.target, &config.state) {
        Ok(Some(connection)) => connection,
        Ok(None) => {
            found.probes.push(no_engine("the embedded engine has never run here"));
            return found;
        }
        Err(error) => {
            let error = error.downcast::<Error>().unwrap_or_else(|error| {
                Error::new(ErrorKind::Config, format!("cannot use the target: {error:#}"))
            });
            found.probes.push(failed(END, "server", &error));
            return found;
        }
    };
    let Endpoint { url, database, username, .. } = connection.endpoint();
    match look::version(&connection).await {
        Ok(version) => {
            let said = format!("ClickHouse {version} at `{url}`, `{database}` as `{username}`");
            found.probes.push(Probe::ok(END, "server", said));
        }
        Err(error) => {
            let is_embedded = matches!(clickhouse.target, Target::Embedded { .. });
            found.probes.push(match error.kind() {
                ErrorKind::Unreachable if is_embedded => {
                    no_engine("the embedded engine does not run now")
                }
                _ => failed(END, "server", &error),
            });
            return found;
        }
    }
    if let Err(error) = all_tables(config, &connection, &mut found.probes).await {
        // Where ClickHouse reads the topics itself no sink may run, and the rest may.
        let verdict = match error.kind() {
            ErrorKind::Unsuitable => Verdict::Warn,
            _ => Verdict::Fail,
        };
        found.probes.push(Probe::of_error(END, "tables", verdict, &error));
    }
    if !read_only {
        found.probes.push(match look::try_write(&connection).await {
            Ok(left) => {
                let mut findings = Findings::default();
                findings.say(format!("twice to `{}` under one token is there once", look::SCRATCH));
                if let Some(error) = left {
                    findings.error(Verdict::Warn, &error);
                }
                findings.probe(END, "writing")
            }
            Err(error) => failed(END, "writing", &error),
        });
    }
    found.connection = Some(connection);
    found
}

fn no_engine(why: &str) -> Probe {
    if tailwater_embedded::find_library().is_err() {
        let mut findings = Findings::default();
        findings.fail(format!("{why}, and is not installed"), "run `tailwater engine install`");
        return findings.probe(END, "server");
    }
    Probe::warn(END, "server", why, "`tailwater run` starts it")
}

async fn all_tables(
    config: &Config,
    connection: &Connection,
    probes: &mut Vec<Probe>,
) -> Result<()> {
    let clickhouse = config.require_clickhouse()?;
    let layout = tables::layout(config, clickhouse);
    let (wanted, needed) = tables::wanted(config, clickhouse);
    for (name, found) in schema::append_tables(connection, &layout, &wanted).await? {
        probes.push(of_table(connection, &name, found, needed));
    }
    let Some(names) = &layout.current else { return Ok(()) };
    for scope in config.mongodb.iter().flat_map(|mongodb| &mongodb.scopes) {
        let Scope::Collection { db, coll } = scope else { continue };
        let (name, of) = (names.table(db, coll), Namespace { db: db.clone(), coll: coll.clone() });
        let found = schema::current_table(connection, &name, &of).await?;
        probes.push(of_table(connection, &name, found, needed));
    }
    Ok(())
}

fn of_table(connection: &Connection, name: &TableName, found: Table, needed: u64) -> Probe {
    let mut findings = Findings::default();
    let Table::There { unfit, window, views } = found else {
        findings.say("not there yet: `tailwater run` makes it");
        return findings.probe(END, format!("table `{name}`"));
    };
    for error in &unfit {
        findings.error(Verdict::Fail, error);
    }
    if unfit.is_empty() {
        findings.say("columns and engine fit");
        if let Some(window) = window {
            findings.say(format!("the last {window} blocks are known again"));
        }
        if let Some(window) = window.filter(|window| needed > *window) {
            let mend = table::set_window(connection.database(), name, tables::usual_window(needed));
            let text = format!("at full pace {needed} must be, not {window}");
            findings.warn(text, format!("run: {mend}"));
        }
    }
    if !views.names.is_empty() {
        findings.say(format!("views: `{}`", views.names.join("`, `")));
    }
    for (view, mend) in &views.unfillable {
        let text = format!("the view `{view}` cannot be filled again when it fails once");
        findings.warn(text, mend.as_str());
    }
    findings.probe(END, format!("table `{name}`"))
}
