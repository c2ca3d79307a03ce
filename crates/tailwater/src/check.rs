//! Check: asks every end of a pipeline for what the pure part judges (`core::check`). The ends are
//! asked at the same time, and then, what runs between them.

mod clickhouse;
mod flow;
mod kafka;
mod mongodb;

use std::path::PathBuf;
use std::time::Duration;

use tailwater_core::Error;
use tailwater_core::check::{End, Probe, Report, Verdict};
use tailwater_core::config::{
    ClickHouse, Config, DEFAULT_LISTEN, DEFAULT_PIPELINE, DEFAULT_STATE, Limits, Target,
};

/// Probes a pipeline, and waits at most so long for something to move.
pub(crate) async fn check(config: &Config, read_only: bool, wait: Duration) -> Report {
    let (source, middle, target) = tokio::join!(
        mongodb::probe(config),
        Box::pin(kafka::probe(config, read_only)),
        Box::pin(clickhouse::probe(config, read_only)),
    );
    let mut probes = [source.probes, middle.probes, target.probes].concat();
    let seen = flow::Seen {
        oplog: source.oplog,
        cluster: middle.cluster,
        topics: middle.topics,
        connection: target.connection,
    };
    probes.extend(Box::pin(flow::probe(config, &seen, wait)).await);
    // What is known of an end only in the end stands with it too.
    probes.sort_by_key(|probe| probe.end);
    Report { pipeline: config.pipeline.clone(), read_only, probes }
}

/// What is known of a run without a file: its state folder, and the engine in it.
pub(crate) fn of_folder(state: Option<PathBuf>) -> Config {
    let target = Target::Embedded { listen: DEFAULT_LISTEN, password: None };
    Config {
        pipeline: DEFAULT_PIPELINE.to_owned(),
        mongodb: None,
        kafka: None,
        normalizer: None,
        clickhouse: Some(ClickHouse::at(target)),
        state: state.unwrap_or_else(|| DEFAULT_STATE.into()),
        http: None,
        limits: Limits::default(),
    }
}

fn failed(end: End, what: impl Into<String>, error: &Error) -> Probe {
    Probe::of_error(end, what, Verdict::Fail, error)
}
