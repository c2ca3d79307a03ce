//! `/metrics` and `/health`: what the vitals say, for Prometheus and for a supervisor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::vitals::Vitals;
use tokio::net::TcpListener;
use tracing::{error, info};

/// Events read from MongoDB, by stream.
const EVENTS_READ: &str = "tailwater_events_read_total";
/// Events that are in ClickHouse for good, by stream.
const EVENTS_DELIVERED: &str = "tailwater_events_delivered_total";
/// Failed attempts to read, by stream.
const READ_FAILURES: &str = "tailwater_read_failures_total";
/// Failed attempts to write, by stream.
const WRITE_FAILURES: &str = "tailwater_write_failures_total";
/// Seconds from the last delivered change to now; 0 when all that was read is delivered.
const LAG: &str = "tailwater_lag_seconds";
/// Seconds since MongoDB last answered, by stream.
const SILENCE: &str = "tailwater_source_silence_seconds";

/// A running endpoint; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Endpoint(tokio::task::AbortHandle);

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    parts: Vec<Vitals>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// Serves until the returned handle is dropped.
pub(crate) async fn serve(address: SocketAddr, parts: Vec<Vitals>) -> Result<Endpoint> {
    if !address.ip().is_loopback() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("/metrics on `{address}` would be open to other hosts without a token"),
        )
        .with_hint("listen on 127.0.0.1 and put a proxy with authentication before it"));
    }
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::new(ErrorKind::InUse, format!("cannot listen on `{address}` for metrics"))
            .with_source(error)
            .with_hint("choose another port with `--http`, or `http.listen` of the config file")
    })?;
    let recorder = PrometheusBuilder::new().build_recorder();
    let shared = Arc::new(Shared { parts, handle: recorder.handle(), recorder });
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/health", get(health))
        .with_state(shared);
    info!(%address, "serving /metrics and /health");
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            error!(%error, "the metrics endpoint ended");
        }
    });
    Ok(Endpoint(task.abort_handle()))
}

async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let complaints: Vec<String> = shared.parts.iter().flat_map(Vitals::complaints).collect();
    if complaints.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, complaints.join("\n") + "\n")
}

async fn render(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    metrics::with_local_recorder(&shared.recorder, || {
        let lanes = shared.parts.iter().flat_map(|part| {
            part.snapshot().into_iter().map(|(lane, pulse)| (part.part(), lane, pulse))
        });
        for (part, lane, pulse) in lanes {
            let stream = [("part", part.to_owned()), ("stream", lane.to_string())];
            metrics::counter!(EVENTS_READ, &stream).absolute(pulse.read);
            metrics::counter!(EVENTS_DELIVERED, &stream).absolute(pulse.delivered);
            metrics::counter!(READ_FAILURES, &stream).absolute(pulse.read_failures);
            metrics::counter!(WRITE_FAILURES, &stream).absolute(pulse.write_failures);
            let behind = pulse.read > pulse.delivered;
            let lag = if behind { now - pulse.delivered_time } else { 0.0 };
            metrics::gauge!(LAG, &stream).set(lag.max(0.0));
            if let Some(at) = pulse.heard_at {
                metrics::gauge!(SILENCE, &stream).set(at.elapsed().as_secs_f64());
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.handle.render())
}
