use bson::spec::BinarySubtype;
use bson::{Binary, Bson, doc};
use proptest::prelude::*;
use tailwater_core::bson::{Doc, MAX_DEPTH};
use tailwater_core::decode::{self, JsonError};

use crate::connector::golden;

pub(crate) fn read(text: impl AsRef<[u8]>) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    decode::document(text.as_ref(), &mut out).map(|()| out)
}

fn value(text: &str) -> Bson {
    let bytes = read(format!("{{\"v\":{text}}}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    bson::Document::from_reader(bytes.as_slice()).unwrap().remove("v").unwrap()
}

#[test]
fn what_the_real_connector_wrote_is_read_as_what_the_server_sent() {
    for golden in golden() {
        let payload = golden.value("default").contains("double-nan-payload");
        for setting in ["default", "extended"] {
            let read = read(golden.value(setting)).unwrap();
            // No text has the payload of a NaN.
            assert!(read == golden.bson || payload, "{}", golden.value(setting));
        }
        let simplified = read(golden.value("simplified")).unwrap();
        Doc::new(&simplified).unwrap().validate().unwrap();
    }
}

#[test]
fn values_are_what_their_text_says() {
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let date = |ms| Bson::DateTime(bson::DateTime::from_millis(ms));
    let id: Bson = bson::oid::ObjectId::from_bytes([0xab; 12]).into();
    let cases = [
        ("1", Bson::Int32(1)),
        ("-0", Bson::Int32(0)),
        ("2147483648", Bson::Int64(2_147_483_648)),
        ("9223372036854775808", Bson::Double(9_223_372_036_854_775_808.0)),
        ("1.0", Bson::Double(1.0)),
        ("1e3", Bson::Double(1000.0)),
        ("1.0E7", Bson::Double(1e7)),
        ("Infinity", Bson::Double(f64::INFINITY)),
        ("-Infinity", Bson::Double(f64::NEG_INFINITY)),
        (r#"{"$numberDouble":"-Infinity"}"#, Bson::Double(f64::NEG_INFINITY)),
        (r#"{"$numberDouble":"1E-7"}"#, Bson::Double(1e-7)),
        (r#"{"$numberInt":"7"}"#, Bson::Int32(7)),
        (r#"{"$numberLong":"7"}"#, Bson::Int64(7)),
        (r#" { "$oid" : "ABABABABABABABABABABABAB" } "#, id.clone()),
        (r#"{"$date":5}"#, date(5)),
        (r#"{"$date":-9223372036854775808}"#, date(i64::MIN)),
        (r#"{"$date":{"$numberLong":"-5"}}"#, date(-5)),
        (r#"{"$date":"1970-01-01T00:00:01Z"}"#, date(1000)),
        (r#"{"$date":"1970-01-01T01:00:01.02+01:00"}"#, date(1020)),
        (
            r#"{"$binary":{"subType":"80","base64":"AQ=="}}"#,
            binary(BinarySubtype::UserDefined(0x80), &[1]),
        ),
        (r#"{"$type":"00","$binary":"AQ=="}"#, binary(BinarySubtype::Generic, &[1])),
        (
            r#"{"$uuid":"00112233-4455-6677-8899-aabbccddeeff"}"#,
            binary(
                BinarySubtype::Uuid,
                &[
                    0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc,
                    0xdd, 0xee, 0xff,
                ],
            ),
        ),
        (
            r#"{"$timestamp":{"i":2,"t":4294967295}}"#,
            Bson::Timestamp(bson::Timestamp { time: u32::MAX, increment: 2 }),
        ),
        (r#"{"$symbol":"s"}"#, Bson::Symbol("s".to_owned())),
        (r#"{"$code":"c"}"#, Bson::JavaScriptCode("c".to_owned())),
        (r#"{"$undefined":true}"#, Bson::Undefined),
        (r#"{"$minKey":1}"#, Bson::MinKey),
        (r#"{"$maxKey":1}"#, Bson::MaxKey),
        (r#"{"$numberDecimal":"1.50"}"#, Bson::Decimal128("1.50".parse().unwrap())),
        (r#""a\u00e9\ud83d\ude00\/\n\u0000""#, Bson::String("aé😀/\n\0".to_owned())),
        // Documents with such names, but no wrappers.
        (r#"{"$oid":"x"}"#, doc! { "$oid": "x" }.into()),
        (
            r#"{"$oid":"abababababababababababab","a":1}"#,
            doc! { "$oid": "ab".repeat(12), "a": 1 }.into(),
        ),
        (r#"{"$code":"c","$scope":{},"a":1}"#, doc! { "$code": "c", "$scope": {}, "a": 1 }.into()),
        (r#"{"$numberInt":"2147483648"}"#, doc! { "$numberInt": "2147483648" }.into()),
        (r#"{"$numberDouble":"inf"}"#, doc! { "$numberDouble": "inf" }.into()),
        (r#"{"$date":"yesterday"}"#, doc! { "$date": "yesterday" }.into()),
        (
            r#"{"$ref":"c","$id":{"$oid":"abababababababababababab"}}"#,
            doc! { "$ref": "c", "$id": id }.into(),
        ),
        (
            r#"[{"$minKey":1},[],{}]"#,
            Bson::Array(vec![Bson::MinKey, Bson::Array(vec![]), doc! {}.into()]),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text), expected, "{text}");
    }
    assert!(matches!(value("NaN"), Bson::Double(nan) if nan.is_nan()));
    assert_eq!(value("-0.0").as_f64().unwrap().to_bits(), (-0.0f64).to_bits());
}

#[test]
fn fields_keep_their_order_and_may_repeat() {
    let bytes = read(r#"{"b":1,"a":2,"b":3}"#).unwrap();
    let names: Vec<_> = Doc::new(&bytes).unwrap().elements().map(|e| e.unwrap().key).collect();
    assert_eq!(names, [b"b", b"a", b"b"]);
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, offset, what) in [
        ("", 0, "not an object"),
        ("[]", 0, "not an object"),
        ("5", 0, "not an object"),
        ("\u{0}", 0, "not an object"),
        ("{", 1, "not a name"),
        ("{\"a\":1,}", 7, "not a name"),
        ("{a:1}", 1, "not a name"),
        ("{\"a\" 1}", 5, "no colon after a name"),
        ("{\"a\":", 5, "text cut off"),
        ("{\"a\":1", 6, "text cut off"),
        ("{\"a\":1 \"b\":2}", 7, "neither a comma nor the end"),
        ("{\"a\":[1,]}", 8, "not a value"),
        ("{\"a\":nul}", 5, "not a value"),
        ("{\"a\":-}", 5, "not a number"),
        ("{\"a\":01}", 5, "not a number"),
        ("{\"a\":1.}", 5, "not a number"),
        ("{\"a\":1e400}", 5, "number beyond a double"),
        ("{\"a\":\"x", 7, "string without end"),
        ("{\"a\":\"x\ny\"}", 7, "control character in a string"),
        ("{\"a\":\"\\x\"}", 6, "unknown escape"),
        ("{\"a\":\"\\u12\"}", 6, "unknown escape"),
        ("{\"a\":\"\\ud800\"}", 6, "half a surrogate pair"),
        ("{\"a\":\"\\udc00\"}", 6, "half a surrogate pair"),
        ("{\"a\\u0000\":1}", 1, "name with a NUL"),
        ("{} {}", 3, "text after the end of the document"),
    ] {
        assert_eq!(read(text), Err(JsonError { offset, what }), "{text}");
    }
    assert_eq!(read(b"{\"a\":\"\xff\"}"), Err(JsonError { offset: 6, what: "no UTF-8" }));
}

#[test]
fn nesting_has_an_end() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}{}", open.repeat(levels), close.repeat(levels)).replace(":}", ":1}")
    };
    for (open, close) in [("{\"a\":", "}"), ("{\"$code\":\"\",\"$scope\":", "}")] {
        let deepest = read(nested(open, close, MAX_DEPTH)).unwrap();
        Doc::new(&deepest).unwrap().validate().unwrap();
        assert_eq!(
            read(nested(open, close, MAX_DEPTH + 1)).unwrap_err().what,
            "more than 250 levels"
        );
    }
    let endless = format!("{{\"a\":{}", "[".repeat(1_000_000));
    assert_eq!(read(endless).unwrap_err().what, "more than 250 levels");
}

#[test]
fn any_value_can_be_a_field() {
    let field = |text: &str| {
        let mut out = Vec::new();
        decode::field("_id", text.as_bytes(), &mut out)
            .map(|()| bson::Document::from_reader(out.as_slice()).unwrap())
    };
    assert_eq!(field("5"), Ok(doc! { "_id": 5 }));
    assert_eq!(field("\"x\""), Ok(doc! { "_id": "x" }));
    assert_eq!(field("{\"$minKey\":1}"), Ok(doc! { "_id": Bson::MinKey }));
    assert_eq!(field(" [1] "), Ok(doc! { "_id": [1] }));
    assert_eq!(field("x").unwrap_err().offset, 0);
    assert_eq!(field("").unwrap_err().what, "text cut off");
}

proptest! {
    #[test]
    fn plain_json_is_accepted_as_by_serde_json(text in "[\\[\\]{}\",:0-9a\\-+.eE tru\\\\n]{0,24}") {
        let text = format!("{{\"a\":{text}}}");
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let ours = read(&text);
        let beyond = theirs.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
        prop_assert!(ours.is_ok() == theirs.is_ok() || beyond, "{} {:?} {:?}", text, ours, theirs);
    }
}
