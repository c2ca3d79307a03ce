//! CheckpointTopic: how far each stream is, in a compacted topic, written inside the transactions
//! that hold the records.
//!
//! ```text
//!   stream/<stream>/<slot>   {n, seq, cursor, epoch, …}                how far a stream is
//!   topic/<topic>/<slot>     {n, id, partitions, last: {0: offset}}    what was acknowledged there
//!   gap/<id>                 {…}                                       what is missing for good
//!   lane/<group>/<topic>/<partition>  {id, next}                       how far `normalize` is: `lanes.rs`
//! ```
//!
//! `slot` is n mod 16: compaction keeps the last sixteen of each, of which the greatest `n` counts. To read,
//! one first has the transactional id for oneself, or the lane, then asks where the partition ends,
//! uncommitted records too, and reads the committed ones up to there: an earlier end could hide what
//! another producer's open transaction stands before.

mod lanes;
mod rewind;
mod slots;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tailwater_core::gap::{Gap, GapRecord};
use tailwater_core::position::{Checkpoint, Epoch, LaneId, Position, Seq};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::clock;
use tailwater_pipeline::retry::Backoff;
use tracing::{info, warn};

use crate::classify::{self, HANGING};
use crate::client::{Client, Context, Isolation, PATIENCE, blocking};
use crate::losses;
use crate::producer::{Offsets, Open, Outgoing, TRANSACTION_TIMEOUT};
use crate::reader;
use crate::topics::Topic;
use crate::transaction::{Progress, Routes};
pub(crate) use lanes::Lanes;
pub use slots::{Looked, Slot};

/// So many records of each stream outlive compaction.
const SLOTS: u64 = 16;

/// How far each stream is.
#[derive(Debug, Clone)]
pub struct CheckpointTopic {
    name: Arc<str>,
    streams: BTreeMap<String, Numbered<Checkpoint>>,
    topics: BTreeMap<String, Numbered<Acknowledged>>,
    gaps: BTreeMap<String, GapRecord>,
}

/// The newest record of its kind.
#[derive(Debug, Clone)]
struct Numbered<T> {
    n: u64,
    value: T,
}

/// What a topic has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The topic's id.
    pub id: Epoch,
    /// Among so many partitions a document's is chosen.
    pub partitions: NonZeroU32,
    /// The last offset of each partition.
    pub last: BTreeMap<i32, i64>,
}

/// What is to be written into a transaction.
#[derive(Debug, Clone)]
pub struct Advance {
    pub(crate) streams: Vec<(LaneId, Checkpoint)>,
    /// The topics that were written to, as they are now.
    pub(crate) topics: BTreeMap<String, (Epoch, NonZeroU32)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredStream {
    n: u64,
    stream: String,
    epoch: String,
    seq: Seq,
    cursor: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredTopic {
    n: u64,
    topic: String,
    id: String,
    partitions: NonZeroU32,
    last: BTreeMap<i32, i64>,
}

impl CheckpointTopic {
    fn empty(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            streams: BTreeMap::new(),
            topics: BTreeMap::new(),
            gaps: BTreeMap::new(),
        }
    }

    /// Reads the topic, which must be there, as it is for whoever has the transactional id. `group`
    /// is a group's name that we may use; it is not joined.
    ///
    /// # Errors
    /// `Unsuitable` when a transaction of another producer stays open; `Corrupt` for a record that
    /// nobody here wrote.
    pub async fn read(client: &Client, group: &str, name: &Arc<str>) -> Result<Self> {
        let (reader, _) = reader_of_all(client, group, name, ErrorKind::Unsuitable).await?;
        let (client, topic) = (client.clone(), Arc::clone(name));
        let (this, _) = blocking(move || read(&client, &reader, &topic, Seq::ZERO)).await?;
        info!(topic = %name, streams = this.streams.len(), "checkpoints read");
        Ok(this)
    }

    /// The gap records that were committed from an offset on, and where to look next.
    ///
    /// # Errors
    /// Those of the cluster; `Corrupt` as [`CheckpointTopic::read`].
    pub async fn gaps_from(
        client: &Client,
        group: &str,
        name: &Arc<str>,
        from: Seq,
    ) -> Result<(Vec<GapRecord>, Seq)> {
        let reader = client.reader(Isolation::Committed, group)?;
        let (client, topic) = (client.clone(), Arc::clone(name));
        let (found, end) = blocking(move || read(&client, &reader, &topic, from)).await?;
        Ok((found.gaps.into_values().collect(), end))
    }

    /// How far a stream is.
    pub fn stream(&self, lane: &LaneId) -> Option<&Checkpoint> {
        self.streams.get(lane.topic()).map(|found| &found.value)
    }

    /// What each topic has acknowledged.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &Acknowledged)> {
        self.topics.iter().map(|(topic, found)| (topic.as_str(), &found.value))
    }

    /// What is missing for good.
    pub fn gaps(&self) -> impl Iterator<Item = &GapRecord> {
        self.gaps.values()
    }

    /// What is known once `advance` is committed, with the records that say so.
    fn after(&self, advance: &Advance, offsets: &Offsets) -> Self {
        let mut after = self.clone();
        for (lane, checkpoint) in &advance.streams {
            let (n, value) = (self.next_number(lane), checkpoint.clone());
            after.streams.insert(lane.topic().to_owned(), Numbered { n, value });
        }
        for (topic, (id, partitions)) in &advance.topics {
            let before = self.topics.get(topic);
            let n = before.map_or(0, |found| found.n + 1);
            let same = before.filter(|found| found.value.id == *id);
            let mut last = same.map_or_else(BTreeMap::new, |found| found.value.last.clone());
            last.extend(offsets.get(topic).into_iter().flatten());
            let value = Acknowledged { id: *id, partitions: *partitions, last };
            after.topics.insert(topic.clone(), Numbered { n, value });
        }
        after
    }

    /// The number of a stream's next record.
    fn next_number(&self, lane: &LaneId) -> u64 {
        self.streams.get(lane.topic()).map_or(0, |found| found.n + 1)
    }

    /// Sends how far the streams of an advance are, behind what is known.
    fn send_streams(&self, open: &Open<'_>, advance: &Advance) -> Result<()> {
        for (lane, checkpoint) in &advance.streams {
            let n = self.next_number(lane);
            let stored = StoredStream {
                n,
                stream: lane.topic().to_owned(),
                epoch: checkpoint.epoch.to_string(),
                seq: checkpoint.next.seq,
                cursor: hex::encode(&checkpoint.next.cursor),
            };
            let key = format!("stream/{}/{}", lane.topic(), n % SLOTS);
            write(open, &self.name, &key, &stored)?;
        }
        Ok(())
    }

    /// Sends what the topics of an advance have acknowledged, of which `self` is the outcome.
    fn send_topics(&self, open: &Open<'_>, advance: &Advance) -> Result<()> {
        for topic in advance.topics.keys() {
            let Some(Numbered { n, value }) = self.topics.get(topic) else { continue };
            let stored = StoredTopic {
                n: *n,
                topic: topic.clone(),
                id: value.id.to_string(),
                partitions: value.partitions,
                last: value.last.clone(),
            };
            write(open, &self.name, &format!("topic/{topic}/{}", n % SLOTS), &stored)?;
        }
        Ok(())
    }

    /// Sends what is missing for good.
    pub(crate) fn send_gap(open: &Open<'_>, name: &str, gap: &GapRecord) -> Result<()> {
        write(open, name, &format!("gap/{}", gap.id), gap)
    }

    /// Takes a record in.
    fn take(&mut self, key: &[u8], value: &[u8]) -> std::result::Result<(), String> {
        let key = std::str::from_utf8(key).map_err(|_| "its key is not UTF-8")?;
        let wrong = |error: serde_json::Error| error.to_string();
        match key.split('/').next() {
            Some("stream") => {
                let (stream, found) = StoredStream::read(value)?;
                newest(&mut self.streams, stream, found);
            }
            Some("topic") => {
                let stored: StoredTopic = serde_json::from_slice(value).map_err(wrong)?;
                let id = Epoch::parse(&stored.id).ok_or("a topic id is not 32 hex digits")?;
                let StoredTopic { n, topic, partitions, last, .. } = stored;
                let value = Acknowledged { id, partitions, last };
                newest(&mut self.topics, topic, Numbered { n, value });
            }
            Some("gap") => {
                let stored: GapRecord = serde_json::from_slice(value).map_err(wrong)?;
                self.gaps.insert(stored.id.clone(), stored);
            }
            // Of `normalize`: see `lanes.rs`.
            Some("lane") => {}
            _ => return Err(format!("its key `{key}` is none of ours")),
        }
        Ok(())
    }
}

impl Progress for CheckpointTopic {
    async fn checkpoints(&mut self, lanes: &[LaneId]) -> Result<Vec<Checkpoint>> {
        let begun = |lane| {
            let found = self.stream(lane).cloned();
            found.ok_or_else(|| Error::new(ErrorKind::Bug, format!("`{lane}` was never begun")))
        };
        lanes.iter().map(begun).collect()
    }

    fn pinned(&self, topic: &str) -> Option<(Epoch, NonZeroU32)> {
        self.topics.get(topic).map(|found| (found.value.id, found.value.partitions))
    }

    fn deleted(&self, routes: &Routes) -> Vec<Gap> {
        let another = |(topic, now): (&Arc<str>, &Topic)| {
            let before = &self.topics.get(&**topic)?.value;
            if before.id == now.id { None } else { losses::deleted(topic, before) }
        };
        routes.iter().filter_map(another).filter(|gap| !self.gaps.contains_key(&gap.id())).collect()
    }

    fn put_early(&self, open: &Open<'_>, advance: &Advance) -> Result<()> {
        self.send_streams(open, advance)
    }

    fn put(&self, open: &Open<'_>, advance: &Advance, offsets: &Offsets) -> Result<Self> {
        let after = self.after(advance, offsets);
        after.send_topics(open, advance)?;
        open.flush()?;
        Ok(after)
    }

    fn put_gap(&self, open: &Open<'_>, gap: &Gap) -> Result<Self> {
        let stored = GapRecord::of(gap, clock::now());
        let mut after = self.clone();
        if after.gaps.contains_key(&stored.id) {
            return Ok(after);
        }
        Self::send_gap(open, &self.name, &stored)?;
        open.flush()?;
        after.gaps.insert(stored.id.clone(), stored);
        Ok(after)
    }
}

impl StoredStream {
    /// Reads a value; gives the stream, and its checkpoint.
    fn read(value: &[u8]) -> std::result::Result<(String, Numbered<Checkpoint>), String> {
        let stored: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let epoch = Epoch::parse(&stored.epoch).ok_or("an epoch is not 32 hex digits")?;
        let cursor = hex::decode(&stored.cursor).map_err(|_| "a cursor is not hex")?;
        let next = Position { seq: stored.seq, cursor: Bytes::from(cursor) };
        let value = Checkpoint { epoch, next, pending: None, renumbered: false };
        Ok((stored.stream, Numbered { n: stored.n, value }))
    }
}

fn newest<T>(map: &mut BTreeMap<String, Numbered<T>>, key: String, found: Numbered<T>) {
    let known = map.get(&key).is_some_and(|known| known.n > found.n);
    if !known {
        map.insert(key, found);
    }
}

/// Puts a record into an open transaction.
fn write(open: &Open<'_>, topic: &str, key: &str, value: &impl Serialize) -> Result<()> {
    let value = serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorKind::Bug, "a checkpoint cannot be written").with_source(error)
    })?;
    open.send(&Outgoing {
        topic,
        partition: 0,
        key: Some(key.as_bytes()),
        value: Some(&value),
        headers: &[],
        timestamp: None,
    })
}

/// A reader of committed records, once nothing that is there now is in an open transaction, and where that
/// ends. One that stays open for long is an error of this kind.
async fn reader_of_all(
    client: &Client,
    group: &str,
    name: &Arc<str>,
    kind: ErrorKind,
) -> Result<(Arc<BaseConsumer<Context>>, Seq)> {
    let committed = client.reader(Isolation::Committed, group)?;
    let uncommitted = client.reader(Isolation::Uncommitted, group)?;
    // Transactions of ours are over by then.
    let patience = 2 * client.transaction_timeout(TRANSACTION_TIMEOUT);
    let (asking, topic) = (client.clone(), Arc::clone(name));
    let end = blocking(move || end(&asking, &uncommitted, &topic)).await?;
    wait_for(&committed, name, end, (patience, kind)).await?;
    Ok((committed, Seq(u64::try_from(end).unwrap_or_default())))
}

/// Where the topic's partition ends for a reader: uncommitted records too, if it sees them.
fn end(client: &Client, reader: &BaseConsumer<Context>, topic: &str) -> Result<i64> {
    let what = || format!("cannot look at the checkpoint topic `{topic}`");
    let watermarks = reader.fetch_watermarks(topic, 0, PATIENCE);
    watermarks.map(|(_, high)| high).map_err(|error| client.explain(error, what()))
}

/// Waits until nothing before `end` is in an open transaction.
async fn wait_for(
    reader: &Arc<BaseConsumer<Context>>,
    topic: &Arc<str>,
    end: i64,
    (patience, kind): (Duration, ErrorKind),
) -> Result<()> {
    let started = Instant::now();
    let mut backoff = Backoff::new();
    loop {
        let (asked, name) = (Arc::clone(reader), Arc::clone(topic));
        let stable = blocking(move || {
            let what = format!("cannot look at the checkpoint topic `{name}`");
            // Of a reader of committed records this is the last stable offset.
            let watermarks = asked.fetch_watermarks(&name, 0, PATIENCE);
            watermarks.map(|(_, high)| high).map_err(|error| classify::error(error, what))
        })
        .await?;
        if stable >= end {
            return Ok(());
        }
        if started.elapsed() > patience {
            return Err(Error::new(
                kind,
                format!("a transaction on the checkpoint topic `{topic}` has been open at offset {stable} for {} s", started.elapsed().as_secs()),
            )
            .with_hint(HANGING));
        }
        if backoff.attempts().is_multiple_of(10) {
            warn!(topic = %topic, stable, end, "waiting for an open transaction before the checkpoints can be read");
        }
        backoff.pause().await;
    }
}

/// Reads all that is committed from an offset on; gives where that ends, too.
fn read(
    client: &Client,
    reader: &BaseConsumer<Context>,
    topic: &Arc<str>,
    from: Seq,
) -> Result<(CheckpointTopic, Seq)> {
    let mut found = CheckpointTopic::empty(topic);
    let end = scan(client, reader, topic, from, |_, key, value| found.take(key, value))?;
    Ok((found, end))
}

/// Takes in every record from an offset on that is committed now and has not been taken back, with its
/// key and its value. Gives where that ends.
fn scan(
    client: &Client,
    reader: &BaseConsumer<Context>,
    topic: &Arc<str>,
    from: Seq,
    mut take: impl FnMut(&BorrowedMessage<'_>, &[u8], &[u8]) -> std::result::Result<(), String>,
) -> Result<Seq> {
    let what = || format!("cannot read the checkpoint topic `{topic}`");
    let failed = |error: KafkaError| classify::error(error, what());
    // While a source is busy its end never comes.
    let end = end(client, reader, topic)?;
    let ended = Seq(u64::try_from(end).unwrap_or_default());
    if from == ended {
        return Ok(ended);
    }
    if from > ended {
        let what = format!("the checkpoint topic `{topic}` is shorter than it was");
        return Err(Error::new(ErrorKind::Unreachable, what));
    }
    let from = match from {
        Seq::ZERO => Offset::Beginning,
        Seq(offset) => Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
    };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, from).map_err(failed)?;
    reader.assign(&list).map_err(failed)?;
    let mut heard = Instant::now();
    let mut ends_here = false;
    while heard.elapsed() < TRANSACTION_TIMEOUT {
        let message = match reader.poll(PATIENCE) {
            // What was at the end was compacted away.
            None if ends_here => return Ok(ended),
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                if reader::has_come_to(reader, topic, 0, ended).map_err(failed)? {
                    return Ok(ended);
                }
                // Who leads by now, and does not know yet what all replicas have, gives no answer.
                ends_here = self::end(client, reader, topic)? >= end;
                continue;
            }
            Some(Err(error)) if classify::may_read_on(&error) => {
                warn!(topic = %topic, %error, "reading checkpoints");
                ends_here = false;
                continue;
            }
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(message)) => message,
        };
        heard = Instant::now();
        ends_here = false;
        // Without a value it was taken back.
        let taken = match (message.key(), message.payload()) {
            (Some(key), Some(value)) => take(&message, key, value),
            _ => Ok(()),
        };
        taken.map_err(|why| {
            Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the record at offset {} of `{topic}` is no checkpoint: {why}",
                    message.offset()
                ),
            )
            .with_hint("name a topic of this pipeline's own in `kafka.topics.checkpoints`")
        })?;
        if message.offset() + 1 >= end {
            return Ok(ended);
        }
    }
    Err(Error::new(ErrorKind::Unreachable, what()))
}
