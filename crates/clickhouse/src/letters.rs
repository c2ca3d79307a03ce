//! Letters: what the table of dead letters holds, and which events have a row all the same.

use std::collections::BTreeSet;

use serde::Deserialize;
use tailwater_core::Result;
use tailwater_core::position::Millis;
use tailwater_core::sql::literal;
use tailwater_core::table::{self, DEAD_LETTERS, TableName};

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
    #[serde(rename = "ns_db_text")]
    pub ns_db: String,
    /// The collection.
    #[serde(rename = "ns_coll_text")]
    pub ns_coll: String,
    /// The document.
    #[serde(rename = "doc_id_text")]
    pub doc_id: String,
    /// What happened to it.
    #[serde(rename = "op_text")]
    pub op: String,
    /// 1 where the event is UTF-8.
    pub is_text: u8,
    /// The event, where it was asked for: as it is, or as hex digits where it is no UTF-8.
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

/// Of so many bytes are the names that are asked for at once: the server reads no longer query than
/// 256 KB.
const NAMES: usize = 64 << 10;

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
    for some in chunks(events) {
        let sql = table::keys_with_rows(connection.database(), records, some);
        let what = format!("cannot look for rows in `{records}`");
        let rows: Vec<Row> = connection.rows(&sql, &what).await?;
        found.extend(rows.into_iter().map(|row| row.idempotency_key));
    }
    Ok(found)
}

/// In parts of about [`NAMES`] bytes.
fn chunks(events: &[(String, String)]) -> Vec<&[(String, String)]> {
    let (mut parts, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (at, (doc_id, key)) in events.iter().enumerate() {
        bytes += doc_id.len() + key.len();
        if bytes >= NAMES || at + 1 == events.len() {
            parts.push(&events[first..=at]);
            (first, bytes) = (at + 1, 0);
        }
    }
    parts
}

async fn is_there(connection: &Connection, name: &str) -> Result<bool> {
    let sql = format!(
        "SELECT count() FROM system.tables WHERE database = {} AND name = {}",
        literal(connection.database()),
        literal(name),
    );
    let what = format!("cannot look for the table `{name}`");
    Ok(connection.text(&sql, &what).await? != "0")
}
