//! Observer: looks at topics and groups. It joins no group, commits nothing, and waits for no open
//! transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tailwater_core::position::{Epoch, Intent, LaneId, Millis, Seq};
use tailwater_core::topics::is_subscribed;
use tailwater_core::{Error, ErrorKind, Result};

use crate::classify;
use crate::client::{Client, Context, Isolation, PATIENCE, blocking};
use crate::metadata::Metadata;
use crate::rights::{self, Members, Rights};
use crate::topic_id::{self, Description};
use crate::topics;

/// Looks at a cluster.
#[derive(Clone)]
pub struct Observer {
    pub(crate) client: Client,
    pub(crate) admin: Arc<AdminClient<Context>>,
    /// The name of a group that we may use.
    pub(crate) group: Arc<str>,
}

/// A topic as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: Epoch,
    /// Its partitions.
    pub partitions: u32,
    /// On how many brokers each is.
    pub replicas: u32,
    /// What we may do with it, where the broker tells.
    pub rights: Option<Rights>,
}

/// The ends of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The first offset that is still there.
    pub first: Seq,
    /// Behind what is committed: up to here everybody reads.
    pub stable: Seq,
    /// Behind the last record, of open transactions too.
    pub end: Seq,
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Where it goes on.
    pub next: Seq,
    /// What the text beside it says.
    pub told: Told,
}

/// What a group has written beside an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// What we write.
    Ours {
        /// The topic's id.
        epoch: Epoch,
        /// The Range that may be half written.
        pending: Option<Intent>,
    },
    /// What nobody here wrote, and why it is none of ours.
    Strange(String),
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Observer {
    /// Looks at a client's cluster. `group` is a group's name that we may use; it is not joined.
    ///
    /// # Errors
    /// `Config` when librdkafka does not take the properties.
    pub fn new(client: &Client, group: &str) -> Result<Self> {
        Ok(Self { client: client.clone(), admin: client.admin()?, group: group.into() })
    }

    /// How many brokers there are.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn brokers(&self) -> Result<usize> {
        let this = self.clone();
        blocking(move || {
            let metadata = this.admin.inner().fetch_metadata(None, PATIENCE);
            let what = "cannot ask Kafka for its brokers";
            metadata
                .map(|metadata| metadata.brokers().len())
                .map_err(|error| this.client.explain(error, what))
        })
        .await
    }

    /// The topics that a subscription takes in, as far as there are any, with their partitions.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn topics(&self, subscription: &[String]) -> Result<BTreeMap<String, u32>> {
        let (this, subscription) = (self.clone(), subscription.to_vec());
        blocking(move || {
            let metadata = this.admin.inner().fetch_metadata(None, PATIENCE);
            let what = "cannot ask Kafka for its topics";
            let metadata = metadata.map_err(|error| this.client.explain(error, what))?;
            let sound = metadata.topics().iter().filter(|topic| topic.error().is_none());
            let ours = sound.filter(|topic| is_subscribed(&subscription, topic.name()));
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            Ok(ours.map(|it| (it.name().to_owned(), count(it.partitions().len()))).collect())
        })
        .await
    }

    /// A topic as it is, and our rights to it; `None` where there is none.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn topic(&self, topic: &str) -> Result<Option<Seen>> {
        Ok(self.topics_of(&[topic.to_owned()]).await?.remove(topic))
    }

    /// Topics as they are, and our rights to them; those that are not there are left out.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn topics_of(&self, topics: &[String]) -> Result<BTreeMap<String, Seen>> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (this, topics) = (self.clone(), topics.to_vec());
        blocking(move || {
            let found = topic_id::describe(&this.admin, &topics, true, PATIENCE);
            let what = || format!("cannot look at `{}`", topics.join("`, `"));
            let found = found.map_err(|error| this.client.explain(error, what()))?;
            let seen = |it: Description| {
                let Description { id, partitions, replicas, rights } = it;
                Seen { id, partitions, replicas, rights }
            };
            Ok(found.into_iter().map(|(name, it)| (name, seen(it))).collect())
        })
        .await
    }

    /// The settings of a topic by Kafka's names.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>> {
        topics::settings(&self.client, &self.admin, topic).await
    }

    /// Who is in a group.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn members(&self, group: &str) -> Result<Members> {
        let (this, group) = (self.clone(), group.to_owned());
        blocking(move || {
            let what = format!("cannot look at the group `{group}`");
            rights::members(&this.admin, &group, PATIENCE)
                .map_err(|error| this.client.explain(error, what))
        })
        .await
    }

    /// The ends of some logs.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn logs(&self, lanes: &[LaneId]) -> Result<BTreeMap<LaneId, Log>> {
        let first = self.offsets(Isolation::Committed, lanes, Offset::Beginning).await?;
        let stable = self.offsets(Isolation::Committed, lanes, Offset::End).await?;
        let end = self.offsets(Isolation::Uncommitted, lanes, Offset::End).await?;
        let log = |lane: &LaneId| {
            let (first, stable, end) = (*first.get(lane)?, *stable.get(lane)?, *end.get(lane)?);
            Some((lane.clone(), Log { first, stable, end }))
        };
        Ok(lanes.iter().filter_map(log).collect())
    }

    /// The first offset of each lane whose record is of that time or later; where there is none, the
    /// end of what is committed.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn at_time(&self, lanes: &[LaneId], time: Millis) -> Result<BTreeMap<LaneId, Seq>> {
        let mut found =
            self.offsets(Isolation::Committed, lanes, Offset::Offset(time.0.max(0))).await?;
        let ends = self.offsets(Isolation::Committed, lanes, Offset::End).await?;
        for (lane, end) in ends {
            let at = found.entry(lane).or_insert(end);
            *at = end.min(*at);
        }
        Ok(found)
    }

    /// What `ListOffsets` says of some lanes; a lane of which it says nothing is left out.
    async fn offsets(
        &self,
        isolation: Isolation,
        lanes: &[LaneId],
        of: Offset,
    ) -> Result<BTreeMap<LaneId, Seq>> {
        if lanes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let reader = self.client.reader(isolation, &self.group)?;
        let (client, lanes) = (self.client.clone(), lanes.to_vec());
        blocking(move || {
            let what = || "cannot ask Kafka where its logs end".to_owned();
            let asked = list(&lanes, of)?;
            let answer = reader.offsets_for_times(asked, PATIENCE);
            let answer = answer.map_err(|error| client.explain(error, what()))?;
            let mut offsets = BTreeMap::new();
            for element in answer.elements() {
                element.error().map_err(|error| client.explain(error, what()))?;
                if let Some(seq) = seq(element.offset()) {
                    let lane = crate::reader::lane_of(element.topic(), element.partition());
                    offsets.insert(lane, seq);
                }
            }
            Ok(offsets)
        })
        .await
    }

    /// What a group has committed, for those lanes for which it has.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn committed(
        &self,
        group: &str,
        lanes: &[LaneId],
    ) -> Result<BTreeMap<LaneId, Committed>> {
        if lanes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let reader = self.client.reader(Isolation::Committed, group)?;
        let (client, group, lanes) = (self.client.clone(), group.to_owned(), lanes.to_vec());
        blocking(move || {
            let what = || format!("cannot read the offsets of the group `{group}`");
            let answer = reader.committed_offsets(list(&lanes, Offset::Invalid)?, PATIENCE);
            let answer = answer.map_err(|error| client.explain(error, what()))?;
            let mut all = BTreeMap::new();
            for element in answer.elements() {
                element.error().map_err(|error| client.explain(error, what()))?;
                let Some(next) = seq(element.offset()) else { continue };
                let told = match Metadata::read(element.metadata()) {
                    Ok(None) => Told::Nothing,
                    Ok(Some(Metadata { epoch, pending, .. })) => Told::Ours { epoch, pending },
                    Err(why) => Told::Strange(why),
                };
                let lane = crate::reader::lane_of(element.topic(), element.partition());
                all.insert(lane, Committed { next, told });
            }
            Ok(all)
        })
        .await
    }

    /// A reader of what is committed, that begins in each lane where it is told.
    pub(crate) fn reading(&self, from: &[(LaneId, Seq)]) -> Result<Arc<BaseConsumer<Context>>> {
        let reader = self.client.reader(Isolation::Committed, &self.group)?;
        let mut list = TopicPartitionList::with_capacity(from.len());
        for (lane, seq) in from {
            let offset = Offset::Offset(i64::try_from(seq.0).unwrap_or(i64::MAX));
            list.add_partition_offset(lane.topic(), partition(lane), offset)
                .map_err(|error| classify::error(error, format!("cannot read `{lane}`")))?;
        }
        let assigned = reader.assign(&list);
        assigned.map_err(|error| classify::error(error, "cannot read topics"))?;
        Ok(reader)
    }
}

/// All lanes of some topics.
pub fn lanes(topics: &BTreeMap<String, u32>) -> Vec<LaneId> {
    let of = |(topic, count): (&String, &u32)| {
        (0..*count).map(|at| LaneId::partition_of(topic, at)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of).collect()
}

pub(crate) fn partition(lane: &LaneId) -> i32 {
    i32::try_from(lane.partition()).unwrap_or(i32::MAX)
}

fn list(lanes: &[LaneId], offset: Offset) -> Result<TopicPartitionList> {
    let lanes: BTreeSet<&LaneId> = lanes.iter().collect();
    let mut list = TopicPartitionList::with_capacity(lanes.len());
    for lane in lanes {
        list.add_partition_offset(lane.topic(), partition(lane), offset).map_err(|error| {
            Error::new(ErrorKind::Bug, format!("cannot ask for `{lane}`")).with_source(error)
        })?;
    }
    Ok(list)
}

fn seq(offset: Offset) -> Option<Seq> {
    match offset {
        Offset::Offset(offset) => u64::try_from(offset).ok().map(Seq),
        _ => None,
    }
}
