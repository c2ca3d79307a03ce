//! The ClickHouse end of a run: reached, its tables made and checked.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use tailwater_clickhouse::{Connection, Endpoint, Tables, Watched, schema};
use tailwater_core::config::{Batch, ClickHouse, Config, Limits, Target};
use tailwater_core::rows::{Layout, Namespace, RecordsFrom};
use tailwater_core::scope::Scope;
use tailwater_core::table::{self, DEAD_LETTERS, DEFAULT_DEDUPLICATION_WINDOW, TableName};
use tailwater_embedded::{EngineOptions, EngineProcess, PASSWORD_VARIABLE};
use tailwater_mongodb::connect;
use tailwater_pipeline::BatchLimits;
use tailwater_pipeline::bisect::MaxRejected;
use tailwater_pipeline::retry;
use tailwater_pipeline::write_ahead::DEFAULT_INSERT_DEADLINE;
use tracing::{info, warn};

/// A ClickHouse that is ready to be written to.
pub(super) struct Ready {
    pub(super) tables: Tables,
    pub(super) connection: Connection,
    pub(super) batch: BatchLimits,
    pub(super) deadline: Duration,
    pub(super) max_rejected: MaxRejected,
    /// The embedded engine, where that is it.
    pub(super) engine: Option<EngineProcess>,
}

/// Reaches the ClickHouse of a config, makes the tables that are missing and checks the others.
pub(super) async fn prepare(config: &Config, watched: Watched) -> anyhow::Result<Ready> {
    let clickhouse = config.require_clickhouse()?;
    let patience = connect::DEFAULT_FIRST_CONNECTION;
    let batch = batch_limits(clickhouse, &config.limits);
    let deadline = clickhouse.insert_deadline.unwrap_or(DEFAULT_INSERT_DEADLINE);
    let (wanted, needed) = wanted(config, clickhouse);
    let (endpoint, engine) = reach(&clickhouse.target, &config.state).await?;
    let connection = Connection::new(endpoint)?;
    let layout = layout(config, clickhouse);
    let prepared = || schema::prepare(&connection, &layout, &wanted);
    let facts = retry::patiently(patience, prepared).await?;
    info!(url = %connection.endpoint().url, database = connection.database(), "ready");
    if needed > facts.window {
        let mend = table::set_window(connection.database(), &layout.records, usual_window(needed));
        warn!(
            lanes = lanes(config),
            window = facts.window,
            needed,
            mend,
            "the deduplication window may be too short at full pace: run the statement of `mend`, or \
             watch whole databases in one stream"
        );
    }
    let tables = Tables::new(connection.clone(), config.pipeline.clone(), layout, watched, facts);
    let scopes = config.mongodb.as_ref().map(|mongodb| mongodb.scopes.as_slice());
    for scope in scopes.unwrap_or_default().iter().filter(|_| clickhouse.tables.current.is_some()) {
        if let Scope::Collection { db, coll } = scope {
            let namespace = Namespace { db: db.clone(), coll: coll.clone() };
            retry::patiently(patience, || tables.current(&namespace)).await?;
        }
    }
    let max_rejected = max_rejected(clickhouse);
    Ok(Ready { tables, connection, batch, deadline, max_rejected, engine })
}

/// Where the rows of a config go.
pub(crate) fn layout(config: &Config, clickhouse: &ClickHouse) -> Layout {
    Layout {
        records: clickhouse.tables.records.clone(),
        records_from: match config.parts().normalize {
            true => RecordsFrom::Normalized,
            false => RecordsFrom::Inline,
        },
        raw_cdc: clickhouse.tables.raw_cdc.clone(),
        dead_letters: TableName::new(DEAD_LETTERS),
        current: clickhouse.tables.current.clone(),
    }
}

/// What the event tables of a config are to be, and how many blocks its lanes write while a block may
/// still come.
pub(crate) fn wanted(config: &Config, clickhouse: &ClickHouse) -> (schema::Wanted, u64) {
    let lanes = lanes(config);
    let deadline = clickhouse.insert_deadline.unwrap_or(DEFAULT_INSERT_DEADLINE);
    let needed = blocks_within(2 * deadline, &batch_limits(clickhouse, &config.limits), lanes);
    let window = clickhouse.deduplication_window;
    let wanted = schema::Wanted {
        pipeline: config.pipeline.clone(),
        window: window.unwrap_or(DEFAULT_DEDUPLICATION_WINDOW),
        new_window: window.unwrap_or_else(|| usual_window(needed)),
        ttl_days: clickhouse.ttl_days,
    };
    (wanted, needed)
}

/// As many lanes as a config has, as far as it tells.
fn lanes(config: &Config) -> usize {
    match (&config.kafka, &config.mongodb) {
        (Some(kafka), _) => {
            let topics = config.reading().map_or(1, |reading| reading.topics.len());
            topics * usize::try_from(kafka.topics.partitions).unwrap_or(1)
        }
        (None, Some(mongodb)) => mongodb.scopes.len(),
        (None, None) => 1,
    }
}

/// The server to write to; the embedded one is started.
async fn reach(target: &Target, state: &Path) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
    let (listen, password) = match target {
        Target::Server(endpoint) => return Ok((endpoint.clone(), None)),
        Target::Embedded { listen, password } => (*listen, password),
    };
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let password = match password {
        Some(password) => Some(password.expose_secret().to_owned()),
        None => std::env::var(PASSWORD_VARIABLE).ok(),
    };
    let options = EngineOptions { program, state: state.to_owned(), listen, password };
    let password = options.password.clone().unwrap_or_default();
    let engine = EngineProcess::start(options).await?;
    let mut endpoint = Endpoint::parse(&engine.url())?;
    endpoint.password = password.into();
    Ok((endpoint, Some(engine)))
}

/// How many blocks so many lanes can write in a time: most perhaps when some of them are quiet.
fn blocks_within(time: Duration, limits: &BatchLimits, lanes: usize) -> u64 {
    let of_busy = |busy: usize| {
        let each = time.as_millis().div_ceil(limits.patience(busy).as_millis().max(1));
        u64::try_from(each.saturating_mul(busy as u128)).unwrap_or(u64::MAX)
    };
    (1..=lanes).map(of_busy).max().unwrap_or(0)
}

/// As much as may be configured: the server keeps these tokens in memory.
const LARGEST_WINDOW: u64 = 1_000_000;

/// The window of new tables where none is configured.
pub(crate) fn usual_window(needed: u64) -> u64 {
    needed.div_ceil(1000).saturating_mul(1000).clamp(DEFAULT_DEDUPLICATION_WINDOW, LARGEST_WINDOW)
}

fn max_rejected(clickhouse: &ClickHouse) -> MaxRejected {
    let MaxRejected { percent, rows } = MaxRejected::default();
    MaxRejected {
        percent: clickhouse.max_rejected_percent.unwrap_or(percent),
        rows: clickhouse.max_rejected_rows.unwrap_or(rows),
    }
}

fn batch_limits(clickhouse: &ClickHouse, limits: &Limits) -> BatchLimits {
    let BatchLimits { max_rows, max_bytes, max_wait } = BatchLimits::default();
    let Batch { max_rows: rows, max_bytes: bytes, max_wait: wait } = clickhouse.batch;
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    BatchLimits {
        max_rows: rows.map_or(max_rows, number),
        max_bytes: bytes.map_or(max_bytes, number).min(limits.largest_batch()),
        max_wait: wait.unwrap_or(max_wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hundreds_of_busy_lanes_outrun_the_usual_window() {
        let limits = BatchLimits::default();
        let blocks = |lanes| blocks_within(2 * DEFAULT_INSERT_DEADLINE, &limits, lanes);
        assert_eq!([1, 8, 9, 60, 300].map(blocks), [800, 6400, 6400, 6900, 34_500]);
        assert_eq!([480, 10_001, 36_000].map(usual_window), [10_000, 11_000, 36_000]);
    }

    #[test]
    fn what_is_configured_counts_and_the_rest_is_as_the_code_has_it() {
        let target = Target::Embedded { listen: ([127, 0, 0, 1], 0).into(), password: None };
        let mut clickhouse = ClickHouse::at(target);
        let usual = BatchLimits::default();
        let batch = batch_limits(&clickhouse, &Limits::default());
        assert_eq!(
            (batch.max_rows, batch.max_bytes, batch.max_wait),
            (usual.max_rows, usual.max_bytes, usual.max_wait)
        );
        assert_eq!(max_rejected(&clickhouse), MaxRejected::default());
        // A small memory makes small batches.
        let small = Limits { memory_bytes: 64 << 20, ..Limits::default() };
        assert_eq!(batch_limits(&clickhouse, &small).max_bytes, 16 << 20);

        let wait = Some(Duration::from_millis(5));
        clickhouse.batch = Batch { max_rows: Some(3), max_bytes: Some(4), max_wait: wait };
        clickhouse.max_rejected_rows = Some(7);
        let batch = batch_limits(&clickhouse, &small);
        assert_eq!(
            (batch.max_rows, batch.max_bytes, batch.max_wait),
            (3, 4, Duration::from_millis(5))
        );
        assert_eq!(max_rejected(&clickhouse), MaxRejected { percent: 10, rows: 7 });
    }
}
