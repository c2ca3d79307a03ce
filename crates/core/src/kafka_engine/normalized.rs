//! Normalized: the feed from the normalized topic, whose rows are those that the sink makes.

use super::feed::{self, Complaint, millis};
use crate::sql::literal;

/// The fields that are text where they are there.
const TEXTS: [&str; 6] = ["op", "event_type", "idempotency_key", "doc_id", "mapping", "raw"];

/// What is read of a message at once: all but the objects.
const FIELDS: &str = "Tuple(ts Dynamic, op Dynamic, event_type Dynamic, idempotency_key Dynamic, \
                      doc_id Dynamic, version Dynamic, mapping Dynamic, raw Dynamic, \
                      superseded Dynamic, ns Tuple(db Dynamic, coll Dynamic))";

/// What Extended JSON of other programs becomes, as far as patterns can tell. A quote within a string
/// has a backslash before it, so that none of them matches there.
const WRAPPERS: [(&str, &str); 4] = [
    (r#"\{\s*"\$number(?:Long|Int)"\s*:\s*"(-?[0-9]+)"\s*\}"#, r"\1"),
    (r#"\{\s*"\$numberDouble"\s*:\s*"(-?[0-9][^"]*)"\s*\}"#, r"\1"),
    (r#"\{\s*"\$date"\s*:\s*"([0-9-]{10}T[0-9:]{8})Z"\s*\}"#, r#""\1.000Z""#),
    (
        r#"\{\s*"\$(?:oid|date|numberDecimal|numberDouble|symbol)"\s*:\s*("(?:[^"\\]|\\.)*")\s*\}"#,
        r"\1",
    ),
];

/// Numbers from here on are milliseconds, below it seconds.
const MILLIS_FROM: &str = "100000000000";

pub(super) fn select(from: &str) -> String {
    let plain = WRAPPERS.iter().fold("value".to_owned(), |value, (pattern, to)| {
        format!("replaceRegexpAll({value}, {}, {})", literal(pattern), literal(to))
    });
    let with = [
        ("fields", format!("JSONExtract(value, {})", literal(FIELDS))),
        ("own_type", string("fields.event_type")),
        ("own_op", string("fields.op")),
        ("own_ts", ts()),
        ("own_version", version()),
        // Only what we wrote has plain values: in it a document named like a wrapper is a document.
        (
            "foreign",
            "position(value, '\"$') > 0 AND dynamicType(fields.mapping) != 'String'".to_owned(),
        ),
        // The whole message, since no quicker way keeps values: `JSONExtractRaw` writes `1.0` as `1`, and
        // `JSONExtract` to JSON takes a name with a dot for a path and drops items of an array that are
        // of another type than those of the array before (seen with 26.7).
        ("whole", format!("accurateCastOrNull(if(foreign, {plain}, value), 'JSON')")),
        ("event", "assumeNotNull(whole)".to_owned()),
    ];
    let or_empty = |field: &str| format!("ifNull({}, '')", string(field));
    let columns = [
        ("ts", "own_ts".to_owned()),
        ("event_type", "coalesce(own_type, own_op, '')".to_owned()),
        ("ns_db", or_empty("fields.ns.db")),
        ("ns_coll", or_empty("fields.ns.coll")),
        ("idempotency_key", or_empty("fields.idempotency_key")),
        ("tags", "event.^tags".to_owned()),
        ("attrs", "event.^attrs".to_owned()),
        ("doc_id", or_empty("fields.doc_id")),
        ("op", "coalesce(own_op, own_type, '')".to_owned()),
        ("version", "ifNull(own_version, 0)".to_owned()),
        ("raw", or_empty("fields.raw")),
        ("superseded", "ifNull(dynamicElement(fields.superseded, 'Bool'), 0)".to_owned()),
        ("_mapping", or_empty("fields.mapping")),
    ];
    feed::select(from, &with, &complaints(), &columns, None)
}

/// What the sink rejects, with its words.
fn complaints() -> Vec<Complaint> {
    let wrong = |condition: String, why: &str| -> Complaint {
        (condition, "not_normalized", format!("no normalized event: {why}"))
    };
    let mut all = vec![("isNull(whole)".to_owned(), "not_json", "no JSON object".to_owned())];
    all.extend(TEXTS.map(|name| {
        let no_text = format!("dynamicType(fields.{name}) NOT IN ('None', 'String')");
        wrong(no_text, &format!("`{name}` is no string"))
    }));
    all.push(wrong(
        "isNull(own_type) AND isNull(own_op)".to_owned(),
        "it has neither `event_type` nor `op`",
    ));
    all.push((
        format!("ifNull({}, '') = ''", string("fields.ns.db")),
        "no_namespace",
        "a normalized event without `ns.db`".to_owned(),
    ));
    all.push(wrong("isNull(own_ts)".to_owned(), "`ts` is no time"));
    all.push(wrong("isNull(own_version)".to_owned(), "`version` is no whole number"));
    all.extend(["tags", "attrs"].map(|name| {
        let no_object = format!("dynamicType(event.{name}) != 'None'");
        wrong(no_object, &format!("`{name}` is no object"))
    }));
    all
}

/// The text in a value that may be of any type.
fn string(field: &str) -> String {
    format!("dynamicElement({field}, 'String')")
}

fn ts() -> String {
    let parsed = |text: &str| format!("parseDateTime64BestEffortOrNull({text}, 3, 'UTC')");
    let number = |kind: &str| {
        let number = format!("dynamicElement(fields.ts, '{kind}')");
        let scaled = format!("if(abs({number}) < {MILLIS_FROM}, {number} * 1000, {number})");
        millis(&format!("toInt64({scaled})"))
    };
    let arms = [
        ("dynamicType(fields.ts) = 'String'", parsed(&string("fields.ts"))),
        ("dynamicType(fields.ts) = 'Int64'", number("Int64")),
        ("dynamicType(fields.ts) = 'Float64'", number("Float64")),
        ("JSONType(value, 'ts') = 'Null'", "_timestamp_ms".to_owned()),
        (
            "JSONHas(value, 'ts', '$timestamp', 't')",
            millis("JSONExtractInt(value, 'ts', '$timestamp', 't') * 1000"),
        ),
        (
            "JSONHas(value, 'ts', '$date', '$numberLong')",
            millis("toInt64OrNull(JSONExtractString(value, 'ts', '$date', '$numberLong'))"),
        ),
        (
            "JSONType(value, 'ts', '$date') = 'String'",
            parsed("JSONExtractString(value, 'ts', '$date')"),
        ),
        (
            "JSONType(value, 'ts', '$date') = 'Int64'",
            millis("JSONExtractInt(value, 'ts', '$date')"),
        ),
    ];
    let arms = arms.map(|(condition, value)| format!("    {condition}, {value},\n"));
    format!("multiIf(\n{}    NULL)", arms.concat())
}

fn version() -> String {
    let whole = "dynamicElement(fields.version, 'Int64')";
    format!(
        "multiIf(\n    \
         dynamicType(fields.version) = 'None', toUInt128(0),\n    \
         dynamicType(fields.version) = 'String', toUInt128OrNull({}),\n    \
         dynamicType(fields.version) = 'Int64' AND {whole} >= 0, toUInt128(assumeNotNull({whole})),\n    \
         NULL)",
        string("fields.version"),
    )
}
