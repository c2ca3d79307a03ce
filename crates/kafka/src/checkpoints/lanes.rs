//! Lanes: how far each lane of a group is that writes into topics.
//!
//! The last record of a lane counts: who takes a lane waits for the transactions of who had it, and only
//! then writes its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tailwater_core::Result;
use tailwater_core::position::{Epoch, LaneId, Seq};
use tailwater_pipeline::write_ahead;

use super::{CheckpointTopic, reader_of_all, scan, write};
use crate::client::{Client, blocking};
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
pub(super) struct StoredLane {
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
}

impl StoredLane {
    pub(super) fn read(value: &[u8]) -> std::result::Result<(LaneId, (Epoch, Seq)), String> {
        let stored: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let epoch = Epoch::parse(&stored.id).ok_or("a topic id is not 32 hex digits")?;
        Ok((LaneId::partition_of(&stored.topic, stored.partition), (epoch, stored.next)))
    }
}

impl CheckpointTopic {
    /// What the topic, whose id is `id`, says of lanes now, given what was read of it before. Waits until
    /// nothing that is there is in an open transaction.
    ///
    /// # Errors
    /// As [`CheckpointTopic::read`].
    pub(crate) async fn lanes(
        client: &Client,
        group: &str,
        name: &Arc<str>,
        id: Epoch,
        before: &Lanes,
    ) -> Result<Lanes> {
        let mut lanes = match before.topic == Some(id) {
            true => before.clone(),
            false => Lanes { topic: Some(id), ..Lanes::NONE },
        };
        let reader = reader_of_all(client, group, name).await?;
        let (client, name) = (client.clone(), Arc::clone(name));
        blocking(move || {
            lanes.end = scan(&client, &reader, &name, lanes.end, |_, key, value| {
                if key.starts_with(b"lane/") {
                    let (lane, next) = StoredLane::read(value)?;
                    lanes.next.insert(lane, next);
                }
                Ok(())
            })?;
            Ok(lanes)
        })
        .await
    }

    /// Puts into an open transaction how far lanes are.
    pub(crate) fn send_lanes(
        open: &Open<'_>,
        name: &str,
        lanes: impl IntoIterator<Item = (LaneId, Epoch, Seq)>,
    ) -> Result<()> {
        for (lane, epoch, next) in lanes {
            let (topic, partition) = (lane.topic().to_owned(), lane.partition());
            let key = format!("lane/{topic}/{partition}");
            let stored = StoredLane { topic, partition, id: epoch.to_string(), next };
            write(open, name, &key, &stored)?;
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
        let topics: BTreeSet<&str> = to.keys().map(LaneId::topic).collect();
        let topics: Vec<String> = topics.into_iter().map(str::to_owned).collect();
        let topics = observer.topics_of(&topics).await?;
        let there = to.iter().filter_map(|(lane, next)| {
            let topic = topics.get(lane.topic())?;
            Some((lane.clone(), topic.id, *next))
        });
        let (lanes, name): (Vec<_>, _) = (there.collect(), Arc::clone(name));
        let id = format!("{group}.{}", write_ahead::new_epoch()?);
        let timeout = OWN_TRANSACTION_TIMEOUT;
        let producer = Producer::start(&observer.client, &id, timeout, Arc::default()).await?;
        let said = producer.transact(move |open| {
            Self::send_lanes(open, &name, lanes)?;
            open.flush().map(drop)
        });
        said.await
    }
}
