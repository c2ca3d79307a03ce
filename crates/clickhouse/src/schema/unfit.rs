//! Unfit: what of a table that is there does not fit, and what mends it. It looks and changes nothing.

use serde::Deserialize;
use tailwater_core::rows::{Append, Namespace};
use tailwater_core::sql::literal;
use tailwater_core::table::{self, Column, TableName};
use tailwater_core::{Error, ErrorKind, Result};

use super::views::{Views, views};
use super::{COMMENT, Wanted, comment_of, comment_of_current};
use crate::Connection;

/// What does not fit.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) why: String,
    pub(super) mend: Mend,
}

/// What mends it.
#[derive(Debug)]
pub(super) enum Mend {
    /// A statement. It changes no row; that of a shorter time to live drops old ones.
    Statement(String),
    /// Somebody who decides.
    Hint(String),
}

impl Unfit {
    fn by_statement(why: impl Into<String>, statement: String) -> Self {
        Self { why: why.into(), mend: Mend::Statement(statement) }
    }

    fn by_hand(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), mend: Mend::Hint(hint.into()) }
    }
}

impl From<Unfit> for Error {
    fn from(Unfit { why, mend }: Unfit) -> Self {
        Self::new(ErrorKind::Unsuitable, why).with_hint(match mend {
            Mend::Statement(statement) => format!("run: {statement}"),
            Mend::Hint(hint) => hint,
        })
    }
}

/// The first thing that does not fit, as an error.
pub(super) fn refuse(unfit: Vec<Unfit>) -> Result<()> {
    unfit.into_iter().next().map_or(Ok(()), |first| Err(first.into()))
}

#[derive(Debug, Deserialize)]
struct ColumnRow {
    name: String,
    r#type: String,
}

/// What does not fit of the columns of a table.
async fn of_columns(
    connection: &Connection,
    table: &TableName,
    wanted: &'static [Column],
) -> Result<Vec<Unfit>> {
    let database = connection.database();
    let sql = format!(
        "SELECT name, type FROM system.columns WHERE database = {} AND table = {}",
        literal(database),
        literal(table.as_str()),
    );
    let what = format!("cannot read the columns of `{table}`");
    let found: Vec<ColumnRow> = connection.rows(&sql, &what).await?;
    let unfit = |column: &Column| {
        let (name, kind) = column;
        match found.iter().find(|found| found.name == *name) {
            Some(found) if compatible(&found.r#type, kind) => None,
            Some(found) => Some(Unfit::by_hand(
                format!("column `{name}` of `{table}` is {}, not {kind}", found.r#type),
                "rename the table or the column; Tailwater makes a fitting one",
            )),
            None => Some(Unfit::by_statement(
                format!("the table `{table}` has no column `{name}`"),
                table::add_column(database, table, *column),
            )),
        }
    };
    Ok(wanted.iter().filter_map(unfit).collect())
}

/// A user may give a JSON column hints, and a string column another dictionary.
fn compatible(found: &str, wanted: &str) -> bool {
    let plain = |kind: &str| {
        kind.strip_prefix("LowCardinality(")
            .and_then(|k| k.strip_suffix(')'))
            .unwrap_or(kind)
            .to_owned()
    };
    found == wanted
        || plain(found) == plain(wanted)
        || (wanted == "JSON" && found.starts_with("JSON("))
}

#[derive(Debug, Deserialize)]
pub(super) struct EngineRow {
    pub(super) engine: String,
    engine_full: String,
    pub(super) comment: String,
}

/// The engine of a table; `None`: there is no such table.
pub(super) async fn engine(
    connection: &Connection,
    table: &TableName,
) -> Result<Option<EngineRow>> {
    let sql = format!(
        "SELECT engine, engine_full, comment FROM system.tables \
          WHERE database = {} AND name = {}",
        literal(connection.database()),
        literal(table.as_str()),
    );
    let what = format!("cannot read the engine of `{table}`");
    Ok(connection.rows(&sql, &what).await?.into_iter().next())
}

/// A table that was made and is not there.
pub(super) fn gone(table: &TableName) -> Error {
    let what = format!("cannot read the engine of `{table}`: it is gone");
    Error::new(ErrorKind::Unsuitable, what)
}

/// Two that write to one table could not tell their rows apart.
fn of_owner(
    connection: &Connection,
    table: &TableName,
    found: &str,
    comment: &str,
) -> Option<Unfit> {
    if found == comment || !found.starts_with(COMMENT) {
        return None;
    }
    let owner = |comment: &str| comment.trim_start_matches(COMMENT).to_owned();
    let mend = table::set_comment(connection.database(), table, comment);
    Some(Unfit::by_hand(
        format!("the table `{table}` belongs to {}, not to {}", owner(found), owner(comment)),
        format!(
            "use another database or another table; or, if nothing else writes to it, run: {mend}"
        ),
    ))
}

/// What does not fit of when the rows of a table go.
fn of_ttl(
    connection: &Connection,
    table: &TableName,
    found: Option<u32>,
    wanted: Option<u32>,
) -> Option<Unfit> {
    let days = wanted.filter(|_| wanted != found)?;
    let mend = table::set_ttl(connection.database(), table, days);
    let found = found.map_or("its rows stay".to_owned(), |days| format!("after {days} days"));
    let why = format!("rows of `{table}` should go after {days} days, and the table says: {found}");
    Some(Unfit::by_statement(why, mend))
}

/// What is found out of one append table.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) window: u64,
    pub(super) ttl_days: Option<u32>,
    pub(super) unfit: Vec<Unfit>,
    pub(super) views: Views,
}

/// Looks at an append table; `None`: it is not there.
pub(super) async fn look(
    connection: &Connection,
    of: Append,
    table: &TableName,
    wanted: &Wanted,
) -> Result<Option<Found>> {
    let Some(row) = engine(connection, table).await? else { return Ok(None) };
    let columns = match of {
        Append::Records => table::RECORD_COLUMNS,
        Append::RawCdc => table::RAW_CDC_COLUMNS,
        Append::DeadLetters => table::DEAD_LETTER_COLUMNS,
    };
    let comment = comment_of(&wanted.pipeline);
    let ttl_days = table::ttl_of(&row.engine_full);
    let mut unfit = of_columns(connection, table, columns).await?;
    unfit.extend(of_owner(connection, table, &row.comment, &comment));
    let (window, of_engine) = of_append(connection, table, &row, wanted.window).await?;
    unfit.extend(of_engine);
    if of != Append::DeadLetters {
        unfit.extend(of_ttl(connection, table, ttl_days, wanted.ttl_days));
    }
    let views = views(connection, table).await?;
    Ok(Some(Found { window, ttl_days, unfit, views }))
}

/// Looks at a current-state table; `None`: it is not there.
pub(super) async fn look_current(
    connection: &Connection,
    table: &TableName,
    namespace: &Namespace,
) -> Result<Option<Vec<Unfit>>> {
    let Some(row) = engine(connection, table).await? else { return Ok(None) };
    let mut unfit = of_columns(connection, table, table::CURRENT_COLUMNS).await?;
    unfit.extend(of_owner(connection, table, &row.comment, &comment_of_current(namespace)));
    let EngineRow { engine, engine_full, .. } = row;
    if !(engine.ends_with("ReplacingMergeTree") && engine_full.contains("_version, _is_deleted")) {
        unfit.push(Unfit::by_hand(
            format!("the table `{table}` is not a ReplacingMergeTree(_version, _is_deleted)"),
            "rename it; Tailwater makes a fitting one",
        ));
    }
    Ok(Some(unfit))
}

/// How many blocks an append table remembers, which are to be `wanted`, and what does not fit of that.
async fn of_append(
    connection: &Connection,
    table: &TableName,
    row: &EngineRow,
    wanted: u64,
) -> Result<(u64, Option<Unfit>)> {
    let setting = match row.engine.as_str() {
        "MergeTree" => "non_replicated_deduplication_window",
        other => {
            let unfit = match other {
                "ReplicatedMergeTree" | "SharedMergeTree" => Unfit::by_hand(
                    format!(
                        "the table `{table}` is replicated: another replica may not show what was written"
                    ),
                    "use a MergeTree on one server; replicated tables are not supported yet",
                ),
                other => Unfit::by_hand(
                    format!(
                        "the table `{table}` has the engine {other}, which may drop or merge rows"
                    ),
                    "rename it; Tailwater makes a MergeTree",
                ),
            };
            return Ok((0, Some(unfit)));
        }
    };
    let window = match setting_of(&row.engine_full, setting) {
        Some(window) => window,
        None => {
            let sql = format!(
                "SELECT value FROM system.merge_tree_settings WHERE name = {}",
                literal(setting)
            );
            let value = connection.text(&sql, "cannot read ClickHouse's table settings").await?;
            value.parse().unwrap_or(0)
        }
    };
    let unfit = (window < wanted).then(|| {
        let mend = table::set_window(connection.database(), table, wanted);
        let why = match window {
            0 => format!(
                "the table `{table}` has no deduplication window: a repeated insert would stay twice"
            ),
            _ => format!(
                "the deduplication window of `{table}` is {window} blocks, not the {wanted} of `deduplication_window`"
            ),
        };
        Unfit::by_statement(why, mend)
    });
    Ok((window, unfit))
}

/// The value of a setting in `… SETTINGS name = 1, other = 2`.
fn setting_of(engine_full: &str, name: &str) -> Option<u64> {
    let settings = engine_full.split_once(" SETTINGS ")?.1;
    let value =
        settings.split(", ").find_map(|setting| setting.strip_prefix(name)?.strip_prefix(" = "))?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_by_its_whole_name() {
        let full = "MergeTree ORDER BY ts SETTINGS replicated_deduplication_window = 5, \
                    non_replicated_deduplication_window = 100, index_granularity = 8192";
        assert_eq!(setting_of(full, "non_replicated_deduplication_window"), Some(100));
        assert_eq!(setting_of(full, "replicated_deduplication_window"), Some(5));
        assert_eq!(setting_of(full, "window"), None);
        assert_eq!(setting_of("MergeTree ORDER BY ts", "window"), None);
    }

    #[test]
    fn types_that_hold_the_same_values_fit() {
        for (found, wanted, fits) in [
            ("String", "LowCardinality(String)", true),
            ("JSON(a Int64)", "JSON", true),
            ("Object('json')", "JSON", false),
            ("DateTime", "DateTime64(3, 'UTC')", false),
        ] {
            assert_eq!(compatible(found, wanted), fits, "{found} for {wanted}");
        }
    }
}
