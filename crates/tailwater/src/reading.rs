//! How records of topics become events, by what a config says of them.

use std::sync::Arc;

use tailwater_core::config::{Config, Kafka};
use tailwater_core::reading::Reading;
use tailwater_core::rows::Namespace;
use tailwater_core::scope::Scope;

/// Makes events of records, whoever wrote them. Those that do not say of which collection they are, are
/// of the one that is watched and has their topic, or else of the one that the topic's name tells.
pub(crate) fn of(config: &Config, kafka: &Kafka) -> Reading {
    let naming = kafka.topics.raw.clone();
    let scopes = config.mongodb.iter().flat_map(|mongodb| &mongodb.scopes);
    let known: Vec<(Arc<str>, Namespace)> = scopes
        .filter_map(|scope| match scope {
            Scope::Collection { db, coll } => {
                let topic = naming.topic(db, coll)?;
                Some((topic, Namespace { db: db.clone(), coll: coll.clone() }))
            }
            _ => None,
        })
        .collect();
    Reading::new(Arc::new(move |topic: &str| {
        let found = known.iter().find(|(name, _)| **name == *topic);
        let watched = found.map(|(_, namespace)| namespace.clone());
        let named = || naming.collection(topic).map(|(db, coll)| Namespace { db, coll });
        watched.or_else(named)
    }))
}
