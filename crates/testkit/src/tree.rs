//! BSON as a tree of bytes, for the judge alone: equal names stay, and text that is not UTF-8.
//!
//! Never calls the product's crates. Source of the sizes: bsonspec.org, version 1.1.

use std::fmt;

use anyhow::{Context as _, bail, ensure};
use bson::{Bson, Document, doc};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The fields of a document, in their order.
pub type Fields = Vec<(Vec<u8>, Node)>;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A document.
    Document(Fields),
    /// An array; the names of its items are 0, 1, ….
    Array(Vec<Self>),
    /// A string, code or symbol: its type and its bytes.
    Text(u8, Vec<u8>),
    /// Code with its scope.
    Scoped(Vec<u8>, Fields),
    /// Anything else: its type and its bytes.
    Scalar(u8, Vec<u8>),
}

/// String, code and symbol.
const TEXTS: [u8; 3] = [0x02, 0x0d, 0x0e];
/// The names of Extended JSON's wrappers, but `$code` with `$scope`.
const WRAPPERS: [&str; 15] = [
    "$binary",
    "$code",
    "$date",
    "$dbPointer",
    "$maxKey",
    "$minKey",
    "$numberDecimal",
    "$numberDouble",
    "$numberInt",
    "$numberLong",
    "$oid",
    "$regularExpression",
    "$symbol",
    "$timestamp",
    "$undefined",
];
const DOUBLE: u8 = 0x01;
const BINARY: u8 = 0x05;
const REGEX: u8 = 0x0b;
const DECIMAL: u8 = 0x13;

/// Reads a document.
///
/// # Errors
///
/// When it is none.
pub fn read(bytes: &[u8]) -> anyhow::Result<Fields> {
    let mut rest = bytes;
    let fields = take_fields(&mut rest)?;
    ensure!(rest.is_empty(), "{} bytes behind a document", rest.len());
    Ok(fields)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> anyhow::Result<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count).context("a value is cut off")?;
    *rest = after;
    Ok(taken)
}

fn take_length(rest: &mut &[u8]) -> anyhow::Result<usize> {
    Ok(u32::from_le_bytes(take(rest, 4)?.try_into()?).try_into()?)
}

fn take_name<'a>(rest: &mut &'a [u8]) -> anyhow::Result<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0).context("a name without end")?;
    let name = take(rest, end)?;
    take(rest, 1)?;
    Ok(name)
}

fn take_text(rest: &mut &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = take_length(rest)?;
    let (end, text) = take(rest, length)?.split_last().context("a string without end")?;
    ensure!(*end == 0, "a string without end");
    Ok(text.to_vec())
}

fn take_fields(rest: &mut &[u8]) -> anyhow::Result<Fields> {
    let length = take_length(&mut &**rest)?;
    let mut body = take(rest, length)?.strip_suffix(&[0]).context("a document without end")?;
    take(&mut body, 4)?;
    let mut fields = Fields::new();
    while !body.is_empty() {
        let kind = take(&mut body, 1)?[0];
        let name = take_name(&mut body)?.to_vec();
        fields.push((name, take_value(&mut body, kind)?));
    }
    Ok(fields)
}

fn take_value(rest: &mut &[u8], kind: u8) -> anyhow::Result<Node> {
    let length = match kind {
        0x03 => return Ok(Node::Document(take_fields(rest)?)),
        0x04 => {
            let items = take_fields(rest)?;
            return Ok(Node::Array(items.into_iter().map(|(_, item)| item).collect()));
        }
        0x0f => {
            take(rest, 4)?;
            return Ok(Node::Scoped(take_text(rest)?, take_fields(rest)?));
        }
        kind if TEXTS.contains(&kind) => return Ok(Node::Text(kind, take_text(rest)?)),
        0x05 => 5 + take_length(&mut &**rest)?,
        REGEX => {
            let mut after = *rest;
            take_name(&mut after)?;
            take_name(&mut after)?;
            rest.len() - after.len()
        }
        0x0c => 4 + take_length(&mut &**rest)? + 12,
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x06 | 0x0a | 0x7f | 0xff => 0,
        0x07 => 12,
        0x08 => 1,
        0x10 => 4,
        0x13 => 16,
        _ => bail!("type {kind:#x} is unknown"),
    };
    Ok(Node::Scalar(kind, take(rest, length)?.to_vec()))
}

/// The bytes of a document.
///
/// # Panics
///
/// When it is longer than a BSON document can say.
pub fn write(fields: &[(Vec<u8>, Node)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_fields(fields, &mut out);
    out
}

fn put_fields(fields: &[(Vec<u8>, Node)], out: &mut Vec<u8>) {
    framed(out, |out| fields.iter().for_each(|(name, node)| put(name, node, out)));
}

fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    out.push(0);
    set_length(out, start);
}

fn set_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).expect("a document is below 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(text.len() + 1).expect("a string is below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text);
    out.push(0);
}

fn put(name: &[u8], node: &Node, out: &mut Vec<u8>) {
    let kind = match node {
        Node::Document(_) => 0x03,
        Node::Array(_) => 0x04,
        Node::Scoped(..) => 0x0f,
        Node::Text(kind, _) | Node::Scalar(kind, _) => *kind,
    };
    out.push(kind);
    out.extend_from_slice(name);
    out.push(0);
    match node {
        Node::Document(fields) => put_fields(fields, out),
        Node::Array(items) => framed(out, |out| {
            for (index, item) in items.iter().enumerate() {
                put(index.to_string().as_bytes(), item, out);
            }
        }),
        Node::Text(_, text) => put_text(text, out),
        Node::Scoped(code, scope) => {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            put_text(code, out);
            put_fields(scope, out);
            set_length(out, start);
        }
        Node::Scalar(_, bytes) => out.extend_from_slice(bytes),
    }
}

/// The value of the first field of that name.
pub fn get<'a>(fields: &'a [(Vec<u8>, Node)], name: &str) -> Option<&'a Node> {
    fields.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, node)| node)
}

/// The same as far as canonical Extended JSON can say it: [`sound`], with U+FFFD for what is not
/// UTF-8, and the right inner length of old binaries.
pub fn lossy(fields: &[(Vec<u8>, Node)]) -> Fields {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned().into_bytes();
    let said = |(name, node): &(Vec<u8>, Node)| (text(name), mapped(node, &text));
    let mut fields: Fields = fields.iter().map(said).collect();
    fields.iter_mut().for_each(|(_, node)| mend_binaries(node));
    fields
}

/// The same with one NaN for all, and zero for a decimal of too many digits, which counts as that.
pub fn sound(node: &Node) -> Node {
    mapped(node, &<[u8]>::to_vec)
}

fn mapped(node: &Node, text: &impl Fn(&[u8]) -> Vec<u8>) -> Node {
    let all = |fields: &Fields| -> Fields {
        fields.iter().map(|(name, node)| (text(name), mapped(node, text))).collect()
    };
    match node {
        Node::Document(fields) => Node::Document(all(fields)),
        Node::Array(items) => Node::Array(items.iter().map(|item| mapped(item, text)).collect()),
        Node::Text(kind, content) => Node::Text(*kind, text(content)),
        Node::Scoped(code, scope) => Node::Scoped(text(code), all(scope)),
        // Its two texts end with zeros, which are UTF-8.
        Node::Scalar(REGEX, bytes) => Node::Scalar(REGEX, text(bytes)),
        Node::Scalar(DOUBLE, bytes) => Node::Scalar(DOUBLE, one_nan(bytes)),
        Node::Scalar(DECIMAL, bytes) => Node::Scalar(DECIMAL, sound_decimal(bytes)),
        Node::Scalar(kind, bytes) => Node::Scalar(*kind, bytes.clone()),
    }
}

fn one_nan(bytes: &[u8]) -> Vec<u8> {
    match bytes.try_into().map(f64::from_le_bytes) {
        Ok(double) if double.is_nan() => f64::NAN.to_le_bytes().to_vec(),
        _ => bytes.to_vec(),
    }
}

/// Puts the right inner length into old binaries where it is wrong.
fn mend_binaries(node: &mut Node) {
    match node {
        Node::Document(fields) | Node::Scoped(_, fields) => {
            fields.iter_mut().for_each(|(_, node)| mend_binaries(node));
        }
        Node::Array(items) => items.iter_mut().for_each(mend_binaries),
        Node::Scalar(BINARY, bytes) if bytes[4] == 2 => {
            let content = bytes[5..].to_vec();
            let mut rest = content.as_slice();
            if take_length(&mut rest).ok() != Some(rest.len()) || content.len() < 4 {
                let length = u32::try_from(content.len()).unwrap_or_default();
                let (outer, inner) = ((length + 4).to_le_bytes(), length.to_le_bytes());
                *bytes = [&outer[..], &[2], &inner, &content].concat();
            }
        }
        _ => {}
    }
}

fn sound_decimal(bytes: &[u8]) -> Vec<u8> {
    let bits = bytes.try_into().map(u128::from_le_bytes).unwrap_or_default();
    let sign = bits >> 127 << 127;
    let sound = match bits >> 122 & 0x1f {
        0x1f => 0x1f << 122,
        0x1e => sign | 0x1e << 122,
        // Coefficients beyond 34 digits count as zero.
        0x18.. => sign | (bits >> 111 & 0x3fff) << 113,
        _ if bits & ((1 << 113) - 1) >= 10_u128.pow(34) => bits >> 113 << 113,
        _ => bits,
    };
    sound.to_le_bytes().to_vec()
}

/// The document as the `bson` crate has it: [`lossy`], and of equal names the last.
///
/// # Errors
///
/// When the crate refuses it.
pub fn decode(fields: &[(Vec<u8>, Node)]) -> anyhow::Result<Document> {
    Ok(Document::from_reader(write(&lossy(fields)).as_slice())?)
}

/// Reads JSON, however deep.
///
/// # Errors
///
/// When it is none.
pub fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> anyhow::Result<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.disable_recursion_limit();
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads canonical Extended JSON of a document, however deep.
///
/// # Errors
///
/// When it is none.
pub fn read_json(text: &str) -> anyhow::Result<Fields> {
    match parse(text)? {
        Json::Object(fields) => document(fields),
        other => bail!("no object but {other:.100?}"),
    }
}

fn document(fields: Vec<(String, Json)>) -> anyhow::Result<Fields> {
    fields.into_iter().map(|(name, value)| Ok((name.into_bytes(), node(value)?))).collect()
}

fn node(json: Json) -> anyhow::Result<Node> {
    Ok(match json {
        Json::Null => Node::Scalar(0x0a, Vec::new()),
        Json::Bool(value) => Node::Scalar(0x08, vec![value.into()]),
        Json::Text(text) => Node::Text(0x02, text.into_bytes()),
        Json::List(items) => Node::Array(items.into_iter().map(node).collect::<Result<_, _>>()?),
        Json::Number(number) => bail!("a bare number: {number}"),
        Json::Object(fields) => wrapped(fields)?,
    })
}

/// Whether some document has the names of a wrapper: as Extended JSON nobody can tell it from what
/// that stands for.
pub fn has_wrapper(node: &Node) -> bool {
    let within = |fields: &Fields| fields.iter().any(|(_, node)| has_wrapper(node));
    match node {
        Node::Document(fields) => {
            let names: Vec<&[u8]> = fields.iter().map(|(name, _)| name.as_slice()).collect();
            let wrapper = match names[..] {
                [b"$code", b"$scope"] => true,
                [name] => WRAPPERS.iter().any(|wrapper| wrapper.as_bytes() == name),
                _ => false,
            };
            wrapper || within(fields)
        }
        Node::Array(items) => items.iter().any(has_wrapper),
        Node::Scoped(_, scope) => within(scope),
        Node::Text(..) | Node::Scalar(..) => false,
    }
}

/// What a wrapper stands for, or the document that is none.
fn wrapped(mut fields: Vec<(String, Json)>) -> anyhow::Result<Node> {
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let text = |json: Option<Json>| match json {
        Some(Json::Text(text)) => Ok(text.into_bytes()),
        other => bail!("{other:.100?} where a text belongs"),
    };
    Ok(match names[..] {
        // The most frequent ones, without the way through the `bson` crate.
        ["$numberInt"] if let [(_, Json::Text(digits))] = &fields[..] => {
            Node::Scalar(0x10, digits.parse::<i32>()?.to_le_bytes().to_vec())
        }
        ["$code"] => Node::Text(0x0d, text(fields.pop().map(|(_, value)| value))?),
        ["$symbol"] => Node::Text(0x0e, text(fields.pop().map(|(_, value)| value))?),
        ["$code", "$scope"] => match (fields.pop(), fields.pop()) {
            (Some((_, Json::Object(scope))), Some((_, code))) => {
                Node::Scoped(text(Some(code))?, document(scope)?)
            }
            _ => bail!("code with a scope that is no document"),
        },
        ["$regularExpression"] => match fields.pop() {
            Some((_, Json::Object(mut parts))) if parts.len() == 2 => {
                let options = text(parts.pop().map(|(_, options)| options))?;
                let pattern = text(parts.pop().map(|(_, pattern)| pattern))?;
                Node::Scalar(REGEX, [pattern, vec![0], options, vec![0]].concat())
            }
            other => bail!("no regular expression: {other:.100?}"),
        },
        [name] if WRAPPERS.contains(&name) => {
            let mut json = Value::from(Json::Object(fields));
            let one_digit = json["$binary"]["subType"] == "2";
            if one_digit {
                json["$binary"]["subType"] = "02".into();
            }
            let value = Bson::try_from(json)?;
            if let (true, Bson::Binary(binary)) = (one_digit, &value) {
                // An old binary without a right inner length.
                let length = u32::try_from(binary.bytes.len())?.to_le_bytes();
                return Ok(Node::Scalar(BINARY, [&length[..], &[2], &binary.bytes].concat()));
            }
            let whole = doc! { "": value }.to_vec()?;
            // Length, type and the empty name before it, a zero behind it.
            Node::Scalar(whole[4], whole[6..whole.len() - 1].to_vec())
        }
        _ => Node::Document(document(fields)?),
    })
}

/// JSON that keeps equal names.
#[derive(Debug)]
enum Json {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => value.into(),
            Json::Number(number) => number.into(),
            Json::Text(text) => text.into(),
            Json::List(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("canonical Extended JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Json, E> {
        i64::try_from(number).map(Json::Number).map_err(E::custom)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

/// What an `_id` with this text is, up to int32 and int64, which share theirs. That every text can be
/// read says that no two ids share one.
///
/// # Errors
///
/// When it is the text of no `_id`.
pub fn read_id(text: &[u8]) -> anyhow::Result<Node> {
    // A character for each byte, so that JSON need not be UTF-8, and one beyond them for the `$` of a
    // name that makes no wrapper.
    let one_each: String = text.iter().map(|byte| char::from(*byte)).collect();
    let json = one_each.replace("\"\\u0024", "\"\u{100}");
    Ok(match text {
        [b'{' | b'[' | b'"', ..] => {
            let mut fields = read_json(&format!("{{\"\":{json}}}"))?;
            bytes_again(fields.pop().context("no value")?.1)
        }
        b"true" | b"false" => Node::Scalar(0x08, vec![(text == b"true").into()]),
        b"null" => Node::Scalar(0x0a, Vec::new()),
        _ => match one_each.parse::<i64>() {
            Ok(number) if number.to_string() == one_each => integer(number),
            _ if text.len() == 24 && !one_each.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                match hex::decode(text) {
                    Ok(id) => Node::Scalar(0x07, id),
                    Err(_) => Node::Text(0x02, text.to_vec()),
                }
            }
            _ => Node::Text(0x02, text.to_vec()),
        },
    })
}

fn integer(number: i64) -> Node {
    Node::Scalar(0x12, number.to_le_bytes().to_vec())
}

fn bytes_again(node: Node) -> Node {
    let bytes = |text: Vec<u8>| -> Vec<u8> {
        let text = String::from_utf8_lossy(&text);
        text.chars().map(|character| u8::try_from(character).unwrap_or(b'$')).collect()
    };
    let again = |fields: Fields| -> Fields {
        fields.into_iter().map(|(name, node)| (bytes(name), bytes_again(node))).collect()
    };
    match node {
        Node::Document(fields) => Node::Document(again(fields)),
        Node::Array(items) => Node::Array(items.into_iter().map(bytes_again).collect()),
        Node::Text(kind, text) => Node::Text(kind, bytes(text)),
        Node::Scoped(code, scope) => Node::Scoped(bytes(code), again(scope)),
        Node::Scalar(REGEX, parts) => Node::Scalar(REGEX, bytes(parts)),
        scalar => scalar,
    }
}

/// An `_id` as far as its text tells: the text does not tell int32 from int64.
pub fn as_id(node: &Node) -> Node {
    match node {
        Node::Scalar(0x10, bytes) => {
            integer(i32::from_le_bytes(bytes.as_slice().try_into().unwrap_or_default()).into())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Binary, DateTime, JavaScriptCodeWithScope, Timestamp, oid::ObjectId};

    #[test]
    fn a_document_reads_and_writes_as_its_bytes() {
        let repeated = b"\x15\0\0\0\x10a\0\x01\0\0\0\x02a\0\x02\0\0\0\xff\0\0";
        let fields = read(repeated).unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(write(&fields), repeated);
        assert_eq!(decode(&fields).unwrap(), doc! { "a": "\u{fffd}" });
        assert!(read(&repeated[..20]).is_err());
    }

    #[test]
    fn an_id_reads_back_from_its_text() {
        let text = |text: &[u8]| Node::Text(0x02, text.to_vec());
        assert_eq!(read_id(b"7").unwrap(), integer(7));
        assert_eq!(read_id(b"\"7\"").unwrap(), text(b"7"));
        assert_eq!(read_id(b"07").unwrap(), text(b"07"));
        assert_eq!(read_id(b"\xff").unwrap(), text(b"\xff"));
        assert_eq!(read_id(b"\"{\xff\"").unwrap(), text(b"{\xff"));
        let object_id = b"abababababababababababab";
        assert_eq!(read_id(object_id).unwrap(), Node::Scalar(0x07, vec![0xab; 12]));
        let wrapper = read_id(br#"{"a":{"$oid":"abababababababababababab"}}"#).unwrap();
        let document = read_id(br#"{"a":{"\u0024oid":"abababababababababababab"}}"#).unwrap();
        assert_eq!(
            wrapper,
            Node::Document(vec![(b"a".into(), Node::Scalar(0x07, vec![0xab; 12]))])
        );
        let inner = Node::Document(vec![(b"$oid".into(), text(object_id))]);
        assert_eq!(document, Node::Document(vec![(b"a".into(), inner)]));
    }

    #[test]
    fn canonical_json_reads_as_the_bytes_that_it_says() {
        let document = doc! {
            "int": 1, "long": i64::MIN, "double": -0.0, "nan": f64::NAN, "text": "x\u{0}\"",
            "old": Binary { subtype: bson::spec::BinarySubtype::BinaryOld, bytes: vec![1, 2] },
            "date": DateTime::from_millis(i64::MIN), "id": ObjectId::from_bytes([1; 12]),
            "nested": { "$price": [1, null, true, { "": {} }] }, "min": Bson::MinKey,
            "time": Timestamp { time: 1, increment: u32::MAX },
            "code": JavaScriptCodeWithScope { code: "c".into(), scope: doc! { "x": 1 } },
            "regex": bson::Regex { pattern: "a".try_into().unwrap(), options: "i".try_into().unwrap() },
            "undefined": Bson::Undefined, "symbol": Bson::Symbol("s".into()),
            "decimal": "9.999E+6144".parse::<bson::Decimal128>().unwrap(),
        };
        let text = crate::contract::canonical_json(&Bson::Document(document.clone()));
        assert_eq!(write(&read_json(&text).unwrap()), document.to_vec().unwrap());
        let repeated = read_json(r#"{"a":{"$numberInt":"1"},"a":"x"}"#).unwrap();
        assert_eq!(repeated.len(), 2);
        assert!(read_json(r#"{"a":1}"#).is_err());
    }
}
