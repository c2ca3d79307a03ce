//! Dead letters keep the record, and say why.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_core::dead_letter::{DeadLetter, again, dead_letter, mark, read_mark};
use tailwater_core::message::{Joiner, header, murmur2};
use tailwater_core::position::{Epoch, LaneId, Millis, Seq};
use tailwater_core::record::{Incoming, Record, Route};
use tailwater_core::rows::Rejection;

use crate::producing::record;

fn rejected() -> Record {
    let headers =
        [("x", &b"\xff"[..]), (header::CHUNK, b"1/2"), (header::REASON, b"an earlier one")];
    Record {
        offset: Seq(7),
        timestamp: Some(Millis(5)),
        key: Some(Bytes::from_static(b"\xffkey")),
        value: Some(Bytes::from_static(b"\xffvalue")),
        headers: headers.map(|(name, value)| (name.into(), Bytes::from_static(value))).into(),
    }
}

#[test]
fn a_letter_reads_back_as_the_record_and_its_reason() {
    let (lane, epoch) = (LaneId::partition_of("raw", 3), Epoch::new([9; 16]));
    let why = Rejection { reason: "not_json", error: "no JSON at byte 3".to_owned() };
    let letter = dead_letter(&Arc::from("dead"), &rejected(), &lane, epoch, &why);
    assert_eq!((&*letter.topic, letter.route), ("dead", Route::Hash(murmur2(b"\xffkey"))));
    assert_eq!((&letter.key, &letter.value), (&rejected().key, &rejected().value));
    assert_eq!(letter.timestamp, Millis(5));
    let letter = record(&letter);
    for (name, expected) in [
        (header::REASON, &b"not_json"[..]),
        (header::ERROR, b"no JSON at byte 3"),
        (header::TOPIC, b"raw"),
        (header::PARTITION, b"3"),
        (header::OFFSET, b"7"),
        (header::EPOCH, b"09090909090909090909090909090909"),
        ("x", b"\xff"),
    ] {
        assert_eq!(letter.header(name), Some(expected), "{name}");
        assert_eq!(letter.headers.iter().filter(|(header, _)| &**header == name).count(), 1);
    }
    // It is not taken for a chunk.
    let mut joined = Vec::new();
    Joiner::default().push(letter.clone(), &mut joined);
    assert_eq!(joined, [Incoming { record: letter.clone(), rejection: None }]);

    let read = DeadLetter::read(&letter).unwrap();
    let mut expected = rejected();
    expected.headers.pop();
    assert_eq!(read.record, expected);
    assert_eq!((read.lane, read.epoch), (lane, epoch));
    assert_eq!((&*read.reason, &*read.error), ("not_json", "no JSON at byte 3"));
}

#[test]
fn a_record_without_a_key_or_a_value_has_a_letter() {
    let (lane, epoch) = (LaneId::partition_of("raw", 3), Epoch::new([9; 16]));
    let record = Record { key: None, value: None, timestamp: None, ..rejected() };
    let letter = dead_letter(&Arc::from("dead"), &record, &lane, epoch, &Joiner::rejection());
    assert_eq!((&letter.key, &letter.value), (&None, &None));
    assert_eq!(letter.route, Route::Hash(murmur2(b"raw-3")));
    assert_eq!(DeadLetter::read(&record), None);
}

#[test]
fn a_letter_that_is_produced_again_is_the_record_and_says_so() {
    let (lane, epoch) = (LaneId::partition_of("raw", 3), Epoch::new([9; 16]));
    let original = Record { headers: vec![("x".into(), Bytes::from_static(b"y"))], ..rejected() };
    let why = Rejection { reason: "not_json", error: String::new() };
    let letter = |of: &Record| record(&dead_letter(&Arc::from("dead"), of, &lane, epoch, &why));
    let read = DeadLetter::read(&letter(&original)).unwrap();
    let place = read.place();
    assert_eq!(place.to_string(), "raw-3@7");
    let message = again(&place, read.record, Millis(77));
    assert_eq!((&*message.topic, message.route), ("raw", Route::Hash(3)));
    assert_eq!(
        (&message.key, &message.value, message.timestamp),
        (&original.key, &original.value, Millis(5))
    );
    let produced = record(&message);
    assert_eq!(produced.header("x"), Some(&b"y"[..]));
    assert_eq!(produced.header(header::REPLAYED), Some(&b"77"[..]));
    assert_eq!(produced.headers.len(), 2);

    // Once more: the letter is no mark, and the record does not say it twice.
    let second = letter(&produced);
    assert_eq!(read_mark(&second), None);
    let read = DeadLetter::read(&second).unwrap();
    let message = again(&place, read.record, Millis(88));
    assert_eq!(record(&message).header(header::REPLAYED), Some(&b"88"[..]));
    assert_eq!(message.headers.len(), 2);
}

#[test]
fn a_mark_names_the_letter_that_was_produced_again_and_is_none() {
    let (lane, epoch) = (LaneId::partition_of("raw", 3), Epoch::new([9; 16]));
    let letter =
        record(&dead_letter(&Arc::from("dead"), &rejected(), &lane, epoch, &Joiner::rejection()));
    let place = DeadLetter::read(&letter).unwrap().place();
    let written = mark(&Arc::from("dead"), &place, Millis(77));
    assert_eq!((&*written.topic, &written.key, &written.value), ("dead", &None, &None));
    let written = record(&written);
    assert_eq!(read_mark(&written), Some(place));
    assert_eq!(DeadLetter::read(&written), None);
    assert_eq!(read_mark(&letter), None);
}
