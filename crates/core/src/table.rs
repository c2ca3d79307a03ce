//! Tables: their names, their DDL, and what a table must be for exactly-once delivery.

use std::fmt;

use crate::gap::Gap;
use crate::position::{Epoch, LaneId, Millis, Seq};
use crate::sql::{identifier, literal};

/// The name of a table, without its database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName(String);

/// The longest name that is used as it is: file systems end at 255 bytes, and ClickHouse adds to it.
pub(crate) const LONGEST_PLAIN_NAME: usize = 150;

impl TableName {
    /// A table that is named by its user or by this project.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The current-state table of a collection: `<db>__<coll>`, with a hash of the namespace behind
    /// it where that would not be unique or too long.
    pub fn current(db: &str, coll: &str) -> Self {
        let plain = format!("{db}__{coll}");
        if db.contains("__") || coll.contains("__") || plain.len() > LONGEST_PLAIN_NAME {
            let namespace = format!("{db}.{coll}");
            let hash = twox_hash::XxHash64::oneshot(0, namespace.as_bytes()) as u32;
            let mut end = plain.len().min(LONGEST_PLAIN_NAME);
            while !plain.is_char_boundary(end) {
                end -= 1;
            }
            return Self(format!("{}__{hash:08x}", &plain[..end]));
        }
        Self(plain)
    }

    /// The view that hides deletes and old versions.
    #[must_use]
    pub fn view(&self) -> Self {
        Self(format!("{}_current", self.0))
    }

    /// The name as text, for messages and as a bound value; not for SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Blocks that the server remembers to drop second copies.
pub const DEFAULT_DEDUPLICATION_WINDOW: u64 = 10_000;

/// A column of a table: its name and type.
pub type Column = (&'static str, &'static str);

/// The columns of an event table that Tailwater writes, in order.
pub const RECORD_COLUMNS: &[Column] = &[
    ("ts", "DateTime64(3, 'UTC')"),
    ("event_type", "LowCardinality(String)"),
    ("source", "LowCardinality(String)"),
    ("ns_db", "LowCardinality(String)"),
    ("ns_coll", "LowCardinality(String)"),
    ("idempotency_key", "String"),
    ("tags", "JSON"),
    ("attrs", "JSON"),
    ("doc_id", "String"),
    ("op", "LowCardinality(String)"),
    ("version", "UInt128"),
    ("raw", "String"),
    ("superseded", "Bool"),
    ("_topic", "LowCardinality(String)"),
    ("_partition", "UInt32"),
    ("_offset", "UInt64"),
    ("_epoch", "LowCardinality(String)"),
    ("_mapping", "LowCardinality(String)"),
];

/// The columns of the dead letters that Tailwater writes, in order.
pub const DEAD_LETTER_COLUMNS: &[Column] = &[
    ("ts", "DateTime64(3, 'UTC')"),
    ("reason", "LowCardinality(String)"),
    ("error", "String"),
    ("ns_db", "LowCardinality(String)"),
    ("ns_coll", "LowCardinality(String)"),
    ("doc_id", "String"),
    ("op", "LowCardinality(String)"),
    ("version", "UInt128"),
    ("event", "String"),
    ("_topic", "LowCardinality(String)"),
    ("_partition", "UInt32"),
    ("_offset", "UInt64"),
    ("_epoch", "LowCardinality(String)"),
    ("_mapping", "LowCardinality(String)"),
];

/// The columns of a current-state table that Tailwater writes, in order.
pub const CURRENT_COLUMNS: &[Column] = &[
    ("_id", "String"),
    ("doc", "JSON"),
    ("_bson", "String"),
    ("_hash", "UInt64"),
    ("_version", "UInt128"),
    ("_is_deleted", "UInt8"),
    ("_partition", "UInt32"),
];

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
pub fn record_gap(database: &str, gap: &Gap, opened_at: Millis) -> String {
    let time = |millis: Option<Millis>| {
        millis.map_or("NULL".to_owned(), |Millis(millis)| {
            format!("fromUnixTimestamp64Milli(toInt64({millis}), 'UTC')")
        })
    };
    let number = |number: Option<u64>| number.map_or("NULL".to_owned(), |n| n.to_string());
    let (from, to) = gap.times;
    let names: Vec<String> = gap.names.iter().map(|name| literal(name)).collect();
    let id = literal(&gap.id());
    let table = format!("{}.{}", identifier(database), identifier(GAPS));
    format!(
        "INSERT INTO {table} SELECT {id}, {}, {}, NULL, {}, {}, {}, {}, {}, {}, \
         CAST([{}], 'Array(String)'), {}, {} WHERE {id} NOT IN (SELECT id FROM {table})",
        literal(&gap.lane.to_string()),
        time(Some(opened_at)),
        time(from.millis()),
        time(to.millis()),
        number(from.cluster_time()),
        number(to.cluster_time()),
        number(gap.events.map(|(first, _)| first.0)),
        number(gap.events.map(|(_, last)| last.0)),
        names.join(", "),
        literal(gap.reason.as_str()),
        literal(gap.repair),
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

/// Writes a tombstone for every document of a current-state table that is older than `version`.
pub fn end_all(database: &str, table: &TableName, version: u128) -> String {
    let table = format!("{}.{}", identifier(database), identifier(table.as_str()));
    format!(
        "INSERT INTO {table} (_id, doc, _bson, _hash, _version, _is_deleted, _partition) \
         SELECT _id, CAST('{{}}', 'JSON'), '', 0, toUInt128('{version}'), 1, _partition FROM \
         (SELECT _id, _version, _is_deleted, _partition FROM {table} \
         ORDER BY _id, _version DESC LIMIT 1 BY _id) \
         WHERE _is_deleted = 0 AND _version < toUInt128('{version}')",
    )
}

/// Copies what one current-state table held before `version` into another, as of `version`.
pub fn copy_all(database: &str, from: &TableName, to: &TableName, version: u128) -> String {
    let name =
        |table: &TableName| format!("{}.{}", identifier(database), identifier(table.as_str()));
    let (from, to) = (name(from), name(to));
    format!(
        "INSERT INTO {to} (_id, doc, _bson, _hash, _version, _is_deleted, _partition) \
         SELECT _id, doc, _bson, _hash, toUInt128('{version}'), 0, _partition FROM \
         (SELECT * FROM {from} WHERE _version < toUInt128('{version}') \
         ORDER BY _id, _version DESC LIMIT 1 BY _id) WHERE _is_deleted = 0",
    )
}

/// The `_id` of the row that tells up to which version a collection was renamed away. No document
/// has it: what begins with a quote ends with one.
const RENAMED: &str = "\"renamed";

/// Whether a collection was copied to its new name before, as of `version` or later.
pub fn was_copied(database: &str, from: &TableName, version: u128) -> String {
    format!(
        "SELECT count() FROM {}.{} WHERE _id = {} AND _version >= toUInt128('{version}')",
        identifier(database),
        identifier(from.as_str()),
        literal(RENAMED),
    )
}

/// Notes that a collection was copied to its new name.
pub fn note_copy(database: &str, from: &TableName, version: u128) -> String {
    format!(
        "INSERT INTO {}.{} (_id, doc, _bson, _hash, _version, _is_deleted, _partition) \
         SELECT {}, CAST('{{}}', 'JSON'), '', 0, toUInt128('{version}'), 1, 0",
        identifier(database),
        identifier(from.as_str()),
        literal(RENAMED),
    )
}

/// An insert of Native blocks into the named columns.
pub fn insert(database: &str, table: &TableName, columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| identifier(name)).collect();
    format!(
        "INSERT INTO {}.{} ({}) FORMAT Native",
        identifier(database),
        identifier(table.as_str()),
        names.join(", "),
    )
}

/// By what a row's event is known, whatever number it has; see [`crate::rows::Identity`].
const IDENTITY: &str =
    r"xxHash64(concat(ns_db, '\0', ns_coll, '\0', doc_id, '\0', op, '\0', toString(version)))";

/// Which events are in an event table: `_offset` and `identity`.
pub fn read_back(database: &str, table: &TableName, rows: &RowsOf<'_>) -> String {
    format!(
        "SELECT _offset, {IDENTITY} AS identity FROM {}.{} WHERE {}",
        identifier(database),
        identifier(table.as_str()),
        rows.condition(),
    )
}

/// How many rows of one lane are not older than `version`.
pub fn count_from(
    database: &str,
    table: &TableName,
    (lane, epoch): (&LaneId, Epoch),
    version: u128,
) -> String {
    format!(
        "SELECT count() FROM {}.{} WHERE _epoch = {} AND _topic = {} AND _partition = {} \
         AND version >= toUInt128('{version}')",
        identifier(database),
        identifier(table.as_str()),
        literal(&epoch.to_string()),
        literal(lane.topic()),
        lane.partition(),
    )
}

/// The epoch of some row of one lane that is not of this life; empty when there is none.
pub fn another_epoch(database: &str, table: &TableName, lane: &LaneId, epoch: Epoch) -> String {
    format!(
        "SELECT _epoch FROM {}.{} WHERE _topic = {} AND _partition = {} AND _epoch != {} LIMIT 1",
        identifier(database),
        identifier(table.as_str()),
        literal(lane.topic()),
        lane.partition(),
        literal(&epoch.to_string()),
    )
}

/// The greatest offset of one lane in an event table, from `first` on; empty when there is none.
pub fn greatest_offset(
    database: &str,
    table: &TableName,
    (lane, epoch): (&LaneId, Epoch),
    first: Seq,
) -> String {
    format!(
        "SELECT max(_offset) FROM {}.{} WHERE _epoch = {} AND _topic = {} AND _partition = {} \
         AND _offset >= {first} HAVING count() > 0",
        identifier(database),
        identifier(table.as_str()),
        literal(&epoch.to_string()),
        literal(lane.topic()),
        lane.partition(),
    )
}

/// The rows of one Range in an event table.
#[derive(Debug, Clone, Copy)]
pub struct RowsOf<'a> {
    /// `_epoch`.
    pub epoch: &'a str,
    /// `_topic`.
    pub topic: &'a str,
    /// `_partition`.
    pub partition: u32,
    /// The first and the last `_offset`; `None`: any.
    pub offsets: Option<(u64, u64)>,
    /// The least and the greatest `ts`, in milliseconds.
    pub ts: (i64, i64),
}

impl RowsOf<'_> {
    fn condition(&self) -> String {
        let offsets = self.offsets.map_or(String::new(), |(first, last)| {
            format!("AND _offset BETWEEN {first} AND {last} ")
        });
        format!(
            "_epoch = {} AND _topic = {} AND _partition = {} {offsets}\
             AND ts BETWEEN fromUnixTimestamp64Milli(toInt64({}), 'UTC') \
             AND fromUnixTimestamp64Milli(toInt64({}), 'UTC')",
            literal(self.epoch),
            literal(self.topic),
            self.partition,
            self.ts.0,
            self.ts.1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_current_table_is_named_by_its_namespace() {
        assert_eq!(TableName::current("ingest", "files").as_str(), "ingest__files");
        assert_eq!(TableName::current("a", "b.c").as_str(), "a__b.c");
        assert_eq!(TableName::current("a", "b").view().as_str(), "a__b_current");
    }

    #[test]
    fn names_that_would_meet_are_told_apart_by_a_hash() {
        let names = [("a__b", "c"), ("a", "b__c"), ("a", "b"), ("a", "__b")]
            .map(|(db, coll)| TableName::current(db, coll).0);
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name} twice");
        }
        assert_ne!(TableName::current("a__b", "c").as_str(), "a__b__c");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = TableName::current("d", &"é".repeat(100));
        assert!(name.as_str().len() <= LONGEST_PLAIN_NAME + 10, "{name}");
        assert_ne!(name, TableName::current("d", &"é".repeat(101)));
    }
}
