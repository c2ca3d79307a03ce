//! Views: the materialized views on an event table, and whether one that failed once can be filled again.

use serde::Deserialize;
use tailwater_core::Result;
use tailwater_core::sql::literal;
use tailwater_core::table::{self, TableName};

use crate::Connection;

/// The materialized views that read from an event table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// All of them.
    pub names: Vec<String>,
    /// Those whose own table would keep a block that comes twice, with the statement that mends it.
    pub unfillable: Vec<(String, String)>,
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
