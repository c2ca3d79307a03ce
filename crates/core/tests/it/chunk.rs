//! Values that are larger than a topic takes.

use bson::doc;
use bytes::Bytes;
use proptest::prelude::*;
use tailwater_core::ErrorKind;
use tailwater_core::message::{Joined, Joiner, bytes_in_batch, chunks, header};
use tailwater_core::position::Seq;
use tailwater_core::producing::Style;
use tailwater_core::record::{Message, Record};

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

fn join(records: impl IntoIterator<Item = Record>) -> (Joiner, Vec<Joined>) {
    let mut joiner = Joiner::default();
    let joined = records.into_iter().map(|record| joiner.push(record)).collect();
    (joiner, joined)
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
        let (joiner, mut joined) = join(records(100, message));
        let last = joined.pop().unwrap();
        let offset = Seq(100 + joined.len() as u64);
        prop_assert!(joined.iter().all(|joined| *joined == Joined::default()));
        let expected = Record { offset, ..whole };
        prop_assert_eq!(last, Joined { missing: Vec::new(), record: Some(expected) });
        prop_assert_eq!((joiner.waiting().len(), joiner.bytes()), (0, 0));
    }

    /// Whatever is lost or comes twice: each record comes out once, joined or missing.
    #[test]
    fn nothing_is_lost_between_the_chunks(
        picks in proptest::collection::vec(0..9usize, 0..24),
    ) {
        let pool: Vec<Record> = [message(1, 900), message(2, 900), message(3, 10)]
            .into_iter()
            .flat_map(|message| records(0, message))
            .collect();
        let picked: Vec<Record> = (0..)
            .zip(picks)
            .map(|(at, pick)| Record { offset: Seq(at), ..pool[pick % pool.len()].clone() })
            .collect();
        let (joiner, joined) = join(picked.clone());
        let mut parts = 0;
        for joined in &joined {
            for record in &joined.missing {
                prop_assert!(picked.contains(record));
                prop_assert!(record.header(header::CHUNK).is_some());
            }
            parts += joined.missing.len();
            if let Some(record) = &joined.record {
                prop_assert!(record.header(header::CHUNK).is_none());
                let was_cut = record.value.as_ref().unwrap().len() > LIMIT;
                parts += if was_cut { cut(message(1, 900)).len() } else { 1 };
            }
        }
        prop_assert_eq!(parts + joiner.waiting().len(), picked.len());
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
    let lost = records.remove(1);
    let count = records.len();
    let (joiner, joined) = join(records.clone());
    let missing: Vec<_> = joined.iter().flat_map(|joined| joined.missing.clone()).collect();
    assert_eq!(missing, records);
    assert!(joined.iter().all(|joined| joined.record.is_none()));
    assert_eq!((joiner.waiting(), count > 1), (&[][..], true));
    assert_eq!(Joiner::rejection().reason, "chunk_missing");
    drop(lost);
}

#[test]
fn a_record_between_chunks_passes_and_the_chunks_are_missing() {
    let chunked = records(0, message(1, 900));
    let other = Record { offset: Seq(9), ..record(&message(2, 1)) };
    let mut joiner = Joiner::default();
    assert_eq!(joiner.push(chunked[0].clone()), Joined::default());
    assert_eq!(joiner.waiting(), &chunked[..1]);
    let expected = Joined { missing: vec![chunked[0].clone()], record: Some(other.clone()) };
    assert_eq!(joiner.push(other), expected);
    // What comes of the event later has no beginning.
    let expected = Joined { missing: vec![chunked[1].clone()], record: None };
    assert_eq!(joiner.push(chunked[1].clone()), expected);
}

#[test]
fn an_event_that_begins_again_is_joined() {
    let chunked = records(0, message(1, 900));
    let (_, joined) = join(chunked[..2].iter().chain(&chunked).cloned());
    assert_eq!(joined[2].missing, chunked[..2]);
    assert_eq!(joined.last().unwrap().record.as_ref().unwrap().value, message(1, 900).value);
}

#[test]
fn chunks_of_different_events_are_not_joined() {
    let (one, other) = (records(0, message(1, 900)), records(0, message(2, 900)));
    let (_, joined) = join([one[0].clone(), other[1].clone()]);
    assert_eq!(joined[1], Joined { missing: vec![one[0].clone(), other[1].clone()], record: None });
    // Of the same key, but of another version.
    let mut later = one[1].clone();
    let version = later.headers.iter_mut().find(|(name, _)| &**name == header::VERSION).unwrap();
    version.1 = Bytes::from_static(b"1");
    let (_, joined) = join([one[0].clone(), later.clone()]);
    assert_eq!(joined[1].missing, [one[0].clone(), later]);
}

#[test]
fn chunks_that_cannot_be_read_are_missing() {
    let chunk = |place: &'static [u8], value: Option<Bytes>| {
        let headers = vec![("tw-chunk".into(), Bytes::from_static(place))];
        Record { offset: Seq(1), timestamp: None, key: None, value, headers }
    };
    let value = Some(Bytes::from_static(b"x"));
    for place in [&b"x"[..], b"", b"1", b"2/2", b"-1/2", b"0/0", b"\xff/2"] {
        let record = chunk(place, value.clone());
        assert_eq!(Joiner::default().push(record.clone()).missing, [record], "{place:?}");
    }
    let null = chunk(b"0/2", None);
    assert_eq!(Joiner::default().push(null.clone()).missing, [null]);
    // One of one.
    let joined = Joiner::default().push(chunk(b"0/1", value));
    assert_eq!(joined.record.unwrap().headers, []);
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
