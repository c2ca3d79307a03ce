//! Check: the tables as a run would find them, each with all that does not fit. It makes nothing.

use tailwater_core::rows::{Append, Layout, Namespace};
use tailwater_core::table::TableName;
use tailwater_core::{Error, Result};

use super::views::Views;
use super::{Wanted, unfit};
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
        let found = match unfit::look(connection, of, name, wanted).await? {
            None => Found::Missing,
            Some(found) => Found::There {
                unfit: found.unfit.into_iter().map(Error::from).collect(),
                window: Some(found.window),
                views: found.views,
            },
        };
        all.push((name.clone(), found));
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
    Ok(match unfit::look_current(connection, current, namespace).await? {
        None => Found::Missing,
        Some(unfit) => Found::There {
            unfit: unfit.into_iter().map(Error::from).collect(),
            window: None,
            views: Views::default(),
        },
    })
}
