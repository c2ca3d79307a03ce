//! The judge of the raw topics is judged: each defect must be found, under its own name.

use bson::{Bson, Document, doc};

use super::*;
use crate::checker::Rule;
use crate::contract;
use crate::kafka::Record;

const TOPIC: &str = "events.mongo.d.c";

fn change(operation: &str, increment: u32, id: i32, more: Document) -> Event {
    let mut event = doc! {
        "_id": { "_data": format!("8265a1b2c3{increment:08x}2b022c0100296e5a1004") },
        "operationType": operation,
        "clusterTime": bson::Timestamp { time: 0x65a1_b2c3, increment },
        "wallTime": bson::DateTime::from_millis(1_705_095_875_123),
        "ns": { "db": "d", "coll": "c" },
    };
    event.extend(more);
    if operation != "drop" {
        event.insert("documentKey", doc! { "_id": id });
    }
    Event::of(event).unwrap()
}

/// Two documents in two partitions, then the end of the collection in both.
fn truth() -> Vec<Event> {
    vec![
        change("insert", 1, 1, doc! { "fullDocument": { "_id": 1, "n": 1_i64 } }),
        change("insert", 2, 2, doc! { "fullDocument": { "_id": 2, "n": 0.5 } }),
        change("replace", 3, 1, doc! { "fullDocument": { "_id": 1, "n": 2 } }),
        change("drop", 4, 0, doc! {}),
    ]
}

fn topics() -> Topics {
    Topics { partitions: 2, normalized: None }
}

fn record(event: &Event, partition: u32, offset: u64) -> Record {
    let token = doc! { "_id": event.document.get_document("_id").unwrap() };
    let key = event.document.get_document("documentKey").unwrap_or(&token);
    let headers = [
        ("tw-format", "json".to_owned()),
        ("tw-op", event.operation.clone()),
        ("tw-ns", event.namespace()),
        ("tw-version", event.version.to_string()),
        ("tw-ts", event.millis.to_string()),
    ];
    let json = |document: &Document| contract::canonical_json(&Bson::Document(document.clone()));
    Record {
        partition,
        offset,
        timestamp: Some(event.millis),
        key: Some(json(key).into()),
        value: Some(json(&event.document).into()),
        headers: headers.map(|(name, value)| (name.to_owned(), Some(value.into()))).into(),
    }
}

fn without_row(mut record: Record) -> Record {
    record.headers.push(("tw-row".to_owned(), Some("0".into())));
    record
}

/// As it must be.
fn records() -> Vec<Record> {
    let [first, second, third, drop] = &truth()[..] else { unreachable!("four events") };
    vec![
        record(first, 0, 0),
        record(third, 0, 1),
        record(drop, 0, 2),
        record(second, 1, 0),
        without_row(record(drop, 1, 1)),
    ]
}

fn rules_of(topic: &str, records: &[Record]) -> Vec<Rule> {
    let (topics, events) = (topics(), truth());
    let watch = Watch::Collections(vec!["d.c".into()]);
    let mut judge = RawJudge::new(&topics, &watch, &events);
    records.iter().for_each(|record| judge.record(topic, record));
    judge.finish().1.rules()
}

fn broken(breaking: impl FnOnce(&mut Vec<Record>)) -> Vec<Rule> {
    let mut records = records();
    breaking(&mut records);
    rules_of(TOPIC, &records)
}

#[test]
fn what_is_as_it_must_be_has_no_findings() {
    assert_eq!(broken(|_| {}), []);
}

#[test]
fn each_defect_is_found_under_its_own_name() {
    let of = |at: usize| move |records: &mut Vec<Record>| drop(records.remove(at));
    assert_eq!(broken(of(1)), [Rule::Lost]);
    assert_eq!(broken(of(4)), [Rule::Lost], "a copy of a marker");
    assert_eq!(broken(|records| records.insert(1, record(&truth()[0], 0, 9))), [Rule::Duplicate]);
    assert_eq!(broken(|records| records.swap(0, 1)), [Rule::Order]);
    let elsewhere = |records: &mut Vec<Record>| records[1].partition = 1;
    assert!(broken(elsewhere).contains(&Rule::Position), "a document in two partitions");
    let beyond = |records: &mut Vec<Record>| records[3].partition = 2;
    assert!(broken(beyond).contains(&Rule::Position), "a partition that nobody pinned");
    let two_rows = |records: &mut Vec<Record>| drop(records[4].headers.pop());
    assert_eq!(broken(two_rows), [Rule::Position], "two copies of a marker make rows");
    let stranger = change("insert", 9, 9, doc! { "fullDocument": { "_id": 9 } });
    assert_eq!(broken(|records| records.push(record(&stranger, 1, 9))), [Rule::Extra]);
    assert!(rules_of("events.mongo.d.x", &records()).contains(&Rule::Position));
}

#[test]
fn what_a_record_says_is_compared_with_the_truth() {
    let value = |from: &'static str, to: &'static str| {
        move |records: &mut Vec<Record>| {
            let text = String::from_utf8(records[0].value.take().unwrap()).unwrap();
            assert!(text.contains(from), "{text}");
            records[0].value = Some(text.replace(from, to).into());
        }
    };
    let (one, two) = (r#""n":{"$numberLong":"1"}"#, r#""n":{"$numberLong":"2"}"#);
    assert_eq!(broken(value(one, two)), [Rule::Content], "another value");
    assert_eq!(broken(value(one, r#""n":{"$numberInt":"1"}"#)), [Rule::Content], "another type");
    assert_eq!(
        broken(value(one, r#""n":{"$numberLong":"1""#)),
        [Rule::Lost, Rule::Content],
        "no JSON"
    );
    for header in 1..5 {
        let other = |records: &mut Vec<Record>| records[0].headers[header].1 = Some("9".into());
        assert_eq!(broken(other), [Rule::Identity]);
    }
    assert_eq!(broken(|records| records[0].key = None), [Rule::Identity]);
}

#[test]
fn chunks_count_once_all_are_there() {
    let cut = |left_out: usize| {
        broken(|records| {
            let whole = records.remove(0);
            let value = whole.value.clone().unwrap();
            let chunks = value.chunks(value.len().div_ceil(3)).enumerate().map(|(at, bytes)| {
                let mut chunk = Record { value: Some(bytes.to_vec()), ..whole.clone() };
                chunk.headers.push(("tw-chunk".to_owned(), Some(format!("{at}/3").into())));
                chunk
            });
            let chunks = chunks.enumerate().filter(|(at, _)| *at != left_out);
            records.splice(0..0, chunks.map(|(_, chunk)| chunk));
        })
    };
    assert_eq!(cut(3), []);
    for left_out in 0..3 {
        let rules = cut(left_out);
        assert!(rules.contains(&Rule::Lost) && rules.contains(&Rule::Content), "{rules:?}");
    }
}
