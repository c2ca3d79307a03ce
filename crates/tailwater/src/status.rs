//! Gathers the status of a pipeline: it looks, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tailwater_clickhouse::gaps;
use tailwater_core::config::{Config, Kafka};
use tailwater_core::gap::GapRecord;
use tailwater_core::position::{Checkpoint, LaneId, Millis};
use tailwater_core::status::{Group, Partition, Pending, Reader, Status, Stream};
use tailwater_core::topics::is_subscribed;
use tailwater_kafka::CheckpointTopic;
use tailwater_kafka::observer::{self, Committed, Log, Told};
use tailwater_mongodb::bookmark::Bookmark;
use tailwater_pipeline::clock;
use tailwater_pipeline::state_folder::StateFolder;

use crate::cluster::{self, Cluster};
use crate::target;

/// So many gap records are shown.
const GAPS: usize = 10;

/// The status of direct mode.
pub(crate) async fn of_direct(config: Option<&Config>, state: &Path) -> anyhow::Result<Status> {
    let pipeline = config.map_or("tailwater", |config| config.pipeline.as_str());
    let mut status = empty(pipeline);
    let lanes = StateFolder::look(state)?.unwrap_or_default();
    if lanes.is_empty() {
        status.unknown.push(format!("`{}` holds no checkpoints", state.display()));
    }
    for (lane, checkpoint) in &lanes {
        status.streams.push(stream(lane, checkpoint, None, &mut status.unknown));
    }
    if let Some(config) = config {
        status.gaps = gaps_of_table(config, &mut status.unknown).await;
    }
    Ok(status)
}

/// The status with a Kafka in the middle.
pub(crate) async fn of_kafka(config: &Config) -> anyhow::Result<Status> {
    let cluster = Cluster::reach(config).await?;
    of_cluster(config, &cluster).await
}

/// The same, of a Kafka that has answered.
pub(crate) async fn of_cluster(config: &Config, cluster: &Cluster) -> anyhow::Result<Status> {
    let kafka = config.require_kafka()?;
    let mut status = empty(&config.pipeline);
    streams(cluster, config, kafka, &mut status).await;
    readers(cluster, config, kafka, &mut status).await?;
    let mut gaps: BTreeMap<String, GapRecord> =
        status.gaps.drain(..).map(|gap| (gap.id.clone(), gap)).collect();
    let of_table = gaps_of_table(config, &mut status.unknown).await;
    gaps.extend(of_table.into_iter().map(|gap| (gap.id.clone(), gap)));
    status.gaps = gaps.into_values().collect();
    status.gaps.sort_by_key(|gap| std::cmp::Reverse(gap.opened_at));
    status.gaps.truncate(GAPS);
    Ok(status)
}

/// Of a pipeline of which nothing is known.
pub(crate) fn empty(pipeline: &str) -> Status {
    Status {
        pipeline: pipeline.to_owned(),
        at: clock::now(),
        streams: Vec::new(),
        groups: Vec::new(),
        partitions: Vec::new(),
        gaps: Vec::new(),
        unknown: Vec::new(),
    }
}

/// What could not be looked at is told, and the rest is shown.
fn note(unknown: &mut Vec<String>, error: impl Into<anyhow::Error>) {
    unknown.push(format!("{:#}", error.into()));
}

async fn streams(cluster: &Cluster, config: &Config, kafka: &Kafka, status: &mut Status) {
    match CheckpointTopic::look(&cluster.observer, &kafka.topics.checkpoints).await {
        // Others write the topics that it reads.
        Ok(None) if config.mongodb.is_none() => {}
        Ok(None) => {
            let topic = &kafka.topics.checkpoints;
            status.unknown.push(format!("no source has run: there is no topic `{topic}`"));
        }
        Ok(Some(looked)) => {
            if looked.slots.is_empty() && config.mongodb.is_some() {
                let topic = &kafka.topics.checkpoints;
                let what = format!("no source has run: the topic `{topic}` knows no stream");
                status.unknown.push(what);
            }
            let mut seen = BTreeSet::new();
            for slot in looked.slots.iter().filter(|slot| seen.insert(slot.lane.clone())) {
                let found = stream(&slot.lane, &slot.checkpoint, slot.at, &mut status.unknown);
                status.streams.push(found);
            }
            status.gaps = looked.topic.gaps().cloned().collect();
        }
        Err(error) => note(&mut status.unknown, error),
    }
}

fn stream(
    lane: &LaneId,
    checkpoint: &Checkpoint,
    written_at: Option<Millis>,
    unknown: &mut Vec<String>,
) -> Stream {
    let time = match Bookmark::decode(&checkpoint.next.cursor) {
        Ok(bookmark) => bookmark.place.time(),
        Err(error) => {
            note(unknown, error);
            None
        }
    };
    Stream {
        stream: lane.to_string(),
        seq: checkpoint.next.seq,
        epoch: checkpoint.epoch,
        cluster_time: time.map(|time| Millis(i64::from(time.seconds) * 1000)),
        written_at,
        pending: checkpoint.pending.as_ref().map(Pending::from),
    }
}

/// What each group has read, and what it has not.
async fn readers(
    cluster: &Cluster,
    config: &Config,
    kafka: &Kafka,
    status: &mut Status,
) -> anyhow::Result<()> {
    let observer = &cluster.observer;
    let groups = cluster::groups(config, kafka);
    let all: Vec<String> =
        groups.iter().skip(1).flat_map(|group| group.subscription.clone()).collect();
    let topics = observer.topics(&all).await?;
    let logs = observer.logs(&observer::lanes(&topics)).await?;
    let mut partitions: Vec<(LaneId, Partition)> = Vec::new();
    for (lane, log) in &logs {
        let Log { first, stable, end } = *log;
        let (topic, partition) = (lane.topic().to_owned(), lane.partition());
        let readers = Vec::new();
        partitions
            .push((lane.clone(), Partition { topic, partition, first, stable, end, readers }));
    }
    for group in &groups {
        let members = match observer.members(&group.name).await {
            Ok(members) => Some(members.count),
            Err(error) => {
                note(&mut status.unknown, error);
                None
            }
        };
        let own = |lane: &&LaneId| is_subscribed(&group.subscription, lane.topic());
        let lanes: Vec<LaneId> = logs.keys().filter(own).cloned().collect();
        let committed = match observer.committed(&group.name, &lanes).await {
            Ok(committed) => committed,
            Err(error) => {
                note(&mut status.unknown, error);
                continue;
            }
        };
        let is_used = members.is_some_and(|count| count > 0) || !committed.is_empty();
        if !group.is_configured && !is_used {
            continue;
        }
        let name = group.name.clone();
        status.groups.push(Group { group: name, part: group.part, members });
        let from = lanes.iter().filter_map(|lane| {
            let log = *logs.get(lane)?;
            let next = committed.get(lane).map_or(log.first, |committed| committed.next);
            Some((lane.clone(), (next, log)))
        });
        let behind = observer.behind(&from.collect()).await?;
        for (lane, partition) in partitions.iter_mut().filter(|(lane, _)| own(&lane)) {
            let Some(behind) = behind.get(lane) else { continue };
            let committed = committed.get(lane);
            let problem = match committed.map(|committed| &committed.told) {
                Some(Told::Strange(why)) => Some(why.clone()),
                _ => None,
            };
            partition.readers.push(Reader {
                part: group.part,
                next: committed.map(|committed| committed.next),
                left: behind.records,
                counted: behind.counted,
                since: behind.since,
                pending: committed.and_then(pending),
                problem,
            });
        }
    }
    status.partitions = partitions.into_iter().map(|(_, partition)| partition).collect();
    Ok(())
}

fn pending(committed: &Committed) -> Option<Pending> {
    match &committed.told {
        Told::Ours { pending, .. } => pending.as_ref().map(Pending::from),
        Told::Nothing | Told::Strange(_) => None,
    }
}

/// What ClickHouse knows to be missing.
async fn gaps_of_table(config: &Config, unknown: &mut Vec<String>) -> Vec<GapRecord> {
    let Some(clickhouse) = &config.clickhouse else { return Vec::new() };
    let asked = async {
        let Some(connection) = target::running(&clickhouse.target, &config.state)? else {
            return Ok(Vec::new());
        };
        anyhow::Ok(gaps::last(&connection, GAPS).await?)
    };
    asked.await.unwrap_or_else(|error| {
        note(unknown, error);
        Vec::new()
    })
}
