//! Places: the columns that say where a row's event came from. Every append table has them.

use crate::native::{Numbers, Strings};
use crate::position::Seq;

use super::Origin;

/// The columns `_topic`, `_partition`, `_offset` and `_epoch`.
pub(super) struct Places {
    pub(super) topic: Strings,
    pub(super) partition: Numbers<u32>,
    pub(super) offset: Numbers<u64>,
    pub(super) epoch: Strings,
    lane_topic: Vec<u8>,
    lane_partition: u32,
    lane_epoch: Vec<u8>,
}

impl Places {
    pub(super) fn new(origin: &Origin) -> Self {
        Self {
            topic: Strings::default(),
            partition: Numbers::default(),
            offset: Numbers::default(),
            epoch: Strings::default(),
            lane_topic: origin.lane.topic().as_bytes().to_vec(),
            lane_partition: origin.lane.partition(),
            lane_epoch: origin.epoch.to_string().into_bytes(),
        }
    }

    pub(super) fn push(&mut self, seq: Seq) {
        self.topic.push(&self.lane_topic);
        self.partition.push(self.lane_partition);
        self.offset.push(seq.0);
        self.epoch.push(&self.lane_epoch);
    }
}
