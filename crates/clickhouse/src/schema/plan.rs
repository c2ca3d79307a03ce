//! Plan: what `schema apply` does, so that a run, or the Kafka engine, finds the tables that it needs.
//!
//! It makes what is missing, and changes what a statement mends. What belongs to somebody else it leaves
//! alone, and says so.

use std::error::Error as _;

use tailwater_core::kafka_engine::{self, KafkaEngine, Object};
use tailwater_core::plan::{Action, State, Statement, Step};
use tailwater_core::rows::{Append, Layout, Namespace};
use tailwater_core::sql::identifier;
use tailwater_core::table::{self, TableName};
use tailwater_core::{Error, Result};
use tracing::{info, warn};

use super::unfit::{self, Mend, Unfit};
use super::{BESIDE_ENGINE, Wanted, check_names, check_version};
use crate::Connection;

/// Which tables a pipeline needs.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Where rows go.
    pub layout: Layout,
    /// What the event tables are to be.
    pub wanted: Wanted,
    /// The collections that are named: each has a current-state table, where there are such.
    pub collections: Vec<Namespace>,
    /// Whether ClickHouse fills them itself.
    pub by_engine: bool,
}

/// What is there of the tables, and what is to be done about the others.
///
/// # Errors
/// Those of asking; `Unsuitable` for a server that is too old.
pub async fn plan(connection: &Connection, tables: &Tables) -> Result<Vec<Step>> {
    let Tables { layout, wanted, collections, by_engine } = tables;
    check_names(layout)?;
    connection.ping().await?;
    check_version(connection).await?;
    let mut steps = Vec::new();
    for of in Append::ALL {
        let Some(name) = layout.name(of) else { continue };
        let thing = format!("table `{name}`");
        let Some(found) = unfit::look(connection, of, name, wanted).await? else {
            let create = super::create(connection.database(), of, name, wanted);
            steps.push(Step::make(thing, Action::sql(create)));
            continue;
        };
        let days = found.ttl_days.map(|days| format!("its rows go after {days} days"));
        steps.push(Step::new(thing, state(found.unfit, days.unwrap_or_default())));
        for (view, mend) in found.views.unfillable {
            let why = format!("what fails in it once cannot be filled again: {mend}");
            steps.push(Step::stays(format!("view `{view}`"), why));
        }
    }
    if *by_engine {
        return Ok(steps);
    }
    let [.., feed] = kafka_engine::names(&layout.records);
    if unfit::engine(connection, &feed).await?.is_some() {
        let why = "ClickHouse reads the topics itself: with a sink every row would come twice";
        steps.push(Step::wrong(format!("view `{feed}`"), why, BESIDE_ENGINE));
    }
    steps.push(plan_gaps(connection).await?);
    let current = layout.current.iter().flat_map(|names| {
        collections
            .iter()
            .map(|collection| (collection, names.table(&collection.db, &collection.coll)))
    });
    for (namespace, table) in current {
        steps.extend(plan_current(connection, namespace, &table).await?);
    }
    Ok(steps)
}

async fn plan_gaps(connection: &Connection) -> Result<Step> {
    let name = TableName::new(table::GAPS);
    let thing = format!("table `{name}`");
    Ok(match unfit::engine(connection, &name).await? {
        Some(_) => Step::there(thing, ""),
        None => Step::make(thing, Action::sql(table::create_gaps(connection.database()))),
    })
}

async fn plan_current(
    connection: &Connection,
    namespace: &Namespace,
    name: &TableName,
) -> Result<[Step; 2]> {
    let database = connection.database();
    let comment = super::comment_of_current(namespace);
    let thing = format!("table `{name}`");
    let table = match unfit::look_current(connection, name, namespace).await? {
        None => Step::make(thing, Action::sql(table::create_current(database, name, &comment))),
        Some(unfit) => Step::new(thing, state(unfit, String::new())),
    };
    let thing = format!("view `{}`", name.view());
    let view = match unfit::engine(connection, &name.view()).await? {
        None => Step::make(thing, Action::sql(table::create_current_view(database, name))),
        Some(row) if row.engine == "View" => Step::there(thing, ""),
        Some(row) => {
            let why = format!("something else has its name: {}", row.engine);
            Step::wrong(
                thing,
                why,
                "rename it, or give the tables another name by `tables.current`",
            )
        }
    };
    Ok([table, view])
}

/// What is to be done about a table that is there.
fn state(unfit: Vec<Unfit>, what: String) -> State {
    let why: Vec<&str> = unfit.iter().map(|unfit| unfit.why.as_str()).collect();
    let why = why.join("; ");
    let mut statements = Vec::new();
    for Unfit { mend, .. } in unfit {
        match mend {
            Mend::Statement(statement) => statements.push(Statement::plain(statement)),
            Mend::Hint(hint) => return State::Wrong { why, mend: hint },
        }
    }
    match statements.is_empty() {
        true => State::There { what },
        false => State::Change { why, by: Action::Statements(statements) },
    }
}

/// What is there of the Kafka engine's tables and views, and what is to be done about the others. Where
/// one differs all are made anew: the group goes on where it was.
///
/// # Errors
/// Those of asking.
pub async fn plan_engine(
    connection: &Connection,
    pipeline: &str,
    records: &TableName,
    engine: &KafkaEngine,
) -> Result<Vec<Step>> {
    let thing = |object: &Object| format!("{} `{}`", object.kind, object.name);
    let mine = kafka_engine::comment_of(pipeline);
    let mut found = Vec::new();
    for object in &engine.objects {
        let comment = unfit::engine(connection, &object.name).await?.map(|row| row.comment);
        if comment.as_ref().is_some_and(|comment| !comment.starts_with(&mine)) {
            let why = "it is there, and was not made for the Kafka engine of this pipeline";
            let mend = "drop or rename it, or name another table in `clickhouse.tables.records`";
            return Ok(vec![Step::wrong(thing(object), why, mend)]);
        }
        found.push((object, comment));
    }
    let is_new = found.iter().all(|(_, comment)| comment.is_none());
    if is_new && has_rows_of_sink(connection, records).await? {
        let why = "a sink has written rows to it, and the engine begins with the first message";
        let mend = "name another table in `clickhouse.tables.records`, or rows would come twice";
        return Ok(vec![Step::wrong(format!("table `{records}`"), why, mend)]);
    }
    let fits = |(object, comment): &(&Object, Option<String>)| {
        comment.as_ref().is_none_or(|comment| *comment == object.comment)
    };
    // The feed must find all others: what stands before it cannot be made while it is there.
    let is_fed = found.last().is_some_and(|(_, comment)| comment.is_some());
    let is_whole = found.iter().all(|(_, comment)| comment.is_some());
    let stay = found.iter().all(fits) && (is_whole || !is_fed);
    let mut steps = Vec::new();
    if !stay {
        for (object, _) in found.iter().rev().filter(|(_, comment)| comment.is_some()) {
            let drop = Action::Statements(vec![Object::drop(connection.database(), &object.name)]);
            steps.push(Step::drop(thing(object), "it is made anew", drop));
        }
    }
    steps.extend(found.iter().map(|(object, comment)| match comment {
        Some(_) if stay => Step::there(thing(object), ""),
        _ => Step::make(thing(object), Action::Statements(vec![object.create.clone()])),
    }));
    Ok(steps)
}

async fn has_rows_of_sink(connection: &Connection, records: &TableName) -> Result<bool> {
    if unfit::engine(connection, records).await?.is_none() {
        return Ok(false);
    }
    let (database, table) = (identifier(connection.database()), identifier(records.as_str()));
    let sql = format!(
        "SELECT count() FROM (SELECT 1 FROM {database}.{table} WHERE _epoch != '' LIMIT 1)"
    );
    let what = format!("cannot look into `{records}`");
    Ok(connection.text(&sql, &what).await? != "0")
}

/// Runs the statements of a step.
///
/// # Errors
/// By the server's code. No error holds the secret of a statement.
pub async fn carry_out(
    connection: &Connection,
    thing: &str,
    statements: &[Statement],
) -> Result<()> {
    for statement in statements {
        let what = format!("this failed: {thing}");
        let Err(error) = connection.execute(statement.sql(), &what).await else { continue };
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        // An embedded engine has said so of a table of the Kafka engine that was there and worked.
        // Where it is not there, the next statement fails.
        if said.contains("Shutdown was called") {
            warn!(thing, "the engine says that it was shut down, and goes on");
            continue;
        }
        return Err(Error::new(error.kind(), what)
            .with_hint(error.hint().to_owned())
            .with_source(statement.redacted(&said)));
    }
    info!(thing, "done");
    Ok(())
}
