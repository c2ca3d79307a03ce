//! Letters: what the topic of the dead letters holds, and the records of any topic that are asked for
//! by their places. It only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tailwater_core::dead_letter::{DeadLetter, Place, read_replayed};
use tailwater_core::message::{Joiner, header};
use tailwater_core::position::{LaneId, Millis, Seq};
use tailwater_core::record::Record;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::retry::Backoff;
use tracing::warn;

use crate::classify;
use crate::client::{Client, blocking};
use crate::observer::{Observer, lanes};
use crate::reader;

/// A broker that says nothing for so long is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look at the queue waits.
const POLL: Duration = Duration::from_millis(500);

/// A dead letter in its topic.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The time of the record; the letter has no other.
    pub at: Option<Millis>,
    /// What it says; without key and value unless they were asked for.
    pub letter: DeadLetter,
    /// The length of key and value.
    pub bytes: usize,
}

/// What the topic of the dead letters holds.
#[derive(Debug, Default)]
pub struct Letters {
    /// The letters, by where their records were.
    pub letters: BTreeMap<Place, Letter>,
    /// Those that were produced again.
    pub replayed: BTreeSet<Place>,
}

impl Observer {
    /// Reads the topic of the dead letters as far as it is committed now; key and value of those alone
    /// that are `wanted`. Nothing where there is no such topic.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn letters(
        &self,
        topic: &str,
        wanted: impl Fn(&Place) -> bool + Send + 'static,
    ) -> Result<Letters> {
        let Some(seen) = self.topic(topic).await? else { return Ok(Letters::default()) };
        let all = lanes(&BTreeMap::from([(topic.to_owned(), seen.partitions)]));
        let logs = self.logs(&all).await?;
        let open: BTreeMap<i32, Joiner> =
            all.iter().map(|lane| (crate::observer::partition(lane), Joiner::default())).collect();
        let from: Vec<(LaneId, Seq)> =
            logs.iter().map(|(lane, log)| (lane.clone(), log.first)).collect();
        let reader = self.reading(&from)?;
        let (client, topic) = (self.client.clone(), topic.to_owned());
        blocking(move || {
            let mut found = Letters::default();
            let what = || format!("cannot read the dead letters in `{topic}`");
            each(&client, &reader, open, what, |record| take(&mut found, record, &wanted))?;
            Ok(found)
        })
        .await
    }

    /// Waits until what is in a topic now is committed or aborted.
    ///
    /// # Errors
    /// `Unsuitable` when a transaction stays open; those of asking.
    pub async fn wait_until_stable(&self, topic: &str) -> Result<()> {
        let Some(seen) = self.topic(topic).await? else { return Ok(()) };
        let all = lanes(&BTreeMap::from([(topic.to_owned(), seen.partitions)]));
        let before = self.logs(&all).await?;
        let started = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            let now = self.logs(&all).await?;
            let waits = before
                .iter()
                .find(|(lane, before)| now.get(*lane).is_some_and(|now| now.stable < before.end));
            let Some((lane, _)) = waits else { return Ok(()) };
            if started.elapsed() > PATIENCE * 2 {
                let what = format!(
                    "a transaction on `{lane}` has been open for {} s",
                    started.elapsed().as_secs()
                );
                return Err(Error::new(ErrorKind::Unsuitable, what).with_hint(
                    "find it with `kafka-transactions.sh find-hanging`, and abort it with `kafka-transactions.sh abort`",
                ));
            }
            backoff.pause().await;
        }
    }

    /// The record of a place, its chunks joined; `None` where it is gone: its topic is, or its life is
    /// over, or its offset.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn record(&self, place: &Place) -> Result<Option<Record>> {
        let lane = place.lane.clone();
        match self.topic(lane.topic()).await? {
            Some(seen) if seen.id == place.epoch && lane.partition() < seen.partitions => {}
            _ => return Ok(None),
        }
        let log = self.logs(std::slice::from_ref(&lane)).await?.remove(&lane);
        if log.is_none_or(|log| place.offset < log.first || place.offset >= log.stable) {
            return Ok(None);
        }
        let Some(last) = self.read_from(&lane, place.offset, place.offset).await?.pop() else {
            return Ok(None);
        };
        // Of an event in chunks, this is the last one.
        let before = last.header(header::CHUNK).and_then(|chunk| {
            let (index, count) = str::from_utf8(chunk).ok()?.split_once('/')?;
            let (index, count): (u64, u64) = (index.parse().ok()?, count.parse().ok()?);
            (index + 1 == count).then_some(index)
        });
        let Some(before) = before else { return Ok(Some(last)) };
        let first = Seq(place.offset.0.saturating_sub(before));
        let mut joiner = Joiner::default();
        let chunks = self.read_from(&lane, first, place.offset).await?;
        Ok(chunks.into_iter().filter_map(|chunk| joiner.push(chunk).record).last())
    }

    /// The committed records from one offset to another.
    async fn read_from(&self, lane: &LaneId, first: Seq, last: Seq) -> Result<Vec<Record>> {
        let reader = self.reading(&[(lane.clone(), first)])?;
        let (client, lane) = (self.client.clone(), lane.clone());
        blocking(move || {
            let mut records = Vec::new();
            let what = || format!("cannot read `{lane}` from {first} to {last}");
            let mut heard = Instant::now();
            loop {
                match poll(&client, &reader, &mut heard, what)? {
                    Heard::Record(_, record) if record.offset <= last => {
                        let is_last = record.offset == last;
                        records.push(record);
                        if is_last {
                            return Ok(records);
                        }
                    }
                    Heard::Record(..) | Heard::End(_) => return Ok(records),
                    Heard::Nothing => {}
                }
            }
        })
        .await
    }
}

/// One look at the queue of a reader.
enum Heard {
    Record(i32, Record),
    End(i32),
    Nothing,
}

type Consumer = Arc<rdkafka::consumer::BaseConsumer<crate::client::Context>>;

fn poll(
    client: &Client,
    reader: &Consumer,
    heard: &mut Instant,
    what: impl Fn() -> String,
) -> Result<Heard> {
    match reader.poll(POLL) {
        None if heard.elapsed() > PATIENCE => Err(Error::new(ErrorKind::Unreachable, what())),
        None => Ok(Heard::Nothing),
        Some(Ok(message)) => {
            *heard = Instant::now();
            Ok(Heard::Record(message.partition(), reader::record(&message)))
        }
        Some(Err(KafkaError::PartitionEOF(partition))) => {
            *heard = Instant::now();
            Ok(Heard::End(partition))
        }
        Some(Err(error)) if classify::kind(&error).action() == Action::Retry => {
            warn!(%error, "reading");
            Ok(Heard::Nothing)
        }
        Some(Err(error)) => Err(client.explain(error, what())),
    }
}

/// Takes every record of one topic, its chunks joined.
fn each(
    client: &Client,
    reader: &Consumer,
    mut open: BTreeMap<i32, Joiner>,
    what: impl Fn() -> String,
    mut take: impl FnMut(Record),
) -> Result<()> {
    let mut heard = Instant::now();
    while !open.is_empty() {
        match poll(client, reader, &mut heard, &what)? {
            Heard::Record(partition, record) => {
                if let Some(joiner) = open.get_mut(&partition) {
                    let joined = joiner.push(record);
                    joined.missing.into_iter().chain(joined.record).for_each(&mut take);
                }
            }
            Heard::End(partition) => {
                open.remove(&partition);
            }
            Heard::Nothing => {}
        }
    }
    Ok(())
}

fn take(found: &mut Letters, record: Record, wanted: &impl Fn(&Place) -> bool) {
    if let Some(place) = read_replayed(&record) {
        found.replayed.insert(place);
        return;
    }
    let Some(mut letter) = DeadLetter::read(&record) else { return };
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let bytes = length(&record.key) + length(&record.value);
    let place = letter.place();
    if !wanted(&place) {
        (letter.record.key, letter.record.value) = (None, None);
    }
    found.letters.insert(place, Letter { at: record.timestamp, letter, bytes });
}
