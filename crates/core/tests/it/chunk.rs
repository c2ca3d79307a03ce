//! Values that are larger than a topic takes.

use bson::doc;
use bytes::Bytes;
use proptest::prelude::*;
use tailwater_core::ErrorKind;
use tailwater_core::message::{Joiner, bytes_in_batch, chunks, header};
use tailwater_core::position::Seq;
use tailwater_core::producing::Style;
use tailwater_core::record::{Incoming, Message, Record};

use crate::producing::{event, messages, producing, record};

const LIMIT: usize = 600;

fn message(id: i32, length: usize) -> Message {
    let fields = doc! { "documentKey": { "_id": id }, "fullDocument": { "x": "x".repeat(length) } };
    messages(&producing(Style::default()), &event("insert", fields)).remove(0)
}

fn cut(message: Message) -> Vec<Message> {
    let mut out = Vec::new();
    chunks(message, LIMIT, &mut out).unwrap();
    out
}

/// The chunks as they are consumed, from that offset on.
fn records(first: u64, message: Message) -> Vec<Record> {
    let numbered = (first..).zip(cut(message));
    numbered.map(|(at, chunk)| Record { offset: Seq(at), ..record(&chunk) }).collect()
}

fn join(records: impl IntoIterator<Item = Record>) -> (Joiner, Vec<Incoming>) {
    let mut joiner = Joiner::default();
    let mut joined = Vec::new();
    records.into_iter().for_each(|record| joiner.push(record, &mut joined));
    (joiner, joined)
}

/// The offsets in their order, those of rejected records in brackets.
fn told(joined: &[Incoming]) -> String {
    let text = |incoming: &Incoming| match &incoming.rejection {
        None => incoming.record.offset.to_string(),
        Some(why) => {
            assert_eq!(why.reason, "chunk_missing");
            format!("({})", incoming.record.offset)
        }
    };
    joined.iter().map(text).collect::<Vec<_>>().join(" ")
}

fn at(offset: u64, record: &Record) -> Record {
    Record { offset: Seq(offset), ..record.clone() }
}

/// The same as a normalized event would have it.
fn normalized(mut record: Record) -> Record {
    let format = record.headers.iter_mut().find(|(name, _)| &**name == header::FORMAT).unwrap();
    format.1 = Bytes::from_static(header::NORMALIZED.as_bytes());
    record
}

/// The same of another collection.
fn in_collection(record: &Record, ns: &'static str) -> Record {
    let mut record = record.clone();
    let of = record.headers.iter_mut().find(|(name, _)| &**name == header::NS).unwrap();
    of.1 = Bytes::from_static(ns.as_bytes());
    record
}

fn incoming(record: Record) -> Incoming {
    Incoming { record, rejection: None }
}

proptest! {
    #[test]
    fn chunks_fit_and_are_joined_to_what_they_were(length in 0..5000usize) {
        let message = message(1, length);
        let whole = record(&message);
        let chunks = cut(message.clone());
        for chunk in &chunks {
            prop_assert!(bytes_in_batch(chunk) <= LIMIT);
            prop_assert_eq!((&chunk.key, chunk.route), (&message.key, message.route));
        }
        prop_assert_eq!(chunks.len() == 1, bytes_in_batch(&message) <= LIMIT);
        let offset = Seq(99 + chunks.len() as u64);
        let (joiner, joined) = join(records(100, message));
        prop_assert_eq!(joined, [incoming(Record { offset, ..whole })]);
        prop_assert!(!joiner.is_waiting());
    }

    /// Whatever is lost, comes twice or in between: each record comes out once, joined or rejected, in
    /// order, and never a part of what still waits.
    #[test]
    fn nothing_is_lost_between_the_chunks(
        picks in proptest::collection::vec(0..9usize, 0..24),
        has_company: bool,
    ) {
        let pool: Vec<Record> = [message(1, 900), message(2, 900), message(3, 10)]
            .into_iter()
            .flat_map(|message| records(0, message))
            .map(|record| if has_company { normalized(record) } else { record })
            .collect();
        let picked: Vec<Record> =
            (0..).zip(picks).map(|(offset, pick)| at(offset, &pool[pick % pool.len()])).collect();
        let (mut joiner, mut joined) = join(picked.clone());
        let handed_on = joined.len();
        prop_assert!(joiner.is_waiting() || joined.len() <= picked.len());
        joiner.give_up(&mut joined);
        prop_assert!(!joiner.is_waiting());
        prop_assert!(joined[handed_on..].iter().all(|it| it.rejection.is_some() || has_company));
        prop_assert!(joined.is_sorted_by_key(|it| it.record.offset));
        let mut parts = 0;
        for Incoming { record, rejection } in &joined {
            let was_cut = record.value.as_ref().unwrap().len() > LIMIT;
            prop_assert!(rejection.is_none() || picked.contains(record));
            prop_assert_eq!(rejection.is_some(), record.header(header::CHUNK).is_some());
            parts += if was_cut { cut(message(1, 900)).len() } else { 1 };
        }
        prop_assert_eq!(parts, picked.len());
        // Who begins behind what was handed on finds what is to come.
        let next = joined[..handed_on].last().map_or(0, |it| it.record.offset.0 as usize + 1);
        let (mut again, mut rest) = join(picked[next..].to_vec());
        again.give_up(&mut rest);
        prop_assert_eq!(&rest[..], &joined[handed_on..]);
    }
}

#[test]
fn a_chunk_says_which_of_how_many_it_is() {
    let chunks = cut(message(1, 900));
    let count = chunks.len();
    assert!(count > 2);
    for (index, chunk) in chunks.iter().enumerate() {
        let (name, value) = chunk.headers.last().unwrap();
        assert_eq!(
            (name.as_ref(), &value[..]),
            ("tw-chunk", format!("{index}/{count}").as_bytes())
        );
    }
}

#[test]
fn a_hole_makes_all_chunks_of_the_event_missing() {
    let mut records = records(0, message(1, 900));
    assert_eq!(records.len(), 5);
    drop(records.remove(1));
    let (joiner, joined) = join(records.clone());
    assert_eq!((told(&joined), joiner.is_waiting()), ("(0) (2) (3) (4)".to_owned(), false));
    assert!(joined.iter().map(|it| &it.record).eq(&records));
}

#[test]
fn a_record_between_chunks_passes_and_the_chunks_are_missing() {
    let chunked = records(0, message(1, 900));
    let other = at(9, &record(&message(2, 1)));
    let (joiner, joined) = join([chunked[0].clone()]);
    assert!(joined.is_empty() && joiner.is_waiting());
    // What comes of the event later has no beginning.
    let (_, joined) = join([chunked[0].clone(), other, at(10, &chunked[1])]);
    assert_eq!(told(&joined), "(0) 9 (10)");
}

#[test]
fn records_of_other_producers_wait_behind_the_chunks() {
    let one: Vec<Record> = records(0, message(1, 100)).into_iter().map(normalized).collect();
    let other: Vec<Record> = records(0, message(2, 100)).into_iter().map(normalized).collect();
    let small = normalized(record(&message(3, 1)));
    assert_eq!((one.len(), other.len()), (2, 2));
    let all = [
        at(0, &small),
        at(1, &one[0]),
        at(2, &small),
        at(3, &other[0]),
        at(4, &one[1]),
        at(5, &small),
        at(6, &other[1]),
        at(7, &small),
    ];
    let (_, joined) = join(all[..1].to_vec());
    assert_eq!(told(&joined), "0");
    let (joiner, joined) = join(all[..6].to_vec());
    assert_eq!((told(&joined), joiner.is_waiting()), ("0".to_owned(), true));
    let (joiner, joined) = join(all.to_vec());
    assert_eq!((told(&joined), joiner.is_waiting()), ("0 2 4 5 6 7".to_owned(), false));
    assert_eq!(joined[2].record.value, message(1, 100).value);
    assert_eq!(joined[4].record.value, message(2, 100).value);

    // Documents of two collections may have one key, and two producers.
    let elsewhere: Vec<Record> =
        one.iter().map(|record| in_collection(record, "d.other")).collect();
    let (_, joined) =
        join([at(0, &one[0]), at(1, &elsewhere[0]), at(2, &one[1]), at(3, &elsewhere[1])]);
    assert_eq!(told(&joined), "2 3");
    // A document has one producer at a time.
    let again = normalized(record(&message(1, 1)));
    let (_, joined) = join([at(0, &one[0]), at(1, &small), at(2, &again)]);
    assert_eq!(told(&joined), "(0) 1 2");
    // Nobody waits for ever.
    let (mut joiner, mut joined) = join([at(0, &one[0]), at(1, &small)]);
    assert_eq!(joined, []);
    joiner.give_up(&mut joined);
    assert_eq!(told(&joined), "(0) 1");
    let large = normalized(record(&message(3, 1 << 20)));
    let many = (1..100).map(|offset| at(offset, &large));
    let (joiner, joined) = join([at(0, &one[0])].into_iter().chain(many));
    assert_eq!((joined.len(), joiner.is_waiting()), (100, false));
}

#[test]
fn a_replayed_record_stands_between_chunks_and_breaks_nothing() {
    let replayed = |mut record: Record| {
        record.headers.push((header::REPLAYED.into(), Bytes::from_static(b"77")));
        record
    };
    let chunked = records(0, message(1, 100));
    let again: Vec<Record> = records(0, message(2, 100)).into_iter().map(replayed).collect();
    // Of the same document, too.
    let small = replayed(record(&message(1, 1)));
    let all = [
        at(0, &chunked[0]),
        at(1, &small),
        at(2, &again[0]),
        at(3, &chunked[1]),
        at(4, &record(&message(2, 1))),
        at(5, &again[1]),
    ];
    let (joiner, joined) = join(all.clone());
    assert_eq!((told(&joined), joiner.is_waiting()), ("1 3 4 5".to_owned(), false));
    assert_eq!(joined[1].record.value, message(1, 100).value);
    assert_eq!(joined[3].record.value, message(2, 100).value);
    // No position lies before all of them.
    let (joiner, joined) = join(all[..5].to_vec());
    assert_eq!((told(&joined), joiner.is_waiting()), (String::new(), true));
}

#[test]
fn an_event_that_begins_again_is_joined() {
    let chunked = records(0, message(1, 900));
    let twice = chunked[..2].iter().chain(&chunked);
    let (_, joined) = join((0..).zip(twice).map(|(offset, record)| at(offset, record)));
    assert_eq!(told(&joined), "(0) (1) 6");
    assert_eq!(joined.last().unwrap().record.value, message(1, 900).value);
}

#[test]
fn chunks_of_different_events_are_not_joined() {
    let (one, other) = (records(0, message(1, 900)), records(0, message(2, 900)));
    let (_, joined) = join([one[0].clone(), other[1].clone()]);
    assert_eq!(told(&joined), "(0) (1)");
    // Of the same key, but of another version.
    let mut later = one[1].clone();
    let version = later.headers.iter_mut().find(|(name, _)| &**name == header::VERSION).unwrap();
    version.1 = Bytes::from_static(b"1");
    let (_, joined) = join([one[0].clone(), later.clone()]);
    assert_eq!(told(&joined), "(0) (1)");
    let (_, joined) = join([normalized(one[0].clone()), normalized(later)]);
    assert_eq!(told(&joined), "(0) (1)");
}

#[test]
fn chunks_that_cannot_be_read_are_missing() {
    let chunk = |place: &'static [u8], value: Option<Bytes>| {
        let headers = vec![("tw-chunk".into(), Bytes::from_static(place))];
        Record { offset: Seq(1), timestamp: None, key: None, value, headers }
    };
    let value = Some(Bytes::from_static(b"x"));
    for place in [&b"x"[..], b"", b"1", b"2/2", b"-1/2", b"0/0", b"\xff/2"] {
        assert_eq!(told(&join([chunk(place, value.clone())]).1), "(1)", "{place:?}");
    }
    assert_eq!(told(&join([chunk(b"0/2", None)]).1), "(1)");
    // One of one.
    let (_, joined) = join([chunk(b"0/1", value)]);
    assert_eq!((told(&joined).as_str(), &joined[0].record.headers[..]), ("1", &[][..]));
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let refused = |message: Message, limit| {
        let mut out = Vec::new();
        let error = chunks(message, limit, &mut out).unwrap_err();
        assert_eq!((error.kind(), out), (ErrorKind::Refused, Vec::new()));
    };
    refused(message(1, 900), 200);
    refused(Message { headers: Vec::new(), ..message(1, 900) }, LIMIT);
    refused(Message { value: None, ..message(1, 900) }, 100);
}
