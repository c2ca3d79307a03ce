//! Group: the partitions of a consumer group as lanes.
//!
//! ```text
//!   Member   whose the lanes are, and commits        (kafka-group thread)
//!   Reader   the records of our lanes                (kafka-reader thread)
//!     └─▶ Group::read ─▶ parts: Range = from where the lane was to its last whole record
//! ```
//!
//! Offsets have holes: aborted records and the marks of transactions take some. A part ends behind a
//! whole event, never between its chunks. `auto.offset.reset` is never asked: what is no longer there
//! is a gap, and is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use tailwater_core::gap::{Gap, GapReason, Moment};
use tailwater_core::message::Joiner;
use tailwater_core::position::{Epoch, LaneId, Position, Seq, SeqRange};
use tailwater_core::record::Incoming;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::budget::{Budget, ENCODED_FACTOR, Share};
use tailwater_pipeline::recall::Recall;
use tailwater_pipeline::retry;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::{Batch, BatchLimits, Part, Read, Source};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::classify;
use crate::client::{Client, Isolation, PATIENCE, blocking};
use crate::member::{Member, Rebalance};
use crate::offsets::GroupOffsets;
use crate::reader::{self, Fetched, Reader};
use crate::topics::Topics;

/// The records of one part, in order.
pub type Records = Vec<Incoming>;

/// The cluster is asked this often how far it is, also where nothing comes.
const WATCH: Duration = Duration::from_secs(10);
/// A chunk that is there comes within this time, behind whatever other transactions are open.
const CHUNK_PATIENCE: Duration = Duration::from_secs(120);
/// A re-read waits so long for a record that was there.
const REREAD_PATIENCE: Duration = Duration::from_secs(60);

/// The partitions of a consumer group.
#[derive(Debug)]
pub struct Group {
    client: Client,
    name: Arc<str>,
    topics: Topics,
    member: Member,
    reader: Reader,
    vitals: Vitals,
    lanes: BTreeMap<LaneId, Lane>,
    said: VecDeque<Rebalance>,
    gaps: Vec<Gap>,
    marks: u64,
    /// Since when nobody asks what has come.
    left: Instant,
    watched: Instant,
    watch: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Lane {
    epoch: Epoch,
    /// Where the next part begins.
    next: Seq,
    /// Where the next fetch begins, until it is ordered.
    from: Option<Seq>,
    mark: u64,
    joiner: Joiner,
    /// Since when it waits for chunks.
    waits_since: Option<Instant>,
}

impl Group {
    /// Joins the group of that name.
    ///
    /// # Errors
    /// Those of making the consumers; `Unauthorized` for a topic that we may not see, which would be
    /// taken for one that is not there yet.
    pub async fn join(
        client: &Client,
        name: &str,
        subscription: &[String],
        topics: Topics,
        budget: Budget,
        vitals: Vitals,
    ) -> Result<Self> {
        topics.expect_visible(subscription).await?;
        let member = Member::join(client, name, subscription)?;
        Self::of(client, name, member, topics, budget, vitals)
    }

    /// What a member reads.
    fn of(
        client: &Client,
        name: &str,
        member: Member,
        topics: Topics,
        budget: Budget,
        vitals: Vitals,
    ) -> Result<Self> {
        Ok(Self {
            client: client.clone(),
            name: name.into(),
            topics,
            member,
            reader: Reader::start(client, name, budget)?,
            vitals,
            lanes: BTreeMap::new(),
            said: VecDeque::new(),
            gaps: Vec::new(),
            marks: 0,
            left: Instant::now(),
            watched: Instant::now(),
            watch: None,
        })
    }

    /// The group's offsets, as a store of checkpoints.
    pub fn offsets(&self) -> GroupOffsets {
        let (consumer, busy) = (Arc::clone(&self.member.consumer), Arc::clone(&self.member.busy));
        GroupOffsets::new(self.client.clone(), consumer, self.topics.clone(), busy)
    }

    fn lane(&mut self, id: &LaneId) -> Result<&mut Lane> {
        self.lanes
            .get_mut(id)
            .ok_or_else(|| Error::new(ErrorKind::Bug, format!("`{id}` is not ours to read")))
    }

    /// What the group has said, as the loop hears it.
    fn hear(&mut self, said: Rebalance) -> Result<Read<Records>> {
        match said {
            Rebalance::Assigned(lanes) => {
                lanes.iter().for_each(|lane| self.vitals.expect(lane));
                Ok(Read::Assigned(lanes))
            }
            Rebalance::Revoked(lanes, release) => Ok(Read::Revoked(lanes, release)),
            Rebalance::Failed(error) => Err(error),
        }
    }

    /// Orders what is to be fetched.
    fn order(&mut self) -> Result<()> {
        for (id, lane) in &mut self.lanes {
            if let Some(from) = lane.from.take() {
                self.marks += 1;
                lane.mark = self.marks;
                lane.joiner = Joiner::default();
                lane.waits_since = None;
                self.reader.assign(id, from, lane.mark)?;
            }
        }
        Ok(())
    }

    /// The first offset that can be read, and the last that may be.
    async fn bounds(&self, id: &LaneId) -> Result<(Seq, Seq)> {
        let ask = || {
            let (consumer, id, client) =
                (Arc::clone(&self.member.consumer), id.clone(), self.client.clone());
            blocking(move || {
                let partition = i32::try_from(id.partition()).unwrap_or(i32::MAX);
                let marks = consumer.fetch_watermarks(id.topic(), partition, PATIENCE);
                let what = format!("cannot look at `{id}`");
                let (low, high) = marks.map_err(|error| client.explain(error, what))?;
                let seq = |offset| Seq(u64::try_from(offset).unwrap_or_default());
                Ok((seq(low), seq(high)))
            })
        };
        retry::patiently(retry::FOR_EVER, ask).await
    }

    /// Asks the cluster, beside everything else, whether it is there: an idle lane is heard of too,
    /// and whether its topic is another one by now.
    async fn watch(&mut self) -> Result<()> {
        if let Some(watch) = self.watch.take_if(|watch| watch.is_finished()) {
            let seen = watch.await.map_err(|panic| {
                Error::new(ErrorKind::Bug, "the watch of Kafka panicked").with_source(panic)
            })?;
            seen?;
        }
        if self.watch.is_some() || self.watched.elapsed() < WATCH {
            return Ok(());
        }
        self.watched = Instant::now();
        let lanes: Vec<(LaneId, Epoch)> =
            self.lanes.iter().map(|(id, lane)| (id.clone(), lane.epoch)).collect();
        let (consumer, vitals) = (Arc::clone(&self.member.consumer), self.vitals.clone());
        let topics = self.topics.clone();
        self.watch = Some(tokio::spawn(async move {
            let found = topics.of_lanes(&lanes).await.unwrap_or_default();
            for (lane, epoch) in &lanes {
                if found.get(lane.topic()).is_some_and(|found| found.id != *epoch) {
                    return Err(made_anew(lane));
                }
            }
            blocking(move || {
                for (lane, _) in lanes {
                    let partition = i32::try_from(lane.partition()).unwrap_or(i32::MAX);
                    match consumer.fetch_watermarks(lane.topic(), partition, PATIENCE) {
                        Ok(_) => vitals.heard(&lane, 0),
                        Err(error) => {
                            debug!(stream = %lane, %error, "kafka does not say how far it is");
                            vitals.read_failed(&lane);
                        }
                    }
                }
                Ok(())
            })
            .await
        }));
        Ok(())
    }

    /// Makes sure that what was read of these lanes came from the topics that they began with.
    /// librdkafka reads on, at the same offset, in a new topic of the same name. The id of a topic
    /// never comes back: who has it now had it then.
    async fn expect_same(&self, lanes: &[(LaneId, Epoch)]) -> Result<()> {
        if lanes.is_empty() {
            return Ok(());
        }
        let ask = || self.topics.of_lanes(lanes);
        let found = retry::patiently(retry::FOR_EVER, ask).await?;
        let is_another = |(lane, epoch): &&(LaneId, Epoch)| {
            found.get(lane.topic()).is_none_or(|found| found.id != *epoch)
        };
        match lanes.iter().find(is_another) {
            Some((lane, _)) => Err(made_anew(lane)),
            None => Ok(()),
        }
    }

    /// The parts of lanes that have waited too long for chunks. They end there, so that whoever reads
    /// them again gives up at the same place.
    fn give_up(&mut self) -> Vec<Part<Records>> {
        let mut parts = Vec::new();
        for (id, lane) in &mut self.lanes {
            if lane.from.is_some() || !lane.has_waited_enough() {
                continue;
            }
            warn!(stream = %id, "chunks of a record are missing");
            let mut records = Vec::new();
            lane.joiner.give_up(&mut records);
            lane.waits_since = None;
            let Some(last) = records.last().map(|last| last.record.offset) else { continue };
            let range = SeqRange { first: lane.next, last };
            lane.next = last.plus(1);
            parts.push(lane.part(id, range, records, Vec::new()));
        }
        parts
    }

    /// What the group says, or what has come.
    async fn next(&mut self, limits: &BatchLimits) -> Result<Read<Records>> {
        if let Ok(said) = self.member.rebalances.try_recv() {
            self.said.push_back(said);
        }
        if let Some(said) = self.said.pop_front() {
            return self.hear(said);
        }
        self.order()?;
        self.watch().await?;
        let given_up = self.give_up();
        if !given_up.is_empty() {
            return Ok(Read::Batch(Batch { parts: given_up }));
        }
        let called = tokio::time::Instant::now();
        let mut gathered: BTreeMap<LaneId, Gathered> = BTreeMap::new();
        let (mut most, mut bytes) = (0, 0);
        while most < limits.max_rows && bytes < limits.max_bytes {
            let wait = match gathered.len() {
                0 => limits.idle(),
                busy => limits.patience(busy),
            };
            let fetched = tokio::select! {
                biased;
                said = self.member.rebalances.recv() => {
                    self.said.extend(said);
                    break;
                }
                fetched = self.reader.fetched.recv() => fetched,
                () = tokio::time::sleep_until(called + wait) => break,
            };
            let closed = || Error::new(ErrorKind::Bug, "the thread that reads Kafka is gone");
            let fetched = fetched.ok_or_else(closed)??;
            let Some(lane) = self.lanes.get_mut(&fetched.lane) else { continue };
            if lane.mark != fetched.mark || lane.from.is_some() {
                continue;
            }
            let id = fetched.lane.clone();
            let part = gathered.entry(id.clone()).or_default();
            let before = part.records.len();
            bytes += part.add(lane, fetched);
            most = most.max(part.records.len());
            self.vitals.heard(&id, (part.records.len() - before) as u64);
        }
        let read: Vec<(LaneId, Epoch)> = gathered
            .keys()
            .filter_map(|id| Some((id.clone(), self.lanes.get(id)?.epoch)))
            .collect();
        self.expect_same(&read).await?;
        let mut parts = Vec::with_capacity(gathered.len());
        for (id, Gathered { records, share }) in gathered {
            let (Some(lane), Some(last)) = (self.lanes.get_mut(&id), records.last()) else {
                continue;
            };
            let last = last.record.offset;
            let range = SeqRange { first: lane.next, last };
            lane.next = last.plus(1);
            parts.push(lane.part(&id, range, records, share.into_iter().collect()));
        }
        Ok(Read::Batch(Batch { parts }))
    }

    /// Notes that records are gone.
    fn miss(&mut self, lane: &LaneId, first: Seq, last: Seq) {
        warn!(stream = %lane, %first, %last, "records are gone before they were read");
        self.gaps.push(Gap {
            lane: lane.clone(),
            reason: GapReason::RecordsGone,
            times: (Moment::Unknown, Moment::Unknown),
            events: Some((first, last)),
            names: vec![lane.topic().to_owned()],
            repair: "copy the collection again; keep records longer (retention.ms)",
        });
    }
}

impl Source for Group {
    type Body = Records;

    async fn read(&mut self, limits: &BatchLimits) -> Result<Read<Records>> {
        let away = self.left.elapsed();
        self.lanes.values_mut().for_each(|lane| lane.was_left(away));
        let said = self.next(limits).await;
        self.left = Instant::now();
        said
    }

    async fn seek(&mut self, id: &LaneId, epoch: Epoch, position: &Position) -> Result<()> {
        self.topics.refuse_compacted(id.topic()).await?;
        let (low, high) = self.bounds(id).await?;
        let next = position.seq;
        if next > high || low > next {
            // Else it would be the new topic's end or beginning.
            self.expect_same(&[(id.clone(), epoch)]).await?;
        }
        if next > high {
            let what = format!("the log of `{id}` ends at {high}, and {next} was read from it");
            return Err(Error::new(ErrorKind::WrongHistory, what).with_hint(
                "acknowledged records were lost (an unclean election, or a disk): copy the collections \
                 again, then set the group's offsets to the end with `tailwater checkpoint rewind`",
            ));
        }
        if low > next {
            self.miss(id, next, Seq(low.0 - 1));
        }
        let from = Some(low.max(next));
        let joiner = Joiner::default();
        let lane = Lane { epoch, next, from, mark: 0, joiner, waits_since: None };
        self.lanes.insert(id.clone(), lane);
        Ok(())
    }

    async fn read_exactly(&mut self, id: &LaneId, range: SeqRange) -> Result<Part<Records>> {
        let (low, _) = self.bounds(id).await?;
        let from = low.max(range.first);
        let (client, name, of) = (self.client.clone(), Arc::clone(&self.name), id.clone());
        let read = blocking(move || read_again(&client, &name, &of, from, range.last)).await?;
        let epoch = self.lane(id)?.epoch;
        self.expect_same(&[(id.clone(), epoch)]).await?;
        // Of a lane that is heard while others wait for it.
        self.vitals.heard(id, read.records.len() as u64);
        if read.short {
            self.miss(id, from, range.last);
        }
        let lane = self.lane(id)?;
        lane.next = range.last.plus(1);
        lane.from = Some(lane.next.max(low));
        Ok(lane.part(id, range, read.records, Vec::new()))
    }

    fn release(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            self.lanes.remove(lane);
            self.vitals.forget(lane);
            if let Err(error) = self.reader.unassign(lane) {
                warn!(%error, "a lane that is no longer ours is still read");
            }
        }
    }

    fn recall(&self) -> Recall {
        self.member.recall()
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The thread of the group, which ends first, may wait for lanes that nobody will let go any more.
        self.said.clear();
    }
}

impl Lane {
    /// While a delivery lasts nobody takes what has come, chunks neither: that is no waiting.
    fn was_left(&mut self, away: Duration) {
        if let Some(since) = &mut self.waits_since {
            *since += away;
        }
    }

    fn has_waited_enough(&self) -> bool {
        self.waits_since.is_some_and(|since| since.elapsed() >= CHUNK_PATIENCE)
    }

    fn part(&self, id: &LaneId, range: SeqRange, body: Records, held: Vec<Share>) -> Part<Records> {
        let next = Position { seq: range.last.plus(1), cursor: bytes::Bytes::new() };
        Part { lane: id.clone(), epoch: self.epoch, range: Some(range), next, body, held }
    }
}

/// Its lanes begin again, as those of the new topic.
fn made_anew(lane: &LaneId) -> Error {
    let what = format!("topic `{}` is gone, or another one by now", lane.topic());
    Error::new(ErrorKind::Unreachable, what)
}

/// What has come of one lane.
#[derive(Debug, Default)]
struct Gathered {
    records: Records,
    share: Option<Share>,
}

impl Gathered {
    /// Takes in what was fetched; gives its bytes.
    fn add(&mut self, lane: &mut Lane, fetched: Fetched) -> usize {
        let Fetched { records, mut share, .. } = fetched;
        let before = self.records.len();
        for record in records {
            lane.joiner.push(record, &mut self.records);
        }
        // Whatever came out was the last that anybody waited for.
        let went_on = self.records.len() > before;
        lane.waits_since = match lane.joiner.is_waiting() {
            true => lane.waits_since.filter(|_| !went_on).or_else(|| Some(Instant::now())),
            false => None,
        };
        let bytes: usize =
            self.records[before..].iter().map(|incoming| incoming.record.bytes()).sum();
        // What waits for chunks must not stand in the way of those.
        share.resize(bytes * ENCODED_FACTOR);
        self.share = Some(match self.share.take() {
            Some(sofar) => sofar.and(share),
            None => share,
        });
        bytes
    }
}

/// The records of a Range that was read before.
struct Reread {
    records: Records,
    /// Some of it is gone.
    short: bool,
}

/// Reads from `from` to `last`, by a consumer of its own: nothing else in the process may stand in
/// its way.
fn read_again(client: &Client, group: &str, id: &LaneId, from: Seq, last: Seq) -> Result<Reread> {
    let what = || format!("cannot read `{id}` again up to {last}");
    let failed = |error: KafkaError| classify::error(error, what());
    let mut reread = Reread { records: Vec::new(), short: false };
    if from > last {
        reread.short = true;
        return Ok(reread);
    }
    let consumer = client.reader(Isolation::Committed, group)?;
    consumer.assign(&reader::list(id, Some(from))?).map_err(failed)?;
    let mut joiner = Joiner::default();
    let mut heard = Instant::now();
    let mut ends_here = false;
    loop {
        let message = match consumer.poll(Duration::from_secs(1)) {
            // It was there when it was read first.
            None if ends_here && heard.elapsed() > REREAD_PATIENCE => {
                reread.short = true;
                break;
            }
            None if heard.elapsed() > REREAD_PATIENCE => {
                return Err(Error::new(ErrorKind::Unreachable, what()));
            }
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let partition = i32::try_from(id.partition()).unwrap_or(i32::MAX);
                let at_end = reader::has_come_to(&consumer, id.topic(), partition, last.plus(1));
                if at_end.map_err(failed)? {
                    reread.short = true;
                    break;
                }
                ends_here = true;
                continue;
            }
            Some(Err(error)) => {
                let damaged = classify::is_damaged(&error);
                let error = client.explain(error, what());
                if damaged || error.kind().action() != Action::Retry {
                    return Err(error);
                }
                warn!(stream = %id, %error, cause = std::error::Error::source(&error), "reading again");
                ends_here = false;
                continue;
            }
        };
        heard = Instant::now();
        let record = reader::record(&message);
        let offset = record.offset;
        if offset > last {
            reread.short = true;
            break;
        }
        joiner.push(record, &mut reread.records);
        if offset == last {
            // What still waits was given up then, too.
            joiner.give_up(&mut reread.records);
            break;
        }
    }
    info!(stream = %id, records = reread.records.len(), short = reread.short, "read again");
    Ok(reread)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tailwater_pipeline::recall::Recaller;

    use super::*;
    use crate::topics::NewTopics;

    #[tokio::test]
    async fn what_was_heard_and_not_told_holds_up_no_end() {
        let client = Client::new("127.0.0.1:9", Vec::new(), None);
        let new = NewTopics {
            partitions: NonZeroU32::MIN,
            replication_factor: 1,
            retention: Duration::from_secs(1),
            max_message_bytes: 1 << 20,
        };
        let topics = Topics::new(&client, new).unwrap();
        let mut member = Member::join(&client, "g", &["t".to_owned()]).unwrap();
        let (release, released) = Recaller::new().want_back(Duration::from_secs(600));
        member.wait_at_the_end(move || released.wait());
        let (budget, vitals) = (Budget::new(1), Vitals::default());
        let mut group = Group::of(&client, "g", member, topics, budget, vitals).unwrap();
        group.said.push_back(Rebalance::Revoked(Vec::new(), release));
        let ended = tokio::task::spawn_blocking(move || drop(group));
        tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
    }

    #[test]
    fn chunks_are_not_given_up_for_the_time_of_a_delivery() {
        let mut lane = Lane {
            epoch: Epoch::new([0; 16]),
            next: Seq::ZERO,
            from: None,
            mark: 0,
            joiner: Joiner::default(),
            waits_since: Instant::now().checked_sub(CHUNK_PATIENCE),
        };
        assert!(lane.has_waited_enough());
        lane.was_left(Duration::from_secs(10));
        assert!(!lane.has_waited_enough());
    }
}
