//! Judges where rows stand: `_topic`, `_partition`, `_offset`, `_epoch`, and in which order.
//!
//! In direct mode a stream's rows are numbered without holes, so a lost row shows here too. A Kafka's
//! offsets have holes, but each is one record's: the same one twice shows here, and the order of what
//! a partition holds.

use std::collections::HashMap;

use super::events::Row;
use super::verdict::{Findings, Rule};
use crate::topics::Topics;
use crate::truth::Event;
use crate::watch::{Stream, Watch};

/// Where rows may stand.
#[derive(Debug)]
pub(super) enum Places {
    /// In streams, numbered from 0 on.
    Streams(Streams),
    /// In the partitions of topics.
    Partitions(Partitions),
}

impl Places {
    pub(super) fn streams(watch: &Watch, events: &[Event]) -> Self {
        let silent = watch
            .streams()
            .iter()
            .map(|it| (it.topic.clone(), silent(it, watch, events)))
            .collect();
        Self::Streams(Streams {
            silent,
            lane: None,
            epochs: HashMap::new(),
            next_offset: 0,
            last_event: None,
        })
    }

    pub(super) fn partitions(topics: &Topics) -> Self {
        Self::Partitions(Partitions {
            topics: topics.clone(),
            lanes: HashMap::new(),
            epochs: HashMap::new(),
            documents: HashMap::new(),
        })
    }

    /// Judges the place of a row, whose event has this number.
    pub(super) fn place(&mut self, row: &Row, index: Option<usize>, findings: &mut Findings) {
        match self {
            Self::Streams(streams) => streams.place(row, index, findings),
            Self::Partitions(partitions) => partitions.place(row, findings),
        }
    }

    /// Judges that the first row of an event stands in its topic, behind those before it.
    pub(super) fn order(
        &mut self,
        row: &Row,
        index: usize,
        event: &Event,
        watch: &Watch,
        findings: &mut Findings,
    ) {
        let (topic, late) = match self {
            Self::Streams(streams) => {
                let late = streams.last_event.is_some_and(|last| last > index);
                streams.last_event = Some(index);
                (watch.stream_of(event).map(|stream| stream.topic), late)
            }
            Self::Partitions(partitions) => {
                let late = partitions.is_late(row, index, event, findings);
                (partitions.topics.of_row(watch, event), late)
            }
        };
        if late {
            findings.add(Rule::Order, || {
                format!("`{}` at offset {} comes too late", row.idempotency_key, row.offset)
            });
        }
        if topic.as_deref() != Some(&row.topic) {
            findings.add(Rule::Position, || {
                format!("`{}` is in the stream `{}`", row.idempotency_key, row.topic)
            });
        }
    }
}

fn wrong_lane(row: &Row, findings: &mut Findings) {
    let lane = format!("`{}`/{}/`{}`", row.topic, row.partition, row.epoch);
    findings.add(Rule::Position, || format!("a lane that should not be: {lane}"));
}

fn is_hex(epoch: &str) -> bool {
    epoch.len() == 32 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Rows of streams, which come stream by stream.
#[derive(Debug)]
pub(super) struct Streams {
    /// Topic, partition and epoch that rows come from now.
    lane: Option<(String, u32, String)>,
    /// By stream: how many numbers without a row the events before each one take.
    silent: HashMap<String, Vec<u64>>,
    epochs: HashMap<String, String>,
    next_offset: u64,
    last_event: Option<usize>,
}

impl Streams {
    fn place(&mut self, row: &Row, index: Option<usize>, findings: &mut Findings) {
        let lane = (row.topic.clone(), row.partition, row.epoch.clone());
        if self.lane.as_ref() != Some(&lane) {
            let epoch = self.epochs.entry(row.topic.clone()).or_insert_with(|| row.epoch.clone());
            if !is_hex(&row.epoch) || row.partition != 0 || *epoch != row.epoch {
                wrong_lane(row, findings);
            }
            self.lane = Some(lane);
            self.next_offset = 0;
            self.last_event = None;
        }
        let silent = match (self.silent.get(&row.topic), self.last_event, index) {
            (Some(silent), Some(last), Some(index)) => silent[index].saturating_sub(silent[last]),
            _ => 0,
        };
        let expected = self.next_offset + silent;
        if row.offset != expected {
            findings.add(Rule::Position, || {
                let Row { topic, offset, idempotency_key, .. } = row;
                format!("`{idempotency_key}` in `{topic}` at offset {offset}, expected {expected}")
            });
        }
        self.next_offset = row.offset + 1;
    }
}

/// Rows of partitions. Those of one partition come by offset.
#[derive(Debug)]
pub(super) struct Partitions {
    topics: Topics,
    lanes: HashMap<(String, u32), Lane>,
    epochs: HashMap<String, String>,
    /// By collection and `doc_id`: its partition, and its last event so far.
    documents: HashMap<(String, String), (u32, usize)>,
}

#[derive(Debug, Default)]
struct Lane {
    next_offset: u64,
    last_event: Option<usize>,
}

impl Partitions {
    fn place(&mut self, row: &Row, findings: &mut Findings) {
        let epoch = self.epochs.entry(row.topic.clone()).or_insert_with(|| row.epoch.clone());
        if !is_hex(&row.epoch) || row.partition >= self.topics.partitions || *epoch != row.epoch {
            wrong_lane(row, findings);
        }
        let lane = self.lanes.entry((row.topic.clone(), row.partition)).or_default();
        if row.offset < lane.next_offset {
            let Row { topic, partition, offset, idempotency_key, .. } = row;
            findings.add(Rule::Position, || {
                format!("`{idempotency_key}` in `{topic}`/{partition} at offset {offset} again")
            });
        }
        lane.next_offset = row.offset + 1;
    }

    /// Whether the event stands behind a later one of its partition, or of its document.
    fn is_late(&mut self, row: &Row, index: usize, event: &Event, findings: &mut Findings) -> bool {
        let mut late = false;
        if let Some(lane) = self.lanes.get_mut(&(row.topic.clone(), row.partition)) {
            // One stream tells of all that a raw topic holds; normalized events come from many.
            let one_stream = self.topics.normalized.is_none();
            late = one_stream && lane.last_event.is_some_and(|last| last > index);
            lane.last_event = Some(index);
        }
        if event.concerns_a_document() {
            let document = (event.namespace(), event.doc_id.clone());
            let known = self.documents.entry(document).or_insert((row.partition, index));
            late |= known.1 > index;
            if known.0 != row.partition {
                let (before, now) = (known.0, row.partition);
                findings.add(Rule::Position, || {
                    let key = &row.idempotency_key;
                    format!("`{key}` is in partition {now}, its document was in {before}")
                });
            }
            *known = (row.partition, index);
        }
        late
    }
}

/// For each event, how many numbers the events before it take in a stream without a row: what
/// another stream tells, and the `invalidate` behind what ends the stream.
fn silent(stream: &Stream, watch: &Watch, events: &[Event]) -> Vec<u64> {
    let mut count = 0;
    let before = |event: &Event| {
        let before = count;
        if stream.hears(event) {
            let told = watch.stream_of(event).is_some_and(|owner| owner.topic == stream.topic);
            count += u64::from(!told) + u64::from(stream.ends_behind(event));
        }
        before
    };
    events.iter().map(before).collect()
}
