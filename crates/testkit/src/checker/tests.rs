//! The judge is judged: each defect must be found, under its own name.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::events::perfect_row;
use super::*;
use crate::workload::documents;

/// A change event as a server would send it.
fn change(
    operation: &str,
    increment: u32,
    place: u8,
    id: i32,
    document: Option<Document>,
) -> Event {
    let place = if place == 0 { "29".into() } else { format!("2b{:02x}", place << 1) };
    let mut event = doc! {
        "_id": { "_data": format!("8265a1b2c3{increment:08x}2b022c0100{place}6e5a1004") },
        "operationType": operation,
        "clusterTime": bson::Timestamp { time: 0x65a1_b2c3, increment },
        "wallTime": bson::DateTime::from_millis(1_705_095_875_123),
    };
    if let Some(document) = document {
        event.insert("fullDocument", document);
    }
    event.insert("ns", doc! { "db": "d", "coll": "c" });
    event.insert("documentKey", doc! { "_id": id });
    Event::of(event).unwrap()
}

fn watch() -> Watch {
    Watch::Collections(vec!["d.c".into()])
}

/// Two documents: one lives, one is deleted.
fn truth() -> Vec<Event> {
    vec![
        change(
            "insert",
            1,
            0,
            1,
            Some(doc! { "_id": 1, "n": 1, "when": bson::DateTime::from_millis(0) }),
        ),
        change("insert", 2, 0, 2, Some(doc! { "_id": 2, "n": 1_i64 })),
        change("replace", 3, 0, 1, Some(doc! { "_id": 1, "n": 0.5 })),
        change("update", 3, 1, 1, None),
        change("delete", 4, 0, 2, None),
    ]
}

fn rows() -> Vec<Row> {
    (0..).zip(&truth()).map(|(offset, event)| perfect_row(event, offset)).collect()
}

fn judge(rows: &[Row]) -> Findings {
    let truth = truth();
    let watch = watch();
    let mut judge = EventJudge::new(&watch, &truth);
    rows.iter().for_each(|row| judge.row(row));
    judge.finish().1
}

/// Judges the rows after one change to them.
fn rules_broken_by(change: impl FnOnce(&mut Vec<Row>)) -> Vec<Rule> {
    let mut rows = rows();
    change(&mut rows);
    judge(&rows).rules()
}

#[test]
fn perfect_rows_are_clean() {
    assert_eq!(judge(&rows()), Findings::default());
}

#[test]
fn a_lost_row_is_found() {
    assert_eq!(rules_broken_by(|rows| drop(rows.pop())), [Rule::Lost]);
    assert_eq!(rules_broken_by(|rows| drop(rows.remove(1))), [Rule::Lost, Rule::Position]);
    assert_eq!(rules_broken_by(Vec::clear), [Rule::Lost]);
}

#[test]
fn a_row_without_an_event_is_found() {
    let broken = rules_broken_by(|rows| {
        let mut row = rows[4].clone();
        (row.offset, row.idempotency_key) = (5, "mongo:d.c:3:insert:1.1".into());
        rows.push(row);
    });
    assert_eq!(broken, [Rule::Extra]);
}

#[test]
fn a_second_copy_is_found() {
    let same_offset = |rows: &mut Vec<Row>| rows.insert(3, rows[2].clone());
    assert_eq!(rules_broken_by(same_offset), [Rule::Duplicate, Rule::Position]);
    let another_offset = |rows: &mut Vec<Row>| {
        let row = Row { offset: 5, ..rows[2].clone() };
        rows.push(row);
    };
    assert_eq!(rules_broken_by(another_offset), [Rule::Duplicate]);
    let another_epoch = |rows: &mut Vec<Row>| {
        let row = Row { offset: 0, epoch: "f".repeat(32), ..rows[0].clone() };
        rows.push(row);
    };
    assert_eq!(rules_broken_by(another_epoch), [Rule::Duplicate, Rule::Position]);
}

#[test]
fn rows_out_of_stream_order_are_found() {
    let broken = rules_broken_by(|rows| {
        rows.swap(0, 2);
        (rows[0].offset, rows[2].offset) = (0, 2);
    });
    assert_eq!(broken, [Rule::Order]);
}

#[test]
fn a_wrong_position_is_found() {
    assert_eq!(rules_broken_by(|rows| rows[4].offset = 7), [Rule::Position]);
    assert_eq!(
        rules_broken_by(|rows| rows.iter_mut().for_each(|row| row.offset += 1)),
        [Rule::Position]
    );
    assert_eq!(rules_broken_by(|rows| rows[4].topic = "d.other".into()), [Rule::Position]);
    assert_eq!(
        rules_broken_by(|rows| rows.iter_mut().for_each(|row| row.partition = 1)),
        [Rule::Position]
    );
}

#[test]
fn what_has_no_row_takes_a_number_all_the_same() {
    let rename = |increment, from: &str, to: &str| {
        let mut event = change("rename", increment, 0, 0, None).document;
        event.remove("documentKey");
        event.insert("ns", doc! { "db": "d", "coll": from });
        event.insert("to", doc! { "db": "d", "coll": to });
        Event::of(event).unwrap()
    };
    let mut truth = truth();
    truth.insert(3, rename(5, "other", "c"));
    truth.insert(2, rename(6, "c", "else"));
    let watch = Watch::Collections(vec!["d.c".into(), "d.other".into()]);
    let judged = |offsets: [u64; 7]| {
        let mut judge = EventJudge::new(&watch, &truth);
        for (event, offset) in truth.iter().zip(offsets) {
            let told_by_other = event.collection == "other";
            let row = perfect_row(event, if told_by_other { 0 } else { offset });
            if !told_by_other {
                judge.row(&row);
            }
        }
        judge.row(&perfect_row(&truth[4], 0));
        judge.finish().1.rules()
    };
    // Behind each of the two an `invalidate`, and the second one has its row elsewhere.
    assert_eq!(judged([0, 1, 2, 4, 0, 7, 8]), []);
    assert_eq!(judged([0, 1, 2, 3, 0, 4, 5]), [Rule::Position]);
    assert_eq!(judged([0, 1, 2, 4, 0, 6, 7]), [Rule::Position]);
}

#[test]
fn a_wrong_identity_is_found() {
    let changes: [fn(&mut Row); 8] = [
        |row| row.doc_id.push('0'),
        |row| row.version.push('0'),
        |row| row.op = "insert".into(),
        |row| row.event_type.clear(),
        |row| row.source = "kafka".into(),
        |row| row.millis += 1,
        |row| (row.ns_db, row.topic) = ("e".into(), "e.c".into()),
        |row| (row.ns_coll, row.topic) = ("e".into(), "d.e".into()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let broken = rules_broken_by(|rows| change(&mut rows[2]));
        assert!(broken.contains(&Rule::Identity), "change {number}: {broken:?}");
    }
}

#[test]
fn a_changed_value_or_type_in_raw_is_found() {
    let replaced = |from: &'static str, to: &'static str| {
        rules_broken_by(move |rows| {
            assert!(rows[1].raw.contains(from));
            rows[1].raw = rows[1].raw.replace(from, to);
        })
    };
    let int64 = "{\"$numberLong\":\"1\"}";
    assert_eq!(replaced(int64, "{\"$numberInt\":\"1\"}"), [Rule::Content]);
    assert_eq!(replaced(int64, "{\"$numberLong\":\"2\"}"), [Rule::Content, Rule::Attributes]);
    assert_eq!(replaced("6e5a1004", "6e5a1005"), [Rule::Content]);
    assert_eq!(replaced("\"operationType\":\"insert\",", ""), [Rule::Content]);
    assert_eq!(rules_broken_by(|rows| rows[1].raw.truncate(20)), [Rule::Content]);
}

#[test]
fn a_lookup_is_judged_by_its_id_only() {
    let looked_up = |id: i32, superseded: bool| {
        rules_broken_by(move |rows| {
            let document = format!(",\"fullDocument\":{{\"_id\":{{\"$numberInt\":\"{id}\"}}}}}}");
            rows[3].raw.pop();
            rows[3].raw.push_str(&document);
            rows[3].superseded = superseded;
        })
    };
    assert_eq!(looked_up(1, false), []);
    assert_eq!(looked_up(2, false), [Rule::Content]);
    assert_eq!(looked_up(1, true), [Rule::Superseded]);
    assert_eq!(rules_broken_by(|rows| rows[3].superseded = false), [Rule::Superseded]);
    assert_eq!(rules_broken_by(|rows| rows[4].superseded = true), [Rule::Superseded]);
}

#[test]
fn wrong_attributes_are_found() {
    assert_eq!(rules_broken_by(|rows| rows[0].attrs["n"] = 2.into()), [Rule::Attributes]);
    assert_eq!(rules_broken_by(|rows| rows[4].attrs["n"] = 2.into()), [Rule::Attributes]);
    assert_eq!(rules_broken_by(|rows| rows[0].tags["n"] = 2.into()), [Rule::Attributes]);
}

fn current(change: impl FnOnce(&mut Vec<CurrentRow>)) -> Vec<Rule> {
    let bytes = doc! { "_id": 1, "n": 0.5 }.to_vec().unwrap();
    let mut view = vec![CurrentRow {
        id: "1".into(),
        bson: hex::encode_upper(&bytes),
        version: truth()[3].version.to_string(),
        doc: serde_json::json!({ "_id": 1, "n": 0.5 }),
        hash_is_right: 1,
    }];
    change(&mut view);
    let before_the_start = ("9".to_owned(), vec![0]);
    let collection = BTreeMap::from([("1".to_owned(), bytes), before_the_start]);
    judge_current("d.c", &Lives::follow(&watch(), &Flow::Direct, &truth()), &collection, &view)
        .rules()
}

#[test]
fn the_current_state_is_judged() {
    assert_eq!(current(|_| {}), []);
    assert_eq!(current(Vec::clear), [Rule::CurrentMissing]);
    assert_eq!(current(|view| view[0].bson.push('0')), [Rule::CurrentStale], "other bytes");
    assert_eq!(current(|view| view[0].version = "1".into()), [Rule::CurrentStale], "old version");
    assert_eq!(current(|view| view[0].hash_is_right = 0), [Rule::CurrentStale]);
    assert_eq!(current(|view| view[0].doc["n"] = 1.into()), [Rule::CurrentDocument]);
    let another = |id: &'static str| {
        move |view: &mut Vec<CurrentRow>| view.push(CurrentRow { id: id.into(), ..view[0].clone() })
    };
    assert_eq!(current(another("1")), [Rule::CurrentExtra], "shown twice");
    assert_eq!(current(another("2")), [Rule::CurrentExtra], "deleted, but shown");
    assert_eq!(current(another("3")), [Rule::CurrentExtra], "never seen");
}

#[test]
fn the_judge_reads_back_every_document_that_the_workload_writes() {
    let mut random = StdRng::seed_from_u64(11);
    for number in 0..3000 {
        let document = documents::document(&mut random, &Bson::Int32(number));
        let json = contract::canonical_json(&Bson::Document(document.clone()));
        let back: Document = serde_json::from_str(&json).unwrap();
        assert_eq!(back.to_vec().unwrap(), document.to_vec().unwrap(), "{json}");
    }
}
