//! The table of gap records.

use crate::gap::GapRecord;
use crate::position::Millis;
use crate::sql::{identifier, literal};

/// The table of gap records.
pub const GAPS: &str = "tailwater_gaps";

/// Makes the table of gap records, unless it is there.
pub fn create_gaps(database: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {}.{} (\n\
         \x20 id                String,\n\
         \x20 lane              LowCardinality(String),\n\
         \x20 opened_at         DateTime64(3, 'UTC'),\n\
         \x20 closed_at         Nullable(DateTime64(3, 'UTC')),\n\
         \x20 from_ts           Nullable(DateTime64(3, 'UTC')),\n\
         \x20 to_ts             Nullable(DateTime64(3, 'UTC')),\n\
         \x20 from_cluster_time Nullable(UInt64),\n\
         \x20 to_cluster_time   Nullable(UInt64),\n\
         \x20 from_offset       Nullable(UInt64),\n\
         \x20 to_offset         Nullable(UInt64),\n\
         \x20 namespaces        Array(String),\n\
         \x20 reason            LowCardinality(String),\n\
         \x20 repair            String\n\
         ) ENGINE = ReplacingMergeTree\n\
         ORDER BY id",
        identifier(database),
        identifier(GAPS),
    )
}

/// Adds a gap record, unless it is there.
pub fn record_gap(database: &str, gap: &GapRecord) -> String {
    let time = |millis: Option<Millis>| {
        millis.map_or("NULL".to_owned(), |Millis(millis)| {
            format!("fromUnixTimestamp64Milli(toInt64({millis}), 'UTC')")
        })
    };
    let number = |number: Option<u64>| number.map_or("NULL".to_owned(), |n| n.to_string());
    let (from, to) = gap.times;
    let names: Vec<String> = gap.names.iter().map(|name| literal(name)).collect();
    let id = literal(&gap.id);
    let table = format!("{}.{}", identifier(database), identifier(GAPS));
    format!(
        "INSERT INTO {table} SELECT {id}, {}, {}, NULL, {}, {}, {}, {}, {}, {}, \
         CAST([{}], 'Array(String)'), {}, {} WHERE {id} NOT IN (SELECT id FROM {table})",
        literal(&gap.lane),
        time(Some(gap.opened_at)),
        time(from),
        time(to),
        number(gap.cluster_times.0),
        number(gap.cluster_times.1),
        number(gap.events.map(|(first, _)| first.0)),
        number(gap.events.map(|(_, last)| last.0)),
        names.join(", "),
        literal(&gap.reason),
        literal(&gap.repair),
    )
}

/// Asks for the last records of gaps that are open, the newest first.
pub fn last_gaps(database: &str, count: usize) -> String {
    format!(
        "SELECT id, lane, reason, toUnixTimestamp64Milli(from_ts) AS from_ms, \
         toUnixTimestamp64Milli(to_ts) AS to_ms, from_cluster_time, to_cluster_time, from_offset, \
         to_offset, namespaces, repair, toUnixTimestamp64Milli(opened_at) AS opened_ms \
         FROM {}.{} FINAL WHERE closed_at IS NULL ORDER BY opened_at DESC LIMIT {count}",
        identifier(database),
        identifier(GAPS),
    )
}
