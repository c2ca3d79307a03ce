//! How long a change takes from the write in MongoDB to the topic, and to the row, at a steady rate.
//!
//! A write's clock starts before it is sent to MongoDB. A record counts as there when a plain consumer
//! of committed records has it, a row when a query shows it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bson::{DateTime, Document, doc};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::kafka_rig::{KafkaRig, Role, Setup};
use crate::watch::Watch;

/// The collection, and the topic of its changes.
const NAMESPACE: (&str, &str) = ("ingest", "files");
const TOPIC: &str = "events.mongo.ingest.files";
/// Writes go out this often, several at once.
const BEAT: Duration = Duration::from_millis(10);
/// A later change has no earlier time than by so many milliseconds, by which a clock was set back.
const CLOCK_STEP: i64 = 3000;
/// Between two looks at the table, each of which costs what an insert costs.
const GLANCE: Duration = Duration::from_millis(25);
/// How long all of it may take to arrive behind the last write.
const DEADLINE: Duration = Duration::from_secs(120);
/// Writes of the first seconds do not count: everything is set up, and the brokers' code is compiled.
const SETTLING: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Inserts a second.
    pub rate: u32,
    /// For how long.
    pub period: Duration,
    /// The partitions of the topic.
    pub partitions: u32,
    /// `clickhouse.batch.max_wait_ms`; `None`: as it is by default.
    pub max_wait_ms: Option<u64>,
}

/// How long changes took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Half of them at most.
    pub p50: Duration,
    /// 99 of 100 at most.
    pub p99: Duration,
    /// All of them at most.
    pub max: Duration,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// How many changes count.
    pub changes: usize,
    /// To the committed record in the topic.
    pub topic: Times,
    /// To the visible row.
    pub row: Times,
}

impl Times {
    /// `None` of nothing.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1));
        Some(Self { p50: *at(50)?, p99: *at(99)?, max: *times.last()? })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, max } = self;
        write!(
            f,
            "p50 {} ms, p99 {} ms, max {} ms",
            p50.as_millis(),
            p99.as_millis(),
            max.as_millis()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, topic, row } = self;
        write!(f, "{changes} changes\n  to the topic: {topic}\n  to the row:   {row}")
    }
}

/// When each change was there, by its number.
type Seen = HashMap<i64, Instant>;

/// Measures. `None`: a server is missing here.
///
/// # Errors
///
/// When a server does not answer, or changes do not arrive.
pub async fn run(binary: &Path, plan: Plan) -> anyhow::Result<Option<Report>> {
    let (db, coll) = NAMESPACE;
    let watch = Watch::Collections(vec![format!("{db}.{coll}")]);
    let Plan { partitions, max_wait_ms, .. } = plan;
    let setup = Setup { partitions, max_wait_ms, ..Setup::new(watch) };
    let Some(mut rig) = KafkaRig::start(binary, setup).await? else { return Ok(None) };
    rig.add(Role::All)?;
    let collection = rig.client.database(db).collection::<Document>(coll);
    collection.insert_one(document(-1)).await?;
    let started = Instant::now();
    while rig.checker.keys().await == 0 {
        rig.expect_running()?;
        ensure!(started.elapsed() < DEADLINE, "no row:\n{}", rig.log_tails());
        tokio::time::sleep(BEAT).await;
    }

    let over = Arc::new(AtomicBool::new(false));
    let consumer = consumer(&rig)?;
    let ended = Arc::clone(&over);
    let records = tokio::task::spawn_blocking(move || hear(&consumer, &ended));
    let clickhouse = rig.checker.clickhouse.clone();
    let total = i64::from(plan.rate) * i64::try_from(plan.period.as_secs())?;
    let rows = tokio::spawn(async move {
        let mut seen = Seen::new();
        let (mut low, mut since, mut count) = (0, 0, 0);
        let started = Instant::now();
        while low < total && started.elapsed() < plan.period + DEADLINE {
            // Whoever looks must not be what the rows wait for: the parts know how many there are, and
            // the newest rows the table's order finds quickly.
            let there = clickhouse.compact("SELECT count() FROM record_raw").await?;
            let there = there.first().map_or(0, |(rows,): &(u64,)| *rows);
            if there == std::mem::replace(&mut count, there) {
                tokio::time::sleep(GLANCE).await;
                continue;
            }
            // A number that may be missing: other rows have none.
            let query = format!(
                "SELECT attrs.n::Nullable(Int64) AS n, toUnixTimestamp64Milli(ts) AS at \
                 FROM record_raw WHERE ts >= fromUnixTimestamp64Milli({since}) AND n >= {low} \
                 AND op = 'insert' ORDER BY n"
            );
            let found: Vec<(i64, i64)> = clickhouse.compact(&query).await?;
            let now = Instant::now();
            for (number, at) in found {
                seen.entry(number).or_insert(now);
                if number == low {
                    (low, since) = (low + 1, at - CLOCK_STEP);
                }
            }
        }
        anyhow::Ok(seen)
    });

    let sent = write(&collection, plan, total).await?;
    let rows = rows.await??;
    over.store(true, Ordering::Release);
    let records = records.await??;
    rig.expect_running()?;
    rig.settle().await?;
    let count = usize::try_from(total)?;
    ensure!(rows.len() >= count, "{} of {total} rows came", rows.len());
    ensure!(records.len() >= count, "{} of {total} records came", records.len());
    let settled = i64::from(plan.rate) * i64::try_from(SETTLING.as_secs())?;
    let times = |seen: &Seen| {
        let of = |(number, at): (&i64, &Instant)| Some(at.duration_since(*sent.get(number)?));
        let counted = seen.iter().filter(|(number, _)| **number >= settled);
        Times::of(counted.filter_map(of).collect()).context("nothing was measured")
    };
    let changes = count - usize::try_from(settled)?;
    Ok(Some(Report { changes, topic: times(&records)?, row: times(&rows)? }))
}

fn document(number: i64) -> Document {
    doc! {
        "status": "arrived", "n": number, "at": DateTime::now(), "size_bytes": 123_456,
        "checksum": "9e107d9d372bb6826bd81d3542a419d6", "consumer_id": "c-17", "pad": "x".repeat(300),
    }
}

/// Writes at a steady rate; tells when each write was sent.
async fn write(
    collection: &mongodb::Collection<Document>,
    plan: Plan,
    total: i64,
) -> anyhow::Result<Seen> {
    let at_once = i64::from(plan.rate) * i64::try_from(BEAT.as_millis())? / 1000;
    let mut sent = Seen::new();
    let mut beat = tokio::time::interval(BEAT);
    let mut next = 0;
    while next < total {
        beat.tick().await;
        let numbers = next..(next + at_once.max(1)).min(total);
        let now = Instant::now();
        sent.extend(numbers.clone().map(|number| (number, now)));
        collection.insert_many(numbers.clone().map(document)).await?;
        next = numbers.end;
    }
    Ok(sent)
}

/// A plain consumer of committed records, from the ends of the topic on.
fn consumer(rig: &KafkaRig) -> anyhow::Result<BaseConsumer> {
    let mut config = rig.cluster.config();
    config
        .set("group.id", "latency")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..rig.setup.topics().partitions {
        list.add_partition_offset(TOPIC, i32::try_from(partition)?, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Hears of records until all is over.
fn hear(consumer: &BaseConsumer, over: &AtomicBool) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    while !over.load(Ordering::Acquire) {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message?;
        let now = Instant::now();
        let event: Value = serde_json::from_slice(message.payload().unwrap_or(b"null"))?;
        let number = &event["fullDocument"]["n"];
        let number = number["$numberLong"].as_str().and_then(|digits| digits.parse().ok());
        if let Some(number) = number {
            seen.entry(number).or_insert(now);
        }
    }
    Ok(seen)
}
