//! Probe: looks at a server as a run would find it, makes nothing that stays, and touches no table but
//! its own.

use bytes::Bytes;
use serde::Deserialize;
use tailwater_core::check::flow::{Latency, Rows};
use tailwater_core::sql::{identifier, literal};
use tailwater_core::table::TableName;
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::clock;

use crate::Connection;
use crate::schema::{self, COMMENT};
use crate::tables::PINNED;

/// A table that is made to be tried, and dropped.
pub const SCRATCH: &str = "tailwater_check";

/// The server's version, where it is one that we can write to.
///
/// # Errors
/// `Unsuitable` for an older one; those of asking.
pub async fn version(connection: &Connection) -> Result<String> {
    connection.ping().await?;
    schema::check_version(connection).await
}

/// Makes a table, writes a block to it twice under one token, and drops it. Whoever may do that may do
/// what a run does, which drops none: why the table is still there is told apart.
///
/// # Errors
/// `Unsuitable` where the block stays twice, or the table is somebody else's; those of the steps.
pub async fn try_write(connection: &Connection) -> Result<Option<Error>> {
    let table = TableName::new(SCRATCH);
    let own = format!("{COMMENT}check");
    if comment(connection, &table).await?.is_some_and(|found| found != own) {
        let what = format!("the table `{table}` is somebody else's, and is left alone");
        return Err(Error::new(ErrorKind::Unsuitable, what)
            .with_hint("rename it: `tailwater check` makes a table of this name, and drops it"));
    }
    let name = format!("{}.{}", identifier(connection.database()), identifier(SCRATCH));
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} (id Int64) ENGINE = MergeTree ORDER BY id \
         SETTINGS non_replicated_deduplication_window = 100 COMMENT {}",
        literal(&own)
    );
    connection.execute(&create, &format!("cannot make the table `{table}`")).await?;
    let written = write_twice(connection, &name).await;
    let drop = format!("DROP TABLE IF EXISTS {name}");
    let what = format!("cannot drop the table `{table}`, which was made to be tried");
    let dropped = connection.execute(&drop, &what).await;
    match written? {
        1 => Ok(dropped.err()),
        0 => Err(Error::new(
            ErrorKind::Unsuitable,
            "a row that was written is not there when it is asked for",
        )),
        rows => Err(Error::new(
            ErrorKind::Unsuitable,
            format!("a block that was sent twice under one token is there {rows} times"),
        )
        .with_hint("a proxy or a profile may change settings of inserts: `insert_deduplicate` must be 1 where it is sent")),
    }
}

async fn write_twice(connection: &Connection, name: &str) -> Result<u64> {
    // Another check may be under way in the same table.
    let id = clock::now().0;
    let token = format!("tailwater check {id}");
    let mut settings = PINNED.to_vec();
    settings.extend([("insert_deduplicate", "1"), ("insert_deduplication_token", &token)]);
    let insert = format!("INSERT INTO {name} (id) FORMAT JSONEachRow");
    let row = Bytes::from(format!("{{\"id\":{id}}}\n"));
    for _ in 0..2 {
        connection.insert(&insert, &settings, vec![row.clone()], "cannot insert a row").await?;
    }
    let what = "cannot count the rows that were written";
    let count = format!("SELECT count() FROM {name} WHERE id = {id}");
    number(&connection.text(&count, what).await?, what)
}

/// The rows of an event table; `None` where there is none.
///
/// # Errors
/// Those of asking.
pub async fn rows(connection: &Connection, table: &TableName) -> Result<Option<Rows>> {
    if comment(connection, table).await?.is_none() {
        return Ok(None);
    }
    let name = format!("{}.{}", identifier(connection.database()), identifier(table.as_str()));
    let sql = format!(
        "SELECT (SELECT count() FROM {name}) AS `all`, \
         (SELECT count() FROM {name} WHERE ts >= now() - INTERVAL 5 MINUTE) AS recent"
    );
    Ok(connection.rows(&sql, "cannot count the rows of the event table").await?.into_iter().next())
}

/// How long changes of the last quarter of an hour took to become rows.
///
/// # Errors
/// Those of asking.
pub async fn latency(connection: &Connection, table: &TableName) -> Result<Latency> {
    #[derive(Deserialize)]
    struct Row {
        rows: u64,
        quantiles: Vec<i64>,
    }
    let name = format!("{}.{}", identifier(connection.database()), identifier(table.as_str()));
    // What a copy reads was changed long ago.
    let sql = format!(
        "SELECT count() AS rows, quantilesExact(0.5, 0.95, 0.99)\
         (dateDiff('millisecond', ts, _ingested_at)) AS quantiles \
         FROM {name} WHERE ts >= now() - INTERVAL 15 MINUTE AND op != 'read'"
    );
    let what = "cannot tell how long changes took";
    let found: Vec<Row> = connection.rows(&sql, what).await?;
    let Row { rows, quantiles } =
        found.into_iter().next().unwrap_or(Row { rows: 0, quantiles: Vec::new() });
    let at = |place: usize| quantiles.get(place).copied().unwrap_or(0);
    Ok(Latency { rows, p50: at(0), p95: at(1), p99: at(2) })
}

/// The comment of a table; `None` where there is no such table.
async fn comment(connection: &Connection, table: &TableName) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Row {
        comment: String,
    }
    let sql = format!(
        "SELECT comment FROM system.tables WHERE database = {} AND name = {}",
        literal(connection.database()),
        literal(table.as_str()),
    );
    let rows: Vec<Row> = connection.rows(&sql, &format!("cannot look for `{table}`")).await?;
    Ok(rows.into_iter().next().map(|row| row.comment))
}

fn number(text: &str, what: &str) -> Result<u64> {
    text.parse().map_err(|error| {
        Error::new(ErrorKind::Unreachable, format!("{what}: not a number")).with_source(error)
    })
}
