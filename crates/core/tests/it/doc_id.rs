use std::collections::HashMap;

use bson::{Bson, doc, oid::ObjectId};
use proptest::prelude::*;
use tailwater_core::bson::Doc;
use tailwater_core::doc_id;

use crate::sample;

fn of_key(key: &bson::Document) -> Vec<u8> {
    let mut out = Vec::new();
    doc_id::write(Doc::new(&key.to_vec().unwrap()).unwrap(), &mut out).unwrap();
    out
}

fn of_id(id: impl Into<Bson>) -> String {
    String::from_utf8(of_key(&doc! { "_id": id.into() })).unwrap()
}

#[test]
fn ids_have_the_text_of_the_contract() {
    let object_id = ObjectId::from_bytes([0x65, 0xf0, 0xc0, 0xde, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(of_id(object_id), "65f0c0de00000000000000ff");
    assert_eq!(of_id(7), "7");
    assert_eq!(of_id(-7i64), "-7");
    assert_eq!(of_id(i64::MIN), "-9223372036854775808");
    assert_eq!(of_id(true), "true");
    assert_eq!(of_id(Bson::Null), "null");
    assert_eq!(of_id("plain text"), "plain text");
    assert_eq!(of_id(""), "");
    assert_eq!(of_id("NULL"), "NULL");
    for mistakable in
        ["7", "-7", "0", "true", "false", "null", "65f0c0de00000000000000ff", "{", "[1]", "\"x\""]
    {
        assert_eq!(of_id(mistakable), serde_json::to_string(mistakable).unwrap());
    }
    for clear in ["07", "-0", "+7", "9223372036854775808", "7.0", "65F0C0DE00000000000000FF", " 7"]
    {
        assert_eq!(of_id(clear), clear);
    }
    assert_eq!(of_id(1.0), r#"{"$numberDouble":"1.0"}"#);
    assert_eq!(of_id(bson::DateTime::from_millis(5)), r#"{"$date":{"$numberLong":"5"}}"#);
    assert_eq!(of_id(doc! { "a": 1 }), r#"{"a":{"$numberInt":"1"}}"#);
    assert_eq!(
        of_key(&doc! { "_id": 1, "shard": "x" }),
        br#"{"_id":{"$numberInt":"1"},"shard":"x"}"#
    );
    assert_eq!(of_key(&doc! { "shard": "x" }), br#"{"shard":"x"}"#);
}

#[test]
fn strings_that_are_not_text_keep_their_bytes() {
    let id = |text: &[u8]| {
        let mut out = Vec::new();
        doc_id::write_id(&tailwater_core::bson::Value::String(text), &mut out).unwrap();
        out
    };
    assert_eq!(id(b"\xff"), b"\xff");
    assert_eq!(id(b"{\xff"), b"\"{\xff\"");
    assert_ne!(id(b"{\xff"), id(b"{\xfe"));
}

#[test]
fn an_old_binary_with_a_wrong_inner_length_is_another_id() {
    let id = |bytes: &[u8]| {
        let mut out = Vec::new();
        let value = tailwater_core::bson::Value::Binary { subtype: 2, bytes };
        doc_id::write_id(&value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(id(b"\x03\0\0\0abc"), r#"{"$binary":{"base64":"YWJj","subType":"02"}}"#);
    assert_eq!(id(b"abc"), r#"{"$binary":{"base64":"YWJj","subType":"2"}}"#);
    assert_ne!(id(b"\0\0\0\0"), id(b""));
}

#[test]
fn a_document_like_a_wrapper_is_another_id() {
    // The server takes such names behind DBRef's and in the scope of code.
    let reference = |id: Bson| of_id(doc! { "$ref": "c", "$id": id });
    let object_id = ObjectId::from_bytes([0xab; 12]);
    assert_eq!(
        reference(object_id.into()),
        r#"{"$ref":"c","$id":{"$oid":"abababababababababababab"}}"#
    );
    assert_eq!(
        reference(doc! { "$oid": object_id.to_hex() }.into()),
        r#"{"$ref":"c","$id":{"\u0024oid":"abababababababababababab"}}"#
    );
}

/// Texts that lie close to one another.
fn id() -> impl Strategy<Value = Bson> {
    let number = prop_oneof![any::<i64>(), -3..3i64, Just(i64::MIN)];
    let numeral = prop_oneof![
        number.prop_map(|number| number.to_string()),
        "[-+]?0{0,2}[0-9]{1,3}",
        "[0-9a-fA-F]{24}",
        "true|false|null|True|\"true\"|\"\"7\"\"|\"7\"",
        "[{\\[\"\\\\]{1,3}[a7}]{0,2}",
        r#"\{"\$numberDouble":"1\.0"\}"#,
        ".{0,4}",
    ];
    prop_oneof![
        4 => numeral.prop_map(Bson::String),
        1 => (-3..3i32).prop_map(Bson::Int32),
        1 => (-3..3i64).prop_map(Bson::Int64),
        1 => (-3..3i32).prop_map(|n| Bson::Double(n.into())),
        1 => any::<[u8; 12]>().prop_map(|id| Bson::ObjectId(id.into())),
        2 => sample::scalar(),
    ]
}

/// The id's identity to MongoDB, as far as the contract keeps it.
fn identity(id: &Bson) -> String {
    match id {
        Bson::Int32(number) => format!("integer {number}"),
        Bson::Int64(number) => format!("integer {number}"),
        other => format!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn different_ids_have_different_texts(ids in proptest::collection::vec(id(), 2..200)) {
        let mut seen: HashMap<Vec<u8>, String> = HashMap::new();
        for id in &ids {
            let identity = identity(id);
            let text = of_key(&doc! { "_id": id.clone() });
            let first = seen.entry(text).or_insert_with(|| identity.clone());
            prop_assert_eq!(&*first, &identity);
        }
    }
}
