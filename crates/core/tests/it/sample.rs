//! Arbitrary documents, also such as the `bson` crate cannot hold: with equal names.

use bson::{Bson, doc};
use proptest::prelude::*;

/// A value whose documents may repeat a name.
#[derive(Debug, Clone)]
pub(crate) enum Sample {
    Scalar(Bson),
    Document(Vec<(String, Sample)>),
    Array(Vec<Sample>),
}

pub(crate) type Fields = Vec<(String, Sample)>;

/// The bytes of a document with these fields.
pub(crate) fn bytes(fields: &[(String, Sample)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in fields {
        put(key, value, &mut body);
    }
    frame(&body)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 5).unwrap();
    [&length.to_le_bytes(), body, &[0]].concat()
}

fn put(key: &str, value: &Sample, out: &mut Vec<u8>) {
    let (tag, inner) = match value {
        Sample::Scalar(scalar) => {
            // A document of one field is a length, the field and a terminator.
            let whole = doc! { key: scalar }.to_vec().unwrap();
            return out.extend_from_slice(&whole[4..whole.len() - 1]);
        }
        Sample::Document(fields) => (3, bytes(fields)),
        Sample::Array(items) => {
            let mut body = Vec::new();
            for (index, item) in items.iter().enumerate() {
                put(&index.to_string(), item, &mut body);
            }
            (4, frame(&body))
        }
    };
    out.push(tag);
    out.extend_from_slice(key.as_bytes());
    out.push(0);
    out.extend_from_slice(&inner);
}

/// Keeps of equal names the last, at all levels.
pub(crate) fn without_repeats(fields: &[(String, Sample)]) -> Fields {
    let name = |key: &str| key.replace('.', "%2E");
    let mut kept = Fields::new();
    for (index, (key, value)) in fields.iter().enumerate() {
        if !fields[index + 1..].iter().any(|(later, _)| name(later) == name(key)) {
            kept.push((key.clone(), value_without_repeats(value)));
        }
    }
    kept
}

fn value_without_repeats(value: &Sample) -> Sample {
    match value {
        Sample::Scalar(scalar) => Sample::Scalar(scalar.clone()),
        Sample::Document(fields) => Sample::Document(without_repeats(fields)),
        Sample::Array(items) => Sample::Array(items.iter().map(value_without_repeats).collect()),
    }
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        any::<i32>().prop_map(f64::from),
        (any::<i32>(), -30..30i32).prop_map(|(n, e)| f64::from(n) * 10f64.powi(e)),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MIN_POSITIVE / 8.0),
        Just(1e16),
        Just(1e-4),
        Just(9.999e-5),
    ]
}

fn date() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3_000_000_000_000..11_000_000_000_000i64,
        (0..9_000_000_000i64).prop_map(|seconds| seconds * 1000),
        Just(-2_208_988_800_001),
        Just(-2_208_988_800_000),
        Just(10_413_791_999_999),
        Just(10_413_792_000_000),
        Just(253_402_300_799_999),
        Just(253_402_300_800_000),
    ]
}

fn decimal() -> impl Strategy<Value = Bson> {
    (any::<bool>(), 0..10u128.pow(34), -40..40i32).prop_map(|(negative, digits, exponent)| {
        let sign = if negative { "-" } else { "" };
        Bson::Decimal128(format!("{sign}{digits}E{exponent}").parse().unwrap())
    })
}

/// A value of any type that the `bson` crate can make and that is neither document nor array.
pub(crate) fn scalar() -> impl Strategy<Value = Bson> {
    let text = || prop_oneof!["[a-z\"\\\\\n\u{1}\u{7f}é漢😀]{0,12}", "[ -~]{0,40}"];
    prop_oneof![
        double().prop_map(Bson::Double),
        text().prop_map(Bson::String),
        any::<bool>().prop_map(Bson::Boolean),
        Just(Bson::Null),
        any::<i32>().prop_map(Bson::Int32),
        prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(Bson::Int64),
        date().prop_map(|ms| Bson::DateTime(bson::DateTime::from_millis(ms))),
        any::<[u8; 12]>().prop_map(|id| Bson::ObjectId(id.into())),
        decimal(),
        (any::<u32>(), any::<u32>())
            .prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
        (
            prop_oneof![Just(0u8), Just(3), Just(4), Just(5), Just(0x80)],
            any::<[u8; 16]>(),
            0..=16usize
        )
            .prop_map(|(subtype, bytes, length)| {
                let length = if matches!(subtype, 3 | 4) { 16 } else { length };
                Bson::Binary(bson::Binary {
                    subtype: subtype.into(),
                    bytes: bytes[..length].to_vec(),
                })
            }),
        ("[a-z.*]{0,6}", "i?m?s?x?").prop_map(|(pattern, options)| {
            let (pattern, options) = (pattern.try_into().unwrap(), options.try_into().unwrap());
            Bson::RegularExpression(bson::Regex { pattern, options })
        }),
        text().prop_map(Bson::JavaScriptCode),
        text().prop_map(Bson::Symbol),
        (text(), any::<i32>()).prop_map(|(code, n)| {
            Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code,
                scope: doc! { "n": n },
            })
        }),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::Undefined),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-d]",
        1 => Just(String::new()),
        1 => Just("a.b".to_owned()),
        1 => prop_oneof![Just("a%2Eb"), Just("%2E"), Just(".")].prop_map(str::to_owned),
        1 => "[ -#%-~é]{1,8}",
    ]
}

fn value() -> impl Strategy<Value = Sample> {
    scalar().prop_map(Sample::Scalar).prop_recursive(5, 40, 6, |inner| {
        let alike = scalar().prop_flat_map(|one| {
            proptest::collection::vec(prop_oneof![Just(one), Just(Bson::Null)], 0..4)
        });
        prop_oneof![
            2 => proptest::collection::vec((name(), inner.clone()), 0..6).prop_map(Sample::Document),
            1 => proptest::collection::vec(inner.clone(), 0..5).prop_map(Sample::Array),
            1 => alike.prop_map(|items| Sample::Array(items.into_iter().map(Sample::Scalar).collect())),
            1 => proptest::collection::vec(
                    proptest::collection::vec((name(), inner), 0..4).prop_map(Sample::Document), 0..4
                ).prop_map(Sample::Array),
        ]
    })
}

/// The fields of a document; names are often equal.
pub(crate) fn fields() -> impl Strategy<Value = Fields> {
    proptest::collection::vec((name(), value()), 0..8)
}
