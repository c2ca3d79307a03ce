//! Feed: the view that reads messages, and what it reads them into. Columns of an event, or the reason
//! why there is none: the views behind it only choose.

use std::fmt::Write as _;

use crate::sql::{identifier, literal};
use crate::table::RECORD_COLUMNS;

/// How JSON is read into JSON columns.
const JSON_SETTINGS: [(&str, u8); 8] = [
    // A key with a dot is one key; text that looks like a date stays text.
    ("json_type_escape_dots_in_keys", 1),
    ("input_format_try_infer_dates", 0),
    ("input_format_try_infer_datetimes", 0),
    // In an array each item keeps its type.
    ("input_format_json_read_bools_as_numbers", 0),
    ("input_format_json_read_bools_as_strings", 0),
    ("input_format_json_read_numbers_as_strings", 0),
    ("input_format_json_read_arrays_as_strings", 0),
    // A view must not fail: of equal names one counts.
    ("type_json_skip_duplicated_paths", 1),
];

/// Makes the table between the feed and the views behind it, which keeps nothing.
pub(super) fn create(table: &str) -> String {
    let columns =
        RECORD_COLUMNS.iter().map(|(name, kind)| format!("  {} {kind}", identifier(name)));
    let more = ["value", "reason", "error"].map(|name| format!("  {name} String"));
    let columns: Vec<String> = columns.chain(more).collect();
    format!("CREATE TABLE {table} (\n{}\n) ENGINE = Null", columns.join(",\n"))
}

/// Why a message is no event: condition, reason, error. The first that holds counts.
pub(super) type Complaint = (String, &'static str, String);

/// The select of a feed: `with` names what `columns` and `complaints` use. A column that only a sound
/// event has is empty otherwise.
pub(super) fn select(
    from: &str,
    with: &[(&str, String)],
    complaints: &[Complaint],
    columns: &[(&str, String)],
    condition: Option<&str>,
) -> String {
    let arms = |of: fn(&Complaint) -> &str| {
        complaints.iter().fold(String::new(), |mut arms, complaint| {
            let written = writeln!(arms, "    {}, {},", complaint.0, literal(of(complaint)));
            debug_assert!(written.is_ok(), "a String takes everything");
            arms
        })
    };
    let mut sql = String::from("WITH\n");
    let reason = format!("multiIf(\n{}    '')", arms(|complaint| complaint.1));
    let error = format!("multiIf(\n{}    '')", arms(|complaint| &complaint.2));
    let with = with.iter().map(|(name, value)| format!("  {value} AS {name}"));
    let why = [format!("  {reason} AS why"), format!("  {error} AS why_exactly")];
    sql.push_str(&with.chain(why).collect::<Vec<_>>().join(",\n"));
    sql.push_str("\nSELECT\n");
    let at = "ifNull(_timestamp_ms, fromUnixTimestamp64Milli(toInt64(0), 'UTC'))";
    let column = |name: &str| match (name, columns.iter().find(|(of, _)| *of == name)) {
        ("ts", Some((_, value))) => format!("if(why = '', ifNull({value}, {at}), {at})"),
        ("tags" | "attrs", Some((_, value))) => value.clone(),
        ("version" | "superseded", Some((_, value))) => format!("if(why = '', {value}, 0)"),
        (_, Some((_, value))) => format!("if(why = '', {value}, '')"),
        ("source", None) => "'mongo'".to_owned(),
        ("_epoch", None) => "''".to_owned(),
        // Virtual columns of the Kafka engine.
        (name, None) => name.to_owned(),
    };
    let mut all: Vec<String> = RECORD_COLUMNS
        .iter()
        .map(|(name, _)| match column(name) {
            value if value == *name => format!("  {name}"),
            value => format!("  {value} AS {name}"),
        })
        .collect();
    all.extend(["  value", "  why AS reason", "  why_exactly AS error"].map(str::to_owned));
    sql.push_str(&all.join(",\n"));
    let settings = JSON_SETTINGS.map(|(name, value)| format!("{name} = {value}")).join(", ");
    let condition = condition.map(|it| format!("\nWHERE {it}")).unwrap_or_default();
    let written = write!(sql, "\nFROM {from}{condition}\nSETTINGS {settings}");
    debug_assert!(written.is_ok(), "a String takes everything");
    sql
}

/// A header of the message, or an empty text.
pub(super) fn header(name: &str) -> String {
    format!("_headers.value[indexOf(_headers.name, {})]", literal(name))
}

/// The time that a number of milliseconds is.
pub(super) fn millis(number: &str) -> String {
    format!("fromUnixTimestamp64Milli({number}, 'UTC')")
}
