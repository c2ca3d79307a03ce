//! Gap: what is known to be missing, as a row of `tailwater_gaps`.
//!
//! A gap record is written before anything goes on without what it names. The same gap always has
//! the same id, so that telling it twice is telling it once.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use crate::position::{LaneId, Millis, Seq};
use crate::token::ClusterTime;

/// What is known to be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The lane that lacks it.
    pub lane: LaneId,
    /// Why it is missing.
    pub reason: GapReason,
    /// The last moment that is surely there, and the first that is again.
    pub times: (Moment, Moment),
    /// The events concerned, as far as they have numbers.
    pub events: Option<(Seq, Seq)>,
    /// The namespaces or tables concerned.
    pub names: Vec<String>,
    /// How it is mended.
    pub repair: &'static str,
}

/// A gap as it is written down: as a row of the table, or in the checkpoint topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRecord {
    /// The same for the same gap.
    pub id: String,
    /// The lane.
    pub lane: String,
    /// The word for why.
    pub reason: String,
    /// From when to when, as far as that is known.
    pub times: (Option<Millis>, Option<Millis>),
    /// The same in the cluster's own time.
    pub cluster_times: (Option<u64>, Option<u64>),
    /// The events, as far as they have numbers.
    pub events: Option<(Seq, Seq)>,
    /// The namespaces, topics or tables.
    pub names: Vec<String>,
    /// How it is mended.
    pub repair: String,
    /// When it was found.
    pub opened_at: Millis,
}

impl GapRecord {
    /// The record of a gap that was found then.
    pub fn of(gap: &Gap, opened_at: Millis) -> Self {
        let Gap { lane, reason, times: (from, to), events, names, repair } = gap;
        Self {
            id: gap.id(),
            lane: lane.to_string(),
            reason: reason.as_str().to_owned(),
            times: (from.millis(), to.millis()),
            cluster_times: (from.cluster_time(), to.cluster_time()),
            events: *events,
            names: names.clone(),
            repair: (*repair).to_owned(),
            opened_at,
        }
    }
}

/// A moment as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The cluster's own time.
    Cluster(ClusterTime),
    /// A wall clock.
    Wall(Millis),
    /// Nobody knows.
    Unknown,
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The oplog no longer holds the changes.
    HistoryLost,
    /// Views on the event table may lack or repeat rows of the events; the table itself is right.
    ViewsUnsure,
    /// Records of a topic were gone before they were read: retention, or a lost log.
    RecordsGone,
    /// A topic lost records that it had acknowledged.
    RecordsLost,
    /// A topic was deleted, with what nobody had read yet.
    TopicDeleted,
}

impl GapReason {
    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HistoryLost => "history_lost",
            Self::ViewsUnsure => "views_unsure",
            Self::RecordsGone => "records_gone",
            Self::RecordsLost => "records_lost",
            Self::TopicDeleted => "topic_deleted",
        }
    }
}

impl Moment {
    /// Milliseconds since 1970.
    pub const fn millis(self) -> Option<Millis> {
        match self {
            Self::Cluster(time) => Some(Millis(time.seconds as i64 * 1000)),
            Self::Wall(millis) => Some(millis),
            Self::Unknown => None,
        }
    }

    /// The 64 bits of the cluster time.
    pub const fn cluster_time(self) -> Option<u64> {
        match self {
            Self::Cluster(time) => Some(time.bits()),
            Self::Wall(_) | Self::Unknown => None,
        }
    }
}

impl Gap {
    /// Sixteen hex digits, the same for the same gap.
    pub fn id(&self) -> String {
        let mut hash = XxHash64::with_seed(0);
        hash.write(self.lane.to_string().as_bytes());
        hash.write(self.reason.as_str().as_bytes());
        hash.write_i64(self.times.0.millis().map_or(0, |millis| millis.0));
        hash.write_u64(self.times.0.cluster_time().unwrap_or(0));
        hash.write_u64(self.events.map_or(0, |(first, _)| first.0));
        format!("{:016x}", hash.finish())
    }
}
