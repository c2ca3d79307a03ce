//! Letters: what the table of dead letters holds, and which events have a row all the same.

use std::collections::BTreeSet;

use serde::Deserialize;
use tailwater_core::position::Millis;
use tailwater_core::sql::literal;
use tailwater_core::table::{self, DEAD_LETTERS, TableName};
use tailwater_core::{Error, ErrorKind, Result};

use crate::Connection;

/// A row of the dead letters.
#[derive(Debug, Clone, Deserialize)]
pub struct Letter {
    /// When the event happened, in milliseconds since 1970.
    pub ts_ms: i64,
    /// The short word for what was wrong.
    pub reason: String,
    /// What exactly was said.
    pub error: String,
    /// The database.
    pub ns_db: String,
    /// The collection.
    pub ns_coll: String,
    /// The document.
    pub doc_id: String,
    /// What happened to it.
    pub op: String,
    /// The event's version, decimal.
    pub version: String,
    /// The event, where it was asked for.
    pub content: String,
    /// Its length.
    pub bytes: u64,
    /// Where the record was.
    #[serde(rename = "_topic")]
    pub topic: String,
    /// Where the record was.
    #[serde(rename = "_partition")]
    pub partition: u32,
    /// Where the record was.
    #[serde(rename = "_offset")]
    pub offset: u64,
    /// The life of the topic, or of the stream's numbering.
    #[serde(rename = "_epoch")]
    pub epoch: String,
    /// The mapping that rejected it.
    #[serde(rename = "_mapping")]
    pub mapping: String,
    /// When the row was written, in milliseconds since 1970.
    pub ingested_ms: i64,
}

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct Which<'a> {
    /// Those of this reason.
    pub reason: Option<&'a str>,
    /// Those of events since then.
    pub since: Option<Millis>,
    /// That of this topic, partition and offset.
    pub place: Option<(&'a str, u32, u64)>,
    /// Whether with their events.
    pub with_events: bool,
}

/// How many keys are asked for at once.
const KEYS: usize = 500;

/// The dead letters in the table, the oldest first; none where there is no such table.
///
/// # Errors
/// Those of asking.
pub async fn all(connection: &Connection, which: &Which<'_>) -> Result<Vec<Letter>> {
    if !is_there(connection, DEAD_LETTERS).await? {
        return Ok(Vec::new());
    }
    let filter = (which.reason, which.since);
    let sql = table::letters(connection.database(), filter, which.place, which.with_events);
    connection.rows(&sql, "cannot read the dead letters").await
}

/// Which of some events, each by its document and its `idempotency_key`, have a row in the event table.
///
/// # Errors
/// Those of asking.
pub async fn with_rows(
    connection: &Connection,
    records: &TableName,
    events: &[(String, String)],
) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    if !is_there(connection, records.as_str()).await? {
        return Ok(found);
    }
    #[derive(Deserialize)]
    struct Row {
        idempotency_key: String,
    }
    for some in events.chunks(KEYS) {
        let sql = table::keys_with_rows(connection.database(), records, some);
        let what = format!("cannot look for rows in `{records}`");
        let rows: Vec<Row> = connection.rows(&sql, &what).await?;
        found.extend(rows.into_iter().map(|row| row.idempotency_key));
    }
    Ok(found)
}

async fn is_there(connection: &Connection, name: &str) -> Result<bool> {
    let sql = format!(
        "SELECT count() FROM system.tables WHERE database = {} AND name = {}",
        literal(connection.database()),
        literal(name),
    );
    let what = format!("cannot look for the table `{name}`");
    let count = connection.text(&sql, &what).await?;
    let count: u64 = count
        .parse()
        .map_err(|error| Error::new(ErrorKind::Unreachable, what).with_source(error))?;
    Ok(count > 0)
}
