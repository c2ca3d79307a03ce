//! Check: the tables as a run would find them, each with all that does not fit. It makes nothing.

use tailwater_core::rows::{Append, Layout, Namespace};
use tailwater_core::table::{self, TableName};
use tailwater_core::{Error, Result};

use super::views::{Views, views};
use super::{Wanted, comment_of, comment_of_current, statement, unfit};
use crate::Connection;

/// A table as a run would find it.
#[derive(Debug)]
pub enum Found {
    /// It is not there: a run makes it.
    Missing,
    /// It is there.
    There {
        /// What does not fit, each with what mends it.
        unfit: Vec<Error>,
        /// Blocks whose tokens it remembers; `None`: it needs none.
        window: Option<u64>,
        /// The views on it.
        views: Views,
    },
}

/// Looks at the tables of a layout that rows are appended to.
///
/// # Errors
/// `Unsuitable` where there can be no run at all; those of asking.
pub async fn append_tables(
    connection: &Connection,
    layout: &Layout,
    wanted: &Wanted,
) -> Result<Vec<(TableName, Found)>> {
    super::check_names(layout)?;
    super::refuse_beside_engine(connection, &layout.records).await?;
    let mut all = Vec::new();
    for of in Append::ALL {
        let Some(name) = layout.name(of) else { continue };
        let Some(row) = unfit::engine(connection, name).await? else {
            all.push((name.clone(), Found::Missing));
            continue;
        };
        let (_, columns) = statement(connection.database(), of, name, wanted);
        let comment = comment_of(&wanted.pipeline);
        let mut wrong = unfit::of_columns(connection, name, columns).await?;
        let found = unfit::of_append(connection, name, row, wanted.window, &comment).await?;
        wrong.extend(found.unfit);
        if of != Append::DeadLetters {
            wrong.extend(unfit::of_ttl(connection, name, found.ttl_days, wanted.ttl_days));
        }
        let unfit = wrong.into_iter().map(Error::from).collect();
        let views = views(connection, name).await?;
        all.push((name.clone(), Found::There { unfit, window: Some(found.window), views }));
    }
    Ok(all)
}

/// Looks at the current-state table of a collection.
///
/// # Errors
/// Those of asking.
pub async fn current_table(
    connection: &Connection,
    current: &TableName,
    namespace: &Namespace,
) -> Result<Found> {
    let Some(row) = unfit::engine(connection, current).await? else { return Ok(Found::Missing) };
    let mut wrong = unfit::of_columns(connection, current, table::CURRENT_COLUMNS).await?;
    let comment = comment_of_current(namespace);
    wrong.extend(unfit::of_current(connection, current, &row, &comment));
    let unfit = wrong.into_iter().map(Error::from).collect();
    Ok(Found::There { unfit, window: None, views: Views::default() })
}
