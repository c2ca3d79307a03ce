//! The status of a pipeline, as it is printed.

use tailwater_core::gap::GapRecord;
use tailwater_core::position::{Epoch, Millis, Seq};
use tailwater_core::status::{Group, Partition, Pending, Reader, Status, Stream};

const NOW: i64 = 1_700_000_000_000;

fn reader(part: &'static str, next: u64, left: u64, waited: Option<i64>) -> Reader {
    Reader {
        part,
        next: Some(Seq(next)),
        left,
        counted: left < 64,
        since: waited.map(|waited| Millis(NOW - waited)),
        pending: None,
        problem: None,
    }
}

fn pending(first: u64, last: u64, waited: i64) -> Option<Pending> {
    let declared_at = Millis(NOW - waited);
    Some(Pending { first: Seq(first), last: Seq(last), rows: last - first + 1, declared_at })
}

fn status() -> Status {
    let partition = |partition, end, stable, readers| Partition {
        topic: "events.mongo.ingest.files".to_owned(),
        partition,
        first: Seq(0),
        stable: Seq(stable),
        end: Seq(end),
        readers,
    };
    let waiting =
        Reader { pending: pending(1187, 1190, 20_000), ..reader("sink", 1187, 13, Some(21_000)) };
    let begun = Reader { pending: pending(7, 7, 300), ..reader("sink", 7, 1, Some(400)) };
    let strange = Reader {
        next: None,
        problem: Some("somebody else commits here".to_owned()),
        ..reader("sink", 0, 5000, None)
    };
    Status {
        pipeline: "ingest".to_owned(),
        at: Millis(NOW),
        streams: vec![
            Stream {
                stream: "ingest.files".to_owned(),
                seq: Seq(1204),
                epoch: Epoch::new([7; 16]),
                cluster_time: Some(Millis(NOW - 3_000)),
                written_at: Some(Millis(NOW - 1_000)),
                pending: None,
            },
            Stream {
                stream: "ingest.job_*".to_owned(),
                seq: Seq(0),
                epoch: Epoch::new([8; 16]),
                cluster_time: None,
                written_at: None,
                pending: None,
            },
        ],
        groups: vec![
            Group { group: "ingest.source".to_owned(), part: "source", members: Some(1) },
            Group { group: "ingest.sink".to_owned(), part: "sink", members: None },
        ],
        partitions: vec![
            partition(0, 1201, 1201, vec![reader("normalize", 1201, 0, None), waiting]),
            partition(1, 12, 8, vec![reader("normalize", 8, 0, None), begun]),
            partition(2, 5000, 5000, vec![reader("normalize", 400, 4600, Some(7_500)), strange]),
        ],
        gaps: vec![GapRecord {
            id: "00112233445566aa".to_owned(),
            lane: "events.mongo.ingest.files-2".to_owned(),
            reason: "records_gone".to_owned(),
            times: (None, None),
            cluster_times: (None, None),
            events: Some((Seq(100), Seq(399))),
            names: vec!["events.mongo.ingest.files".to_owned()],
            repair: "copy the collection again".to_owned(),
            opened_at: Millis(NOW - 86_400_000),
        }],
        unknown: vec!["the group `ingest.sink`: an ACL is missing".to_owned()],
    }
}

#[test]
fn a_status_reads_as_tables() {
    insta::assert_snapshot!(status().to_text());
}

#[test]
fn a_status_is_json_too() {
    insta::assert_json_snapshot!(status().to_json().unwrap());
}

#[test]
fn the_longest_wait_is_that_of_the_oldest_record_at_its_place() {
    let mut status = status();
    assert_eq!(status.longest_wait(), Some((21_000, "clickhouse", "sink")));
    // A Range that was just declared is no wait of ClickHouse's.
    status.partitions.remove(0);
    assert_eq!(status.longest_wait(), Some((7_500, "kafka", "normalize")));
    status.partitions.truncate(1);
    status.streams[0].cluster_time = Some(Millis(NOW - 16_000));
    assert_eq!(status.longest_wait(), Some((16_000, "mongodb", "source")));
    // A quiet stream says where it is every ten seconds.
    status.streams[0].cluster_time = Some(Millis(NOW - 11_000));
    status.partitions.clear();
    assert_eq!(status.longest_wait(), None);
}
