//! Status: how far each part is, and where what it still has to do waits. Values, and how they read.

use serde::Serialize;

use crate::gap::GapRecord;
use crate::position::{Epoch, Intent, LaneId, Millis, Seq};
use crate::spoken::{length, moment, table};

/// How far a pipeline is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The pipeline.
    pub pipeline: String,
    /// When it was looked at.
    #[serde(serialize_with = "when")]
    pub at: Millis,
    /// Its change streams.
    pub streams: Vec<Stream>,
    /// Its groups; none in direct mode.
    pub groups: Vec<Group>,
    /// Its topic-partitions; none in direct mode.
    pub partitions: Vec<Partition>,
    /// What is known to be missing, the newest first.
    pub gaps: Vec<GapRecord>,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
}

/// A change stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stream {
    /// The entry of the config.
    pub stream: String,
    /// How many events of it are behind us.
    pub seq: Seq,
    /// The life of its numbering.
    #[serde(serialize_with = "text")]
    pub epoch: Epoch,
    /// The cluster time that it has come to.
    #[serde(serialize_with = "when_some")]
    pub cluster_time: Option<Millis>,
    /// When that was written down.
    #[serde(serialize_with = "when_some")]
    pub written_at: Option<Millis>,
    /// What may be half written; in direct mode alone.
    pub pending: Option<Pending>,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// The part that it is of.
    pub part: &'static str,
    /// How many processes are in it; `None`: nobody told.
    pub members: Option<usize>,
}

/// A topic-partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset that is still there.
    pub first: Seq,
    /// Behind what is committed.
    pub stable: Seq,
    /// Behind the last record, of open transactions too.
    pub end: Seq,
    /// How far each group is that reads it.
    pub readers: Vec<Reader>,
}

/// How far a group is in a topic-partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reader {
    /// The part.
    pub part: &'static str,
    /// Where it goes on; `None`: it has not begun.
    pub next: Option<Seq>,
    /// So many records are left.
    pub left: u64,
    /// Whether they were counted, or are at most so many.
    pub counted: bool,
    /// When the first of them was written.
    #[serde(serialize_with = "when_some")]
    pub since: Option<Millis>,
    /// What may be half written.
    pub pending: Option<Pending>,
    /// What is strange about it.
    pub problem: Option<String>,
}

/// A Range that was declared and may be half written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pending {
    /// Its first event.
    pub first: Seq,
    /// Its last event.
    pub last: Seq,
    /// Its rows, in all append tables.
    pub rows: u64,
    /// When it was declared.
    #[serde(serialize_with = "when")]
    pub declared_at: Millis,
}

impl From<&Intent> for Pending {
    fn from(intent: &Intent) -> Self {
        Self {
            first: intent.range.first,
            last: intent.range.last,
            rows: intent.plan.rows_to_append(),
            declared_at: intent.declared_at,
        }
    }
}

fn text<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn when<S: serde::Serializer>(at: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&moment(*at))
}

fn when_some<S: serde::Serializer>(at: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => when(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// A quiet stream writes down how far it is at least so often; less than this is no lag.
pub const QUIET: i64 = 15_000;
/// A Range is written at once; one that is older waits for somebody.
const UNDER_WAY: i64 = 5_000;

impl Stream {
    /// How far its cluster time is behind, in milliseconds.
    pub fn behind(&self, at: Millis) -> Option<i64> {
        self.cluster_time.map(|time| at.0 - time.0)
    }
}

impl Reader {
    /// Since when something has waited for it.
    pub fn waits_since(&self) -> Option<Millis> {
        let declared = self.pending.as_ref().map(|pending| pending.declared_at);
        declared.into_iter().chain(self.since).min()
    }

    /// Where what is left waits.
    fn waits_in(&self, at: Millis) -> &'static str {
        let old = |pending: &Pending| at.0 - pending.declared_at.0 > UNDER_WAY;
        match &self.pending {
            Some(pending) if old(pending) => "clickhouse",
            _ if self.left > 0 => "kafka",
            _ => "",
        }
    }

    fn cells(&self, at: Millis) -> [String; 3] {
        let left = match (self.left, self.counted) {
            (0, _) => "-".to_owned(),
            (left, true) => left.to_string(),
            (left, false) => format!("≤{left}"),
        };
        [
            self.next.map_or("-".to_owned(), |next| next.to_string()),
            left,
            self.since.map_or(String::new(), |since| length(at.0 - since.0)),
        ]
    }
}

impl Status {
    /// The longest that anything has waited, and where: in milliseconds, with the part that is to take
    /// it.
    pub fn longest_wait(&self) -> Option<(i64, &'static str, &'static str)> {
        let age = |since: Millis| self.at.0 - since.0;
        let streams = self.streams.iter().filter_map(|stream| {
            let behind = stream.behind(self.at)?;
            (behind > QUIET).then_some((behind, "mongodb", "source"))
        });
        let readers = self.partitions.iter().flat_map(|partition| &partition.readers);
        let readers = readers.filter_map(|reader| {
            let since = match reader.waits_in(self.at) {
                "" => return None,
                "clickhouse" => reader.pending.as_ref().map(|pending| pending.declared_at),
                _ => None,
            };
            let since = since.into_iter().chain(reader.since).min()?;
            Some((age(since), reader.waits_in(self.at), reader.part))
        });
        streams.chain(readers).max()
    }

    /// The status as a JSON value.
    ///
    /// # Errors
    /// None, while it is made of texts and numbers.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut value = serde_json::to_value(self)?;
        let wait = self.longest_wait().map(|(millis, place, part)| {
            serde_json::json!({ "millis": millis, "in": place, "for": part })
        });
        value["longest_wait"] = wait.into();
        Ok(value)
    }

    /// The status as text.
    pub fn to_text(&self) -> String {
        let mut out = format!("pipeline {}, {}\n", self.pipeline, moment(self.at));
        match self.longest_wait() {
            Some((millis, place, part)) => out.push_str(&format!(
                "the longest wait is {}, in {place}, for the {part}\n",
                length(millis)
            )),
            None => out.push_str("nothing waits\n"),
        }
        self.put_streams(&mut out);
        self.put_partitions(&mut out);
        self.put_gaps(&mut out);
        for unknown in &self.unknown {
            out.push_str(&format!("\nunknown: {unknown}\n"));
        }
        out
    }

    fn put_streams(&self, out: &mut String) {
        if self.streams.is_empty() {
            return;
        }
        let mut lines = vec![heads(["stream", ">events", "cluster time", ">behind", "pending"])];
        for stream in &self.streams {
            let behind = stream.behind(self.at);
            let pending = stream.pending.as_ref();
            lines.push(vec![
                stream.stream.clone(),
                stream.seq.to_string(),
                stream.cluster_time.map_or("-".to_owned(), moment),
                behind.map_or("-".to_owned(), length),
                pending.map_or(String::new(), |it| format!("{}-{}", it.first, it.last)),
            ]);
        }
        out.push('\n');
        out.push_str(&table(&lines));
    }

    fn put_partitions(&self, out: &mut String) {
        if !self.groups.is_empty() {
            let mut lines = vec![heads(["group", "part", ">processes"])];
            for group in &self.groups {
                let members = group.members.map_or("-".to_owned(), |count| count.to_string());
                lines.push(vec![group.group.clone(), group.part.to_owned(), members]);
            }
            out.push('\n');
            out.push_str(&table(&lines));
        }
        let heads = heads([
            "topic-partition",
            ">end",
            "part",
            ">at",
            ">left",
            ">since",
            "waits in",
            "pending",
        ]);
        let mut lines = vec![heads];
        let mut problems = String::new();
        for partition in &self.partitions {
            let lane = LaneId::partition_of(&partition.topic, partition.partition).to_string();
            // What an open transaction holds back counts as written.
            let end = match partition.end.0 - partition.stable.0.min(partition.end.0) {
                0 => partition.stable.to_string(),
                open => format!("{} (+{open} open)", partition.stable),
            };
            if partition.readers.is_empty() {
                let mut line = vec![lane.clone(), end.clone()];
                line.resize(8, String::new());
                lines.push(line);
            }
            for (at, reader) in partition.readers.iter().enumerate() {
                let [next, left, since] = reader.cells(self.at);
                let first = |text: &str| if at == 0 { text.to_owned() } else { String::new() };
                let pending = reader.pending.as_ref();
                lines.push(vec![
                    first(&lane),
                    first(&end),
                    reader.part.to_owned(),
                    next,
                    left,
                    since,
                    reader.waits_in(self.at).to_owned(),
                    pending.map_or(String::new(), |it| format!("{}-{}", it.first, it.last)),
                ]);
                if let Some(problem) = &reader.problem {
                    problems.push_str(&format!("{lane}, {}: {problem}\n", reader.part));
                }
            }
        }
        if lines.len() > 1 {
            out.push('\n');
            out.push_str(&table(&lines));
        }
        if !problems.is_empty() {
            out.push_str(&format!("\n{problems}"));
        }
    }

    fn put_gaps(&self, out: &mut String) {
        if self.gaps.is_empty() {
            return;
        }
        let mut lines = vec![heads(["missing", "why", "found at", "mend"])];
        for gap in &self.gaps {
            let events = gap.events.map(|(first, last)| format!(", {first}-{last}"));
            lines.push(vec![
                format!("{}{}", gap.lane, events.unwrap_or_default()),
                gap.reason.clone(),
                moment(gap.opened_at),
                gap.repair.clone(),
            ]);
        }
        out.push('\n');
        out.push_str(&table(&lines));
    }
}

fn heads<const N: usize>(heads: [&str; N]) -> Vec<String> {
    heads.map(str::to_owned).to_vec()
}
