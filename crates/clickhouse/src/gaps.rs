//! Gaps: what the table of gap records says.

use serde::Deserialize;
use tailwater_core::gap::GapRecord;
use tailwater_core::position::{Millis, Seq};
use tailwater_core::sql::literal;
use tailwater_core::{Result, table};

use crate::Connection;

#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    lane: String,
    reason: String,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    from_cluster_time: Option<u64>,
    to_cluster_time: Option<u64>,
    from_offset: Option<u64>,
    to_offset: Option<u64>,
    namespaces: Vec<String>,
    repair: String,
    opened_ms: i64,
}

/// The last records of gaps that are open, the newest first; none where there is no table of them.
///
/// # Errors
/// Those of asking.
pub async fn last(connection: &Connection, count: usize) -> Result<Vec<GapRecord>> {
    let database = connection.database();
    let what = "cannot read the gap records";
    let there = format!(
        "SELECT count() FROM system.tables WHERE database = {} AND name = {}",
        literal(database),
        literal(table::GAPS),
    );
    if connection.text(&there, what).await? == "0" {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = connection.rows(&table::last_gaps(database, count), what).await?;
    Ok(rows
        .into_iter()
        .map(|row| GapRecord {
            id: row.id,
            lane: row.lane,
            reason: row.reason,
            times: (row.from_ms.map(Millis), row.to_ms.map(Millis)),
            cluster_times: (row.from_cluster_time, row.to_cluster_time),
            events: row.from_offset.zip(row.to_offset).map(|(a, b)| (Seq(a), Seq(b))),
            names: row.namespaces,
            repair: row.repair,
            opened_at: Millis(row.opened_ms),
        })
        .collect())
}
