//! Ends of collections in their current-state tables.
//!
//! A stream ends all rows of a collection at once. A topic's partitions are lanes of their own, each
//! at its own place: a lane ends, and copies, the rows of its own `_partition` alone. What a lane of
//! the old name copies may come after the new name ended again, in lanes of another topic. So each
//! of those notes where it ended a collection before it looks for rows to end, and each that copies
//! looks behind it for such notes: whichever is later sees the other's.

use crate::rows::Namespace;
use crate::sql::{identifier, literal};

use super::TableName;

/// `, and of this partition alone`.
fn of(partition: Option<u32>) -> String {
    partition.map_or(String::new(), |partition| format!(" AND _partition = {partition}"))
}

fn full(database: &str, table: &TableName) -> String {
    format!("{}.{}", identifier(database), identifier(table.as_str()))
}

/// Writes a tombstone for every document of a current-state table that is older than `version`; of
/// one partition, or of all.
pub fn end_all(database: &str, table: &TableName, version: u128, partition: Option<u32>) -> String {
    let table = full(database, table);
    let inner = partition.map_or(String::new(), |it| format!("WHERE _partition = {it} "));
    format!(
        "INSERT INTO {table} (_id, doc, _bson, _hash, _version, _is_deleted, _partition) \
         SELECT _id, CAST('{{}}', 'JSON'), '', 0, toUInt128('{version}'), 1, _partition FROM \
         (SELECT _id, _version, _is_deleted, _partition FROM {table} \
         {inner}ORDER BY _id, _version DESC LIMIT 1 BY _id) \
         WHERE _is_deleted = 0 AND _version < toUInt128('{version}')",
    )
}

/// Copies what one current-state table held before `version` into another, as of `version`; of one
/// partition, or of all.
pub fn copy_all(
    database: &str,
    from: &TableName,
    to: &TableName,
    version: u128,
    partition: Option<u32>,
) -> String {
    let (from, to) = (full(database, from), full(database, to));
    let of = of(partition);
    // What ended with this very version has been copied.
    let until = if partition.is_some() { "<=" } else { "<" };
    format!(
        "INSERT INTO {to} (_id, doc, _bson, _hash, _version, _is_deleted, _partition) \
         SELECT _id, doc, _bson, _hash, toUInt128('{version}'), 0, _partition FROM \
         (SELECT * FROM {from} WHERE _version {until} toUInt128('{version}'){of} \
         ORDER BY _id, _version DESC LIMIT 1 BY _id) WHERE _is_deleted = 0",
    )
}

/// The `_id` of the row that tells up to which version a collection was renamed away. No document
/// has it, nor the others here: what begins with a quote ends with one.
fn renamed(partition: Option<u32>) -> String {
    partition.map_or("\"renamed".to_owned(), |partition| format!("\"renamed {partition}"))
}

/// Whether a collection was copied to its new name before, as of `version` or later.
pub fn was_copied(
    database: &str,
    from: &TableName,
    version: u128,
    partition: Option<u32>,
) -> String {
    format!(
        "SELECT count() FROM {} WHERE _id = {} AND _version >= toUInt128('{version}')",
        full(database, from),
        literal(&renamed(partition)),
    )
}

/// Notes that a collection was copied to its new name.
pub fn note_copy(
    database: &str,
    from: &TableName,
    version: u128,
    partition: Option<u32>,
) -> String {
    note(database, from, &renamed(partition), "", version, partition)
}

/// Notes that a partition of a collection, or all of it, ended with `version`, and under which name
/// it lives on.
pub fn note_end(
    database: &str,
    table: &TableName,
    version: u128,
    partition: Option<u32>,
    renamed_to: Option<&Namespace>,
) -> String {
    let of = partition.map_or("*".to_owned(), |partition| partition.to_string());
    let to = renamed_to.map_or(String::new(), |Namespace { db, coll }| format!("{db}.{coll}"));
    note(database, table, &format!("\"ended {version} {of}"), &to, version, partition)
}

fn note(
    database: &str,
    table: &TableName,
    id: &str,
    text: &str,
    version: u128,
    partition: Option<u32>,
) -> String {
    format!(
        "INSERT INTO {} (_id, doc, _bson, _hash, _version, _is_deleted, _partition) \
         SELECT {}, CAST('{{}}', 'JSON'), {}, 0, toUInt128('{version}'), 1, {}",
        full(database, table),
        literal(id),
        literal(text),
        partition.unwrap_or(0),
    )
}

/// The first end behind `version` that is noted for a partition: `version` and `renamed_to`, which is
/// `db.coll` or empty.
pub fn first_end_behind(
    database: &str,
    table: &TableName,
    version: u128,
    partition: Option<u32>,
) -> String {
    let of = partition
        .map_or(String::new(), |it| format!(" AND (_partition = {it} OR endsWith(_id, '*'))"));
    format!(
        "SELECT toString(_version) AS version, _bson AS renamed_to FROM {} \
         WHERE startsWith(_id, '\"ended ') AND _version > toUInt128('{version}'){of} \
         ORDER BY _version LIMIT 1",
        full(database, table),
    )
}
