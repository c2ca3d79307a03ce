//! Extended JSON, canonical or relaxed, read by the `bson` crate. Ours is only that fields keep their
//! order, which `serde_json`'s values forget.

use std::fmt;

use bson::{Bson, Document};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// Reads a document.
pub(super) fn document(json: &[u8]) -> anyhow::Result<Document> {
    match bson(serde_json::from_slice(json)?)? {
        Bson::Document(document) => Ok(document),
        other => anyhow::bail!("no document but {other}"),
    }
}

/// Reads plain JSON as JSON columns show it: of a name the dots are `%2E`, and of equal names the last
/// counts.
pub(super) fn columns(json: &[u8]) -> anyhow::Result<Value> {
    Ok(shown(serde_json::from_slice(json)?))
}

fn shown(json: Json) -> Value {
    match json {
        Json::Scalar(value) => value,
        Json::List(items) => items.into_iter().map(shown).collect(),
        Json::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name.replace('.', "%2E"), shown(value)))
            .collect(),
    }
}

fn bson(json: Json) -> anyhow::Result<Bson> {
    Ok(match json {
        Json::Scalar(value) => Bson::try_from(value)?,
        Json::List(items) => {
            Bson::Array(items.into_iter().map(bson).collect::<anyhow::Result<_>>()?)
        }
        Json::Object(fields) if fields.iter().any(|(name, _)| name.starts_with('$')) => {
            // A wrapper, in which no order counts.
            match Bson::try_from(Value::from(Json::Object(fields.clone())))? {
                Bson::Document(_) => in_order(fields)?,
                value => value,
            }
        }
        Json::Object(fields) => in_order(fields)?,
    })
}

fn in_order(fields: Vec<(String, Json)>) -> anyhow::Result<Bson> {
    let mut document = Document::new();
    for (name, value) in fields {
        document.insert(name, bson(value)?);
    }
    Ok(Bson::Document(document))
}

#[derive(Debug, Clone)]
enum Json {
    Scalar(Value),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Scalar(value) => value,
            Json::List(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not finite"))?;
        Ok(Json::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Json::Object(object))
    }
}
