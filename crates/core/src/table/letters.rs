//! What reads the dead letters, and finds out which events have a row.

use crate::position::Millis;
use crate::sql::{identifier, literal};

use super::TableName;

/// The table of dead letters.
pub const DEAD_LETTERS: &str = "tailwater_dead_letters";

/// Asks for dead letters, the oldest first: all, or those of a reason, since a time, at a place
/// (topic, partition, offset); with their events or the length of these alone.
pub fn letters(
    database: &str,
    (reason, since): (Option<&str>, Option<Millis>),
    place: Option<(&str, u32, u64)>,
    with_events: bool,
) -> String {
    let mut conditions = vec!["1".to_owned()];
    conditions.extend(reason.map(|reason| format!("reason = {}", literal(reason))));
    conditions.extend(
        since.map(|Millis(since)| {
            format!("ts >= fromUnixTimestamp64Milli(toInt64({since}), 'UTC')")
        }),
    );
    conditions.extend(place.map(|(topic, partition, offset)| {
        let topic = literal(topic);
        format!("_topic = {topic} AND _partition = {partition} AND _offset = {offset}")
    }));
    let content = if with_events { "if(is_text, event, lower(hex(event)))" } else { "''" };
    let text = |name: &str| format!("toValidUTF8({name}) AS {name}_text");
    format!(
        "SELECT toUnixTimestamp64Milli(ts) AS ts_ms, reason, error, {}, {}, {}, {}, isValidUTF8(event) AS is_text, \
         {content} AS content, length(event) AS bytes, _topic, _partition, _offset, _epoch FROM {}.{} WHERE {} \
         ORDER BY ts, _topic, _partition, _offset",
        text("ns_db"),
        text("ns_coll"),
        text("doc_id"),
        text("op"),
        identifier(database),
        identifier(DEAD_LETTERS),
        conditions.join(" AND "),
    )
}

/// Asks which of some events, each by its document and its key, have a row in the event table.
pub fn keys_with_rows(database: &str, records: &TableName, events: &[(String, String)]) -> String {
    let list = |of: fn(&(String, String)) -> &String| {
        events.iter().map(|event| literal(of(event))).collect::<Vec<_>>().join(", ")
    };
    format!(
        "SELECT DISTINCT idempotency_key FROM {}.{} \
         WHERE doc_id IN ({}) AND idempotency_key IN ({})",
        identifier(database),
        identifier(records.as_str()),
        list(|(doc_id, _)| doc_id),
        list(|(_, key)| key),
    )
}
