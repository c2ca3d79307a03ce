//! Probes of what runs: looks again and again until all was seen to move, or the wait is over.

use std::time::{Duration, Instant};

use tailwater_clickhouse::{Connection, probe};
use tailwater_core::Error;
use tailwater_core::check::flow::{self, Expected, Look, Oplog};
use tailwater_core::check::{End, Probe, Verdict};
use tailwater_core::config::Config;
use tailwater_pipeline::clock;

use crate::cluster::Cluster;
use crate::status;

const END: End = End::Pipeline;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// What the probes of the ends have found.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) oplog: Option<Oplog>,
    pub(super) cluster: Option<Cluster>,
    pub(super) topics: Vec<String>,
    pub(super) connection: Option<Connection>,
}

pub(super) async fn probe(config: &Config, seen: &Seen, wait: Duration) -> Vec<Probe> {
    let began = Instant::now();
    // Where Kafka does not answer nothing more can be told of what runs.
    let is_seen = config.kafka.is_none() || seen.cluster.is_some();
    let first = match look(config, seen, is_seen).await {
        Ok(first) => first,
        Err(probe) => return vec![probe],
    };
    let mut streams: Vec<String> = match &config.mongodb {
        Some(mongodb) => mongodb.scopes.iter().map(|scope| scope.entry()).collect(),
        None if config.kafka.is_some() => Vec::new(),
        None => first.status.streams.iter().map(|stream| stream.stream.clone()).collect(),
    };
    if !is_seen {
        streams.clear();
    }
    let expected = Expected {
        streams: &streams,
        topics: &seen.topics,
        writes_rows: seen.connection.is_some(),
        has_kafka: seen.cluster.is_some(),
    };
    let mut last = first.clone();
    while !flow::is_settled(&first, &last, &expected) && began.elapsed() < wait {
        tokio::time::sleep(PAUSE.min(wait.saturating_sub(began.elapsed()))).await;
        last = match look(config, seen, is_seen).await {
            Ok(last) => last,
            Err(probe) => return vec![probe],
        };
    }
    let mut probes = flow::judge(&first, &last, &expected);
    if let Some(oplog) = &seen.oplog {
        probes.push(flow::oplog(oplog, Some(&last.status), clock::now()));
    }
    if let (Some(connection), Some(clickhouse), Some(_)) =
        (&seen.connection, &config.clickhouse, last.rows)
    {
        probes.push(match probe::latency(connection, &clickhouse.tables.records).await {
            Ok(latency) => flow::latency(&latency),
            Err(error) => Probe::of_error(END, "latency", Verdict::Warn, &error),
        });
    }
    probes
}

async fn look(config: &Config, seen: &Seen, is_seen: bool) -> Result<Look, Probe> {
    let status = match &seen.cluster {
        Some(cluster) => status::of_cluster(config, cluster).await,
        None if is_seen => status::of_direct(Some(config), &config.state).await,
        None => Ok(status::empty(&config.pipeline)),
    };
    let status = status.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => Probe::of_error(END, "status", Verdict::Fail, &error),
        Err(error) => Probe::warn(END, "status", format!("{error:#}"), "look again"),
    })?;
    let rows = match (&seen.connection, &config.clickhouse) {
        (Some(connection), Some(clickhouse)) => {
            let rows = probe::rows(connection, &clickhouse.tables.records).await;
            rows.map_err(|error| Probe::of_error(END, "rows rise", Verdict::Fail, &error))?
        }
        _ => None,
    };
    Ok(Look { status, rows })
}
