//! The checkpoints of a pipeline, listed and shown: those of streams, wherever they are kept, and those
//! of groups.

pub(crate) mod rewind;

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;
use tailwater_core::config::{Config, Kafka};
use tailwater_core::position::{Checkpoint, LaneId, Millis, Seq};
use tailwater_core::spoken::{moment, table};
use tailwater_core::status::Pending;
use tailwater_core::topics::is_subscribed;
use tailwater_core::{Error, ErrorKind};
use tailwater_kafka::CheckpointTopic;
use tailwater_kafka::checkpoints::{Looked, Slot};
use tailwater_kafka::observer::{self, Told};
use tailwater_mongodb::bookmark::{Bookmark, Place};
use tailwater_pipeline::state_folder::StateFolder;

use crate::cluster::{self, Cluster};

/// All checkpoints of a pipeline.
#[derive(Debug, Serialize)]
pub(crate) struct Checkpoints {
    streams: Vec<Stream>,
    topics: Vec<Topic>,
    groups: Vec<Committed>,
}

/// A checkpoint of a stream.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stream {
    stream: String,
    /// The greatest one counts; none in a state folder, which keeps one.
    n: Option<u64>,
    written_at: Option<String>,
    /// How many events are behind it.
    seq: Seq,
    epoch: String,
    cluster_time: Option<String>,
    /// The resume token, where it is behind an event.
    token: Option<String>,
    pending: Option<Pending>,
    renumbered: bool,
}

/// What the source knows of a topic.
#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    id: String,
    /// Among so many partitions a document's is chosen.
    partitions: u32,
    /// The last offset that was acknowledged, of each partition.
    last: BTreeMap<i32, i64>,
}

/// What a group has committed.
#[derive(Debug, Clone, Serialize)]
struct Committed {
    group: String,
    topic: String,
    partition: u32,
    next: Seq,
    /// The topic's id, as the group wrote it.
    epoch: Option<String>,
    pending: Option<Pending>,
    problem: Option<String>,
}

impl Checkpoints {
    /// Those of a state folder.
    pub(crate) fn of_folder(config: &Config) -> anyhow::Result<Self> {
        let lanes = StateFolder::look(&config.state)?.unwrap_or_default();
        let streams = lanes.iter().map(|(lane, checkpoint)| stream(lane, checkpoint, None));
        Ok(Self { streams: streams.collect(), topics: Vec::new(), groups: Vec::new() })
    }

    /// Those in Kafka, of streams with the earlier ones that are still there.
    pub(crate) async fn of_kafka(config: &Config, kafka: &Kafka) -> anyhow::Result<Self> {
        let cluster = Cluster::reach(config).await?;
        let looked = CheckpointTopic::look(&cluster.observer, &kafka.topics.checkpoints).await?;
        let (mut streams, mut topics) = (Vec::new(), Vec::new());
        if let Some(Looked { topic, slots }) = looked {
            streams
                .extend(slots.iter().map(|slot| stream(&slot.lane, &slot.checkpoint, Some(slot))));
            topics.extend(topic.topics().map(|(name, found)| Topic {
                topic: name.to_owned(),
                id: found.id.to_string(),
                partitions: found.partitions.get(),
                last: found.last.clone(),
            }));
        }
        let mut groups = Vec::new();
        let known = cluster::groups(config, kafka);
        let all: Vec<String> =
            known.iter().skip(1).flat_map(|group| group.subscription.clone()).collect();
        let lanes = observer::lanes(&cluster.observer.topics(&all).await?);
        for group in known.iter().skip(1) {
            let own = |lane: &&LaneId| is_subscribed(&group.subscription, lane.topic());
            let lanes: Vec<LaneId> = lanes.iter().filter(own).cloned().collect();
            for (lane, found) in cluster.observer.committed(&group.name, &lanes).await? {
                let (epoch, pending, problem) = match found.told {
                    Told::Nothing => (None, None, None),
                    Told::Ours { epoch, pending } => (Some(epoch.to_string()), pending, None),
                    Told::Strange(why) => (None, None, Some(why)),
                };
                groups.push(Committed {
                    group: group.name.clone(),
                    topic: lane.topic().to_owned(),
                    partition: lane.partition(),
                    next: found.next,
                    epoch,
                    pending: pending.as_ref().map(Pending::from),
                    problem,
                });
            }
        }
        Ok(Self { streams, topics, groups })
    }

    /// Of each stream what counts.
    pub(crate) fn newest(mut self) -> Self {
        self.streams.dedup_by(|later, first| later.stream == first.stream);
        self
    }

    /// All that is known of one stream, topic or topic-partition.
    pub(crate) fn of(mut self, name: &str) -> anyhow::Result<Self> {
        self.streams.retain(|it| it.stream == name);
        self.topics.retain(|it| it.topic == name);
        self.groups.retain(|it| it.topic == name || lane(it).to_string() == name);
        if self.streams.is_empty() && self.topics.is_empty() && self.groups.is_empty() {
            let what = format!("nothing is known of `{name}`");
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("`tailwater checkpoint list` shows what is; a topic-partition looks like `topic-0`")
                .into());
        }
        Ok(self)
    }

    pub(crate) fn to_text(&self) -> String {
        let heads = |heads: &[&str]| heads.iter().map(|head| (*head).to_owned()).collect();
        let mut tables = Vec::new();
        if !self.streams.is_empty() {
            let mut lines: Vec<Vec<String>> = vec![heads(&[
                "stream",
                ">n",
                ">events",
                "cluster time",
                "written",
                "pending",
                "epoch",
            ])];
            lines.extend(self.streams.iter().map(|it| {
                let or_none =
                    |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                let mut pending = span(it.pending.as_ref());
                if it.renumbered {
                    pending.push_str(" renumbered");
                }
                let n = it.n.map_or("-".to_owned(), |n| n.to_string());
                let (time, written) = (or_none(&it.cluster_time), or_none(&it.written_at));
                let seq = it.seq.to_string();
                vec![it.stream.clone(), n, seq, time, written, pending, it.epoch.clone()]
            }));
            tables.push(table(&lines));
        }
        if !self.topics.is_empty() {
            let mut lines: Vec<Vec<String>> =
                vec![heads(&["topic", ">partitions", "last acknowledged", "id"])];
            lines.extend(self.topics.iter().map(|it| {
                let last: Vec<String> = it
                    .last
                    .iter()
                    .map(|(partition, last)| format!("{partition}: {last}"))
                    .collect();
                vec![it.topic.clone(), it.partitions.to_string(), last.join(", "), it.id.clone()]
            }));
            tables.push(table(&lines));
        }
        if !self.groups.is_empty() {
            let mut lines: Vec<Vec<String>> = vec![heads(&[
                "group",
                "topic-partition",
                ">next",
                "pending",
                "declared",
                "topic id",
            ])];
            lines.extend(self.groups.iter().map(|it| {
                let declared = it.pending.as_ref().map(|pending| moment(pending.declared_at));
                let epoch = it.epoch.clone().or_else(|| it.problem.clone()).unwrap_or_default();
                vec![
                    it.group.clone(),
                    lane(it).to_string(),
                    it.next.to_string(),
                    span(it.pending.as_ref()),
                    declared.unwrap_or_default(),
                    epoch,
                ]
            }));
            tables.push(table(&lines));
        }
        if tables.is_empty() {
            return "no checkpoints: nothing has run\n".to_owned();
        }
        tables.join("\n")
    }
}

fn lane(committed: &Committed) -> LaneId {
    LaneId::partition_of(&committed.topic, committed.partition)
}

fn span(pending: Option<&Pending>) -> String {
    pending.map_or(String::new(), |it| format!("{}-{}, {} rows", it.first, it.last, it.rows))
}

fn stream(lane: &LaneId, checkpoint: &Checkpoint, slot: Option<&Slot>) -> Stream {
    let bookmark = Bookmark::decode(&checkpoint.next.cursor).ok();
    let time = bookmark.as_ref().and_then(|bookmark| bookmark.place.time());
    let token = bookmark.as_ref().and_then(|bookmark| match &bookmark.place {
        Place::After(token) => token.get_str("_data").ok().map(str::to_owned),
        Place::At(_) => None,
    });
    Stream {
        stream: lane.to_string(),
        n: slot.map(|slot| slot.n),
        written_at: slot.and_then(|slot| slot.at).map(moment),
        seq: checkpoint.next.seq,
        epoch: checkpoint.epoch.to_string(),
        cluster_time: time.map(|time| moment(Millis(i64::from(time.seconds) * 1000))),
        token,
        pending: checkpoint.pending.as_ref().map(Pending::from),
        renumbered: checkpoint.renumbered,
    }
}

/// The bookmark of a checkpoint.
fn bookmark(checkpoint: &Checkpoint) -> anyhow::Result<Bookmark> {
    Bookmark::decode(&checkpoint.next.cursor).context("cannot read the stream's checkpoint")
}
