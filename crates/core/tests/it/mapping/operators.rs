//! Each operator, against what MongoDB says that it means.

use bson::{Bson, Document, doc};
use tailwater_core::mapping::Outcome;

use super::{date, decoded, entry, insert};

/// The value of an expression for a document, none where it has none, or why there is none.
fn eval(expression: &str, document: &Document) -> Result<Option<Bson>, String> {
    let quoted = expression.replace('\'', "''");
    let mapping = entry(&format!("attrs: [ x: '{quoted}' ]"));
    match mapping.apply(&insert(document.clone())).unwrap().outcome {
        Outcome::Normalized(normalized) => Ok(decoded(&normalized.attrs).remove("x")),
        Outcome::Rejected(rejection) => {
            assert_eq!(rejection.reason, "expression");
            let within = "cannot map an event of `ingest.files`: attr `x`: ";
            Err(rejection.error.strip_prefix(within).unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

fn values() -> Document {
    doc! {
        "int": 5, "long": 5_i64, "double": 5.0, "dec": decimal("5.0"), "big": i64::MAX, "half": 0.5,
        "nan": f64::NAN, "text": "aé", "empty": "", "yes": true, "no": false, "null": Bson::Null,
        "undef": Bson::Undefined, "zero": 0, "date": date(10_000), "early": date(8_500),
        "list": [1, "a", { "x": 1 }], "none": [], "obj": { "a": 1, "b": [{ "c": 1 }, { "c": 2 }, 7, [{ "c": 3 }], {}] },
        "oid": bson::oid::ObjectId::from_bytes([7; 12]), "max": i32::MAX, "min": i64::MIN,
        "decs": decimal("0.1"), "decb": decimal("1E+40"), "decz": decimal("-0"), "deci": decimal("-Infinity"),
        "bin": Bson::Binary(bson::Binary { subtype: 0.into(), bytes: vec![1] }),
        "re": Bson::RegularExpression(bson::Regex { pattern: "a".try_into().unwrap(), options: "".try_into().unwrap() }),
        "stamp": Bson::Timestamp(bson::Timestamp { time: 1, increment: 2 }),
        "lo": Bson::MinKey, "hi": Bson::MaxKey, "code": Bson::JavaScriptCode("f".to_owned()),
        "odd name": 1, "dot.ted": 2,
    }
}

#[test]
fn operators_mean_what_they_mean_to_mongodb() {
    let yes = || Ok(Some(Bson::Boolean(true)));
    let no = || Ok(Some(Bson::Boolean(false)));
    let int = |number| Ok(Some(Bson::Int32(number)));
    let long = |number| Ok(Some(Bson::Int64(number)));
    let double = |number| Ok(Some(Bson::Double(number)));
    let text = |text: &str| Ok(Some(Bson::String(text.to_owned())));
    let none = || Ok(None);
    let fault = |what: &str| Err(what.to_owned());
    let cases: Vec<(&str, Result<Option<Bson>, String>)> = vec![
        // Paths.
        ("fullDocument.int", int(5)),
        ("int", int(5)),
        ("obj.a", int(1)),
        ("obj.b.c", Ok(Some(bson::bson!([1, 2])))),
        ("list.x", Ok(Some(bson::bson!([1])))),
        ("obj.b.0", Ok(Some(bson::bson!([])))),
        ("int.x", none()),
        ("gone", none()),
        ("`odd name`", int(1)),
        ("fullDocument.`dot.ted`", int(2)),
        ("ns.coll", text("files")),
        ("operationType", text("insert")),
        ("documentKey._id", int(1)),
        (
            "clusterTime",
            Ok(Some(Bson::Timestamp(bson::Timestamp { time: 1_754_700_000, increment: 7 }))),
        ),
        // Literals.
        ("'it\\'s'", text("it's")),
        ("\"a\\\\b\"", text("a\\b")),
        ("-3", int(-3)),
        ("3000000000", long(3_000_000_000)),
        ("1.5e3", double(1500.0)),
        ("$literal('$x')", text("$x")),
        ("['a', 1, [true, null]]", Ok(Some(bson::bson!(["a", 1, [true, null]])))),
        // Comparison: numbers by value over all types, then by the order of types.
        ("$eq(int, long)", yes()),
        ("$eq(int, double)", yes()),
        ("$eq(int, dec)", yes()),
        ("$eq(double, dec)", yes()),
        ("$lt(zero, decs)", yes()),
        ("$gt(half, decs)", yes()),
        ("$gt(decb, big)", yes()),
        ("$eq(decz, zero)", yes()),
        ("$lt(deci, min)", yes()),
        ("$gt(deci, nan)", yes()),
        ("$lt(big, 9223372036854775808.0)", yes()),
        ("$eq(min, -9223372036854775808.0)", yes()),
        ("$gt(9007199254740993, 9007199254740992.0)", yes()),
        ("$lt(9007199254740992.0, 9007199254740993)", yes()),
        ("$gt(int, 4.5)", yes()),
        ("$lt(-5, -4.5)", yes()),
        ("$eq(nan, nan)", yes()),
        ("$lt(nan, min)", yes()),
        ("$eq(gone, null)", no()),
        ("$lt(gone, null)", yes()),
        ("$eq(gone, undef)", yes()),
        ("$eq(`null`, null)", yes()),
        ("$lt(lo, gone)", yes()),
        ("$lt(null, zero)", yes()),
        ("$lt(big, empty)", yes()),
        ("$lt(text, obj)", yes()),
        ("$lt(obj, none)", yes()),
        ("$lt(list, bin)", yes()),
        ("$lt(bin, oid)", yes()),
        ("$lt(oid, no)", yes()),
        ("$lt(no, yes)", yes()),
        ("$lt(yes, date)", yes()),
        ("$lt(date, stamp)", yes()),
        ("$lt(stamp, re)", yes()),
        ("$lt(re, code)", yes()),
        ("$lt(code, hi)", yes()),
        ("$gte(int, 5)", yes()),
        ("$lte(int, 4)", no()),
        ("$ne(int, '5')", yes()),
        ("$eq(text, 'aé')", yes()),
        ("$eq(obj.b.c, [1, 2])", yes()),
        ("$lt([1, 2], [1, 2, 0])", yes()),
        ("$lt([1, 9], [2])", yes()),
        ("$eq(list, obj)", no()),
        // Truth.
        ("$and(int, text, empty, list, date, nan)", yes()),
        ("$and(int, zero)", no()),
        ("$and(decs)", yes()),
        ("$and(decz)", no()),
        ("$or(gone, `null`, undef, no, zero)", no()),
        ("$or(no, none)", yes()),
        ("$not(gone)", yes()),
        ("$not(empty)", no()),
        ("$and(no, $divide(int, zero))", no()),
        ("$or(yes, $divide(int, zero))", yes()),
        // Conditions.
        ("$in(int, [1, 5.0])", yes()),
        ("$in('b', list)", no()),
        ("$in(gone, [null])", no()),
        ("$in(1, gone)", fault("`$in` takes an array as its second argument, not missing")),
        ("$exists(fullDocument.status)", no()),
        ("$exists(`null`)", yes()),
        ("$exists(fullDocument.obj.a)", yes()),
        ("$cond($gt(int, 1), 'a', $divide(1, zero))", text("a")),
        ("$cond(gone, 'a', 'b')", text("b")),
        ("$ifNull(gone, `null`, undef, 'd')", text("d")),
        ("$ifNull(zero, 1)", int(0)),
        ("$coalesce(gone, int)", int(5)),
        ("$coalesce(gone)", none()),
        // Types.
        ("$type(gone)", text("missing")),
        ("$type(`null`)", text("null")),
        ("$type(undef)", text("undefined")),
        ("$type(int)", text("int")),
        ("$type(long)", text("long")),
        ("$type(double)", text("double")),
        ("$type(dec)", text("decimal")),
        ("$type(text)", text("string")),
        ("$type(obj)", text("object")),
        ("$type(list)", text("array")),
        ("$type(yes)", text("bool")),
        ("$type(date)", text("date")),
        ("$type(oid)", text("objectId")),
        ("$type(bin)", text("binData")),
        ("$type(re)", text("regex")),
        ("$type(stamp)", text("timestamp")),
        ("$type(lo)", text("minKey")),
        ("$type(hi)", text("maxKey")),
        ("$type(code)", text("javascript")),
        // Strings.
        ("$concat(text, '-', empty, 'b')", text("aé-b")),
        ("$type($concat(text, gone))", text("null")),
        ("$concat(text, int)", fault("`$concat` takes strings, not int")),
        ("$toUpper(text)", text("Aé")),
        ("$toLower('ABÉ')", text("abÉ")),
        ("$toLower(gone)", text("")),
        ("$toUpper(int)", text("5")),
        ("$toUpper(date)", text("1970-01-01T00:00:10.000Z")),
        (
            "$toUpper(list)",
            fault("`$toUpper` takes strings, whole numbers, decimals and dates, not array"),
        ),
        ("$size(list)", int(3)),
        ("$size(none)", int(0)),
        ("$size(gone)", fault("`$size` takes an array, not missing")),
        // Arithmetic: the narrowest type that holds it, doubles beyond int64.
        ("$add(int, 1)", int(6)),
        ("$add(max, 1)", long(2_147_483_648)),
        ("$add(int, long)", long(10)),
        ("$add(int, half)", double(5.5)),
        ("$add(big, 1)", double(9_223_372_036_854_775_808.0)),
        ("$type($add(int, gone))", text("null")),
        ("$add(date, 500)", Ok(Some(date(10_500)))),
        ("$add(1, date, half)", Ok(Some(date(10_001)))),
        ("$add(date, 1.7)", Ok(Some(date(10_002)))),
        ("$add($subtract(date, 10010), half)", Ok(Some(date(-9)))),
        ("$add($subtract(date, 10010), -1.5)", Ok(Some(date(-11)))),
        ("$add(date, big)", fault("`$add` gives a date out of all bounds")),
        ("$add(date, nan)", fault("`$add` gives a date out of all bounds")),
        ("$subtract(date, 1.7)", Ok(Some(date(9_999)))),
        ("$subtract(date, -1.5)", Ok(Some(date(10_001)))),
        ("$type($subtract(text, gone))", text("null")),
        ("$type($divide(text, gone))", text("null")),
        ("$type($add(gone, text))", text("null")),
        ("$add(text, gone)", fault("`$add` takes numbers and dates, not string")),
        ("$add(big, big, min)", long(9_223_372_036_854_775_806)),
        ("$multiply(big, big, zero)", double(0.0)),
        ("$toUpper(dec)", text("5.0")),
        ("$toUpper(code)", text("F")),
        ("$add(date, early)", fault("`$add` takes one date, not two")),
        ("$add(int, text)", fault("`$add` takes numbers and dates, not string")),
        ("$add(int, dec)", fault("`$add` cannot compute with decimals yet")),
        ("$subtract(date, early)", long(1_500)),
        ("$subtract(date, 500)", Ok(Some(date(9_500)))),
        ("$subtract(int, date)", fault("`$subtract` takes no date from a number")),
        ("$subtract(int, 7)", int(-2)),
        ("$subtract(int, half)", double(4.5)),
        ("$subtract(min, 1)", double(-9_223_372_036_854_775_808.0)),
        ("$type($subtract(`null`, 1))", text("null")),
        ("$multiply(int, 3)", int(15)),
        ("$multiply(max, 2)", long(4_294_967_294)),
        ("$multiply(big, 2)", double(18_446_744_073_709_551_616.0)),
        ("$multiply(int, half)", double(2.5)),
        ("$multiply(int, date)", fault("`$multiply` takes numbers, not date")),
        ("$divide(int, 2)", double(2.5)),
        ("$divide(4, 2)", double(2.0)),
        ("$divide(int, zero)", fault("`$divide` by zero")),
        ("$type($divide(gone, zero))", text("null")),
        ("$secondsDiff(date, early)", double(1.5)),
        ("$secondsDiff(fullDocument.early, fullDocument.date)", double(-1.5)),
        ("$secondsDiff(date, gone)", none()),
        ("$secondsDiff(date, text)", fault("`$secondsDiff` takes dates, not string")),
    ];
    let document = values();
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(expression, expected)| {
            let found = eval(expression, &document);
            let same = format!("{found:?}") == format!("{expected:?}");
            (!same).then(|| format!("{expression}: {found:?}, not {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
