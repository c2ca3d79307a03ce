//! Seeded documents and `_id`s: every BSON type, and every shape that once broke somebody.

use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, Uuid,
    doc, oid::ObjectId,
};
use rand::Rng;
use rand::seq::IndexedRandom as _;

/// Every so many documents a large one comes.
const LARGE_EVERY: u32 = 400;
const LARGE_BYTES: usize = 300_000;

/// `count` distinct `_id`s over all types that MongoDB takes, look-alikes of other types included.
pub(crate) fn ids(random: &mut impl Rng, count: usize) -> Vec<Bson> {
    let look_alikes = [
        "1",
        "-1",
        "true",
        "false",
        "null",
        "",
        "65a1b2c3d4e5f60718293a4b",
        "{\"a\":1}",
        "[1]",
        "\"q\"",
        "NaN",
        "1.5",
        "a:b.c",
        "tab\tnew\nline",
        "back\\slash 'quote' `tick`",
        "Žluťoučký 🐴",
    ];
    let mut ids: Vec<Bson> = look_alikes.map(Bson::from).into();
    ids.extend([Bson::Boolean(true), Bson::Boolean(false), Bson::Null]);
    for number in 0..i32::try_from(count).unwrap_or(i32::MAX) {
        ids.push(match number % 11 {
            0 | 1 => ObjectId::from_bytes(random.random()).into(),
            2 => Bson::Int32(number - 50),
            3 => Bson::Int64((1 << 40) + i64::from(number)),
            4 => Bson::Double(f64::from(number) + 0.5),
            5 => Bson::String(format!("file-{number}")),
            6 => Uuid::from_bytes(random.random()).into(),
            7 => DateTime::from_millis(1_700_000_000_000 + i64::from(number)).into(),
            8 => {
                doc! { "region": "eu", "batch": number, "at": { "z": 1_i64, "a": [number] } }.into()
            }
            9 => Bson::Decimal128(decimal(&format!("{number}.25"))),
            _ => binary(BinarySubtype::Generic, number.to_be_bytes().into()),
        });
    }
    ids.truncate(count);
    ids
}

fn decimal(text: &str) -> Decimal128 {
    text.parse().expect("the literal is a decimal number")
}

fn binary(subtype: BinarySubtype, bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype, bytes })
}

/// A whole document for `id`.
pub(crate) fn document(random: &mut impl Rng, id: &Bson) -> Document {
    let mut document = doc! {
        "_id": id.clone(),
        "status": *["arrived", "validated", "loaded", "failed"].choose(random).expect("it is not empty"),
        "n": random.random_range(0..100),
        "mixed": value(random, 2),
    };
    for _ in 0..random.random_range(2..10) {
        document.insert(key(random), value(random, 2));
    }
    if random.random_ratio(1, LARGE_EVERY) {
        let letter = char::from(b'a' + random.random_range(0..26));
        document.insert("payload", letter.to_string().repeat(random.random_range(1..LARGE_BYTES)));
    }
    document
}

/// A top-level field that an update may set: one path holds many types over time.
pub(crate) fn settable_key(random: &mut impl Rng) -> &'static str {
    ["mixed", "size_bytes", "note", "nested", "flag", "at", "naïve ключ", "x"]
        .choose(random)
        .expect("it is not empty")
}

/// A key of a whole document; some hold dots, dollars, nothing, or a field and its prefix.
fn key(random: &mut impl Rng) -> &'static str {
    let odd = [
        "",
        "a.b",
        "nested.z",
        "a%2Eb",
        "price$",
        "back`tick",
        "quote\"d",
        "sp ace",
        "_version",
        "a..b",
        ".",
    ];
    if random.random_ratio(1, 4) {
        odd.choose(random).expect("it is not empty")
    } else {
        settable_key(random)
    }
}

/// A value of any type; documents and arrays up to `depth` levels.
pub(crate) fn value(random: &mut impl Rng, depth: u8) -> Bson {
    if depth > 0 && random.random_ratio(1, 4) {
        return container(random, depth - 1);
    }
    match random.random_range(0..22) {
        0..3 => Bson::Int32(random.random()),
        3 => {
            Bson::Int64(*[i64::MIN, i64::MAX, -1, 1 << 53].choose(random).expect("it is not empty"))
        }
        4 => Bson::Int64(random.random()),
        5 | 6 => Bson::Double(random.random_range(-1e6..1e6)),
        7 => Bson::Double(
            *[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 1e22, 0.1]
                .choose(random)
                .expect("it is not empty"),
        ),
        8..11 => Bson::String(text(random)),
        11 => Bson::Boolean(random.random()),
        12 => Bson::Null,
        13 => DateTime::from_millis(random.random_range(-60_000_000_000_000..250_000_000_000_000))
            .into(),
        14 => {
            DateTime::from_millis(random.random_range(1_600_000_000_000..1_800_000_000_000)).into()
        }
        15 => Bson::Decimal128(decimal(
            ["1.10", "-0", "NaN", "Infinity", "9.999999999999999999999999999999999E+6144"]
                .choose(random)
                .expect("it is not empty"),
        )),
        16 => ObjectId::from_bytes(random.random()).into(),
        17 => Uuid::from_bytes(random.random()).into(),
        18 => {
            let subtype =
                [BinarySubtype::Generic, BinarySubtype::Md5, BinarySubtype::UserDefined(0x80)];
            let length = random.random_range(0..40);
            let bytes = (0..length).map(|_| random.random()).collect();
            binary(*subtype.choose(random).expect("it is not empty"), bytes)
        }
        19 => Bson::Timestamp(Timestamp { time: random.random(), increment: random.random() }),
        20 => Bson::RegularExpression(Regex {
            pattern: "^a.*\\d\"$".try_into().expect("it holds no zero byte"),
            options: "im".try_into().expect("it holds no zero byte"),
        }),
        _ => rare(random),
    }
}

fn rare(random: &mut impl Rng) -> Bson {
    match random.random_range(0..5) {
        0 => Bson::MinKey,
        1 => Bson::MaxKey,
        2 => Bson::JavaScriptCode("function () { return \"x\"; }".into()),
        3 => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
            code: "x".into(),
            scope: doc! { "x": 1 },
        }),
        _ => Bson::Symbol("symbol".into()),
    }
}

fn text(random: &mut impl Rng) -> String {
    let odd = [
        "",
        "null",
        "2024-01-01",
        "2024-01-01 10:00:00",
        "2024-01-01T00:00:00.000Z",
        "1",
        "1.0",
        "true",
        "\u{0}zero",
        "a\u{1}b\u{7f}",
        "\\N",
        "line\nfeed",
        "tab\t",
        "\"",
        "\\",
        "日本語🐴",
        "{\"a\":1}",
        "\u{2028}",
        "127.0.0.1",
    ];
    if random.random_ratio(1, 2) {
        return (*odd.choose(random).expect("it is not empty")).into();
    }
    format!("s3://bucket/incoming/{:016x}.parquet", random.random::<u64>())
}

fn container(random: &mut impl Rng, depth: u8) -> Bson {
    let length = random.random_range(0..4);
    match random.random_range(0..4) {
        0 => {
            let mut document = Document::new();
            for _ in 0..length {
                document.insert(key(random), value(random, depth));
            }
            Bson::Document(document)
        }
        1 => Bson::Array((0..length).map(|_| value(random, depth)).collect()),
        2 => Bson::Array(
            (0..length).map(|number| doc! { "k": number, "v": text(random) }.into()).collect(),
        ),
        _ => Bson::Array((0..length).map(|number| Bson::Int32(number * 7)).collect()),
    }
}
