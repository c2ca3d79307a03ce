//! Reader: a thread that fetches the records of some lanes, each from a place that it is told.
//!
//! It is no member of a group: which lanes it reads, and from where, is said to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as commands;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use tailwater_core::position::{LaneId, Millis, Seq};
use tailwater_core::record::Record;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::budget::{Budget, ENCODED_FACTOR, Share};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::classify;
use crate::client::{self, Client, Context, Isolation};

/// How long one look at the queue waits.
const POLL: Duration = Duration::from_millis(50);
/// So many records are handed over at once, or so many bytes.
const MOST_RECORDS: usize = 2000;
const MOST_BYTES: usize = 4 << 20;
/// Hand-overs that wait. The budget bounds their bytes; this bounds tiny ones.
const CHANNEL: usize = 16;

/// What the reader is told.
#[derive(Debug)]
enum Command {
    /// Read this lane from there on; what comes is marked.
    Assign { lane: LaneId, offset: Seq, mark: u64 },
    /// Read it no more.
    Unassign(LaneId),
}

/// Records of one lane, in order.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) lane: LaneId,
    pub(crate) mark: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) share: Share,
}

/// A thread that fetches.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) fetched: mpsc::Receiver<Result<Fetched>>,
    orders: commands::Sender<Command>,
    ended: Arc<AtomicBool>,
}

impl Reader {
    /// Starts the thread, with no lane to read.
    pub(crate) fn start(client: &Client, group: &str, budget: Budget) -> Result<Self> {
        let consumer = client.reader_of_many(Isolation::Committed, group)?;
        let (orders, received) = commands::channel();
        let (sender, fetched) = mpsc::channel(CHANNEL);
        let ended = Arc::new(AtomicBool::new(false));
        let work = Work {
            client: client.clone(),
            consumer,
            orders: received,
            sender,
            budget,
            runtime: tokio::runtime::Handle::current(),
            ended: Arc::clone(&ended),
            marks: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("kafka-reader".to_owned());
        thread.spawn(move || work.run()).map_err(|error| {
            Error::new(ErrorKind::Storage, "the system gives no thread").with_source(error)
        })?;
        Ok(Self { fetched, orders, ended })
    }

    /// Reads a lane from `offset` on; what comes of it has this mark.
    pub(crate) fn assign(&self, lane: &LaneId, offset: Seq, mark: u64) -> Result<()> {
        self.order(Command::Assign { lane: lane.clone(), offset, mark })
    }

    /// Reads a lane no more.
    pub(crate) fn unassign(&self, lane: &LaneId) -> Result<()> {
        self.order(Command::Unassign(lane.clone()))
    }

    fn order(&self, command: Command) -> Result<()> {
        let sent = self.orders.send(command);
        sent.map_err(|_| Error::new(ErrorKind::Bug, "the thread that reads Kafka is gone"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

struct Work {
    client: Client,
    consumer: Arc<BaseConsumer<Context>>,
    orders: commands::Receiver<Command>,
    sender: mpsc::Sender<Result<Fetched>>,
    budget: Budget,
    runtime: tokio::runtime::Handle,
    ended: Arc<AtomicBool>,
    /// The lanes that are read, with the mark of what comes.
    marks: BTreeMap<LaneId, u64>,
}

impl Work {
    fn run(mut self) {
        while !self.ended.load(Ordering::Acquire) {
            if let Err(error) = self.step() {
                // Where nobody listens any more, nobody needs to know.
                drop(self.sender.blocking_send(Err(error)));
                return;
            }
        }
    }

    fn step(&mut self) -> Result<()> {
        while let Ok(command) = self.orders.try_recv() {
            self.obey(command)?;
        }
        let mut gathered: BTreeMap<LaneId, Vec<Record>> = BTreeMap::new();
        let (mut count, mut bytes, mut wait) = (0, 0, POLL);
        while count < MOST_RECORDS && bytes < MOST_BYTES {
            let Some(message) = self.consumer.poll(wait) else { break };
            wait = Duration::ZERO;
            match message {
                Ok(message) => {
                    let lane = lane_of(message.topic(), message.partition());
                    let record = record(&message);
                    bytes += record.bytes();
                    count += 1;
                    match gathered.get_mut(&lane) {
                        Some(records) => records.push(record),
                        None => drop(gathered.insert(lane, vec![record])),
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => self.complain(error)?,
            }
        }
        for (lane, records) in gathered {
            // What was fetched for a place that is no longer wanted.
            let Some(mark) = self.marks.get(&lane).copied() else { continue };
            let bytes: usize = records.iter().map(Record::bytes).sum();
            let share = self.runtime.block_on(self.budget.take(bytes * ENCODED_FACTOR));
            let fetched = Fetched { lane, mark, records, share };
            if self.sender.blocking_send(Ok(fetched)).is_err() {
                self.ended.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        let failed = |error| classify::error(error, "cannot choose what to read of Kafka");
        let (lane, offset) = match command {
            Command::Assign { lane, offset, mark } => {
                if self.marks.insert(lane.clone(), mark).is_some() {
                    self.consumer.incremental_unassign(&list(&lane, None)?).map_err(failed)?;
                }
                (lane, Some(offset))
            }
            Command::Unassign(lane) if self.marks.remove(&lane).is_some() => (lane, None),
            Command::Unassign(_) => return Ok(()),
        };
        let list = list(&lane, offset)?;
        match offset {
            Some(_) => self.consumer.incremental_assign(&list),
            None => self.consumer.incremental_unassign(&list),
        }
        .map_err(failed)
    }

    fn complain(&self, error: KafkaError) -> Result<()> {
        let (code, damaged) = (error.rdkafka_error_code(), classify::is_damaged(&error));
        let lanes = named(self.marks.keys());
        let error = self.client.explain(error, format!("cannot read records of {lanes}"));
        if matches!(code, Some(Code::AutoOffsetReset | Code::OffsetOutOfRange)) {
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("records that were to be read next of {lanes} are no longer there"),
            )
            .with_source(error));
        }
        if damaged || error.kind().action() == Action::Stop {
            return Err(error);
        }
        match client::is_away(code) {
            // Told already, by librdkafka.
            true => debug!(%error, cause = std::error::Error::source(&error), "kafka"),
            false => warn!(%error, cause = std::error::Error::source(&error), "kafka"),
        }
        Ok(())
    }
}

/// The lane of a partition.
pub(crate) fn lane_of(topic: &str, partition: i32) -> LaneId {
    LaneId::partition_of(topic, u32::try_from(partition).unwrap_or_default())
}

/// Names lanes in an error: one, and how many more.
pub(crate) fn named<'l>(mut lanes: impl ExactSizeIterator<Item = &'l LaneId>) -> String {
    match (lanes.next(), lanes.len()) {
        (None, _) => "no lane".to_owned(),
        (Some(lane), 0) => format!("`{lane}`"),
        (Some(lane), more) => format!("`{lane}` and {more} more"),
    }
}

/// A list of one lane.
pub(crate) fn list(lane: &LaneId, offset: Option<Seq>) -> Result<TopicPartitionList> {
    let partition = i32::try_from(lane.partition()).unwrap_or(i32::MAX);
    let offset = match offset {
        Some(Seq(offset)) => Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
        None => Offset::Invalid,
    };
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(lane.topic(), partition, offset)
        .map_err(|error| classify::error(error, format!("cannot read `{lane}`")))?;
    Ok(list)
}

/// Whether a reader has come to where a partition was said to end. A leader that was elected meanwhile says
/// that nothing more is there until it knows what all replicas have.
pub(crate) fn has_come_to(
    reader: &BaseConsumer<Context>,
    topic: &str,
    partition: i32,
    Seq(end): Seq,
) -> rdkafka::error::KafkaResult<bool> {
    let positions = reader.position()?;
    let at = positions.find_partition(topic, partition).map(|element| element.offset());
    Ok(matches!(at, Some(Offset::Offset(at)) if u64::try_from(at).is_ok_and(|at| at >= end)))
}

/// The record of a message, with bytes of its own.
pub(crate) fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header = |(name, value): (&str, Option<&[u8]>)| {
            (name.into(), Bytes::copy_from_slice(value.unwrap_or_default()))
        };
        headers.iter().map(|found| header((found.key, found.value))).collect()
    });
    Record {
        offset: Seq(u64::try_from(message.offset()).unwrap_or_default()),
        timestamp: match message.timestamp() {
            Timestamp::NotAvailable => None,
            Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) => Some(Millis(at)),
        },
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
    }
}
