//! What is asked of an append table: which rows of a Range, or of a lane, are there.

use crate::position::{Epoch, LaneId, Seq};
use crate::rows::Append;
use crate::sql::{identifier, literal};

use super::TableName;

/// By what a row's event is known, whatever number it has; see [`crate::rows::Identity`].
const IDENTITY: &str = r"if(version = 0,
xxHash64(concat('at\0', _topic, '\0', toString(_partition), '\0', toString(_offset))),
xxHash64(concat(ns_db, '\0', ns_coll, '\0', doc_id, '\0', op, '\0', toString(version))))";

/// Which events are in an append table: `_offset` and `identity`; of dead letters `reason` too.
pub fn read_back(database: &str, (of, table): (Append, &TableName), rows: &RowsOf<'_>) -> String {
    let reason = if of == Append::DeadLetters { ", reason" } else { "" };
    format!(
        "SELECT _offset, {IDENTITY} AS identity{reason} FROM {}.{} WHERE {}",
        identifier(database),
        identifier(table.as_str()),
        rows.condition(of),
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

/// The rows of one Range in an append table.
#[derive(Debug, Clone, Copy)]
pub struct RowsOf<'a> {
    /// `_epoch`.
    pub epoch: &'a str,
    /// `_topic`.
    pub topic: &'a str,
    /// `_partition`.
    pub partition: u32,
    /// The first and the last `_offset`.
    pub offsets: (u64, u64),
    /// The least and the greatest `version`, where its rows may have any number. `None`: they have not.
    pub versions: Option<(u128, u128)>,
    /// The least and the greatest `ts`, in milliseconds.
    pub ts: (i64, i64),
    /// The `_mapping` for which these hold: rows that another one made may be of any time. `None`: there
    /// are no such rows.
    pub mapping: Option<&'a str>,
}

impl RowsOf<'_> {
    fn condition(&self, of: Append) -> String {
        let (first, last) = self.offsets;
        let bounds = format!("_offset BETWEEN {first} AND {last}");
        let bounds = match self.versions {
            None => bounds,
            Some((least, greatest)) => format!(
                "({bounds} OR version BETWEEN toUInt128('{least}') AND toUInt128('{greatest}'))"
            ),
        };
        let time = format!(
            "ts BETWEEN fromUnixTimestamp64Milli(toInt64({}), 'UTC') \
             AND fromUnixTimestamp64Milli(toInt64({}), 'UTC')",
            self.ts.0, self.ts.1,
        );
        let time = match self.mapping {
            // No mapping says when a change happened.
            Some(mapping) if of != Append::RawCdc => {
                format!("({time} OR _mapping != {})", literal(mapping))
            }
            _ => time,
        };
        format!(
            "_epoch = {} AND _topic = {} AND _partition = {} AND {bounds} AND {time}",
            literal(self.epoch),
            literal(self.topic),
            self.partition,
        )
    }
}
