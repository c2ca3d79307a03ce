//! Parts: which parts of Tailwater a config names, and what each of them needs.

use super::{ClickHouse, Config, Kafka, MongoDb, Normalizer, Output};
use crate::scope::Scope;
use crate::{Error, ErrorKind, Result};

/// The parts that run side by side where there is a Kafka; in direct mode the source and the sink
/// are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Parts {
    /// From MongoDB.
    pub source: bool,
    /// From raw topics to the normalized topic.
    pub normalize: bool,
    /// Into ClickHouse.
    pub sink: bool,
}

impl Parts {
    /// Whether one of them writes by transactions, and says in the checkpoint topic how far it is.
    pub const fn have_checkpoints(self) -> bool {
        self.source || self.normalize
    }
}

/// What there is to read of Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The topics of collections: names, and regexes that begin with `^`.
    pub topics: Vec<String>,
    /// The collections whose events count, since regexes may match topics of others too: events of
    /// them or of their databases, and what is renamed into them. `None`: all that is in the topics.
    pub scopes: Option<Vec<Scope>>,
}

impl Config {
    /// The topics of collections to read, those that are named or those that the source writes;
    /// `None` where there is no Kafka, or no such topic.
    pub fn reading(&self) -> Option<Reading> {
        let topics = &self.kafka.as_ref()?.topics;
        if let Some(read) = &topics.read {
            return Some(Reading { topics: read.clone(), scopes: None });
        }
        let scopes = &self.mongodb.as_ref()?.scopes;
        Some(Reading { topics: topics.raw.subscription(scopes), scopes: Some(scopes.clone()) })
    }

    /// The parts that it names.
    pub fn parts(&self) -> Parts {
        let to_topic = |normalizer: &Normalizer| normalizer.output == Output::Topic;
        Parts {
            source: self.mongodb.is_some(),
            normalize: self.kafka.is_some() && self.normalizer.as_ref().is_some_and(to_topic),
            sink: self.clickhouse.is_some(),
        }
    }

    /// The section, for a part that reads MongoDB.
    ///
    /// # Errors
    /// `Config` where there is none.
    pub fn require_mongodb(&self) -> Result<&MongoDb> {
        self.mongodb.as_ref().ok_or_else(|| {
            lacks(
                "mongodb",
                "add `mongodb: { uri: …, collections: [db.coll] }`, or run other parts",
            )
        })
    }

    /// The section, for a part that needs a Kafka.
    ///
    /// # Errors
    /// `Config` where there is none.
    pub fn require_kafka(&self) -> Result<&Kafka> {
        self.kafka.as_ref().ok_or_else(|| {
            lacks(
                "kafka",
                "add `kafka: { bootstrap_servers: … }`; without a Kafka there are no parts to run \
                 apart: `tailwater run` runs everything",
            )
        })
    }

    /// The section, for the part that fills the normalized topic.
    ///
    /// # Errors
    /// `Config` where there is none, or its events go elsewhere.
    pub fn require_normalizer(&self) -> Result<&Normalizer> {
        match &self.normalizer {
            Some(normalizer) if normalizer.output == Output::Topic => Ok(normalizer),
            Some(_) => Err(Error::new(
                ErrorKind::Config,
                "there is nothing for `normalize` to do: the mapping is applied in the sink",
            )
            .with_hint("write `output: topic` in `normalizer`, or run other parts")),
            None => Err(lacks(
                "normalizer",
                "add `normalizer: { mapping: mapping.yaml, output: topic }`, or run other parts",
            )),
        }
    }

    /// The section, for a part that writes rows.
    ///
    /// # Errors
    /// `Config` where there is none.
    pub fn require_clickhouse(&self) -> Result<&ClickHouse> {
        self.clickhouse.as_ref().ok_or_else(|| {
            lacks(
                "clickhouse",
                "add `clickhouse: { url: … }` or `clickhouse: { embedded: true }`, or run other parts",
            )
        })
    }
}

fn lacks(section: &str, mend: &'static str) -> Error {
    Error::new(ErrorKind::Config, format!("the config has no section `{section}`")).with_hint(mend)
}
