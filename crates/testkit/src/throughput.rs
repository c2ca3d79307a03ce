//! How fast a `run` reads a backlog into the engine that it starts itself.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bson::{DateTime, Document, doc};

use crate::clickhouse::ClickHouse;
use crate::servers::{Mongod, Needed, Tailwater, free_port};

/// Documents that are inserted at once.
const AT_ONCE: u32 = 1000;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// How many inserts.
    pub events: u32,
    /// The size of each document, in bytes.
    pub document_bytes: usize,
    /// From the start of the process to the first row.
    pub first: Duration,
    /// From the first rows to the last one.
    pub rest: Duration,
    /// Rows that were there at the first look that saw any.
    pub at_first: u64,
    /// What `run` held at most, in bytes; its engine is a process of its own.
    pub resident: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, document_bytes, first, rest, at_first, resident } = self;
        let rate = (u64::from(*events) - at_first) as f64 / rest.as_secs_f64();
        write!(
            f,
            "{events} inserts of {document_bytes} bytes: first rows after {:.1} s, the others in \
             {:.1} s, {rate:.0} a second; {} MiB resident at most",
            first.as_secs_f64(),
            rest.as_secs_f64(),
            resident >> 20
        )
    }
}

#[derive(serde::Deserialize)]
struct Count {
    rows: u64,
}

/// Measures. `None`: a server is missing here, skip.
///
/// # Errors
///
/// When a server fails, or not everything arrives in time.
pub async fn run(binary: &Path, events: u32) -> anyhow::Result<Option<Report>> {
    if Needed::Libchdb.find()?.is_none() {
        return Ok(None);
    }
    let Some(mongod) = Mongod::start().await? else { return Ok(None) };
    let files = mongod.client().await?.database("ingest").collection::<Document>("files");
    for from in (0..events).step_by(AT_ONCE as usize) {
        files.insert_many((from..events.min(from + AT_ONCE)).map(document)).await?;
    }
    let home = tempfile::Builder::new().prefix("tailwater-throughput-").tempdir()?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let arguments = [
        "run".into(),
        "--source".into(),
        mongod.uri(),
        "--collections".into(),
        "ingest.files".into(),
        "--start".into(),
        "oldest".into(),
        "--state".into(),
        home.path().join("state").display().to_string(),
        "--listen".into(),
        listen.to_string(),
    ];
    let clickhouse = ClickHouse::new(&format!("http://{listen}"), "default");
    let started = Instant::now();
    let mut tailwater = Tailwater::start(binary, &arguments, &home.path().join("run.log"))?;
    let mut first = None;
    loop {
        let sql = "SELECT count() AS rows FROM record_raw WHERE op = 'insert'";
        // Until the table is there, nothing has arrived.
        let rows = clickhouse.one::<Count>(sql).await.map_or(0, |count| count.rows);
        let now = Instant::now();
        let (first, at_first) = match first {
            None if rows == 0 => (now, 0),
            None => *first.insert((now, rows)),
            Some(first) => first,
        };
        if rows >= u64::from(events) {
            let resident = tailwater.resident()?.most;
            let document_bytes = document(0).to_vec()?.len();
            let (first, rest) = (first - started, now - first);
            let report = Report { events, document_bytes, first, rest, at_first, resident };
            return Ok(Some(report));
        }
        tailwater.expect_running()?;
        ensure!(started.elapsed() < DEADLINE, "{rows} rows:\n{}", tailwater.log_tail());
        tokio::time::sleep(LOOK).await;
    }
}

/// A document of about 700 bytes.
fn document(number: u32) -> Document {
    let path = format!("s3://bucket-{}/incoming/2026/11/23/{number:010}.parquet", number % 7);
    let status = ["arrived", "validated", "loaded", "failed"][(number % 4) as usize];
    doc! {
        "_id": i64::from(number),
        "path": &path,
        "status": status,
        "size_bytes": i64::from(number) * 4096,
        "latency_sec": f64::from(number) / 7.0,
        "attempts": i64::from(number % 5),
        "created_at": DateTime::from_millis(1_760_000_000_000 + i64::from(number)),
        "producer": format!("loader-{:02}.eu-west-1.compute.internal", number % 50),
        "schema": { "name": "files.v3", "fields": 41, "strict": true },
        "tags": ["ingest", "parquet"],
        "owner": { "team": "data-platform", "region": "eu-west-1", "on_call": number.is_multiple_of(2) },
        "checksum": format!("sha256:{:064x}", u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        "note": format!("{path} was found by the nightly scan, and checked twice since"),
        "parts": (0..4).map(|part| i64::from(number) + part).collect::<Vec<i64>>(),
    }
}
