use std::num::NonZeroU32;

use bson::doc;
use proptest::prelude::*;
use tailwater_core::bson::Doc;
use tailwater_core::message::{self, Format, NotCarried, Written};

use crate::connector::golden;
use crate::decode::read;
use crate::sample;

fn write(format: Format, bytes: &[u8]) -> (Written, Vec<u8>) {
    let mut out = Vec::new();
    (format.write(Doc::new(bytes).unwrap(), &mut out).unwrap(), out)
}

/// What a reader of the message has, whatever it travelled as.
fn travelled(format: Format, bytes: &[u8]) -> (Written, Vec<u8>) {
    let (written, value) = write(format, bytes);
    let value = if written.format == Format::Bson {
        value
    } else {
        assert_eq!(written.format, format);
        serde_json::from_slice::<serde::de::IgnoredAny>(&value).unwrap();
        read(&value).unwrap()
    };
    (written, value)
}

proptest! {
    #[test]
    fn json_reads_back_as_the_same_bytes(fields in sample::fields()) {
        let bytes = sample::bytes(&fields);
        for format in [Format::Json, Format::JsonCanonical, Format::Bson] {
            let (written, value) = travelled(format, &bytes);
            prop_assert_eq!(&value, &bytes);
            // Nothing else in these documents is beyond JSON.
            let why = matches!(written.instead, None | Some(NotCarried::NanPayload));
            prop_assert!(why, "{:?}", written);
        }
    }
}

#[test]
fn events_of_a_real_server_read_back_as_the_same_bytes() {
    let mut as_bson = Vec::new();
    for golden in golden() {
        for format in [Format::Json, Format::JsonCanonical] {
            let (written, value) = travelled(format, &golden.bson);
            assert_eq!(value, golden.bson);
            as_bson.extend(written.instead);
        }
        let (written, value) = write(Format::JsonSimplified, &golden.bson);
        assert_eq!(written, Written { format: Format::JsonSimplified, instead: None });
        assert_eq!(value, golden.value("simplified").as_bytes());
    }
    // One NaN with a payload and one field called `$oid`, in two formats.
    let expected = [NotCarried::NanPayload, NotCarried::LikeWrapper].map(|why| [why; 2]);
    assert_eq!(as_bson, expected.concat());
}

#[test]
fn json_is_relaxed_where_that_loses_nothing() {
    let document =
        doc! { "i": 1, "l": 1i64, "d": 1.0, "z": -0.0, "t": bson::DateTime::from_millis(0) };
    let (_, text) = write(Format::Json, &document.to_vec().unwrap());
    let expected =
        r#"{"i":1,"l":{"$numberLong":"1"},"d":1.0,"z":-0.0,"t":{"$date":"1970-01-01T00:00:00Z"}}"#;
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

/// A document with one field `a`.
fn with(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = (4 + 3 + value.len() + 1) as u32;
    [&length.to_le_bytes()[..], &[tag, b'a', 0], value, &[0]].concat()
}

#[test]
fn what_json_cannot_carry_travels_as_bson() {
    let inner = |document: bson::Document| with(3, &document.to_vec().unwrap());
    let nan = |bits: u64| with(1, &bits.to_le_bytes());
    let deep = |innermost, levels: usize| {
        (1..levels).fold(innermost, |inner, _| doc! { "d": inner }).to_vec().unwrap()
    };
    let decimal = |high: u128, low: u128| with(0x13, &(high << 112 | low).to_le_bytes());
    for (bytes, why) in [
        (with(2, b"\x02\0\0\0\xff\0"), NotCarried::NotUtf8),
        (with(0x0e, b"\x02\0\0\0\xff\0"), NotCarried::NotUtf8),
        (with(0x0d, b"\x02\0\0\0\xff\0"), NotCarried::NotUtf8),
        (with(0x0b, b"\xff\0\0"), NotCarried::NotUtf8),
        (b"\x08\0\0\0\x0a\xff\0\0".to_vec(), NotCarried::NotUtf8),
        (inner(doc! { "$oid": "ab".repeat(12) }), NotCarried::LikeWrapper),
        (inner(doc! { "$oid": "x" }), NotCarried::LikeWrapper),
        (doc! { "a": [{ "$date": 1 }] }.to_vec().unwrap(), NotCarried::LikeWrapper),
        (with(4, &doc! { "1": 1 }.to_vec().unwrap()), NotCarried::ArrayNames),
        (with(4, &doc! { "00": 1 }.to_vec().unwrap()), NotCarried::ArrayNames),
        (nan(0x7ff8_0000_0000_0001), NotCarried::NanPayload),
        (nan(0xfff8_0000_0000_0000), NotCarried::NanPayload),
        (decimal(0x7c00, 1), NotCarried::Decimal),
        (decimal(0xfc00, 0), NotCarried::Decimal),
        (decimal(0x7800, 7), NotCarried::Decimal),
        (decimal(0x6000, 0), NotCarried::Decimal),
        (with(5, b"\x05\0\0\0\x02\x02\0\0\0x"), NotCarried::OldBinary),
        (with(5, b"\x01\0\0\0\x02x"), NotCarried::OldBinary),
        (deep(doc! { "d": 1i64 }, 249), NotCarried::Depth),
        (deep(doc! { "d": 1 }, 250), NotCarried::Depth),
        (deep(doc! { "d": {} }, 250), NotCarried::Depth),
    ] {
        for format in [Format::Json, Format::JsonCanonical] {
            let expected = Written { format: Format::Bson, instead: Some(why) };
            assert_eq!(write(format, &bytes), (expected, bytes.clone()), "{why}");
        }
    }
}

#[test]
fn what_only_looks_difficult_travels_as_json() {
    for bytes in [
        doc! { "$price": 1, "a": { "$ref": "c", "$id": 1, "$db": "d" }, "$type": "00" }
            .to_vec()
            .unwrap(),
        with(5, b"\x05\0\0\0\x02\x01\0\0\0x"),
        with(0x0b, b"x\0zxa\0"),
        with(1, &f64::NAN.to_le_bytes()),
        with(0x11, &[0xff; 8]),
        with(2, b"\x02\0\0\0\0\0"),
        (0..245).fold(doc! { "d": 1i64 }, |inner, _| doc! { "d": inner }).to_vec().unwrap(),
        [&b"\x10\0\0\0"[..], b"\x0ac\0", b"\x0aa\0", b"\x0ac\0", b"\x0a\0", b"\0"].concat(),
    ] {
        for format in [Format::Json, Format::JsonCanonical] {
            let (written, value) = travelled(format, &bytes);
            assert_eq!((written.instead, value), (None, bytes.clone()));
        }
    }
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(Format::of_name(format.name().as_bytes()), Some(format));
    }
    assert_eq!(Format::of_name(b"JSON"), None);
    assert_eq!(Format::default().name(), "json");
}

fn key(document: &bson::Document) -> String {
    let mut out = Vec::new();
    message::key(Doc::new(&document.to_vec().unwrap()).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn partition_bytes(document: &bson::Document) -> String {
    let mut out = Vec::new();
    message::partition_bytes(Doc::new(&document.to_vec().unwrap()).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn keys_are_canonical_extended_json() {
    assert_eq!(key(&doc! { "_id": 1 }), r#"{"_id":{"$numberInt":"1"}}"#);
    assert_eq!(key(&doc! { "shard": "x", "_id": "y" }), r#"{"shard":"x","_id":"y"}"#);
}

#[test]
fn the_partition_follows_the_id_alone() {
    assert_eq!(partition_bytes(&doc! { "_id": "y" }), key(&doc! { "_id": "y" }));
    assert_eq!(partition_bytes(&doc! { "shard": "x", "_id": "y" }), r#"{"_id":"y"}"#);
    assert_eq!(partition_bytes(&doc! { "shard": "x" }), r#"{"shard":"x"}"#);
}

/// By `org.apache.kafka.common.utils.Utils.murmur2` of Kafka's Java client 4.1.1, of whose own tests
/// most of them are.
#[test]
fn murmur2_is_that_of_the_java_client() {
    for (text, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
        ("a", -1_563_381_124),
        ("ab", 316_155_434),
        ("abcd", -1_323_649_548),
        (r#"{"_id":{"$oid":"65f0c0de676f6c6465000001"}}"#, 915_164_372),
    ] {
        assert_eq!(message::murmur2(text.as_bytes()) as i32, hash, "{text}");
        let partitions = NonZeroU32::new(7).unwrap();
        let positive = hash & i32::MAX;
        assert_eq!(message::partition(text.as_bytes(), partitions), (positive % 7) as u32);
    }
}
