//! Direct mode: change streams into ClickHouse in one process, with checkpoints in the state folder.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tailwater_clickhouse::{Mappings, ToRows, Watched};
use tailwater_core::config::{Config, MongoDb};
use tailwater_core::position::LaneId;
use tailwater_mongodb::{Server, Start, Streams, connect};
use tailwater_pipeline::budget::Budget;
use tailwater_pipeline::state_folder::StateFolder;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::worker;
use tailwater_pipeline::write_ahead::{self, WriteAhead};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::tables;

/// Runs until `stop`.
pub(super) async fn run(
    config: Config,
    start: Start,
    vitals: Vec<Vitals>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let vitals = vitals.into_iter().next().unwrap_or_default();
    let MongoDb { uri, scopes, watch } = config.require_mongodb()?.clone();
    config.require_clickhouse()?;
    let mut folder = StateFolder::open(&config.state)?;
    let prepare = async {
        let patience = connect::DEFAULT_FIRST_CONNECTION;
        let server = Server::connect(uri.expose_secret(), scopes.len(), patience).await?;
        // Before anything slow: what changes from here on is ours.
        let lanes: Vec<LaneId> =
            scopes.iter().map(|scope| LaneId::stream(&scope.entry())).collect();
        if lanes.iter().any(|lane| folder.checkpoint(lane).is_none()) {
            let origin = server.origin(start).await?;
            write_ahead::begin_missing(&mut folder, lanes, &origin).await?;
        }
        let watched = Watched::Streams(scopes.clone());
        let ready = tables::prepare(&config, watched).await?;
        anyhow::Ok((server, ready))
    };
    let (server, ready) = tokio::select! {
        prepared = prepare => prepared?,
        () = stop.cancelled() => {
            info!("stopped before anything was under way");
            return Ok(());
        }
    };
    let mapping = config.normalizer.map(|normalizer| normalizer.mapping);
    let rows = ToRows::new(ready.tables.layout().clone()).with_mappings(Mappings::new(mapping));
    let budget = Budget::new(config.limits.memory_bytes);
    let streams = Streams::new(server, scopes, watch, budget, vitals.clone());
    let delivery = WriteAhead::new(folder, ready.tables, ready.deadline, vitals)
        .with_max_rejected(ready.max_rejected);
    worker::run(streams, Arc::new(rows), delivery, ready.batch, stop).await?;
    if let Some(engine) = ready.engine {
        engine.shutdown().await;
    }
    Ok(())
}
