//! Fuzz targets that `cargo test` runs for a moment. For longer: `BOLERO_RANDOM_ITERATIONS=1000000
//! cargo test -p tailwater-core --test it fuzz`, or `cargo bolero test -p tailwater-core fuzz::NAME`.
//!
//! Random bytes are hardly ever BSON: so an input is an arbitrary document and what to change in it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bolero::TypeGenerator;
use bson::{Bson, doc};
use bytes::Bytes;
use serde_json::Value as Json;
use tailwater_core::bson::Doc;
use tailwater_core::connector::{Formatter, Output};
use tailwater_core::event::ChangeEvent;
use tailwater_core::json_column::{Dates, JsonColumn};
use tailwater_core::message::Format;
use tailwater_core::names::CurrentNames;
use tailwater_core::native::Column;
use tailwater_core::position::{Epoch, Intent, LaneId, Seq};
use tailwater_core::producing::{Producing, Publish, Style};
use tailwater_core::reading::{Content, Reading};
use tailwater_core::record::Record;
use tailwater_core::rows::{Entry, Layout, Namespace, RecordsFrom, Rows};
use tailwater_core::table::TableName;
use tailwater_core::{ErrorKind, decode, doc_id, ejson, token};

use crate::engine::arbitrary_rows;
use crate::layout;
use crate::producing;
use crate::sample;
use crate::walker::{decoded_document, walk_all};

/// How often each target is run, where the environment says nothing.
const ITERATIONS: usize = 2_000;

/// Which document, and what to change in it: bytes at places, counted from the front or the end.
#[derive(Debug, Clone, TypeGenerator)]
struct Input {
    seed: u16,
    changes: Vec<(u16, u8)>,
    cut: Option<u16>,
}

fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| arbitrary_rows(42, 512).iter().map(|row| sample::bytes(row)).collect())
}

impl Input {
    fn document(&self) -> &'static [u8] {
        &seeds()[usize::from(self.seed) % seeds().len()]
    }

    /// The document with at most three changes, so that most of it stays what it is.
    fn applied_to(&self, document: &[u8]) -> Vec<u8> {
        let mut bytes = document.to_vec();
        for (at, byte) in self.changes.iter().take(3) {
            let length = bytes.len();
            bytes[usize::from(*at) % length] = *byte;
        }
        if let Some(cut) = self.cut.filter(|cut| cut % 8 == 0) {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        self.applied_to(self.document())
    }
}

/// What the `bson` crate takes them for.
fn theirs(bytes: &[u8]) -> Option<bson::Document> {
    bson::Document::from_reader(bytes).ok()
}

#[test]
fn walker_sees_what_the_bson_crate_sees() {
    bolero::check!().with_type::<Input>().with_iterations(ITERATIONS).for_each(|input| {
        let bytes = input.bytes();
        let walked = walk_all(&bytes);
        if let (Ok(doc), Some(theirs)) = (Doc::new(&bytes), theirs(&bytes)) {
            assert_eq!(walked, Ok(()));
            assert_eq!(format!("{:?}", decoded_document(doc)), format!("{theirs:?}"));
        }
    });
}

#[test]
fn walker_takes_any_bytes() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes| {
        walk_all(bytes).ok();
        // Also when the frame is sound.
        let length = i32::try_from(bytes.len() + 5).unwrap().to_le_bytes();
        walk_all(&[&length, bytes, &[0]].concat()).ok();
    });
}

fn has_dollar(document: &bson::Document) -> bool {
    fn within(value: &Bson) -> bool {
        match value {
            Bson::Document(document) => has_dollar(document),
            Bson::Array(items) => items.iter().any(within),
            Bson::JavaScriptCodeWithScope(code) => has_dollar(&code.scope),
            _ => false,
        }
    }
    document.iter().any(|(key, value)| key.starts_with('$') || within(value))
}

fn canonical(bytes: &[u8]) -> Json {
    let mut text = Vec::new();
    ejson::canonical(Doc::new(bytes).unwrap(), &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn extended_json_reads_back_as_the_same_bson() {
    bolero::check!().with_type::<Input>().with_iterations(ITERATIONS).for_each(|input| {
        let bytes = input.bytes();
        // Where names are like those of wrappers, no reader can.
        let sound = Doc::new(&bytes).ok().zip(theirs(&bytes)).filter(|(_, d)| !has_dollar(d));
        let Some((doc, document)) = sound else { return };
        for write in [ejson::canonical, ejson::relaxed] {
            let mut text = Vec::new();
            write(doc, &mut text).unwrap();
            let json: Json = serde_json::from_slice(&text).unwrap();
            let Bson::Document(read) = Bson::try_from(json).unwrap() else { panic!("no document") };
            // As text, since NaN is not equal to itself.
            assert_eq!(canonical(&read.to_vec().unwrap()), canonical(&document.to_vec().unwrap()));
        }
    });
}

#[test]
fn json_columns_are_laid_out_soundly() {
    bolero::check!().with_type::<Vec<Input>>().with_iterations(ITERATIONS).for_each(|inputs| {
        for dates in [Dates::Text, Dates::DateTime64] {
            let mut column = JsonColumn::new(dates);
            let mut rows = 0;
            for input in inputs.iter().take(8) {
                let bytes = input.bytes();
                rows += usize::from(Doc::new(&bytes).is_ok_and(|doc| column.push(doc).is_ok()));
            }
            assert_eq!(column.rows(), rows);
            let mut data = Vec::new();
            column.write(&mut data);
            layout::check_json_column(&data, rows);
        }
    });
}

#[test]
fn tokens_of_any_bytes_are_decoded_or_refused() {
    bolero::check!().with_type::<Vec<u8>>().with_iterations(ITERATIONS).for_each(|bytes| {
        token::decode(bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        token::decode(hex.as_bytes());
        token::decode(format!("82{hex}").as_bytes());
    });
}

#[test]
fn tokens_tell_what_was_put_into_them() {
    bolero::check!().with_type::<(u32, u32, u64, bool)>().with_iterations(ITERATIONS).for_each(
        |(seconds, increment, index, invalidate)| {
            let index = index >> 1;
            let digits = (index << 1).to_be_bytes();
            let from = digits.iter().position(|digit| *digit != 0).unwrap_or(8);
            let index_text = match digits.len() - from {
                0 => "29".to_owned(),
                length => format!("{:02X}{}", 0x2a + length, hex::encode_upper(&digits[from..])),
            };
            let mark = if *invalidate { "6F" } else { "6E" };
            let data = format!("82{seconds:08X}{increment:08X}2B022C0100{index_text}{mark}5A1004");
            let front = token::decode(data.as_bytes()).unwrap();
            assert_eq!(
                (front.cluster_time.seconds, front.cluster_time.increment),
                (*seconds, *increment)
            );
            assert_eq!((front.txn_op_index, front.from_invalidate), (index, *invalidate));
        },
    );
}

/// An event about the document, as the server writes it.
fn event(document: &bson::Document) -> Vec<u8> {
    let id = document.get("_id").cloned().unwrap_or(Bson::Int32(1));
    let event = doc! {
        "_id": { "_data": "8265F1A2B3000000072B022C0100296E5A1004" },
        "operationType": "replace",
        "clusterTime": Bson::Timestamp(bson::Timestamp { time: 1_700_000_000, increment: 7 }),
        "wallTime": bson::DateTime::from_millis(1_700_000_000_000),
        "fullDocument": document.clone(),
        "ns": { "db": "d", "coll": "c" },
        "documentKey": { "_id": id },
    };
    event.to_vec().unwrap()
}

#[test]
fn events_of_any_bytes_are_indexed_and_encoded_or_refused() {
    let layout = Layout {
        records: TableName::new("r"),
        records_from: RecordsFrom::Inline,
        raw_cdc: Some(TableName::new("raw_cdc")),
        dead_letters: TableName::new("dead_letters"),
        current: Some(CurrentNames::default()),
    };
    bolero::check!().with_type::<Input>().with_iterations(ITERATIONS).for_each(|input| {
        let Some(document) = theirs(input.document()) else { return };
        let bytes = Bytes::from(input.applied_to(&event(&document)));
        let event = match ChangeEvent::index(bytes) {
            Ok(event) => event,
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Refused),
        };
        let sound = event.document().is_ok_and(|doc| doc.validate().is_ok());
        let lane = LaneId::stream("d.c");
        let entries = Entry::dense(Seq(0), [event]);
        match Rows::encode(&layout, None, lane, Epoch::new([1; 16]), entries) {
            Ok(_) => assert!(sound),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Refused),
        }
    });
}

#[test]
fn json_of_any_bytes_becomes_bson_or_is_refused() {
    let read = |text: &[u8]| {
        let mut bytes = Vec::new();
        match decode::document(text, &mut bytes) {
            Ok(()) => Doc::new(&bytes).unwrap().validate().unwrap(),
            Err(error) => assert!(error.offset <= text.len()),
        }
    };
    bolero::check!().with_type::<(Input, Vec<u8>, u8)>().with_iterations(ITERATIONS).for_each(
        |(input, bytes, form)| {
            read(bytes);
            let document = Doc::new(input.document()).unwrap();
            let mut text = Vec::new();
            match form % 5 {
                0 => ejson::canonical(document, &mut text).unwrap(),
                1 => ejson::relaxed(document, &mut text).unwrap(),
                2 => Output::Json(Formatter::Default).write(document, &mut text).unwrap(),
                3 => Output::Json(Formatter::Extended).write(document, &mut text).unwrap(),
                _ => Output::Json(Formatter::Simplified).write(document, &mut text).unwrap(),
            }
            read(&input.applied_to(&text));
        },
    );
}

#[test]
fn messages_of_any_bytes_keep_them_or_are_refused() {
    bolero::check!().with_type::<Input>().with_iterations(ITERATIONS).for_each(|input| {
        let bytes = input.bytes();
        let Ok(document) = Doc::new(&bytes) else { return };
        for format in [Format::Json, Format::JsonCanonical] {
            let mut value = Vec::new();
            match format.write(document, &mut value) {
                Ok(written) if written.format == Format::Bson => assert_eq!(value, bytes),
                Ok(_) => {
                    let mut read = Vec::new();
                    decode::document(&value, &mut read).unwrap();
                    assert_eq!(read, bytes);
                }
                Err(_) => assert!(document.validate().is_err()),
            }
        }
    });
}

/// A record in any of the forms that are read, with bytes of it changed.
fn any_record(input: &Input, form: u8, key: &[u8]) -> Option<Record> {
    let document = theirs(input.document())?;
    let event = ChangeEvent::index(event(&document).into()).unwrap();
    let (mut out, mut text) = (Vec::new(), Vec::new());
    let topics = Arc::new(|_: &str, _: &str| Some("t".into()));
    let style = Style {
        format: Format::ALL[usize::from(form) % 4],
        publish: if form & 4 == 0 { Publish::ChangeEvent } else { Publish::FullDocument },
        tombstones: false,
    };
    Producing::new(topics, style).messages(&event, &mut out).map(drop).unwrap();
    let mut record = producing::record(&out[0]);
    if form & 8 != 0 {
        record.headers.clear();
    }
    if form & 16 != 0 {
        Output::Json(Formatter::Simplified).write(event.document().unwrap(), &mut text).unwrap();
        record.value = Some(text.into());
    }
    if form & 32 != 0 {
        record.key = Some(Bytes::copy_from_slice(key));
    }
    if form & 64 != 0 {
        record.value = record.value.map(|value| input.applied_to(&value).into());
    }
    Some(record)
}

#[test]
fn records_of_any_bytes_are_read_or_rejected_and_their_events_have_rows() {
    let layout = Layout {
        records: TableName::new("r"),
        records_from: RecordsFrom::Inline,
        raw_cdc: None,
        dead_letters: TableName::new("dead_letters"),
        current: Some(CurrentNames::default()),
    };
    let (read, rejected) = (AtomicU32::new(0), AtomicU32::new(0));
    bolero::check!().with_type::<(Input, u8, Vec<u8>)>().with_iterations(ITERATIONS).for_each(
        |(input, form, bytes)| {
            let namespace = Namespace { db: "d".to_owned(), coll: "c".to_owned() };
            let reading = Reading::new(Arc::new(move |_: &str| Some(namespace.clone())));
            let any = Record {
                offset: Seq(1),
                timestamp: None,
                key: Some(Bytes::copy_from_slice(bytes)),
                value: Some(Bytes::copy_from_slice(bytes)),
                headers: Vec::new(),
            };
            for record in any_record(input, *form, bytes).into_iter().chain([any]) {
                match reading.read("t", &record) {
                    // No part of a lane may be stopped by it later.
                    Ok(Content::Event(event)) => {
                        read.fetch_add(1, Ordering::Relaxed);
                        let lane = LaneId::partition_of("t", 0);
                        let entries = Entry::dense(Seq(0), [event]);
                        Rows::encode(&layout, None, lane, Epoch::new([1; 16]), entries).unwrap();
                    }
                    Ok(Content::Nothing(_)) => {}
                    Err(_) => {
                        rejected.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        },
    );
    let (read, rejected) = (read.into_inner(), rejected.into_inner());
    assert!(read > 100 && rejected > 100, "{read} {rejected}");
}

fn id_text(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut text = Vec::new();
    doc_id::write(Doc::new(bytes).ok()?, &mut text).ok()?;
    let identity = match theirs(bytes)?.remove("_id")? {
        Bson::Int32(number) => format!("integer {number}"),
        Bson::Int64(number) => format!("integer {number}"),
        other => other.into_canonical_extjson().to_string(),
    };
    Some((identity, text))
}

#[test]
fn ids_that_differ_have_texts_that_differ() {
    bolero::check!().with_type::<(Input, u16, u8)>().with_iterations(ITERATIONS).for_each(
        |(input, at, byte)| {
            let Some(document) = theirs(input.document()) else { return };
            let mut values = document.into_iter().map(|(_, value)| value);
            let id = values.nth(usize::from(input.seed >> 9) % 8).unwrap_or(Bson::Null);
            let one = doc! { "_id": id }.to_vec().unwrap();
            // A byte of the value, which makes one that lies close to it.
            let mut other = one.clone();
            let at = (9 + usize::from(*at) % one.len()).min(one.len() - 1);
            other[at] = *byte;
            if let (Some((one, text)), Some((other, other_text))) = (id_text(&one), id_text(&other))
            {
                // Decimals of too many digits are zero, to the server as well.
                let zero = |text: &[u8]| {
                    String::from_utf8_lossy(text).replace('-', "").contains("Decimal\":\"0")
                };
                assert!(text != other_text || one == other || zero(&text), "{one} {other}");
            }
        },
    );
}

#[test]
fn strings_and_what_they_look_like_are_different_ids() {
    bolero::check!().with_type::<(Vec<u8>, i64)>().with_iterations(ITERATIONS).for_each(
        |(bytes, number)| {
            let text = |value: tailwater_core::bson::Value<'_>| {
                let mut text = Vec::new();
                doc_id::write_id(&value, &mut text).unwrap();
                text
            };
            let string = |content: &[u8]| text(tailwater_core::bson::Value::String(content));
            let own = string(bytes);
            if own != *bytes {
                assert_ne!(string(&own), own);
            }
            for other in [
                text(tailwater_core::bson::Value::Int64(*number)),
                text(tailwater_core::bson::Value::Double(*number as f64)),
                text(tailwater_core::bson::Value::Binary { subtype: 0, bytes }),
                text(tailwater_core::bson::Value::Symbol(bytes)),
            ] {
                assert_ne!(own, other);
                assert_ne!(string(&other), other);
            }
        },
    );
}

#[test]
fn stored_positions_read_back_or_are_refused() {
    bolero::check!()
        .with_type::<(String, Vec<u8>, [u8; 16])>()
        .with_iterations(ITERATIONS)
        .for_each(|(text, bytes, epoch)| {
            serde_json::from_slice::<Intent>(bytes).ok();
            if let Some(epoch) = Epoch::parse(text) {
                assert_eq!(epoch.to_string(), *text);
            }
            let epoch = Epoch::new(*epoch);
            assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        });
    for sign in ["+0000102030405060708090a0b0c0d0e", "000102030405060708090A0B0C0D0EFF"] {
        assert_eq!(Epoch::parse(sign), None, "{sign}");
    }
}
