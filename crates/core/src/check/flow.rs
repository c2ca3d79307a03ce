//! Flow: whether everything moves, judged by two looks at a running pipeline. What stands still is
//! fine where nothing waits.

use super::{End, Findings, Probe, Verdict, so_many};
use crate::position::Millis;
use crate::spoken::{length, moment};
use crate::status::{QUIET, Reader, Status, Stream};
use crate::token::ClusterTime;

/// One look at a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// How far each part is.
    pub status: Status,
    /// The rows of the event table; `None`: there is none, or it could not be asked.
    pub rows: Option<Rows>,
}

/// The rows of the event table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Rows {
    /// All of them.
    pub all: u64,
    /// Those whose time lies in the last five minutes.
    pub recent: u64,
}

/// From the change to its row, in milliseconds, of the rows of the last quarter of an hour.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
pub struct Latency {
    /// So many rows.
    pub rows: u64,
    /// Half of them took no longer.
    pub p50: i64,
    /// 95 of 100 took no longer.
    pub p95: i64,
    /// 99 of 100 took no longer.
    pub p99: i64,
}

/// What the oplog holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oplog {
    /// From then on.
    pub first: ClusterTime,
    /// Whether that is the beginning of the replica set: nothing was let go yet.
    pub is_whole: bool,
}

/// What the config says.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    /// Its streams; none where it has no source.
    pub streams: &'e [String],
    /// Its topics of collections, as far as they are there.
    pub topics: &'e [String],
    /// Whether rows are written.
    pub writes_rows: bool,
    /// Whether there is a Kafka in the middle.
    pub has_kafka: bool,
}

/// Work that waits for longer than this waits for somebody.
const LATE: i64 = 60_000;
/// An open transaction takes milliseconds.
const LONG_OPEN: i64 = 5_000;
/// Whoever is away for a day finds its changes.
const LEAST_OPLOG: i64 = 24 * 3_600_000;

const SEE_LOG: &str = "see its log, and `tailwater status`";

/// Judges two looks; the latency is told by a caller who has asked for it.
pub fn judge(first: &Look, last: &Look, expected: &Expected<'_>) -> Vec<Probe> {
    let mut probes = Vec::new();
    if !expected.streams.is_empty() {
        probes.push(source(first, last, expected));
    }
    if expected.has_kafka {
        probes.push(messages(first, last, expected));
    }
    for group in &last.status.groups {
        if group.part != "source" {
            probes.push(self::group(first, last, group.part, group.members));
        }
    }
    if expected.writes_rows {
        probes.push(rows(first, last));
    }
    // Where there are no streams yet, the source has said the first.
    let said = usize::from(!expected.streams.is_empty() && last.status.streams.is_empty());
    for unknown in last.status.unknown.iter().skip(said) {
        let mend = "mend it, and look again";
        probes.push(Probe::warn(End::Pipeline, "status", unknown.clone(), mend));
    }
    if let Some(gap) = last.status.gaps.first() {
        let count = so_many(last.status.gaps.len() as u64, "gap record", "gap records");
        let found = format!("{count}, the last of `{}`: {}", gap.lane, gap.reason);
        probes.push(Probe::warn(End::Pipeline, "missing", found, gap.repair.clone()));
    }
    probes
}

/// Whether nothing more can be learnt by waiting: all is fine, and rows were seen to come.
pub fn is_settled(first: &Look, last: &Look, expected: &Expected<'_>) -> bool {
    let risen = match (first.rows, last.rows) {
        (Some(first), Some(last)) => last.all > first.all,
        _ => false,
    };
    let proven = risen || !expected.writes_rows;
    proven && judge(first, last, expected).iter().all(|probe| probe.verdict == Verdict::Ok)
}

fn source(first: &Look, last: &Look, expected: &Expected<'_>) -> Probe {
    let (before, now) = (&first.status, &last.status);
    let mut findings = Findings::default();
    let processes = now.groups.iter().find(|group| group.part == "source");
    let processes = processes.and_then(|group| group.members);
    if now.streams.is_empty() {
        let why = now.unknown.first().map_or("it has not run yet", String::as_str);
        findings.warn(why, "start `tailwater run`");
        return findings.probe(End::Pipeline, "source moves");
    }
    if let Some(count) = processes.filter(|count| *count > 0) {
        findings.say(so_many(count as u64, "process", "processes"));
    }
    let mend = match processes {
        Some(0) => "no process runs it: start `tailwater run source`",
        _ => "see whether `tailwater run` is there, and its log",
    };
    let mut fresh = 0;
    for name in expected.streams {
        let Some(stream) = now.streams.iter().find(|stream| stream.stream == *name) else {
            findings.warn(format!("`{name}` has not begun"), "start `tailwater run` anew");
            continue;
        };
        let earlier = before.streams.iter().find(|stream| stream.stream == *name);
        let behind = stream.behind(now.at);
        let moves = earlier.is_some_and(|earlier| has_moved(earlier, stream));
        match behind {
            Some(behind) if behind <= QUIET => fresh += 1,
            Some(behind) if moves => {
                let text = format!("`{name}` moves, and is {} behind", length(behind));
                findings.warn(text, "wait for it to catch up");
            }
            Some(behind) => {
                let text = format!("`{name}` stands still, {} behind", length(behind));
                findings.fail(text, mend);
            }
            None if moves => fresh += 1,
            None => findings.warn(
                format!("`{name}` has not moved; how far it is cannot be told"),
                "look again while changes come",
            ),
        }
    }
    if processes == Some(0) && fresh > 0 {
        findings.fail("its last words are fresh, and no process is there", mend);
    }
    if fresh > 0 {
        findings.say(format!("{} up to date", so_many(fresh, "stream", "streams")));
    }
    findings.probe(End::Pipeline, "source moves")
}

fn has_moved(before: &Stream, now: &Stream) -> bool {
    now.seq > before.seq || now.cluster_time > before.cluster_time
}

/// Judges what the oplog still holds for those that will read it.
pub fn oplog(oplog: &Oplog, status: Option<&Status>, at: Millis) -> Probe {
    let mut findings = Findings::default();
    let first = Millis(i64::from(oplog.first.seconds) * 1000);
    let holds = at.0 - first.0;
    let enlarge = "enlarge it: db.adminCommand({ replSetResizeOplog: 1, minRetentionHours: 72 })";
    let text = format!("holds the last {}", length(holds));
    match oplog.is_whole {
        true => findings.say(format!("{text}, all there was")),
        false if holds >= LEAST_OPLOG => findings.say(text),
        false => {
            findings.warn(format!("{text}: who is away for longer loses changes"), enlarge);
        }
    }
    for stream in status.iter().flat_map(|status| &status.streams) {
        let Some(time) = stream.cluster_time.filter(|_| !oplog.is_whole) else { continue };
        let name = &stream.stream;
        // A checkpoint holds seconds alone here: the same one may be either.
        if time.0 < first.0 {
            let text = format!("`{name}` is at {}, which is gone", moment(time));
            findings.fail(text, "its changes since then are lost: copy its collections again");
        } else if time.0 - first.0 < holds / 4 {
            let left = length(time.0 - first.0);
            findings.warn(
                format!("`{name}` is {left} from its end"),
                format!("let it catch up, or {enlarge}"),
            );
        }
    }
    findings.probe(End::MongoDb, "oplog")
}

fn messages(first: &Look, last: &Look, expected: &Expected<'_>) -> Probe {
    let mut findings = Findings::default();
    let partitions = || {
        let all = last.status.partitions.iter();
        all.filter(|it| expected.topics.contains(&it.topic))
    };
    let there: u64 = partitions().map(|it| it.stable.0.saturating_sub(it.first.0)).sum();
    let topics = so_many(expected.topics.len() as u64, "topic", "topics");
    match there {
        0 => findings.warn(
            format!("none in {topics}"),
            "change something in a watched collection, with the source running",
        ),
        _ => findings.say(format!("up to {there} in {topics}")),
    }
    for now in partitions() {
        let same =
            |it: &&crate::status::Partition| it.topic == now.topic && it.partition == now.partition;
        let Some(before) = first.status.partitions.iter().find(same) else { continue };
        let open = now.end > now.stable && before.end > before.stable;
        if open && now.stable == before.stable && last.status.at.0 - first.status.at.0 > LONG_OPEN {
            findings.warn(
                format!(
                    "an open transaction hides what is behind offset {} of `{}-{}`",
                    now.stable, now.topic, now.partition
                ),
                "find it with `kafka-transactions.sh find-hanging`",
            );
        }
    }
    findings.probe(End::Pipeline, "messages in Kafka")
}

fn readers<'s>(status: &'s Status, part: &str) -> impl Iterator<Item = &'s Reader> {
    let readers = status.partitions.iter().flat_map(|partition| &partition.readers);
    readers.filter(move |reader| reader.part == part)
}

fn group(first: &Look, last: &Look, part: &'static str, members: Option<usize>) -> Probe {
    let what = format!("{part} keeps up");
    let mut findings = Findings::default();
    let begun = readers(&last.status, part).any(|reader| reader.next.is_some());
    let start = format!("start `tailwater run {part}`");
    match members {
        Some(0) if begun => findings.fail("no process runs it", start),
        Some(0) => {
            findings.warn("it has not run yet", start);
            return findings.probe(End::Pipeline, what);
        }
        Some(count) => findings.say(so_many(count as u64, "process", "processes")),
        None => {}
    }
    for problem in readers(&last.status, part).filter_map(|reader| reader.problem.as_ref()) {
        findings.fail(problem.clone(), SEE_LOG);
    }
    let left: u64 = readers(&last.status, part).map(|reader| reader.left).sum();
    let oldest = readers(&last.status, part).filter_map(|reader| reader.waits_since()).min();
    let waited = oldest.map(|since| last.status.at.0 - since.0).filter(|waited| *waited > LATE);
    let at = |status: &Status| -> u64 {
        readers(status, part).filter_map(|reader| reader.next).map(|next| next.0).sum()
    };
    let moves = at(&last.status) > at(&first.status);
    match (left, waited) {
        (0, None) => findings.say("nothing is left"),
        (left, None) => findings.say(format!("{left} left")),
        (left, Some(waited)) if moves => findings.warn(
            format!("moves, with {left} left, the oldest for {}", length(waited)),
            "wait for it to catch up, or start more processes of it",
        ),
        (left, Some(waited)) => {
            let text = format!("stands still, with {left} left, the oldest for {}", length(waited));
            findings.fail(text, SEE_LOG);
        }
    }
    findings.probe(End::Pipeline, what)
}

fn rows(first: &Look, last: &Look) -> Probe {
    let what = "rows rise";
    let Some(now) = last.rows else {
        let mend = "`tailwater run` makes the table";
        return Probe::warn(End::Pipeline, what, "the event table is not there yet", mend);
    };
    let before = first.rows.map_or(0, |rows| rows.all);
    let took = length(last.status.at.0 - first.status.at.0);
    let Rows { all, recent } = now;
    let recent = format!("{recent} of the last 5 min");
    if all > before {
        let found = format!("{} more within {took}: {all}, {recent}", all - before);
        return Probe::ok(End::Pipeline, what, found);
    }
    match last.status.longest_wait() {
        Some((waited, place, _)) if waited > LATE => {
            let mut findings = Findings::default();
            let text = format!("{all}, and none came within {took}");
            findings.fail(format!("{text}, while changes wait in {place}"), SEE_LOG);
            findings.probe(End::Pipeline, what)
        }
        _ => {
            let found = format!("{all}, {recent}; none came within {took}, and none is waited for");
            Probe::ok(End::Pipeline, what, found)
        }
    }
}

/// Judges how long changes take to become rows.
pub fn latency(latency: &Latency) -> Probe {
    let what = "latency";
    let Latency { rows, p50, p95, p99 } = *latency;
    if rows == 0 {
        return Probe::ok(End::Pipeline, what, "no rows of changes in the last 15 min");
    }
    let [p50, p95, late] = [p50, p95, p99].map(length);
    let rows = so_many(rows, "row", "rows");
    let found = format!("p50 {p50}, p95 {p95}, p99 {late}, of {rows} in the last 15 min");
    match p99 > LATE {
        true => Probe::warn(
            End::Pipeline,
            what,
            found,
            "`tailwater status` says where changes wait; a backlog and a clock that is wrong look so too",
        ),
        false => Probe::ok(End::Pipeline, what, found),
    }
}
