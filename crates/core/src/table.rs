//! Tables: their names, their columns, and the SQL that makes, reads and ends them.
//!
//! | file | what |
//! |---|---|
//! | `create` | DDL |
//! | `read_back` | which rows are there |
//! | `ends` | dropped and renamed collections |
//! | `gaps` | gap records |
//! | `letters` | dead letters, read |

mod create;
mod ends;
mod gaps;
mod letters;
mod read_back;

use std::fmt;

use crate::sql::identifier;

pub use self::create::{
    add_column, create_current, create_current_view, create_dead_letters, create_raw_cdc,
    create_records, set_comment, set_ttl, set_window, ttl_of,
};
pub use self::ends::{copy_all, end_all, first_end_behind, note_copy, note_end, was_copied};
pub use self::gaps::{GAPS, create_gaps, last_gaps, record_gap};
pub use self::letters::{DEAD_LETTERS, keys_with_rows, letters};
pub use self::read_back::{RowsOf, another_epoch, count_from, greatest_offset, read_back};

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

/// The columns of the table of change events as they are that Tailwater writes, in order.
pub const RAW_CDC_COLUMNS: &[Column] = &[
    ("ts", "DateTime64(3, 'UTC')"),
    ("op", "LowCardinality(String)"),
    ("ns_db", "LowCardinality(String)"),
    ("ns_coll", "LowCardinality(String)"),
    ("doc_id", "String"),
    ("version", "UInt128"),
    ("event", "String"),
    ("_topic", "LowCardinality(String)"),
    ("_partition", "UInt32"),
    ("_offset", "UInt64"),
    ("_epoch", "LowCardinality(String)"),
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
