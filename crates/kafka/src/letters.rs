//! Letters: what the topic of the dead letters holds, and the records of any topic that are asked for
//! by their places. It only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tailwater_core::dead_letter::{DeadLetter, Place, read_mark};
use tailwater_core::message::Joiner;
use tailwater_core::position::{LaneId, Millis, Seq};
use tailwater_core::record::{Incoming, Record};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::retry::{self, Backoff};
use tracing::warn;

use crate::classify::{self, HANGING};
use crate::client::{Client, Context, blocking};
use crate::observer::{Log, Observer, lanes, partition};
use crate::reader;

/// A broker that says nothing of use for so long is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// A transaction that stays open for so long hangs.
const OPEN: Duration = Duration::from_secs(120);
/// How long one look at the queue waits.
const POLL: Duration = Duration::from_millis(500);
/// Records that lie so near to each other are read in one go.
const NEAR: u64 = 2000;
/// So many offsets before a record its first chunk is looked for, one after the other.
const CHUNKS_WITHIN: [u64; 3] = [0, 100, 10_000];

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
        let logs = self.ends(&all).await?;
        let from: Vec<_> = logs.iter().map(|(lane, log)| (lane.clone(), log.first)).collect();
        let reader = self.reading(&from)?;
        let open = logs.iter().filter(|(_, log)| log.first < log.stable);
        let open = open.map(|(lane, log)| (partition(lane), log.stable)).collect();
        let (client, topic) = (self.client.clone(), topic.to_owned());
        blocking(move || {
            let mut found = Letters::default();
            let what = || format!("cannot read the dead letters in `{topic}`");
            scan(&client, &reader, &topic, open, what, |Incoming { record, .. }| {
                found.take(record, &wanted);
                ControlFlow::Continue(())
            })?;
            Ok(found)
        })
        .await
    }

    /// Waits until what is in a topic now is committed or aborted.
    ///
    /// # Errors
    /// `Unsuitable` when a transaction stays open; those of asking.
    pub(crate) async fn wait_until_stable(&self, topic: &str) -> Result<()> {
        let Some(seen) = self.topic(topic).await? else { return Ok(()) };
        let all = lanes(&BTreeMap::from([(topic.to_owned(), seen.partitions)]));
        let before = self.ends(&all).await?;
        let started = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            let now = self.ends(&all).await?;
            let is_open = |(lane, before): &(&LaneId, &Log)| {
                now.get(*lane).is_some_and(|now| now.stable < before.end)
            };
            let Some((lane, _)) = before.iter().find(is_open) else { return Ok(()) };
            if started.elapsed() > OPEN {
                let seconds = started.elapsed().as_secs();
                let what = format!("a transaction on `{lane}` has been open for {seconds} s");
                return Err(Error::new(ErrorKind::Unsuitable, what).with_hint(HANGING));
            }
            backoff.pause().await;
        }
    }

    /// The records of places, their chunks joined, as far as they are still there: of a topic that is
    /// another one now, none is.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn records(&self, places: &BTreeSet<Place>) -> Result<BTreeMap<Place, Record>> {
        let names: BTreeSet<&str> = places.iter().map(|place| place.lane.topic()).collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let topics = self.topics_of(&names).await?;
        let is_there = |place: &&Place| {
            let seen = topics.get(place.lane.topic());
            seen.is_some_and(|it| it.id == place.epoch && place.lane.partition() < it.partitions)
        };
        let mut wanted: BTreeMap<LaneId, BTreeMap<Seq, Place>> = BTreeMap::new();
        for place in places.iter().filter(is_there) {
            wanted.entry(place.lane.clone()).or_default().insert(place.offset, place.clone());
        }
        let all: Vec<LaneId> = wanted.keys().cloned().collect();
        let logs = self.ends(&all).await?;
        let mut found = BTreeMap::new();
        for (lane, mut places) in wanted {
            let Some(log) = logs.get(&lane) else { continue };
            places.retain(|offset, _| (log.first..log.stable).contains(offset));
            for run in runs(places) {
                found.extend(self.run(&lane, log.first, run).await?);
            }
        }
        Ok(found)
    }

    /// The ends of logs, when their leaders are known: those of a new topic are not at once.
    async fn ends(&self, lanes: &[LaneId]) -> Result<BTreeMap<LaneId, Log>> {
        retry::patiently(PATIENCE, || self.logs(lanes)).await
    }

    /// The records of one run of a lane.
    async fn run(
        &self,
        lane: &LaneId,
        log_first: Seq,
        mut run: BTreeMap<Seq, Place>,
    ) -> Result<Vec<(Place, Record)>> {
        let mut found = Vec::new();
        for before in CHUNKS_WITHIN {
            let Some((first, _)) = run.first_key_value() else { break };
            let first = Seq(first.0.saturating_sub(before)).max(log_first);
            let joined = self.joined(lane, first, run.keys().copied().collect()).await?;
            for record in joined {
                let place = run.remove(&record.offset);
                found.extend(place.map(|place| (place, record)));
            }
        }
        Ok(found)
    }

    /// Those records of a lane, read from there on.
    async fn joined(
        &self,
        lane: &LaneId,
        from: Seq,
        offsets: BTreeSet<Seq>,
    ) -> Result<Vec<Record>> {
        let Some(last) = offsets.last().copied() else { return Ok(Vec::new()) };
        let reader = self.reading(&[(lane.clone(), from)])?;
        let (client, lane) = (self.client.clone(), lane.clone());
        blocking(move || {
            let mut records = Vec::new();
            let what = || format!("cannot read `{lane}` from {from} to {last}");
            let open = BTreeMap::from([(partition(&lane), last.plus(1))]);
            scan(&client, &reader, lane.topic(), open, what, |Incoming { record, rejection }| {
                let is_last = record.offset >= last;
                if rejection.is_none() && offsets.contains(&record.offset) {
                    records.push(record);
                }
                if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok(records)
        })
        .await
    }
}

/// Places of one lane, in runs that are read in one go.
fn runs(places: BTreeMap<Seq, Place>) -> Vec<BTreeMap<Seq, Place>> {
    let mut all: Vec<BTreeMap<Seq, Place>> = Vec::new();
    for (offset, place) in places {
        let last = all.last().and_then(|run| run.last_key_value()).map(|(last, _)| *last);
        match all.last_mut() {
            Some(run) if last.is_some_and(|last| offset.0 - last.0 <= NEAR) => {
                run.insert(offset, place);
            }
            _ => all.push(BTreeMap::from([(offset, place)])),
        }
    }
    all
}

/// Takes every committed record of these partitions of one topic, each up to where it ends now, the chunks
/// joined, until no more are wanted. While somebody writes, the end itself never comes.
fn scan(
    client: &Client,
    reader: &BaseConsumer<Context>,
    topic: &str,
    open: BTreeMap<i32, Seq>,
    what: impl Fn() -> String,
    mut take: impl FnMut(Incoming) -> ControlFlow<()>,
) -> Result<()> {
    let joiner = |(partition, end)| (partition, (end, Joiner::default()));
    let mut open: BTreeMap<i32, (Seq, Joiner)> = open.into_iter().map(joiner).collect();
    let mut joined = Vec::new();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match reader.poll(POLL) {
            None if heard.elapsed() > PATIENCE => {
                return Err(Error::new(ErrorKind::Unreachable, what()));
            }
            None => continue,
            Some(Ok(message)) => {
                let (partition, record) = (message.partition(), reader::record(&message));
                if let Some((end, joiner)) = open.get_mut(&partition) {
                    let is_last = record.offset.plus(1) >= *end;
                    if record.offset < *end {
                        joiner.push(record, &mut joined);
                    }
                    if is_last {
                        joiner.give_up(&mut joined);
                        open.remove(&partition);
                    }
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let Some((end, joiner)) = open.get_mut(&partition) else { continue };
                let at_end = reader::has_come_to(reader, topic, partition, *end);
                if !at_end.map_err(|error| client.explain(error, what()))? {
                    continue;
                }
                joiner.give_up(&mut joined);
                open.remove(&partition);
            }
            Some(Err(error)) if classify::may_read_on(&error) => {
                warn!(%error, "reading");
                continue;
            }
            Some(Err(error)) => return Err(client.explain(error, what())),
        }
        heard = Instant::now();
        for incoming in joined.drain(..) {
            if take(incoming).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Letters {
    fn take(&mut self, record: Record, wanted: &impl Fn(&Place) -> bool) {
        if let Some(place) = read_mark(&record) {
            self.replayed.insert(place);
            return;
        }
        let Some(mut letter) = DeadLetter::read(&record) else { return };
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = length(&record.key) + length(&record.value);
        let place = letter.place();
        if !wanted(&place) {
            (letter.record.key, letter.record.value) = (None, None);
        }
        self.letters.insert(place, Letter { at: record.timestamp, letter, bytes });
    }
}
