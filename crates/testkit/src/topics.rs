//! Which topics hold which change, and in how many copies. The judge's own reading of the contract.
//!
//! ```text
//!   change of a document ─▶ the topic of its collection, one copy
//!   drop, dropDatabase   ─▶ a copy in each partition
//!   rename               ─▶ a copy in each partition of the old topic, and of the new one
//! ```
//!
//! A topic holds what the stream that watches its collection hears, and nothing else.

mod extended_json;
mod normalized;
mod raw;
#[cfg(test)]
mod tests;
mod values;

use crate::truth::Event;
use crate::watch::Watch;

pub use normalized::NormalizedJudge;
pub use raw::RawJudge;

/// What the topics of a pipeline are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Of each topic.
    pub partitions: u32,
    /// The topic of normalized events, where the rows of `record_raw` come from there.
    pub normalized: Option<String>,
}

/// The copies of a change in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The topic.
    pub topic: String,
    /// Whether there is one in each partition, or just one.
    pub everywhere: bool,
    /// Whether one of them makes a row.
    pub row: bool,
}

/// The topic of a collection, or of a database.
pub fn raw(database: &str, collection: &str) -> String {
    match collection {
        "" => format!("events.mongo.{database}"),
        _ => format!("events.mongo.{database}.{collection}"),
    }
}

/// Whether a topic is one of [`raw()`].
pub fn is_raw(topic: &str) -> bool {
    topic.starts_with("events.mongo.")
}

impl Topics {
    /// Where a change must be.
    pub fn copies(&self, watch: &Watch, event: &Event) -> Vec<Copies> {
        if watch.stream_of(event).is_none() {
            return Vec::new();
        }
        let topic = raw(&event.database, &event.collection);
        let everywhere = matches!(event.operation.as_str(), "drop" | "dropDatabase" | "rename");
        let Some((database, collection)) = event.renamed_to() else {
            return vec![Copies { topic, everywhere, row: true }];
        };
        let names = [(event.database.as_str(), event.collection.as_str()), (database, collection)];
        let mut copies: Vec<Copies> = Vec::new();
        for (database, collection) in names {
            if watch.streams().iter().any(|stream| stream.covers(database, collection)) {
                let (topic, row) = (raw(database, collection), copies.is_empty());
                copies.push(Copies { topic, everywhere, row });
            }
        }
        copies
    }

    /// The topic from which the row of a change comes.
    pub fn of_row(&self, watch: &Watch, event: &Event) -> Option<String> {
        match &self.normalized {
            Some(normalized) => watch.stream_of(event).map(|_| normalized.clone()),
            None => self.copies(watch, event).into_iter().next().map(|copies| copies.topic),
        }
    }
}
