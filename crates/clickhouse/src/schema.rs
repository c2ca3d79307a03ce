//! Schema: makes the tables that are missing, and refuses those that cannot give exactly-once.
//!
//! It never alters a table; it says the statement that would.

use serde::Deserialize;
use tailwater_core::rows::{Append, Layout, Namespace};
use tailwater_core::sql::literal;
use tailwater_core::table::{self, Column, TableName};
use tailwater_core::{Error, ErrorKind, Result};
use tracing::{info, warn};

use crate::Connection;

/// The first version that reads flattened JSON in Native blocks.
const OLDEST_SERVER: (u32, u32) = (25, 6);

/// What a run must know of its append tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Blocks whose tokens each of them remembers, at least; 0 when that cannot be counted.
    pub window: u64,
    /// After how many days the rows of the event table go.
    pub ttl_days: Option<u32>,
    /// The same of the table of change events as they are.
    pub raw_cdc_ttl_days: Option<u32>,
}

impl Facts {
    /// After how many days the rows of a table go.
    pub const fn ttl_days(&self, table: Append) -> Option<u32> {
        match table {
            Append::Records => self.ttl_days,
            Append::RawCdc => self.raw_cdc_ttl_days,
            Append::DeadLetters => None,
        }
    }
}

/// What the event tables are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The pipeline that they belong to.
    pub pipeline: String,
    /// Blocks whose tokens they remember, at least.
    pub window: u64,
    /// Blocks whose tokens those remember that are still to be made.
    pub new_window: u64,
    /// After how many days the rows of the event table and of `raw_cdc` go.
    pub ttl_days: Option<u32>,
}

impl Wanted {
    /// Says of an append table whose it is.
    fn comment(&self) -> String {
        format!("{COMMENT}pipeline `{}`", self.pipeline)
    }
}

/// Begins the comment of every table that this project makes; what follows says whose it is.
pub(crate) const COMMENT: &str = "tailwater: ";

/// The materialized views that read from an event table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// All of them.
    pub names: Vec<String>,
    /// Those whose own table would keep a block that comes twice, with the statement that mends it.
    pub unfillable: Vec<(String, String)>,
}

/// Makes and checks the tables that rows are appended to, and that of the gap records.
///
/// # Errors
/// `Unsuitable`, with the statement that mends the table.
pub async fn prepare(connection: &Connection, layout: &Layout, wanted: &Wanted) -> Result<Facts> {
    check_names(layout)?;
    connection.ping().await?;
    check_version(connection).await?;
    let database = connection.database();
    let Wanted { new_window, ttl_days, .. } = wanted;
    let comment = wanted.comment();
    let mut facts = Facts { window: u64::MAX, ttl_days: None, raw_cdc_ttl_days: None };
    for of in Append::ALL {
        let Some(name) = layout.name(of) else { continue };
        let create = match of {
            Append::Records => {
                table::create_records(database, name, *new_window, *ttl_days, &comment)
            }
            Append::RawCdc => {
                table::create_raw_cdc(database, name, *new_window, *ttl_days, &comment)
            }
            Append::DeadLetters => {
                table::create_dead_letters(database, name, *new_window, &comment)
            }
        };
        make(connection, name, &create).await?;
        let found = check_append(connection, (of, name), wanted).await?;
        for (view, mend) in &found.views.unfillable {
            warn!(view, "a view that fails once cannot be filled again; {mend}");
        }
        facts.window = facts.window.min(found.window);
        match of {
            Append::Records => facts.ttl_days = found.ttl_days,
            Append::RawCdc => facts.raw_cdc_ttl_days = found.ttl_days,
            Append::DeadLetters => {}
        }
    }
    let gaps = TableName::new(table::GAPS);
    make(connection, &gaps, &table::create_gaps(database)).await?;
    Ok(facts)
}

/// Checks a table that rows are appended to, and that is there.
pub(crate) async fn check_append(
    connection: &Connection,
    (of, name): (Append, &TableName),
    wanted: &Wanted,
) -> Result<Found> {
    let columns = match of {
        Append::Records => table::RECORD_COLUMNS,
        Append::RawCdc => table::RAW_CDC_COLUMNS,
        Append::DeadLetters => table::DEAD_LETTER_COLUMNS,
    };
    check_columns(connection, name, columns).await?;
    let found = check_append_table(connection, name, wanted.window, &wanted.comment()).await?;
    if of != Append::DeadLetters {
        check_ttl(connection, name, found.ttl_days, wanted.ttl_days)?;
    }
    Ok(found)
}

/// Rows of two kinds in one table could not be told apart.
pub(crate) fn check_names(layout: &Layout) -> Result<()> {
    let names: Vec<_> = Append::ALL.into_iter().filter_map(|table| layout.name(table)).collect();
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    match twice {
        None => Ok(()),
        Some((_, name)) => Err(Error::new(
            ErrorKind::Unsuitable,
            format!("the table `{name}` is to hold rows of two kinds"),
        )
        .with_hint("give each of `clickhouse.tables` a name of its own")),
    }
}

/// Makes and checks the current-state table of a collection, and its view.
///
/// # Errors
/// `Unsuitable`, with the statement that mends the table.
pub async fn prepare_current(
    connection: &Connection,
    current: &TableName,
    namespace: &Namespace,
) -> Result<()> {
    let database = connection.database();
    let comment = comment_of_current(namespace);
    make(connection, current, &table::create_current(database, current, &comment)).await?;
    check_current(connection, current, namespace).await?;
    make(connection, &current.view(), &table::create_current_view(database, current)).await
}

/// Checks the current-state table of a collection, which is there.
pub(crate) async fn check_current(
    connection: &Connection,
    current: &TableName,
    namespace: &Namespace,
) -> Result<()> {
    check_columns(connection, current, table::CURRENT_COLUMNS).await?;
    check_current_table(connection, current, &comment_of_current(namespace)).await
}

fn comment_of_current(namespace: &Namespace) -> String {
    format!("{COMMENT}`{}.{}`", namespace.db, namespace.coll)
}

async fn make(connection: &Connection, table: &TableName, statement: &str) -> Result<()> {
    connection.execute(statement, &format!("cannot create the table `{table}`")).await
}

pub(crate) async fn check_version(connection: &Connection) -> Result<String> {
    let version =
        connection.text("SELECT version()", "cannot ask ClickHouse for its version").await?;
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    info!(version = %version, url = %connection.endpoint().url, "connected to clickhouse");
    match (major, minor) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_SERVER => Ok(version),
        _ => {
            let (major, minor) = OLDEST_SERVER;
            Err(Error::new(
                ErrorKind::Unsuitable,
                format!("ClickHouse {version} cannot take JSON columns as Native blocks"),
            )
            .with_hint(format!("use ClickHouse {major}.{minor} or newer")))
        }
    }
}

#[derive(Debug, Deserialize)]
struct ColumnRow {
    name: String,
    r#type: String,
}

async fn check_columns(
    connection: &Connection,
    table: &TableName,
    wanted: &'static [Column],
) -> Result<()> {
    let database = connection.database();
    let sql = format!(
        "SELECT name, type FROM system.columns WHERE database = {} AND table = {}",
        literal(database),
        literal(table.as_str()),
    );
    let what = format!("cannot read the columns of `{table}`");
    let found: Vec<ColumnRow> = connection.rows(&sql, &what).await?;
    for column @ (name, kind) in wanted {
        match found.iter().find(|found| found.name == *name) {
            Some(found) if compatible(&found.r#type, kind) => {}
            Some(found) => {
                return Err(Error::new(
                    ErrorKind::Unsuitable,
                    format!("column `{name}` of `{table}` is {}, not {kind}", found.r#type),
                )
                .with_hint("rename the table or the column; Tailwater makes a fitting one"));
            }
            None => {
                return Err(Error::new(
                    ErrorKind::Unsuitable,
                    format!("the table `{table}` has no column `{name}`"),
                )
                .with_hint(format!("run: {}", table::add_column(database, table, *column))));
            }
        }
    }
    Ok(())
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
struct EngineRow {
    engine: String,
    engine_full: String,
    comment: String,
}

async fn engine(connection: &Connection, table: &TableName) -> Result<EngineRow> {
    let sql = format!(
        "SELECT engine, engine_full, comment FROM system.tables \
          WHERE database = {} AND name = {}",
        literal(connection.database()),
        literal(table.as_str()),
    );
    let what = format!("cannot read the engine of `{table}`");
    let rows: Vec<EngineRow> = connection.rows(&sql, &what).await?;
    rows.into_iter()
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Unsuitable, format!("{what}: it is gone")))
}

/// Two that write to one table could not tell their rows apart.
fn check_owner(
    connection: &Connection,
    table: &TableName,
    found: &str,
    comment: &str,
) -> Result<()> {
    if found == comment || !found.starts_with(COMMENT) {
        return Ok(());
    }
    let owner = |comment: &str| comment.trim_start_matches(COMMENT).to_owned();
    let mend = table::set_comment(connection.database(), table, comment);
    Err(Error::new(
        ErrorKind::Unsuitable,
        format!("the table `{table}` belongs to {}, not to {}", owner(found), owner(comment)),
    )
    .with_hint(format!(
        "use another database or another table; or, if nothing else writes to it, run: {mend}"
    )))
}

fn check_ttl(
    connection: &Connection,
    table: &TableName,
    found: Option<u32>,
    wanted: Option<u32>,
) -> Result<()> {
    let Some(days) = wanted.filter(|_| wanted != found) else { return Ok(()) };
    let mend = table::set_ttl(connection.database(), table, days);
    let found = found.map_or("its rows stay".to_owned(), |days| format!("after {days} days"));
    Err(Error::new(
        ErrorKind::Unsuitable,
        format!("rows of `{table}` should go after {days} days, and the table says: {found}"),
    )
    .with_hint(format!("change `ttl_days`, or run: {mend}")))
}

/// What is found out of one append table.
pub(crate) struct Found {
    pub(crate) window: u64,
    ttl_days: Option<u32>,
    pub(crate) views: Views,
}

async fn check_append_table(
    connection: &Connection,
    table: &TableName,
    wanted: u64,
    comment: &str,
) -> Result<Found> {
    let EngineRow { engine, engine_full, comment: found } = engine(connection, table).await?;
    check_owner(connection, table, &found, comment)?;
    let setting = match engine.as_str() {
        "MergeTree" => "non_replicated_deduplication_window",
        "ReplicatedMergeTree" | "SharedMergeTree" => {
            return Err(Error::new(
                ErrorKind::Unsuitable,
                format!("the table `{table}` is replicated: another replica may not show what was written"),
            )
            .with_hint("use a MergeTree on one server; replicated tables are not supported yet"));
        }
        other => {
            return Err(Error::new(
                ErrorKind::Unsuitable,
                format!("the table `{table}` has the engine {other}, which may drop or merge rows"),
            )
            .with_hint("rename it; Tailwater makes a MergeTree"));
        }
    };
    let window = match setting_of(&engine_full, setting) {
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
    if window < wanted {
        let mend = table::set_window(connection.database(), table, wanted);
        let why = match window {
            0 => format!(
                "the table `{table}` has no deduplication window: a repeated insert would stay twice"
            ),
            _ => format!(
                "the deduplication window of `{table}` is {window} blocks, not the {wanted} of `deduplication_window`"
            ),
        };
        return Err(Error::new(ErrorKind::Unsuitable, why).with_hint(format!("run: {mend}")));
    }
    let views = views(connection, table).await?;
    Ok(Found { window, ttl_days: table::ttl_of(&engine_full), views })
}

#[derive(Debug, Deserialize)]
struct ViewRow {
    name: String,
    create_table_query: String,
}

/// The materialized views on an event table. A view may come at any time: ask when it matters.
///
/// # Errors
/// Those of asking.
pub async fn views(connection: &Connection, table: &TableName) -> Result<Views> {
    let sql = format!(
        "SELECT name, create_table_query FROM system.tables WHERE (database, name) IN \
         (SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) \
         FROM system.tables WHERE database = {} AND name = {})",
        literal(connection.database()),
        literal(table.as_str()),
    );
    let what = format!("cannot read the views on `{table}`");
    let mut views = Views::default();
    for view in connection.rows::<ViewRow>(&sql, &what).await? {
        // Without a target the view's own table is described in the same statement.
        let target = target_of(&view.create_table_query)
            .map(|(database, name)| (database.to_owned(), TableName::new(name)));
        let described = match &target {
            Some((database, name)) => {
                let sql = format!(
                    "SELECT engine_full FROM system.tables WHERE database = {} AND name = {}",
                    literal(database),
                    literal(name.as_str()),
                );
                connection.text(&sql, &what).await?
            }
            None => view.create_table_query,
        };
        if window_of(&described) == 0 {
            let window = table::DEFAULT_DEDUPLICATION_WINDOW;
            let mend = match target {
                Some((database, name)) => {
                    format!("run: {}", table::set_window(&database, &name, window))
                }
                None => format!(
                    "make it anew, with `SETTINGS non_replicated_deduplication_window = {window}` \
                     behind its engine"
                ),
            };
            views.unfillable.push((view.name.clone(), mend));
        }
        views.names.push(view.name);
    }
    Ok(views)
}

/// The deduplication window that a description of a table sets.
fn window_of(described: &str) -> u64 {
    let (_, value) =
        described.split_once("non_replicated_deduplication_window = ").unwrap_or_default();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value[..digits].parse().unwrap_or(0)
}

/// The target in `CREATE MATERIALIZED VIEW db.view TO db.target …`, where it is a plain name.
fn target_of(create: &str) -> Option<(&str, &str)> {
    let mut words = create.split_whitespace().skip_while(|word| *word != "TO").skip(1);
    let (database, name) = words.next()?.split_once('.')?;
    let plain = |part: &str| part.chars().all(|c| c.is_alphanumeric() || c == '_');
    (plain(database) && plain(name)).then_some((database, name))
}

async fn check_current_table(
    connection: &Connection,
    table: &TableName,
    comment: &str,
) -> Result<()> {
    let EngineRow { engine, engine_full, comment: found } = engine(connection, table).await?;
    check_owner(connection, table, &found, comment)?;
    if engine.ends_with("ReplacingMergeTree") && engine_full.contains("_version, _is_deleted") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsuitable,
        format!("the table `{table}` is not a ReplacingMergeTree(_version, _is_deleted)"),
    )
    .with_hint("rename it; Tailwater makes a fitting one"))
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
    fn a_window_is_read_from_a_description() {
        let view = "CREATE MATERIALIZED VIEW v ENGINE = MergeTree SETTINGS \
                    non_replicated_deduplication_window = 10000 AS SELECT 1";
        assert_eq!((window_of(view), window_of("ENGINE = Null")), (10_000, 0));
    }

    #[test]
    fn the_target_of_a_view_is_read_where_it_is_plain() {
        let target =
            target_of("CREATE MATERIALIZED VIEW d.v TO d.t (`a` String) AS SELECT a FROM d.x");
        assert_eq!(target, Some(("d", "t")));
        assert_eq!(target_of("CREATE MATERIALIZED VIEW d.v (`a` String) ENGINE = Log"), None);
        assert_eq!(target_of("CREATE MATERIALIZED VIEW d.v TO d.`a b` AS SELECT 1"), None);
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
