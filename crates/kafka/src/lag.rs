//! Lag: what lies between where a group is and the end of what is committed.
//!
//! Offsets count more than records: aborted ones and the marks of transactions take some. So where few
//! are left they are read and counted, and of each lane the first record tells how old it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tailwater_core::position::{LaneId, Millis, Seq};
use tailwater_core::{Action, Result};
use tracing::debug;

use crate::classify;
use crate::client::blocking;
use crate::observer::{Log, Observer};
use crate::reader;

/// So many offsets are read to be counted, in each lane.
const COUNTED: u64 = 64;
/// All of it takes no longer than this; then what is known counts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one look at the queue waits.
const POLL: Duration = Duration::from_millis(100);

/// What a group has still to read of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// So many records, or at most so many.
    pub records: u64,
    /// Whether they were counted.
    pub counted: bool,
    /// When the first of them was written.
    pub since: Option<Millis>,
}

impl Observer {
    /// What is still to be read of each lane, from where a group goes on to the end of its log.
    ///
    /// # Errors
    /// Those of making a client. What cannot be read is not counted.
    pub async fn behind(
        &self,
        lanes: &BTreeMap<LaneId, (Seq, Log)>,
    ) -> Result<BTreeMap<LaneId, Behind>> {
        let mut all = BTreeMap::new();
        let mut topics: BTreeMap<String, BTreeMap<i32, Open>> = BTreeMap::new();
        for (lane, (next, log)) in lanes {
            let from = (*next).max(log.first);
            let offsets = log.stable.0.saturating_sub(from.0);
            let behind = Behind { records: offsets, counted: offsets == 0, since: None };
            all.insert(lane.clone(), behind);
            if offsets > 0 {
                let open = Open { lane: lane.clone(), from, seen: 0, since: None };
                let partition = crate::observer::partition(lane);
                topics.entry(lane.topic().to_owned()).or_default().insert(partition, open);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        // The end of a partition is told without its topic.
        for mut open in topics.into_values() {
            let from: Vec<_> = open.values().map(|it| (it.lane.clone(), it.from)).collect();
            let reader = self.reading(&from)?;
            all = blocking(move || {
                count(&reader, &mut open, &mut all, deadline);
                Ok(all)
            })
            .await?;
        }
        Ok(all)
    }
}

/// A lane that is being counted.
struct Open {
    lane: LaneId,
    from: Seq,
    seen: u64,
    since: Option<Millis>,
}

/// Counts what is left of the lanes of one topic.
fn count(
    reader: &rdkafka::consumer::BaseConsumer<crate::client::Context>,
    open: &mut BTreeMap<i32, Open>,
    all: &mut BTreeMap<LaneId, Behind>,
    deadline: Instant,
) {
    while !open.is_empty() && Instant::now() < deadline {
        match reader.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                let Some(it) = open.get_mut(&message.partition()) else { continue };
                let Some(behind) = all.get_mut(&it.lane) else { continue };
                it.seen += 1;
                it.since = it.since.or(message.timestamp().to_millis().map(Millis));
                behind.since = it.since;
                if behind.records > COUNTED {
                    if let Ok(list) = reader::list(&it.lane, None) {
                        // What is fetched all the same is let go.
                        drop(reader.incremental_unassign(&list));
                    }
                    open.remove(&message.partition());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if let Some(it) = open.remove(&partition) {
                    let behind = Behind { records: it.seen, counted: true, since: it.since };
                    all.insert(it.lane, behind);
                }
            }
            Some(Err(error)) if classify::kind(&error).action() == Action::Retry => {}
            Some(Err(error)) => {
                debug!(%error, "what is left to read is not counted");
                return;
            }
        }
    }
}
