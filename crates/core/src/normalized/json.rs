//! The JSON of a normalized event: that of the guide, and what a row needs besides.
//!
//! Written so that it reads back as the same row. Read also where the guide's own consumer wrote it,
//! which has neither `op` nor `doc_id`, `version` and `mapping`, a time in any form, and Extended JSON
//! where the change event had it.

use crate::bson::{BsonError, Doc, Value};
use crate::decode::{self, date};
use crate::ejson::{self, date::Fraction};
use crate::json_column::text;
use crate::mapping::Fields;
use crate::position::Millis;
use crate::record::Record;
use crate::rows::Rejection;

use super::NormalizedEvent;

/// Numbers from here on are milliseconds, below it seconds: the year 5138, and March of 1973.
const MILLIS_FROM: f64 = 1e11;

impl NormalizedEvent {
    /// Appends the event as JSON.
    ///
    /// # Errors
    /// When the fields are not BSON; then `out` holds a part.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), BsonError> {
        out.extend_from_slice(b"{\"ts\":\"");
        ejson::date::write(self.ts.0, Fraction::Always, out);
        out.extend_from_slice(b"\",\"source\":\"mongo\",\"ns\":{\"db\":");
        string(&self.db, out)?;
        out.extend_from_slice(b",\"coll\":");
        string(&self.coll, out)?;
        out.push(b'}');
        let field = |name: &str, value: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            string(value, out)
        };
        field("event_type", &self.event_type, out)?;
        field("idempotency_key", &self.idempotency_key, out)?;
        out.extend_from_slice(b",\"tags\":");
        text::document(self.tags.document(), out)?;
        out.extend_from_slice(b",\"attrs\":");
        text::document(self.attrs.document(), out)?;
        field("op", &self.op, out)?;
        field("doc_id", &self.doc_id, out)?;
        // As text: hardly any reader keeps 128 bits of a number.
        field("version", itoa::Buffer::new().format(self.version), out)?;
        field("mapping", &self.mapping, out)?;
        if self.superseded {
            out.extend_from_slice(b",\"superseded\":true");
        }
        if let Some(raw) = &self.raw {
            field("raw", raw, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    /// Reads a record of the normalized topic.
    ///
    /// # Errors
    /// As [`Self::read_json`].
    pub fn read(record: &Record) -> Result<Self, Rejection> {
        match &record.value {
            Some(value) => Self::read_json(value, record.timestamp),
            None => Err(wrong("it has no value")),
        }
    }

    /// Reads the JSON of an event; `timestamp` is the time of one that names none.
    ///
    /// # Errors
    /// A rejection, when it is no JSON, or not that of a normalized event.
    pub fn read_json(text: &[u8], timestamp: Option<Millis>) -> Result<Self, Rejection> {
        let not_json =
            |error: decode::JsonError| Rejection { reason: "not_json", error: error.to_string() };
        let mut bytes = Vec::new();
        decode::plain(text, &mut bytes).map_err(not_json)?;
        // Our own has plain values, in which a document is a document. Another program's has what it
        // found in a change event.
        if !matches!(frame(&bytes)?.get("mapping"), Ok(Some(Value::String(_)))) {
            bytes.clear();
            decode::document(text, &mut bytes).map_err(not_json)?;
        }
        let event = Read(frame(&bytes)?);
        let (op, event_type) = (event.text("op")?, event.text("event_type")?);
        let (Some(op), Some(event_type)) = (op.or(event_type), event_type.or(op)) else {
            return Err(wrong("it has neither `event_type` nor `op`"));
        };
        let (db, coll) = event.namespace()?;
        let or_empty = |name| Ok::<_, Rejection>(event.text(name)?.unwrap_or_default().to_owned());
        Ok(Self {
            ts: event.ts(timestamp)?,
            event_type: event_type.to_owned(),
            db: db.to_owned(),
            coll: coll.to_owned(),
            idempotency_key: or_empty("idempotency_key")?,
            tags: event.fields("tags")?,
            attrs: event.fields("attrs")?,
            doc_id: or_empty("doc_id")?,
            op: op.to_owned(),
            version: event.version()?,
            raw: event.text("raw")?.map(str::to_owned),
            superseded: event.get("superseded")? == Some(Value::Bool(true)),
            mapping: or_empty("mapping")?,
        })
    }
}

/// What was read.
struct Read<'d>(Doc<'d>);

impl<'d> Read<'d> {
    /// The value of a field that is there, and not null.
    fn get(&self, name: &str) -> Result<Option<Value<'d>>, Rejection> {
        let value = self.0.get(name).map_err(|_| wrong("it is not BSON"))?;
        Ok(value.filter(|value| !matches!(value, Value::Null | Value::Undefined)))
    }

    fn text(&self, name: &str) -> Result<Option<&'d str>, Rejection> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::String(text)) => {
                str::from_utf8(text).map(Some).map_err(|_| wrong(&format!("`{name}` is not UTF-8")))
            }
            Some(_) => Err(wrong(&format!("`{name}` is no string"))),
        }
    }

    fn namespace(&self) -> Result<(&'d str, &'d str), Rejection> {
        if let Some(Value::Document(ns)) = self.get("ns")?
            && let Some(db) = Self(ns).text("db")?.filter(|db| !db.is_empty())
        {
            return Ok((db, Self(ns).text("coll")?.unwrap_or_default()));
        }
        let error = "a normalized event without `ns.db`".to_owned();
        Err(Rejection { reason: "no_namespace", error })
    }

    fn ts(&self, timestamp: Option<Millis>) -> Result<Millis, Rejection> {
        let number = |number: f64| {
            let millis = if number.abs() < MILLIS_FROM { number * 1000.0 } else { number };
            Millis(millis as i64)
        };
        let ts = match self.get("ts")? {
            None => timestamp,
            Some(Value::String(text)) => {
                // Without an offset it is meant as UTC.
                let utc = || date::parse(&[text, b"Z"].concat());
                date::parse(text).or_else(utc).map(Millis)
            }
            Some(Value::DateTime(millis)) => Some(Millis(millis)),
            Some(Value::Timestamp { t, .. }) => Some(Millis(i64::from(t) * 1000)),
            Some(Value::Int32(seconds)) => Some(number(seconds.into())),
            // All that are below are exact in a double.
            Some(Value::Int64(millis)) if (millis as f64).abs() >= MILLIS_FROM => {
                Some(Millis(millis))
            }
            Some(Value::Int64(seconds)) => Some(number(seconds as f64)),
            Some(Value::Double(seconds)) if seconds.is_finite() => Some(number(seconds)),
            Some(_) => None,
        };
        ts.ok_or_else(|| wrong("`ts` is no time"))
    }

    fn version(&self) -> Result<u128, Rejection> {
        let version = match self.get("version")? {
            None => Some(0),
            Some(Value::String(text)) => {
                str::from_utf8(text).ok().and_then(|text| text.parse().ok())
            }
            Some(Value::Int32(number)) => u128::try_from(number).ok(),
            Some(Value::Int64(number)) => u128::try_from(number).ok(),
            Some(_) => None,
        };
        version.ok_or_else(|| wrong("`version` is no whole number"))
    }

    fn fields(&self, name: &str) -> Result<Fields, Rejection> {
        match self.get(name)? {
            None => Ok(Fields::of_elements(&[])),
            Some(Value::Document(fields)) => {
                Fields::without_nulls(fields).map_err(|_| wrong("it is not BSON"))
            }
            Some(_) => Err(wrong(&format!("`{name}` is no object"))),
        }
    }
}

fn frame(bytes: &[u8]) -> Result<Doc<'_>, Rejection> {
    Doc::new(bytes).map_err(|_| wrong("it is not BSON"))
}

fn string(text: &str, out: &mut Vec<u8>) -> Result<(), BsonError> {
    ejson::canonical_value(&Value::String(text.as_bytes()), out)
}

fn wrong(why: &str) -> Rejection {
    Rejection { reason: "not_normalized", error: format!("no normalized event: {why}") }
}
