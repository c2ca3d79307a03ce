//! Teardown: what of a pipeline is in a database, and goes. Tables are known by their comments, which
//! say whose they are; what says nothing, or names another pipeline, stays.

use std::collections::BTreeSet;

use serde::Deserialize;
use tailwater_core::Result;
use tailwater_core::kafka_engine::{self, Object};
use tailwater_core::plan::{Action, Statement, Step};
use tailwater_core::scope::Scope;
use tailwater_core::sql::literal;
use tailwater_core::table::{self, TableName};

use super::{COMMENT, comment_of, views};
use crate::Connection;

/// What goes.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// The pipeline.
    pub pipeline: String,
    /// What it watches; `None` where that is not known: all collections.
    pub scopes: Option<Vec<Scope>>,
    /// Whether rows go too.
    pub data: bool,
}

#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    engine: String,
    comment: String,
    total_rows: Option<u64>,
}

impl Row {
    /// What is lost with it.
    fn loses(&self) -> String {
        match self.total_rows {
            None => "all its rows are lost".to_owned(),
            Some(0) => EMPTY.to_owned(),
            Some(1) => "its 1 row is lost".to_owned(),
            Some(rows) => format!("its {rows} rows are lost"),
        }
    }
}

/// What is lost with what holds no rows.
const EMPTY: &str = "no row is lost";
/// Why rows stay.
const ADD_DATA: &str = "its rows stay; `--data` drops it";

/// What there is of a pipeline, and what of it goes. What reads goes before what is read.
///
/// # Errors
/// Those of asking.
pub async fn plan_teardown(connection: &Connection, leaving: &Leaving) -> Result<Vec<Step>> {
    connection.ping().await?;
    let database = connection.database();
    let sql = format!(
        "SELECT name, engine, comment, total_rows FROM system.tables WHERE database = {} AND \
         (startsWith(comment, {}) OR name = {}) ORDER BY name",
        literal(database),
        literal(COMMENT),
        literal(table::GAPS),
    );
    let found: Vec<Row> = connection.rows(&sql, "cannot look for tables to drop").await?;
    let mut steps = Vec::new();
    let statements = |names: &[&TableName]| {
        let drops: Vec<Statement> = names.iter().map(|it| Object::drop(database, it)).collect();
        Action::Statements(drops)
    };
    let drop = |row: &Row, name: &TableName| {
        Step::drop(format!("table `{name}`"), row.loses(), statements(&[name]))
    };
    let mut of_engine: Vec<&Row> = found
        .iter()
        .filter(|row| row.comment.starts_with(&kafka_engine::comment_of(&leaving.pipeline)))
        .collect();
    of_engine.sort_by_key(|row| place(row));
    for row in of_engine {
        let name = TableName::new(&row.name);
        let kind = match row.engine.as_str() {
            "MaterializedView" => "view",
            "Kafka" => "Kafka engine table",
            _ => "table",
        };
        steps.push(Step::drop(format!("{kind} `{name}`"), EMPTY, statements(&[&name])));
    }
    let own = comment_of(&leaving.pipeline);
    for row in found.iter().filter(|row| row.comment == own) {
        let name = TableName::new(&row.name);
        for view in views(connection, &name).await?.names {
            let why = format!("it reads from `{name}`, and is not Tailwater's");
            steps.push(Step::stays(format!("view `{view}`"), why));
        }
        steps.push(match leaving.data {
            true => drop(row, &name),
            false => Step::stays(format!("table `{name}`"), ADD_DATA),
        });
    }
    let others = others(&found, &leaving.pipeline);
    let with_others = || {
        let names: Vec<String> = others.iter().map(|name| format!("`{name}`")).collect();
        format!("it may serve the pipeline {} of this database too", names.join(", "))
    };
    for row in &found {
        let Some(namespace) = namespace(&row.comment) else { continue };
        let covers = |scope: &Scope| scope.covers(namespace.0, namespace.1);
        if leaving.scopes.as_ref().is_some_and(|scopes| !scopes.iter().any(covers)) {
            continue;
        }
        let name = TableName::new(&row.name);
        let thing = format!("table `{name}`");
        steps.push(match (leaving.data, others.is_empty()) {
            (false, _) => Step::stays(thing, ADD_DATA),
            (true, false) => Step::stays(thing, with_others()),
            (true, true) => {
                let view = Object::drop_view(database, &name.view());
                let drops = vec![view, Object::drop(database, &name)];
                Step::drop(thing, row.loses(), Action::Statements(drops))
            }
        });
    }
    if let Some(row) = found.iter().find(|row| row.name == table::GAPS) {
        let name = TableName::new(table::GAPS);
        steps.push(match (leaving.data, others.is_empty()) {
            (false, _) => Step::stays(format!("table `{name}`"), ADD_DATA),
            (true, false) => Step::stays(format!("table `{name}`"), with_others()),
            (true, true) => drop(row, &name),
        });
    }
    Ok(steps)
}

/// Where an object of the Kafka engine stands among those that are dropped.
fn place(row: &Row) -> usize {
    // The other way round than they are made; the names are those behind the event table's.
    let made = kafka_engine::names(&TableName::new(""));
    let suffix = made.iter().position(|suffix| row.name.ends_with(suffix.as_str()));
    made.len() - suffix.unwrap_or(0)
}

/// The other pipelines that have tables there.
fn others(found: &[Row], pipeline: &str) -> BTreeSet<String> {
    let of = |row: &Row| {
        let (_, rest) = row.comment.split_once("pipeline `")?;
        Some(rest.split_once('`')?.0.to_owned())
    };
    found.iter().filter_map(of).filter(|name| name != pipeline).collect()
}

/// The collection whose current state a table holds.
fn namespace(comment: &str) -> Option<(&str, &str)> {
    let name = comment.strip_prefix(COMMENT)?.strip_prefix('`')?.strip_suffix('`')?;
    name.split_once('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_say_whose_a_table_is() {
        assert_eq!(namespace("tailwater: `a.b.c`"), Some(("a", "b.c")));
        assert_eq!(namespace("tailwater: pipeline `a.b`"), None);
        let row = |comment: &str| Row {
            name: String::new(),
            engine: String::new(),
            comment: comment.to_owned(),
            total_rows: None,
        };
        let mine = kafka_engine::comment_of("a") + "0";
        let found = [comment_of("a"), mine, comment_of("b"), kafka_engine::comment_of("c") + "1"];
        let found: Vec<Row> = found.iter().map(|comment| row(comment)).collect();
        assert_eq!(others(&found, "a").into_iter().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn the_feed_goes_first_and_what_it_reads_last() {
        let made = kafka_engine::names(&TableName::new("events"));
        let place = |name: &TableName| {
            let (name, engine, comment) = (name.as_str().to_owned(), String::new(), String::new());
            super::place(&Row { name, engine, comment, total_rows: None })
        };
        let places: Vec<usize> = made.iter().rev().map(place).collect();
        assert!(places.is_sorted() && places[0] < places[4], "{places:?}");
    }
}
