//! Schema: makes the tables that are missing, and refuses those that cannot give exactly-once.
//!
//! A run never alters a table; it says the statement that would. `schema apply` runs it, when somebody
//! has read the plan.
//!
//! | file | what |
//! |---|---|
//! | `unfit` | what does not fit, and what mends it |
//! | `views` | the materialized views on event tables |
//! | `check` | the tables as a run would find them |
//! | `plan` | what `schema apply` does |
//! | `teardown` | what `schema teardown` does |

pub mod check;
mod plan;
mod teardown;
mod unfit;
mod views;

use tailwater_core::kafka_engine;
use tailwater_core::rows::{Append, Layout, Namespace};
use tailwater_core::table::{self, TableName};
use tailwater_core::{Error, ErrorKind, Result};
use tracing::{info, warn};

pub use self::plan::{Tables, carry_out, plan, plan_engine};
pub use self::teardown::{Leaving, plan_teardown};
pub use self::views::{Views, views};

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

/// Begins the comment of every table that this project makes; what follows says whose it is.
pub(crate) const COMMENT: &str = "tailwater: ";

/// Makes and checks the tables that rows are appended to, and that of the gap records.
///
/// # Errors
/// `Unsuitable`, with the statement that mends the table.
pub async fn prepare(connection: &Connection, layout: &Layout, wanted: &Wanted) -> Result<Facts> {
    check_names(layout)?;
    connection.ping().await?;
    check_version(connection).await?;
    refuse_beside_engine(connection, &layout.records).await?;
    let mut facts = Facts { window: u64::MAX, ttl_days: None, raw_cdc_ttl_days: None };
    for of in Append::ALL {
        let Some(name) = layout.name(of) else { continue };
        make(connection, name, &create(connection.database(), of, name, wanted)).await?;
        let found = unfit::look(connection, of, name, wanted).await?;
        let found = found.ok_or_else(|| unfit::gone(name))?;
        unfit::refuse(found.unfit)?;
        for (view, mend) in found.views.unfillable {
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
    make(connection, &gaps, &table::create_gaps(connection.database())).await?;
    Ok(facts)
}

/// The comment of the event tables of a pipeline.
fn comment_of(pipeline: &str) -> String {
    format!("{COMMENT}pipeline `{pipeline}`")
}

/// What makes an append table.
fn create(database: &str, of: Append, name: &TableName, wanted: &Wanted) -> String {
    let Wanted { pipeline, new_window, ttl_days, .. } = wanted;
    let comment = comment_of(pipeline);
    match of {
        Append::Records => table::create_records(database, name, *new_window, *ttl_days, &comment),
        Append::RawCdc => table::create_raw_cdc(database, name, *new_window, *ttl_days, &comment),
        Append::DeadLetters => table::create_dead_letters(database, name, *new_window, &comment),
    }
}

/// Where ClickHouse reads the topics itself, a sink would write every row once more.
async fn refuse_beside_engine(connection: &Connection, records: &TableName) -> Result<()> {
    let [.., feed] = kafka_engine::names(records);
    match unfit::engine(connection, &feed).await? {
        None => Ok(()),
        Some(_) => {
            let what =
                format!("ClickHouse fills `{records}` itself: its view `{feed}` reads topics");
            Err(Error::new(ErrorKind::Unsuitable, what).with_hint(BESIDE_ENGINE))
        }
    }
}

/// What is to be done about a sink and the Kafka engine beside each other.
const BESIDE_ENGINE: &str = "drop it with `tailwater schema teardown`, or run the other parts alone: \
                             `tailwater run source normalize`";

/// Rows of two kinds in one table could not be told apart.
fn check_names(layout: &Layout) -> Result<()> {
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
    let found = unfit::look_current(connection, current, namespace).await?;
    unfit::refuse(found.ok_or_else(|| unfit::gone(current))?)?;
    make(connection, &current.view(), &table::create_current_view(database, current)).await
}

/// The comment of the current-state table of a collection.
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
