//! What two looks at a pipeline come to, and how a report reads.

use tailwater_core::check::flow::{
    Expected, Latency, Look, Oplog, Rows, is_settled, judge, latency, oplog,
};
use tailwater_core::check::{End, Findings, Probe, Report, Verdict};
use tailwater_core::position::{Epoch, Millis, Seq};
use tailwater_core::status::{Group, Partition, Reader, Status, Stream};
use tailwater_core::token::ClusterTime;
use tailwater_core::{Error, ErrorKind};

const NOW: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A pipeline that has just done everything.
fn look(at: i64) -> Look {
    let reader = Reader {
        part: "sink",
        next: Some(Seq(100)),
        left: 0,
        counted: true,
        since: None,
        pending: None,
        problem: None,
    };
    let group = |part| Group { group: format!("p.{part}"), part, members: Some(1) };
    let status = Status {
        pipeline: "p".to_owned(),
        at: Millis(at),
        streams: vec![Stream {
            stream: "d.c".to_owned(),
            seq: Seq(100),
            epoch: Epoch::new([7; 16]),
            cluster_time: Some(Millis(at - 2_000)),
            written_at: None,
            pending: None,
        }],
        groups: vec![group("source"), group("sink")],
        partitions: vec![Partition {
            topic: "t".to_owned(),
            partition: 0,
            first: Seq(0),
            stable: Seq(100),
            end: Seq(100),
            readers: vec![reader],
        }],
        gaps: Vec::new(),
        unknown: Vec::new(),
    };
    Look { status, rows: Some(Rows { all: 100, recent: 7 }) }
}

fn expected<'e>(streams: &'e [String], topics: &'e [String]) -> Expected<'e> {
    Expected { streams, topics, writes_rows: true, has_kafka: true }
}

/// What becomes of two looks, six seconds apart, of which something is changed.
fn judged(change: impl Fn(&mut Look, &mut Look)) -> (Vec<Probe>, bool) {
    let (mut first, mut last) = (look(NOW), look(NOW + 6_000));
    change(&mut first, &mut last);
    let (streams, topics) = (["d.c".to_owned()], ["t".to_owned()]);
    let expected = expected(&streams, &topics);
    (judge(&first, &last, &expected), is_settled(&first, &last, &expected))
}

#[track_caller]
fn expect(change: impl Fn(&mut Look, &mut Look), what: &str, verdict: Verdict, text: &str) {
    let (probes, _) = judged(change);
    let probe = probes.iter().find(|probe| probe.what == what);
    let probe = probe.unwrap_or_else(|| panic!("no `{what}` in {probes:#?}"));
    assert_eq!(probe.verdict, verdict, "{probe:?}");
    assert!(probe.found.contains(text), "no `{text}` in {probe:?}");
    for other in probes.iter().filter(|other| other.what != what) {
        assert_eq!(other.verdict, Verdict::Ok, "{other:?}");
    }
}

fn reader(look: &mut Look) -> &mut Reader {
    &mut look.status.partitions[0].readers[0]
}

fn wait_for_sink(look: &mut Look, waited: i64) {
    let at = look.status.at.0;
    let reader = reader(look);
    (reader.left, reader.since) = (12, Some(Millis(at - waited)));
}

#[test]
fn rows_that_rise_prove_it_and_a_quiet_pipeline_is_fine() {
    let (probes, settled) = judged(|_, last| last.rows = Some(Rows { all: 103, recent: 10 }));
    assert!(settled && probes.iter().all(|probe| probe.verdict == Verdict::Ok), "{probes:#?}");
    let rows = probes.iter().find(|probe| probe.what == "rows rise").unwrap();
    assert_eq!(rows.found, "3 more within 6.0 s: 103, 10 of the last 5 min");
    let (probes, settled) = judged(|_, _| {});
    let rows = probes.iter().find(|probe| probe.what == "rows rise").unwrap();
    assert!(rows.found.contains("none came within 6.0 s, and none is waited for"), "{rows:?}");
    // Something may still come.
    assert!(!settled && probes.iter().all(|probe| probe.verdict == Verdict::Ok), "{probes:#?}");
}

#[test]
fn a_source_must_run_and_move() {
    let source = "source moves";
    let set_behind = |look: &mut Look, behind: i64| {
        let at = look.status.at.0;
        look.status.streams[0].cluster_time = Some(Millis(at - behind));
    };
    expect(|_, _| {}, source, Verdict::Ok, "1 process; 1 stream up to date");
    let moving = |first: &mut Look, last: &mut Look| {
        set_behind(first, HOUR);
        set_behind(last, 50_000);
    };
    expect(moving, source, Verdict::Warn, "moves, and is 50 s behind");
    let standing = |first: &mut Look, last: &mut Look| {
        set_behind(first, 44_000);
        set_behind(last, 50_000);
    };
    expect(standing, source, Verdict::Fail, "stands still, 50 s behind");
    let gone = |_: &mut Look, last: &mut Look| last.status.groups[0].members = Some(0);
    expect(gone, source, Verdict::Fail, "no process is there");
    let other = |_: &mut Look, last: &mut Look| last.status.streams[0].stream = "d.x".to_owned();
    expect(other, source, Verdict::Warn, "`d.c` has not begun");
    let never = |_: &mut Look, last: &mut Look| {
        last.status.streams.clear();
        last.status.unknown = vec!["no source has run".to_owned()];
    };
    expect(never, source, Verdict::Warn, "no source has run");
    let untold = |first: &mut Look, last: &mut Look| {
        first.status.streams[0].cluster_time = None;
        last.status.streams[0].cluster_time = None;
    };
    expect(untold, source, Verdict::Warn, "cannot be told");
}

#[test]
fn a_group_must_run_and_take_what_waits() {
    let sink = "sink keeps up";
    expect(|_, _| {}, sink, Verdict::Ok, "1 process; nothing is left");
    expect(|_, last| wait_for_sink(last, 3_000), sink, Verdict::Ok, "12 left");
    let moving = |first: &mut Look, last: &mut Look| {
        reader(first).next = Some(Seq(40));
        last.rows = Some(Rows { all: 160, recent: 0 });
        wait_for_sink(last, 5 * MINUTE);
    };
    expect(moving, sink, Verdict::Warn, "moves, with 12 left, the oldest for 5 min");
    let gone = |_: &mut Look, last: &mut Look| last.status.groups[1].members = Some(0);
    expect(gone, sink, Verdict::Fail, "no process runs it");
    let never = |_: &mut Look, last: &mut Look| {
        last.status.groups[1].members = Some(0);
        reader(last).next = None;
    };
    expect(never, sink, Verdict::Warn, "has not run yet");
    let strange = |_: &mut Look, last: &mut Look| {
        reader(last).problem = Some("somebody else commits here".to_owned());
    };
    expect(strange, sink, Verdict::Fail, "somebody else commits here");
}

#[test]
fn what_stands_still_while_something_waits_fails() {
    let (probes, settled) = judged(|_, last| wait_for_sink(last, 5 * MINUTE));
    let failed = |what: &str| {
        let probe = probes.iter().find(|probe| probe.what == what).unwrap();
        assert_eq!(probe.verdict, Verdict::Fail, "{probe:?}");
        probe.found.clone()
    };
    assert!(failed("sink keeps up").contains("stands still, with 12 left"));
    assert!(failed("rows rise").contains("while changes wait in kafka"));
    assert!(!settled);
}

#[test]
fn a_transaction_that_stays_open_is_named() {
    let messages = "messages in Kafka";
    expect(|_, _| {}, messages, Verdict::Ok, "up to 100 in 1 topic");
    let open = |first: &mut Look, last: &mut Look| {
        first.status.partitions[0].end = Seq(103);
        last.status.partitions[0].end = Seq(105);
    };
    expect(open, messages, Verdict::Warn, "behind offset 100 of `t-0`");
    // Others come and go.
    let busy = |first: &mut Look, last: &mut Look| {
        open(first, last);
        first.status.partitions[0].stable = Seq(90);
    };
    expect(busy, messages, Verdict::Ok, "100");
    let empty = |_: &mut Look, last: &mut Look| last.status.partitions[0].first = Seq(100);
    expect(empty, messages, Verdict::Warn, "none in 1 topic");
}

#[test]
fn what_could_not_be_looked_at_is_told() {
    let unknown = |_: &mut Look, last: &mut Look| last.status.unknown = vec!["no right".to_owned()];
    expect(unknown, "status", Verdict::Warn, "no right");
    // Where others write the topics, there are no streams, and nobody else says it.
    let (mut first, mut last) = (look(NOW), look(NOW + 6_000));
    for look in [&mut first, &mut last] {
        look.status.streams.clear();
        look.status.unknown = vec!["no right".to_owned()];
    }
    let topics = ["t".to_owned()];
    let probes = judge(&first, &last, &expected(&[], &topics));
    assert!(probes.iter().any(|probe| probe.found.contains("no right")), "{probes:#?}");
    expect(|_, last| last.rows = None, "rows rise", Verdict::Warn, "not there yet");
}

#[test]
fn an_oplog_must_hold_what_is_still_to_be_read() {
    let hours = |hours: i64| Millis(NOW - hours * HOUR);
    for (holds, is_whole, at, verdict) in [
        (30, false, 0, Verdict::Ok),
        (23, false, 0, Verdict::Warn),
        (1, true, 1, Verdict::Ok),
        (30, false, 20, Verdict::Ok),
        (30, false, 25, Verdict::Warn),
        (30, false, 31, Verdict::Fail),
    ] {
        let mut status = look(NOW).status;
        status.streams[0].cluster_time = Some(hours(at));
        let first = u32::try_from(hours(holds).0 / 1000).unwrap();
        let first = ClusterTime { seconds: first, increment: 1 };
        let probe = oplog(&Oplog { first, is_whole }, Some(&status), Millis(NOW));
        assert_eq!(probe.verdict, verdict, "{holds} {at}: {probe:?}");
    }
}

#[test]
fn a_minute_is_late() {
    let of = |rows, p99| latency(&Latency { rows, p50: 20, p95: 40, p99 });
    assert_eq!(of(9, 60_000).verdict, Verdict::Ok);
    assert_eq!(of(9, 60_001).verdict, Verdict::Warn);
    assert_eq!(of(0, 0).verdict, Verdict::Ok);
    assert_eq!(of(9, 1234).found, "p50 20 ms, p95 40 ms, p99 1.2 s, of 9 rows in the last 15 min");
}

fn report() -> Report {
    let mut weak = Findings::default();
    weak.say("12 partitions, 1 copy");
    weak.warn("a broker that is lost takes it along", "make more copies");
    weak.warn("kept 60 min, the config says 3 d", "raise retention.ms");
    let refused = Error::new(ErrorKind::Unreachable, "cannot reach ClickHouse at `http://h:1`")
        .with_source("connection\n  refused");
    let probes = vec![
        Probe::ok(End::MongoDb, "server", "MongoDB 6.0.5"),
        Probe::ok(End::MongoDb, "oplog", "holds the last 3 d"),
        Probe::ok(End::Kafka, "brokers", "3 brokers"),
        Probe::warn(End::Kafka, "transactions", "not tried", "give a right"),
        weak.probe(End::Kafka, "topic `events.mongo.d.c`"),
        Probe::of_error(End::ClickHouse, "server", Verdict::Fail, &refused),
    ];
    Report { pipeline: "p".to_owned(), read_only: true, probes }
}

#[test]
fn a_report_has_a_line_for_each_probe() {
    insta::assert_snapshot!(report().to_text());
    assert!(report().has_failed());
}

#[test]
fn a_report_is_json_too() {
    insta::assert_json_snapshot!(report().to_json().unwrap());
}
