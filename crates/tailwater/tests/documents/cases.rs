//! Every kind of document that a server takes, as raw bytes: the driver's own types cannot hold
//! equal names or text that is not UTF-8.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Decimal128, Timestamp, Uuid, bson, doc};
use tailwater_testkit::tree::{Fields, Node, read};

/// A value as a node.
pub(crate) fn of(value: impl Into<Bson>) -> Node {
    let bytes = doc! { "": value.into() }.to_vec().unwrap();
    read(&bytes).unwrap().pop().unwrap().1
}

fn text(bytes: &[u8]) -> Node {
    Node::Text(0x02, bytes.to_vec())
}

fn binary(subtype: u8, bytes: &[u8]) -> Node {
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    Node::Scalar(0x05, [&length, &[subtype][..], bytes].concat())
}

fn decimal(text: &str) -> Node {
    of(Bson::Decimal128(text.parse::<Decimal128>().unwrap()))
}

fn regex(pattern: &[u8], options: &[u8]) -> Node {
    Node::Scalar(0x0b, [pattern, &[0], options, &[0]].concat())
}

pub(crate) fn fields<const N: usize>(fields: [(&str, Node); N]) -> Fields {
    fields.into_iter().map(|(name, node)| (name.as_bytes().to_vec(), node)).collect()
}

pub(crate) fn document<const N: usize>(of: [(&str, Node); N]) -> Node {
    Node::Document(fields(of))
}

/// Dates at which a year, a type or a format ends.
const DATES: [i64; 18] = [
    0,
    -1,
    1_700_000_000_123,
    951_782_400_000,
    -2_208_988_800_001,
    -2_208_988_800_000,
    10_413_791_999_999,
    10_413_792_000_000,
    -62_135_596_800_000,
    -62_167_219_200_000,
    -62_167_219_200_001,
    253_402_300_799_999,
    253_402_300_800_000,
    8_640_000_000_000_001,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN + 1,
    i64::MIN,
];

const DOUBLES: [u64; 16] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0x3ff8_0000_0000_0000,
    1,
    0x000f_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0xffef_ffff_ffff_ffff,
    0x4341_c379_37e0_8000,
    0x4480_f0cf_064d_d592,
    0x3f1a_36e2_eb1c_432d,
    0x3fb9_9999_9999_999a,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0001,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
];

const DECIMALS: [&str; 14] = [
    "1",
    "1.0",
    "1.00",
    "-0",
    "0E+6111",
    "0E-6176",
    "1E-6176",
    "9.999999999999999999999999999999999E+6144",
    "-9.999999999999999999999999999999999E+6144",
    "1234567890123456789012345678901234",
    "0.000001",
    "NaN",
    "Infinity",
    "-Infinity",
];

const STRINGS: [&[u8]; 26] = [
    b"",
    b"1",
    b"1.0",
    b"-1",
    b"true",
    b"false",
    b"null",
    b"NaN",
    b"65a1b2c3d4e5f60718293a4b",
    b"2024-01-01",
    b"2024-01-01 10:00:00",
    b"2024-01-01T00:00:00.000Z",
    b"{\"a\":1}",
    b"[x",
    b"\"q\"",
    b"{\"$oid\":\"65a1b2c3d4e5f60718293a4b\"}",
    b"\0zero\0",
    b"\x01\x1f\x7f\t\n\r\\N",
    "Žluťoučký 🐴 日本語 \u{2028}\u{feff}".as_bytes(),
    b"9223372036854775807",
    b"9223372036854775808",
    b"\xff",
    b"\xfe",
    b"cut \xe6\x97",
    b"\xed\xa0\x80 surrogate, \xc0\x80 overlong",
    b"{\xff",
];

/// Values of every type, all of them different.
pub(crate) fn values() -> Vec<Node> {
    let mut values = Vec::new();
    values.extend(DOUBLES.map(|bits| of(f64::from_bits(bits))));
    values.extend(STRINGS.map(text));
    values.extend(DATES.map(|millis| of(DateTime::from_millis(millis))));
    values.extend(DECIMALS.map(decimal));
    values.extend([0, 1, -1, i32::MIN, i32::MAX].map(of));
    values.extend([0, 1, 1 << 53, (1 << 53) + 1, i64::MIN, i64::MAX].map(of));
    values.extend([of(true), of(false), of(Bson::Null), of(Bson::Undefined)]);
    values.extend([of(Bson::MinKey), of(Bson::MaxKey)]);
    values.push(of(ObjectId::parse_str("65a1b2c3d4e5f60718293a4b").unwrap()));
    values.push(of(Uuid::from_bytes(*b"0123456789abcdef")));
    for subtype in [0, 1, 3, 4, 5, 6, 7, 8, 0x80, 0xff] {
        values.extend([binary(subtype, b""), binary(subtype, b"abc")]);
        values.push(binary(subtype, b"0123456789abcde"));
    }
    // The old binary type: with its inner length, and with one that is wrong.
    values.extend([binary(2, b"\x03\0\0\0abc"), binary(2, b"abc"), binary(2, b"")]);
    values.push(binary(2, b"\0\0\0\0"));
    for (time, increment) in [(0, 1), (1, 0), (u32::MAX, u32::MAX)] {
        values.push(of(Timestamp { time, increment }));
    }
    values.extend([regex(b"", b""), regex(b"^a.*\"\\d$", b"imsx"), regex(b"\xff", b"i")]);
    values.push(Node::Scalar(0x0c, b"\x04\0\0\0d.c\x000123456789ab".to_vec()));
    values.extend([Node::Text(0x0d, b"return \"x\"".to_vec()), Node::Text(0x0d, b"\xff".to_vec())]);
    values.extend([Node::Text(0x0e, b"symbol".to_vec()), Node::Text(0x0e, b"1".to_vec())]);
    values.push(Node::Scoped(b"x".to_vec(), Fields::new()));
    values.push(Node::Scoped(b"\xff".to_vec(), fields([("x", of(1))])));
    // A coefficient of more than 34 digits.
    values.push(Node::Scalar(0x13, [&[0xff; 14][..], &[0x41, 0x30]].concat()));
    values.extend([document([]), document([("", of(1))]), document([("a", document([]))])]);
    values.extend([document([("a", of(1))]), document([("a", of(Bson::Null))])]);
    values.extend(arrays());
    values
}

fn arrays() -> Vec<Node> {
    let date = |millis: i64| Bson::from(DateTime::from_millis(millis));
    let (now, old) = (date(1_700_000_000_123), date(-9_000_000_000_000));
    let five_deep = bson!([[[[[[1, "x"]]]], []]]);
    [
        bson!([]),
        bson!([null]),
        bson!([[]]),
        bson!([{}]),
        bson!([1, 2, null]),
        bson!([1, 2.5, -1, i64::MAX]),
        bson!([true, 1, "1", null]),
        bson!([[1], null, ["x"], [[2]]]),
        bson!([{ "a": 1 }, { "a": "x", "b.c": [{ "d": 1 }] }, {}, { "": 1 }]),
        bson!([{ "a": 1 }, null, 1, ["x", { "a": 2 }]]),
        bson!([now.clone(), null, now.clone()]),
        bson!([now.clone(), old.clone()]),
        bson!([[now.clone()], [old], [{ "at": now.clone() }]]),
        bson!([{ "at": [now.clone(), null], "in": [[now]] }]),
        five_deep,
    ]
    .into_iter()
    .map(of)
    .collect()
}

/// A document for each value, with the value in every place.
pub(crate) fn types() -> Vec<Fields> {
    let all = values();
    let everywhere = |(number, value): (i32, &Node)| {
        let one = |name| document([(name, value.clone())]);
        fields([
            ("_id", of(number)),
            ("top", value.clone()),
            ("doc", document([("in", value.clone()), ("deeper", one("in"))])),
            ("alone", Node::Array(vec![value.clone()])),
            ("alike", Node::Array(vec![value.clone(), of(Bson::Null), value.clone()])),
            ("mixed", Node::Array(vec![of(1), value.clone(), of("x"), one("in")])),
            ("objects", Node::Array(vec![one("in"), document([("in", of(1))]), one("in")])),
            ("arrays", Node::Array(vec![Node::Array(vec![value.clone()]), Node::Array(vec![])])),
        ])
    };
    let mut documents: Vec<Fields> = (0..).zip(&all).map(everywhere).collect();
    let name = |(number, value): (i32, Node)| (format!("v{number}").into_bytes(), value);
    let mut together = fields([("_id", of(-1))]);
    together.extend((0..).zip(all).map(name));
    documents.push(together);
    documents
}

/// Values as `_id`s, and documents that hold them.
pub(crate) fn ids() -> Vec<Node> {
    let mut ids = values();
    ids.extend(values().into_iter().map(|value| document([("in", value)])));
    let reference = |id| document([("$ref", of("c")), ("$id", id)]);
    let object_id = ObjectId::parse_str("65a1b2c3d4e5f60718293a4b").unwrap();
    ids.push(reference(of(object_id)));
    // Taken for the value above, unless its `$` is told from that of a wrapper.
    ids.push(reference(document([("$oid", of(object_id.to_hex()))])));
    ids.push(Node::Scoped(b"x".to_vec(), fields([("n", document([("$numberInt", of("1"))]))])));
    ids.push(Node::Scoped(b"x".to_vec(), fields([("n", of(1))])));
    ids.push(document([("a", of(1)), ("a", of(1))]));
    ids.push(document([("b", of(1)), ("a", of(1))]));
    ids.push(document([("a", of(1)), ("b", of(1))]));
    ids.push(Node::Document(vec![(b"\xff".to_vec(), of(1))]));
    ids.push(Node::Document(vec![(b"\xfe".to_vec(), of(1))]));
    ids
}

/// Names that are odd, repeated, or no text.
pub(crate) fn names() -> Vec<Fields> {
    let names: [&[u8]; 24] = [
        b"",
        b".",
        b"..",
        b"a.b",
        b"a.",
        b".a",
        b"a..b",
        b"a%2Eb",
        b"%2E",
        b"%",
        b"$a",
        b"$",
        b"a$b",
        b"_id.x",
        b"a[]",
        b"a.:Int64",
        b"^a",
        b"back`tick \"quote\" \\slash",
        b"\x01\n",
        "klíč 🐴".as_bytes(),
        b"\xff",
        b"\xfea",
        b"2024-01-01",
        b"1",
    ];
    let mut documents = Vec::new();
    for (number, name) in (0..).zip(names) {
        let at = |value: Node| (name.to_vec(), value);
        let inner = Node::Document(vec![at(of(2)), at(document([("x", of("y"))]))]);
        documents.push(vec![
            (b"_id".to_vec(), of(number)),
            at(of(1)),
            (b"in".to_vec(), Node::Document(vec![at(of(1)), (b"b".to_vec(), of(true))])),
            (b"objects".to_vec(), Node::Array(vec![Node::Document(vec![at(of(1))]), inner])),
        ]);
        // Equal names, of other types, the last of which wins: also when it is none.
        for (other, last) in (1..).zip([of("last"), of(Bson::Null), of(bson!([1])), of(bson!({}))])
        {
            let first = [at(document([("x", of(1))])), at(of(1.5)), at(of(bson!([[1], "x"])))];
            let mut repeated = vec![(b"_id".to_vec(), of(other * 1000 + number))];
            repeated.extend(first);
            repeated.push((b"between".to_vec(), of(1)));
            repeated.push(at(last));
            documents.push(repeated);
        }
    }
    let mut all = fields([("_id", of(-1))]);
    all.extend(names.map(|name| (name.to_vec(), of(String::from_utf8_lossy(name).into_owned()))));
    documents.push(all);
    documents
}

/// Documents whose names are those of Extended JSON's wrappers: `raw` cannot tell them from what the
/// wrappers stand for.
pub(crate) fn wrappers() -> Vec<Fields> {
    let like = [
        document([("$oid", of(2))]),
        document([("$oid", of("65a1b2c3d4e5f60718293a4b"))]),
        document([("$numberLong", of("no number"))]),
        document([("$date", document([("$numberLong", of("1"))]))]),
        document([("$code", of("x")), ("$scope", of(1))]),
    ];
    (0..).zip(like).map(|(id, like)| fields([("_id", of(id)), ("like", like)])).collect()
}

/// One path over time.
pub(crate) fn mixed(round: i32) -> Vec<Fields> {
    let value = match round {
        0 => of(1),
        1 => of("x"),
        2 => of(bson!([1, 2])),
        3 => of(bson!({ "b": 1, "c": { "d": [1] } })),
        4 => of(bson!([1, "x", { "b": 1 }, [null, 2.5]])),
        5 => of(bson!([{ "b": 1 }, { "b": "x" }, { "c": [{ "b": 1 }] }])),
        6 => of(DateTime::from_millis(1_700_000_000_123)),
        _ => of(2.5),
    };
    (0..20)
        .map(|number| {
            let all = values();
            let any = &all[usize::try_from(round * 20 + number).unwrap() % all.len()];
            fields([("_id", of(round * 100 + number)), ("a", value.clone()), ("any", any.clone())])
        })
        .collect()
}

/// As deep as a server takes it: in documents, arrays, arrays of objects, and mixed arrays.
pub(crate) fn deep() -> Vec<Fields> {
    type Wrap = fn(Node) -> Node;
    let wraps: [(i32, Wrap); 4] = [
        (1, |inner| document([("a", inner)])),
        (1, |inner| Node::Array(vec![inner])),
        (2, |inner| Node::Array(vec![document([("a", inner)])])),
        (1, |inner| Node::Array(vec![of(1), inner])),
    ];
    let mut documents = Vec::new();
    for levels in [100, 180] {
        for (levels_each, wrap) in wraps {
            // The document itself is the outermost level.
            let value = (0..(levels - 1) / levels_each).fold(of(1), |inner, _| wrap(inner));
            let id = i32::try_from(documents.len()).unwrap();
            documents.push(fields([("_id", of(id)), ("a", value)]));
        }
    }
    documents
}

/// Names that no other document has, at the top and below, far more than a table has room for.
pub(crate) fn wide() -> Vec<Fields> {
    let own = |document: i32, count: i32| {
        (0..count).map(move |n| (format!("{document}-{n}").into_bytes(), of(n)))
    };
    let mut documents: Vec<Fields> = (0..20)
        .map(|number| {
            let mut all = fields([("_id", of(number)), ("text", of("2024-01-01")), ("a.b", of(1))]);
            all.extend(own(number, 2_000));
            all.push((b"in".to_vec(), Node::Document(own(number, 500).collect())));
            all.push((b"last".to_vec(), of(true)));
            all
        })
        .collect();
    // A fifth of it: more than become columns, fewer than make it text.
    documents.push(fields([("_id", of(-1)), ("a", of(bson!([1, 2.5, "x", null])))]));
    documents
}

/// 16 MiB, the most that a document may have.
const MOST: usize = 16 << 20;

/// Documents of up to 16 MiB: of one string, of an array of long strings, and large arrays of numbers,
/// objects and mixed values.
pub(crate) fn large() -> Vec<Fields> {
    let long = |id: &str, length: usize| {
        fields([("_id", of(id)), ("n", of(0)), ("text", text(&vec![b'x'; length]))])
    };
    let list = |id: &str, count: i32, item: fn(i32) -> Node| {
        fields([("_id", of(id)), ("list", Node::Array((0..count).map(item).collect()))])
    };
    let number = |n: i32| Node::Scalar(0x10, n.to_le_bytes().to_vec());
    vec![
        // To the byte.
        long("full", MOST - 43),
        long("updated", 15_900_000),
        list("strings", 15_800, |_| text(&[b'y'; 1_000])),
        list("numbers", 200_000, number),
        list("objects", 30_000, |n| document([("n", of(n)), ("s", of("x"))])),
        list("mixed", 30_000, |n| if n % 2 == 0 { of(n) } else { of("x y") }),
        list("deleted", 30_000, |n| if n % 2 == 0 { of(n) } else { of(bson!([n])) }),
    ]
}
