//! What makes and alters the tables.

use crate::sql::{identifier, literal};

use super::{Column, TableName};

/// Makes the event table, unless it is there.
pub fn create_records(
    database: &str,
    table: &TableName,
    window: u64,
    ttl_days: Option<u32>,
    comment: &str,
) -> String {
    let ttl = ttl_days.map(|days| format!("TTL {}\n", ttl(days))).unwrap_or_default();
    format!(
        "CREATE TABLE IF NOT EXISTS {}.{} (\n\
         \x20 ts              DateTime64(3, 'UTC') CODEC(Delta, ZSTD),\n\
         \x20 event_type      LowCardinality(String),\n\
         \x20 source          LowCardinality(String),\n\
         \x20 ns_db           LowCardinality(String),\n\
         \x20 ns_coll         LowCardinality(String),\n\
         \x20 idempotency_key String,\n\
         \x20 tags            JSON,\n\
         \x20 attrs           JSON,\n\
         \x20 doc_id          String,\n\
         \x20 op              LowCardinality(String),\n\
         \x20 version         UInt128,\n\
         \x20 raw             String CODEC(ZSTD(3)),\n\
         \x20 superseded      Bool,\n\
         \x20 _topic          LowCardinality(String),\n\
         \x20 _partition      UInt32,\n\
         \x20 _offset         UInt64,\n\
         \x20 _epoch          LowCardinality(String),\n\
         \x20 _mapping        LowCardinality(String),\n\
         \x20 _ingested_at    DateTime64(3, 'UTC') DEFAULT now64(3),\n\
         \x20 INDEX by_offset _offset TYPE minmax GRANULARITY 1,\n\
         \x20 INDEX by_doc    doc_id  TYPE bloom_filter GRANULARITY 4\n\
         ) ENGINE = MergeTree\n\
         PARTITION BY toYYYYMM(ts)\n\
         ORDER BY (ts, event_type, ns_db, ns_coll)\n\
         {ttl}SETTINGS non_replicated_deduplication_window = {window}\n\
         COMMENT {}",
        identifier(database),
        identifier(table.as_str()),
        literal(comment),
    )
}

/// Makes the table of change events as they are, unless it is there.
pub fn create_raw_cdc(
    database: &str,
    table: &TableName,
    window: u64,
    ttl_days: Option<u32>,
    comment: &str,
) -> String {
    let ttl = ttl_days.map(|days| format!("TTL {}\n", ttl(days))).unwrap_or_default();
    format!(
        "CREATE TABLE IF NOT EXISTS {}.{} (\n\
         \x20 ts           DateTime64(3, 'UTC') CODEC(Delta, ZSTD),\n\
         \x20 op           LowCardinality(String),\n\
         \x20 ns_db        LowCardinality(String),\n\
         \x20 ns_coll      LowCardinality(String),\n\
         \x20 doc_id       String,\n\
         \x20 version      UInt128,\n\
         \x20 event        String CODEC(ZSTD(3)),\n\
         \x20 _topic       LowCardinality(String),\n\
         \x20 _partition   UInt32,\n\
         \x20 _offset      UInt64,\n\
         \x20 _epoch       LowCardinality(String),\n\
         \x20 _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),\n\
         \x20 INDEX by_offset _offset TYPE minmax GRANULARITY 1,\n\
         \x20 INDEX by_doc    doc_id  TYPE bloom_filter GRANULARITY 4\n\
         ) ENGINE = MergeTree\n\
         PARTITION BY toYYYYMM(ts)\n\
         ORDER BY (ts, op, ns_db, ns_coll)\n\
         {ttl}SETTINGS non_replicated_deduplication_window = {window}\n\
         COMMENT {}",
        identifier(database),
        identifier(table.as_str()),
        literal(comment),
    )
}

/// Makes the table of dead letters, unless it is there.
pub fn create_dead_letters(
    database: &str,
    table: &TableName,
    window: u64,
    comment: &str,
) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {}.{} (\n\
         \x20 ts           DateTime64(3, 'UTC') CODEC(Delta, ZSTD),\n\
         \x20 reason       LowCardinality(String),\n\
         \x20 error        String,\n\
         \x20 ns_db        LowCardinality(String),\n\
         \x20 ns_coll      LowCardinality(String),\n\
         \x20 doc_id       String,\n\
         \x20 op           LowCardinality(String),\n\
         \x20 version      UInt128,\n\
         \x20 event        String CODEC(ZSTD(3)),\n\
         \x20 _topic       LowCardinality(String),\n\
         \x20 _partition   UInt32,\n\
         \x20 _offset      UInt64,\n\
         \x20 _epoch       LowCardinality(String),\n\
         \x20 _mapping     LowCardinality(String),\n\
         \x20 _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)\n\
         ) ENGINE = MergeTree\n\
         PARTITION BY toYYYYMM(ts)\n\
         ORDER BY ts\n\
         SETTINGS non_replicated_deduplication_window = {window}\n\
         COMMENT {}",
        identifier(database),
        identifier(table.as_str()),
        literal(comment),
    )
}

/// Makes a current-state table, unless it is there.
pub fn create_current(database: &str, table: &TableName, comment: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {}.{} (\n\
         \x20 _id         String,\n\
         \x20 doc         JSON,\n\
         \x20 _bson       String CODEC(ZSTD),\n\
         \x20 _hash       UInt64,\n\
         \x20 _version    UInt128,\n\
         \x20 _is_deleted UInt8,\n\
         \x20 _partition  UInt32\n\
         ) ENGINE = ReplacingMergeTree(_version, _is_deleted)\n\
         ORDER BY _id\n\
         COMMENT {}",
        identifier(database),
        identifier(table.as_str()),
        literal(comment),
    )
}

/// Makes the view of a current-state table that hides deletes and old versions.
pub fn create_current_view(database: &str, table: &TableName) -> String {
    format!(
        "CREATE VIEW IF NOT EXISTS {database}.{} AS\n\
         SELECT * FROM {database}.{} FINAL WHERE _is_deleted = 0",
        identifier(table.view().as_str()),
        identifier(table.as_str()),
        database = identifier(database),
    )
}

/// The statement that gives an existing event table its deduplication window.
pub fn set_window(database: &str, table: &TableName, window: u64) -> String {
    format!(
        "ALTER TABLE {}.{} MODIFY SETTING non_replicated_deduplication_window = {window}",
        identifier(database),
        identifier(table.as_str()),
    )
}

/// When event rows go.
fn ttl(days: u32) -> String {
    format!("toDateTime(ts) + toIntervalDay({days})")
}

/// After how many days event rows go, read from a description of their table.
pub fn ttl_of(engine_full: &str) -> Option<u32> {
    let (_, rest) = engine_full.split_once(" TTL toDateTime(ts) + toIntervalDay(")?;
    rest.split_once(')')?.0.parse().ok()
}

/// The statement that changes after how many days event rows go.
pub fn set_ttl(database: &str, table: &TableName, days: u32) -> String {
    format!(
        "ALTER TABLE {}.{} MODIFY TTL {}",
        identifier(database),
        identifier(table.as_str()),
        ttl(days),
    )
}

/// The statement that gives an existing table another comment.
pub fn set_comment(database: &str, table: &TableName, comment: &str) -> String {
    format!(
        "ALTER TABLE {}.{} MODIFY COMMENT {}",
        identifier(database),
        identifier(table.as_str()),
        literal(comment),
    )
}

/// The statement that adds a missing column.
pub fn add_column(database: &str, table: &TableName, column: Column) -> String {
    format!(
        "ALTER TABLE {}.{} ADD COLUMN {} {}",
        identifier(database),
        identifier(table.as_str()),
        identifier(column.0),
        column.1,
    )
}
