//! How records of topics become events, by what a config says of them.

use std::sync::Arc;

use tailwater_core::config::{Config, Kafka};
use tailwater_core::reading::Reading;
use tailwater_core::rows::Namespace;
use tailwater_core::scope::Scope;

/// Makes events of records, whoever wrote them.
pub(crate) fn of(config: &Config, kafka: &Kafka) -> Reading {
    let scopes = config.mongodb.iter().flat_map(|mongodb| &mongodb.scopes);
    let known: Vec<(Arc<str>, Namespace)> = scopes
        .filter_map(|scope| match scope {
            Scope::Collection { db, coll } => {
                let topic = kafka.topics.raw.topic(db, coll)?;
                Some((topic, Namespace { db: db.clone(), coll: coll.clone() }))
            }
            _ => None,
        })
        .collect();
    Reading::new(Arc::new(move |topic: &str| {
        let found = known.iter().find(|(name, _)| **name == *topic);
        found.map(|(_, namespace)| namespace.clone())
    }))
}
