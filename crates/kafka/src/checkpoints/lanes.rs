//! Lanes: how far each lane of a group is that writes into topics, whatever its offsets say.
//!
//! The last record of a lane counts: who takes a lane waits for the transactions of who had it, and only
//! then writes its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::BorrowedMessage;
use serde::{Deserialize, Serialize};
use tailwater_core::position::{Epoch, LaneId, Seq};
use tailwater_core::{ErrorKind, Result};
use tailwater_pipeline::write_ahead;

use super::{CheckpointTopic, reader_of_all, scan, write};
use crate::client::{Client, Context, Isolation, blocking};
use crate::observer::Observer;
use crate::producer::{OWN_TRANSACTION_TIMEOUT, Open, Producer};

/// What a checkpoint topic says of lanes, up to an offset of it.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    /// The id of the topic that was read; none where nothing was.
    topic: Option<Epoch>,
    /// How far.
    end: Seq,
    next: BTreeMap<LaneId, (Epoch, Seq)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredLane {
    group: String,
    topic: String,
    partition: u32,
    id: String,
    next: Seq,
}

impl Lanes {
    pub(crate) const NONE: Self = Self { topic: None, end: Seq::ZERO, next: BTreeMap::new() };

    /// Where a lane goes on, as long as its topic has this id.
    pub(crate) fn next(&self, lane: &LaneId, epoch: Epoch) -> Option<Seq> {
        self.next.get(lane).filter(|(of, _)| *of == epoch).map(|(_, next)| *next)
    }

    /// Reads on, up to where what is committed now ends.
    async fn read_on(
        mut self,
        client: &Client,
        reader: Arc<BaseConsumer<Context>>,
        name: &Arc<str>,
        group: &str,
    ) -> Result<Self> {
        let (client, name, group) = (client.clone(), Arc::clone(name), group.to_owned());
        blocking(move || {
            let from = self.end;
            let take =
                |_: &BorrowedMessage<'_>, key: &[u8], value: &[u8]| self.take(&group, key, value);
            self.end = scan(&client, &reader, &name, from, take)?;
            Ok(self)
        })
        .await
    }

    /// Takes in a record of the topic, if it is of a lane of the group.
    fn take(&mut self, group: &str, key: &[u8], value: &[u8]) -> std::result::Result<(), String> {
        if !key.starts_with(b"lane/") {
            return Ok(());
        }
        let stored: StoredLane =
            serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if stored.group == group {
            let epoch = Epoch::parse(&stored.id).ok_or("a topic id is not 32 hex digits")?;
            let lane = LaneId::partition_of(&stored.topic, stored.partition);
            self.next.insert(lane, (epoch, stored.next));
        }
        Ok(())
    }
}

impl CheckpointTopic {
    /// What the topic, whose id is `id`, says of a group's lanes now, given what was read of it before.
    /// Waits until nothing that is there is in an open transaction.
    ///
    /// # Errors
    /// `Busy` when a transaction of another producer stays open for long; `Corrupt` for a record that
    /// nobody here wrote.
    pub(crate) async fn lanes(
        client: &Client,
        group: &str,
        name: &Arc<str>,
        id: Epoch,
        before: &Lanes,
    ) -> Result<Lanes> {
        let (reader, end) = reader_of_all(client, group, name, ErrorKind::Busy).await?;
        // One that is shorter than it was has lost what we have read, and what we have not.
        let goes_on = before.topic == Some(id) && before.end <= end;
        let lanes = match goes_on {
            true => before.clone(),
            false => Lanes { topic: Some(id), ..Lanes::NONE },
        };
        lanes.read_on(client, reader, name, group).await
    }

    /// How far a group is that writes into topics, in those of these lanes whose topics are as they were,
    /// as far as it is committed now: waits for nobody.
    ///
    /// # Errors
    /// Those of asking; `Corrupt` for a record that nobody here wrote.
    pub async fn lanes_of(
        observer: &Observer,
        name: &Arc<str>,
        group: &str,
        lanes: &[LaneId],
    ) -> Result<BTreeMap<LaneId, Seq>> {
        if observer.topic(name).await?.is_none() {
            return Ok(BTreeMap::new());
        }
        let reader = observer.client.reader(Isolation::Committed, &observer.group)?;
        let said = Lanes::NONE.read_on(&observer.client, reader, name, group).await?;
        let ids = ids(observer, lanes).await?;
        let next = |lane: &LaneId| Some((lane.clone(), said.next(lane, *ids.get(lane.topic())?)?));
        Ok(lanes.iter().filter_map(next).collect())
    }

    /// Puts into an open transaction how far lanes of a group are.
    pub(crate) fn send_lanes(
        open: &Open<'_>,
        name: &str,
        group: &str,
        lanes: impl IntoIterator<Item = (LaneId, Epoch, Seq)>,
    ) -> Result<()> {
        for (lane, epoch, next) in lanes {
            let (group, topic) = (group.to_owned(), lane.topic().to_owned());
            let (partition, id) = (lane.partition(), epoch.to_string());
            let key = format!("lane/{group}/{topic}/{partition}");
            write(open, name, &key, &StoredLane { group, topic, partition, id, next })?;
        }
        Ok(())
    }

    /// Says of lanes, durably, that they are at an earlier place: what lies behind it is written again.
    /// The group must have no members.
    ///
    /// # Errors
    /// Those of the transaction.
    pub async fn rewind_lanes(
        observer: &Observer,
        group: &str,
        name: &Arc<str>,
        to: &BTreeMap<LaneId, Seq>,
    ) -> Result<()> {
        if observer.topic(name).await?.is_none() {
            return Ok(());
        }
        let lanes: Vec<LaneId> = to.keys().cloned().collect();
        let ids = ids(observer, &lanes).await?;
        let there = to
            .iter()
            .filter_map(|(lane, next)| Some((lane.clone(), *ids.get(lane.topic())?, *next)));
        let (lanes, name): (Vec<_>, _) = (there.collect(), Arc::clone(name));
        let id = format!("{group}.{}", write_ahead::new_epoch()?);
        let timeout = OWN_TRANSACTION_TIMEOUT;
        let producer = Producer::start(&observer.client, &id, timeout, Arc::default()).await?;
        let group = group.to_owned();
        let said = producer.transact(move |open| {
            Self::send_lanes(open, &name, &group, lanes)?;
            open.flush().map(drop)
        });
        said.await
    }
}

/// The ids of the topics of lanes.
async fn ids(observer: &Observer, lanes: &[LaneId]) -> Result<BTreeMap<String, Epoch>> {
    let topics: BTreeSet<&str> = lanes.iter().map(LaneId::topic).collect();
    let topics: Vec<String> = topics.into_iter().map(str::to_owned).collect();
    let found = observer.topics_of(&topics).await?;
    Ok(found.into_iter().map(|(name, topic)| (name, topic.id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_lane_counts_in_its_own_group_and_topic() {
        let ids = [1, 2].map(|byte| Epoch::new([byte; 16]));
        let lane = LaneId::partition_of("t", 3);
        let mut lanes = Lanes::NONE;
        for (group, id, next) in [("a", ids[0], 9), ("b", ids[0], 70), ("a", ids[0], 5)] {
            let (group, id, topic) = (group.to_owned(), id.to_string(), "t".to_owned());
            let stored = StoredLane { group, topic, partition: 3, id, next: Seq(next) };
            let value = serde_json::to_vec(&stored).unwrap();
            lanes.take("a", b"lane/any/t/3", &value).unwrap();
        }
        lanes.take("a", b"stream/t/3", b"of a source").unwrap();
        assert_eq!(lanes.next(&lane, ids[0]), Some(Seq(5)));
        assert_eq!(lanes.next(&lane, ids[1]), None);
        assert_eq!(lanes.next(&LaneId::partition_of("t", 4), ids[0]), None);
        assert!(lanes.take("a", b"lane/a/t/3", b"{}").is_err());
    }
}
