//! Losses: what topics have lost of what they had acknowledged, found when a source starts.
//!
//! The checkpoint says the last offset of each partition. A log that ends before it, and a topic with
//! another id, have lost records that nobody may have read. Nothing here mends that; it is told.

use rdkafka::consumer::Consumer as _;
use tailwater_core::Result;
use tailwater_core::gap::{Gap, GapReason, Moment};
use tailwater_core::position::{LaneId, Seq};

use crate::checkpoints::{Acknowledged, CheckpointTopic};
use crate::client::{Client, Isolation, PATIENCE, blocking};
use crate::topics::Topics;

const REPAIR: &str = "copy the collections of the topic again";

/// What is missing in the topics.
pub(crate) async fn find(
    client: &Client,
    topics: &Topics,
    group: &str,
    checkpoints: &CheckpointTopic,
) -> Result<Vec<Gap>> {
    let mut losses = Vec::new();
    for (topic, acknowledged) in checkpoints.topics() {
        match topics.describe(topic).await? {
            Some(found) if found.id == acknowledged.id => {
                losses.extend(short(client, group, topic, acknowledged).await?);
            }
            _ => losses.extend(deleted(topic, acknowledged)),
        }
    }
    Ok(losses)
}

/// The records of a topic that is gone, or another one now.
pub(crate) fn deleted(topic: &str, acknowledged: &Acknowledged) -> Option<Gap> {
    let last = acknowledged.last.values().max()?;
    Some(Gap {
        lane: LaneId::stream(topic),
        reason: GapReason::TopicDeleted,
        times: (Moment::Unknown, Moment::Unknown),
        events: Some((Seq(0), seq(*last))),
        names: vec![topic.to_owned(), acknowledged.id.to_string()],
        repair: REPAIR,
    })
}

/// The partitions of a topic that end before what they had acknowledged.
async fn short(
    client: &Client,
    group: &str,
    topic: &str,
    acknowledged: &Acknowledged,
) -> Result<Vec<Gap>> {
    let reader = client.reader(Isolation::Uncommitted, group)?;
    let (client, topic, last) = (client.clone(), topic.to_owned(), acknowledged.last.clone());
    blocking(move || {
        let mut gaps = Vec::new();
        for (partition, last) in last {
            let what = || format!("cannot look at `{topic}`");
            let marks = reader.fetch_watermarks(&topic, partition, PATIENCE);
            let (_, end) = marks.map_err(|error| client.explain(error, what()))?;
            if end <= last {
                gaps.push(Gap {
                    lane: crate::reader::lane_of(&topic, partition),
                    reason: GapReason::RecordsLost,
                    times: (Moment::Unknown, Moment::Unknown),
                    events: Some((seq(end), seq(last))),
                    names: vec![topic.clone()],
                    repair: REPAIR,
                });
            }
        }
        Ok(gaps)
    })
    .await
}

fn seq(offset: i64) -> Seq {
    Seq(u64::try_from(offset).unwrap_or_default())
}
