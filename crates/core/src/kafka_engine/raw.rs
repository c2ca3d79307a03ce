//! Raw: the feed from raw topics in `format: json`, whose rows are those of the sink without a mapping,
//! but for `raw`, which is the message as it is.
//!
//! What an event is, and when, is in the headers of its message, and its document's id in the key. Only
//! our own source writes them; what has none is no event here.

use super::feed::{self, Complaint, header, millis};
use crate::message::header as name;
use crate::sql::literal;

/// The operations of documents, whose key is that of a document.
const OF_DOCUMENTS: &str = "('insert', 'update', 'replace', 'delete', 'read')";

pub(super) fn select(from: &str) -> String {
    let number = |name: &str, parse: &str| format!("{parse}({})", header(name));
    let with = [
        ("own_op", header(name::OP)),
        ("ns", header(name::NS)),
        ("own_version", number(name::VERSION, "toUInt128OrNull")),
        ("own_ts", millis(&number(name::TS, "toInt64OrNull"))),
        ("db", "if(position(ns, '.') = 0, ns, substring(ns, 1, position(ns, '.') - 1))".to_owned()),
        ("coll", "if(position(ns, '.') = 0, '', substring(ns, position(ns, '.') + 1))".to_owned()),
        ("id", doc_id()),
        ("image", "if(own_op = 'delete', 'fullDocumentBeforeChange', 'fullDocument')".to_owned()),
        ("raws", "JSONExtractKeysAndValuesRaw(value, image)".to_owned()),
        ("texts", texts()),
        (
            "fields",
            "arrayMap((raw, text) -> if(text = '', '', concat(toJSONString(raw.1), ':', text)), \
             raws, texts)"
                .to_owned(),
        ),
        // Of equal names the last counts, and the cast takes the first.
        ("kept", "arrayReverse(arrayFilter(field -> field != '', fields))".to_owned()),
        (
            "scalars",
            "accurateCastOrNull(concat('{', arrayStringConcat(kept, ','), '}'), 'JSON')".to_owned(),
        ),
    ];
    let superseded = format!(
        "own_op = 'update' AND {} != {} AND JSONType(value, 'fullDocument') = 'Null'",
        header(name::LOOKUP),
        literal(name::NO),
    );
    let columns = [
        ("ts", "own_ts".to_owned()),
        ("event_type", "own_op".to_owned()),
        ("ns_db", "db".to_owned()),
        ("ns_coll", "coll".to_owned()),
        ("idempotency_key", idempotency_key()),
        ("tags", "CAST('{}', 'JSON')".to_owned()),
        ("attrs", "assumeNotNull(scalars)".to_owned()),
        ("doc_id", "id".to_owned()),
        ("op", "own_op".to_owned()),
        ("version", "ifNull(own_version, 0)".to_owned()),
        ("raw", "value".to_owned()),
        ("superseded", superseded),
        ("_mapping", "''".to_owned()),
    ];
    let has_row = format!("{} != {}", header(name::ROW), literal(name::NO));
    feed::select(from, &with, &complaints(), &columns, Some(&has_row))
}

fn complaints() -> Vec<Complaint> {
    let complaint = |condition: String, reason, why: &str| (condition, reason, why.to_owned());
    vec![
        complaint(
            "own_op = '' OR db = '' OR isNull(own_version) OR isNull(own_ts)".to_owned(),
            "bad_header",
            "the headers of a change event of Tailwater are not there",
        ),
        complaint(
            format!("{} != ''", header(name::CHUNK)),
            "chunk",
            "a part of a larger message, which only the sink joins",
        ),
        complaint(
            format!("{} != 'json' OR {} != ''", header(name::FORMAT), header(name::VALUE)),
            "unknown_format",
            "no change event in `json`: only the sink reads it",
        ),
        complaint(
            "NOT isValidJSON(value) OR JSONType(value) != 'Object' OR isNull(scalars)".to_owned(),
            "not_json",
            "no JSON object",
        ),
    ]
}

/// The id of the document, of the key: its canonical Extended JSON.
fn doc_id() -> String {
    // `{"_id":…}` without what is around the value.
    let alone = "substring(_key, 8, length(_key) - 8)";
    let text = "JSONExtractString(_key, '_id')";
    format!(
        "multiIf(\n    \
         own_op NOT IN {OF_DOCUMENTS}, '',\n    \
         JSONExtractKeys(_key) != ['_id'], _key,\n    \
         startsWith({alone}, '{{\"$oid\":\"'), JSONExtractString(_key, '_id', '$oid'),\n    \
         startsWith({alone}, '{{\"$numberInt\":\"'), JSONExtractString(_key, '_id', '$numberInt'),\n    \
         startsWith({alone}, '{{\"$numberLong\":\"'), JSONExtractString(_key, '_id', '$numberLong'),\n    \
         NOT startsWith({alone}, '\"'), {alone},\n    \
         {text} IN ('true', 'false', 'null') OR match({text}, '^([0-9a-f]{{24}}$|[{{[\"])') \
         OR toString(toInt64OrNull({text})) = {text}, {alone},\n    \
         {text})"
    )
}

fn idempotency_key() -> String {
    let part = |shift: u8, bits: &str| {
        format!("toUInt64(bitAnd(bitShiftRight(ifNull(own_version, 0), {shift}), {bits}))")
    };
    let (seconds, increment) = (part(96, "4294967295"), part(64, "4294967295"));
    let low = part(0, "18446744073709551615");
    format!(
        "concat('mongo:', db, '.', coll, ':', id, ':', own_op, ':', toString({seconds}), '.', \
         toString({increment}), if({low} > 1, concat('.', toString({low} - 1)), ''))"
    )
}

/// The values of the image's fields as JSON that is neither object nor array; empty for those that are,
/// and for what is left out. A value of our JSON is a wrapper if it begins with the name of one: what
/// else looks like one travels as BSON.
fn texts() -> String {
    let wrapper = |name: &str| format!("startsWith(raw.2, '{{\"${name}\":')");
    let inner = |name: &str| format!("JSONExtractRaw(raw.2, '${name}')");
    let date = "JSONExtractString(raw.2, '$date')";
    // Without a fraction in the message where it is zero.
    let at = format!("replaceRegexpOne({date}, '(:[0-9]{{2}})Z$', {})", literal(r"\1.000Z"));
    let number = millis("toInt64OrZero(JSONExtractString(raw.2, '$date', '$numberLong'))");
    let before = format!("concat(replaceOne(toString({number}), ' ', 'T'), 'Z')");
    let bytes = "JSONExtractString(raw.2, '$binary', 'base64')";
    let is_uuid =
        format!("JSONExtractString(raw.2, '$binary', 'subType') = '04' AND length({bytes}) = 24");
    let groups = literal("^(.{8})(.{4})(.{4})(.{4})(.{12})$");
    let uuid = format!(
        "replaceRegexpOne(lower(hex(tryBase64Decode({bytes}))), {groups}, {})",
        literal(r"\1-\2-\3-\4-\5"),
    );
    let as_text =
        ["timestamp", "regularExpression", "dbPointer", "code", "minKey", "maxKey"].map(wrapper);
    let arms = [
        ("raw.1 = '_id' OR raw.2 = 'null' OR startsWith(raw.2, '[')".to_owned(), "''".to_owned()),
        // A double that is whole has lost its point.
        (
            "dynamicType(read.2) = 'Float64' AND match(raw.2, '^-?[0-9]+$')".to_owned(),
            "concat(raw.2, '.0')".to_owned(),
        ),
        ("NOT startsWith(raw.2, '{')".to_owned(), "raw.2".to_owned()),
        (wrapper("oid"), inner("oid")),
        (wrapper("numberLong"), "JSONExtractString(raw.2, '$numberLong')".to_owned()),
        (format!("{} AND endsWith({date}, 'Z')", wrapper("date")), format!("toJSONString({at})")),
        (wrapper("date"), format!("toJSONString({before})")),
        (wrapper("numberDecimal"), inner("numberDecimal")),
        (wrapper("numberDouble"), inner("numberDouble")),
        (format!("{} AND {is_uuid}", wrapper("binary")), format!("toJSONString({uuid})")),
        (wrapper("binary"), format!("toJSONString({bytes})")),
        (wrapper("symbol"), inner("symbol")),
        (format!("{} AND JSONLength(raw.2) = 1", wrapper("code")), inner("code")),
        (as_text.join(" OR "), "toJSONString(raw.2)".to_owned()),
    ];
    let arms = arms.map(|(condition, value)| format!("    {condition}, {value},\n"));
    format!(
        "arrayMap((raw, read) -> multiIf(\n{}    ''),\n    \
         raws, JSONExtractKeysAndValues(value, image, 'Dynamic'))",
        arms.concat(),
    )
}
