//! Topics: the topics that messages go to, made when they are missing, checked when they are there.
//!
//! Nothing is ever altered. The number of partitions that a document's partition is chosen among is
//! pinned with the checkpoint: another number would send a document elsewhere.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tailwater_core::position::{Epoch, LaneId};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::retry::{self, Backoff};
use tracing::{info, warn};

use crate::classify;
use crate::client::{Client, Context, PATIENCE, blocking};
use crate::topic_id::{self, Description, Descriptions};

/// What new topics are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTopics {
    /// Their partitions.
    pub partitions: NonZeroU32,
    /// On how many brokers each partition is.
    pub replication_factor: u16,
    /// How long their records are kept.
    pub retention: Duration,
    /// The largest batch of records that they take.
    pub max_message_bytes: u32,
}

/// A topic that may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: Epoch,
    /// Among so many partitions a document's is chosen.
    pub partitions: NonZeroU32,
    /// The largest batch of records that it takes.
    pub max_message_bytes: usize,
}

/// How the cluster keeps the records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cleanup {
    Delete,
    Compact,
}

/// How long a new topic may take until every broker knows it.
const APPEARS_WITHIN: Duration = Duration::from_secs(30);

/// Of a compacted topic the last segment is never cleaned, and is read as a whole by whoever takes over:
/// it is to be smaller than the usual gigabyte. The least that some clusters take; MSK Serverless does not
/// take the setting.
const SEGMENT_BYTES: &str = "52428800";

/// The topics of a cluster.
#[derive(Clone)]
pub struct Topics {
    client: Client,
    admin: Arc<AdminClient<Context>>,
    new: NewTopics,
    known: Arc<Mutex<BTreeMap<Arc<str>, Topic>>>,
    /// Topics that were found fit to be read.
    readable: Arc<Mutex<BTreeSet<String>>>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Topics {
    /// The topics of a client's cluster.
    ///
    /// # Errors
    /// `Config` when librdkafka does not take the properties.
    pub fn new(client: &Client, new: NewTopics) -> Result<Self> {
        let admin = client.admin()?;
        let client = client.clone();
        Ok(Self { client, admin, new, known: Arc::default(), readable: Arc::default() })
    }

    /// What is known of a topic that was asked for before.
    pub fn known(&self, topic: &str) -> Option<Topic> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    /// Forgets a topic: it is asked for again.
    pub fn forget(&self, topic: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// The topic to write to, made when it is missing. `pinned` is the number of partitions that a
    /// checkpoint names with the topic's id.
    ///
    /// # Errors
    /// `Unsuitable` for a topic with fewer partitions than pinned, or that is compacted; those of
    /// making it.
    pub async fn ensure(
        &self,
        topic: &Arc<str>,
        pinned: Option<(Epoch, NonZeroU32)>,
    ) -> Result<Topic> {
        if let Some(known) = self.known(topic) {
            return Ok(known);
        }
        let description = self.make(topic, self.new.partitions.get(), Cleanup::Delete).await?;
        let actual = NonZeroU32::new(description.partitions).ok_or_else(|| {
            Error::new(ErrorKind::Unsuitable, format!("topic `{topic}` has no partitions"))
        })?;
        let partitions = match pinned.filter(|(id, _)| *id == description.id) {
            None => actual,
            Some((_, pinned)) if pinned > actual => {
                let what = format!("topic `{topic}` has {actual} partitions, and had {pinned}");
                return Err(Error::new(ErrorKind::Unsuitable, what).with_hint("restore the topic"));
            }
            Some((_, pinned)) => {
                if pinned < actual {
                    warn!(
                        topic = %topic, %pinned, %actual,
                        "partitions were added: documents stay in the first ones, so that each keeps its order"
                    );
                }
                pinned
            }
        };
        let facts = self.facts(topic).await?;
        if facts.compacted {
            let what = format!("topic `{topic}` is compacted: changes would vanish from it");
            return Err(Error::new(ErrorKind::Unsuitable, what)
                .with_hint("set the topic's `cleanup.policy` to `delete`"));
        }
        let made =
            Topic { id: description.id, partitions, max_message_bytes: facts.max_message_bytes };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(Arc::clone(topic), made);
        Ok(made)
    }

    /// The compacted topic of the checkpoints, of one partition, made when it is missing. Gives its id.
    ///
    /// # Errors
    /// `Unsuitable` for one that is not compacted, or has more partitions; those of making it.
    pub async fn ensure_checkpoints(&self, topic: &str) -> Result<Epoch> {
        let description = self.make(topic, 1, Cleanup::Compact).await?;
        let facts = self.facts(topic).await?;
        let wrong = match (description.partitions, facts.compacted) {
            (1, true) => return Ok(description.id),
            (1, false) => "is not compacted: checkpoints would vanish from it".to_owned(),
            (partitions, _) => format!("has {partitions} partitions instead of one"),
        };
        Err(Error::new(ErrorKind::Unsuitable, format!("the checkpoint topic `{topic}` {wrong}"))
            .with_hint("set its `cleanup.policy` to `compact`, or name another topic in `kafka.topics.checkpoints`"))
    }

    /// Whether there is such a topic.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn is_there(&self, topic: &str) -> Result<bool> {
        Ok(self.describe(topic).await?.is_some())
    }

    /// A topic as it is; `None` where there is none.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) async fn describe(&self, topic: &str) -> Result<Option<Description>> {
        Ok(self.describe_all(vec![topic.to_owned()]).await?.remove(topic))
    }

    /// Topics as they are; those that are not there are left out.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) async fn describe_all(&self, topics: Vec<String>) -> Result<Descriptions> {
        if topics.is_empty() {
            return Ok(Descriptions::new());
        }
        let this = self.clone();
        blocking(move || {
            topic_id::describe(&this.admin, &topics, false, PATIENCE).map_err(|error| {
                this.client.explain(error, format!("cannot look at `{}`", topics.join("`, `")))
            })
        })
        .await
    }

    /// Refuses what we may not see of a subscription, as far as it names topics.
    ///
    /// # Errors
    /// `Unauthorized`; those of asking.
    pub(crate) async fn expect_visible(&self, subscription: &[String]) -> Result<()> {
        let names = subscription.iter().filter(|topic| !topic.starts_with('^')).cloned();
        self.describe_all(names.collect()).await.map(drop)
    }

    /// The topics of lanes as they are; those that are not there are left out.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) async fn of_lanes(&self, lanes: &[(LaneId, Epoch)]) -> Result<Descriptions> {
        let names: BTreeSet<&str> = lanes.iter().map(|(lane, _)| lane.topic()).collect();
        self.describe_all(names.into_iter().map(str::to_owned).collect()).await
    }

    /// Refuses to read a compacted topic: of its changes only the last ones stay.
    ///
    /// # Errors
    /// `Unsuitable` for a compacted one; those of asking, but that for a missing right.
    pub(crate) async fn refuse_compacted(&self, topic: &str) -> Result<()> {
        if self.readable.lock().unwrap_or_else(PoisonError::into_inner).contains(topic) {
            return Ok(());
        }
        match retry::patiently(retry::FOR_EVER, || self.facts(topic)).await {
            Ok(facts) if facts.compacted => {
                let what = format!(
                    "topic `{topic}` is compacted: changes vanish from it before they are read"
                );
                return Err(Error::new(ErrorKind::Unsuitable, what).with_hint(
                    "set the topic's `cleanup.policy` to `delete`, or leave it out of what is read",
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                warn!(topic, %error, "not checked whether the topic is compacted: allow DescribeConfigs on it");
            }
            Err(error) => return Err(error),
        }
        let mut readable = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        readable.insert(topic.to_owned());
        Ok(())
    }

    async fn make(&self, topic: &str, partitions: u32, cleanup: Cleanup) -> Result<Description> {
        if let Some(found) = self.describe(topic).await? {
            return Ok(found);
        }
        match self.try_make(topic, partitions, cleanup, true).await? {
            Err(Code::InvalidConfig | Code::PolicyViolation) if cleanup == Cleanup::Compact => {
                let answer = self.try_make(topic, partitions, cleanup, false).await?;
                if answer.is_ok() {
                    warn!(topic, SEGMENT_BYTES, "the cluster takes no segments of that size: reading checkpoints may take longer");
                }
                answer
            }
            answer => answer,
        }
        .or_else(|code| match code {
            Code::TopicAlreadyExists => Ok(()),
            Code::InvalidTopic => {
                Err(Error::new(ErrorKind::Unsuitable, cannot_make(topic)).with_hint(
                    "Kafka takes no two names that differ only in `.` and `_`: give one of them another topic in `kafka.topics.map`",
                ))
            }
            code => Err(classify::error(KafkaError::AdminOp(code), cannot_make(topic))),
        })?;
        let deadline = Instant::now() + APPEARS_WITHIN;
        let mut backoff = Backoff::new();
        loop {
            if let Some(found) = self.describe(topic).await? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("topic `{topic}` was made and is not there"),
                ));
            }
            backoff.pause().await;
        }
    }

    /// Makes a topic; gives why the cluster does not take it. `segments`: whether those of a compacted
    /// one are to be small.
    async fn try_make(
        &self,
        topic: &str,
        partitions: u32,
        cleanup: Cleanup,
        segments: bool,
    ) -> Result<std::result::Result<(), Code>> {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let replication = i32::from(self.new.replication_factor);
        let mut wanted =
            NewTopic::new(topic, number(partitions), TopicReplication::Fixed(replication));
        let retention = self.new.retention.as_millis().to_string();
        let bytes = self.new.max_message_bytes.to_string();
        match cleanup {
            Cleanup::Delete => {
                wanted = wanted.set("cleanup.policy", "delete").set("retention.ms", &retention);
            }
            Cleanup::Compact => wanted = wanted.set("cleanup.policy", "compact"),
        }
        if cleanup == Cleanup::Compact && segments {
            wanted = wanted.set("segment.bytes", SEGMENT_BYTES);
        }
        wanted = wanted.set("max.message.bytes", &bytes);
        if replication >= 3 {
            wanted = wanted.set("min.insync.replicas", "2");
        }
        let options =
            AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let answers = self.admin.create_topics([&wanted], &options).await;
        let answers = answers.map_err(|error| self.client.explain(error, cannot_make(topic)))?;
        for answer in answers {
            if let Err((_, code)) = answer {
                return Ok(Err(code));
            }
        }
        info!(topic, partitions, replication, "topic made");
        Ok(Ok(()))
    }

    async fn facts(&self, topic: &str) -> Result<Facts> {
        let settings = settings(&self.client, &self.admin, topic).await?;
        let text = |name: &str| settings.get(name);
        Ok(Facts {
            compacted: text("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            max_message_bytes: text("max.message.bytes")
                .and_then(|bytes| bytes.parse().ok())
                .unwrap_or(self.new.max_message_bytes as usize),
            retention_ms: text("retention.ms").and_then(|millis| millis.parse().ok()),
        })
    }
}

fn cannot_make(topic: &str) -> String {
    format!("cannot make topic `{topic}`")
}

/// The settings of a topic, as far as they have values.
pub(crate) async fn settings(
    client: &Client,
    admin: &AdminClient<Context>,
    topic: &str,
) -> Result<BTreeMap<String, String>> {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let asked = [ResourceSpecifier::Topic(topic)];
    let what = || format!("cannot read the settings of topic `{topic}`");
    let answers = admin.describe_configs(asked.iter(), &options).await;
    let mut answers = answers.map_err(|error| client.explain(error, what()))?;
    let settings = answers
        .pop()
        .ok_or_else(|| Error::new(ErrorKind::Unreachable, what()))?
        .map_err(|code| classify::error(KafkaError::AdminOp(code), what()))?;
    Ok(settings.entries.into_iter().filter_map(|it| Some((it.name, it.value?))).collect())
}

/// What of a topic's settings counts.
struct Facts {
    compacted: bool,
    max_message_bytes: usize,
    /// How long records are kept; below zero: for ever.
    retention_ms: Option<i64>,
}
