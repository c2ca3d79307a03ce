//! Reads the same change stream by raw batches, as raw documents, and typed, and tells events per
//! second and the client's CPU per event. Numbers and decision: `docs/adr/0003-raw-batches.md`.
//!
//! `cargo run --release -p tailwater-testkit --example read_stream [EVENTS]`

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::{Bson, DateTime, Document, RawDocumentBuf, Timestamp, doc};
use futures_util::StreamExt as _;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::options::FullDocumentType;
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tailwater_testkit::servers::Mongod;

const BATCH: u32 = 10_000;
const WAIT: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(400_000), |text| text.parse())?;
    let mongod = Mongod::start().await?.context("no mongod: run `cargo xtask setup`")?;
    let client = mongod.client().await?;
    let files = client.database("ingest").collection::<Document>("files");
    let start = now(&client).await?;
    let bytes = fill(&files, events).await?;
    say(&format!("{events} inserts, {} bytes each", bytes / events));
    for round in 1..=3 {
        for way in [Way::RawBatches, Way::RawDocuments, Way::Typed] {
            let (wall, cpu) = (Instant::now(), cpu_time()?);
            way.read(&client, start, events).await?;
            let (wall, cpu) = (wall.elapsed(), cpu_time()? - cpu);
            #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
            let per_event = |time: Duration| time.as_secs_f64() / events as f64;
            say(&format!(
                "round {round}  {way:?}: {:.0} events/s, {:.2} µs CPU per event",
                1.0 / per_event(wall),
                per_event(cpu) * 1e6
            ));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// `aggregate` and `.batch()`: slices of the server's reply.
    RawBatches,
    /// `watch` with events as undecoded documents.
    RawDocuments,
    /// `watch` as it is.
    Typed,
}

impl Way {
    async fn read(self, client: &Client, start: Timestamp, events: u64) -> anyhow::Result<()> {
        let database = client.database("ingest");
        let files: Collection<Document> = database.collection("files");
        let watch = files
            .watch()
            .full_document(FullDocumentType::UpdateLookup)
            .start_at_operation_time(start)
            .batch_size(BATCH)
            .max_await_time(WAIT);
        let mut left = events;
        match self {
            Self::RawBatches => {
                let stage = doc! { "$changeStream": {
                    "fullDocument": "updateLookup", "startAtOperationTime": start,
                } };
                let aggregate = files.aggregate([stage]).batch_size(BATCH).max_await_time(WAIT);
                let mut batches = aggregate.batch().await?;
                while left > 0 {
                    let batch = batches.next().await.context("the stream has ended")??;
                    for event in batch.doc_slices()? {
                        let event = event?;
                        let event = event.as_document().context("an event is a document")?;
                        // What every reader needs at least: the token.
                        std::hint::black_box(event.get("_id")?);
                        left = left.saturating_sub(1);
                    }
                }
            }
            Self::RawDocuments => {
                let mut stream = watch.await?.with_type::<RawDocumentBuf>();
                while left > 0 {
                    let event = stream.next().await.context("the stream has ended")??;
                    std::hint::black_box(event.get("_id")?);
                    left -= 1;
                }
            }
            Self::Typed => {
                let mut stream = watch.await?;
                while left > 0 {
                    let event: ChangeStreamEvent<Document> =
                        stream.next().await.context("the stream has ended")??;
                    std::hint::black_box(event);
                    left -= 1;
                }
            }
        }
        Ok(())
    }
}

/// The cluster time after which the events come.
async fn now(client: &Client) -> anyhow::Result<Timestamp> {
    let reply = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    let time = reply.get_timestamp("operationTime").context("no cluster time")?;
    Ok(Timestamp { increment: time.increment + 1, ..time })
}

/// Inserts documents like the guide's; gives their size together.
async fn fill(files: &Collection<Document>, count: u64) -> anyhow::Result<u64> {
    let mut random = StdRng::seed_from_u64(1);
    let (mut left, mut bytes) = (count, 0);
    while left > 0 {
        let documents: Vec<Document> = (0..left.min(2000)).map(|_| document(&mut random)).collect();
        left -= u64::try_from(documents.len())?;
        for document in &documents {
            bytes += u64::try_from(document.to_vec()?.len())?;
        }
        files.insert_many(documents).await?;
    }
    Ok(bytes)
}

fn document(random: &mut StdRng) -> Document {
    let text = |random: &mut StdRng, length: usize| -> String {
        (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
    };
    let rows: Vec<Bson> = (0..6).map(|_| Bson::Int32(random.random())).collect();
    doc! {
        "consumer_id": text(random, 12), "file_type": "orders", "status": "arrived",
        "path": format!("s3://landing/{}", text(random, 60)),
        "size_bytes": random.random::<i64>(), "expected_count": random.random::<i32>(),
        "checksum": text(random, 64), "arrived_at": DateTime::now(), "latency_sec": 1.5,
        "source": { "host": text(random, 10), "retries": 1 }, "rows": rows,
        "note": text(random, 120),
    }
}

/// User and system time of this process, from `/proc/self/stat` in hundredths of a second.
fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("`/proc/self/stat` is another")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[expect(clippy::print_stdout, reason = "a program that shows figures")]
fn say(line: &str) {
    println!("{line}");
}
