//! The values of a topic's records: chunks are joined, JSON is read by parsers that are nobody's own.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};
use bson::Document;
use serde::de::IgnoredAny;

use super::extended_json;
use crate::kafka::Record;

/// A partition, and whose document it is: its collection and its key.
type Place = (u32, Option<(Vec<u8>, Vec<u8>)>);

/// Joins the chunks of a topic. The records of a partition must come in their order.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Whether records of others may stand between two chunks.
    company: bool,
    /// By partition and document.
    parts: HashMap<Place, Vec<Vec<u8>>>,
}

impl Chunks {
    /// Of a topic with one producer.
    pub(super) fn of_one() -> Self {
        Self { company: false, parts: HashMap::new() }
    }

    /// Of a topic with several, each of which tells of other documents.
    pub(super) fn of_many() -> Self {
        Self { company: true, parts: HashMap::new() }
    }

    /// Takes a record; gives the whole value once all of it is there.
    pub(super) fn push(&mut self, record: &Record) -> anyhow::Result<Option<Vec<u8>>> {
        let value = record.value.clone().context("no value")?;
        let document = self.company.then(|| {
            let collection = record.header("tw-ns").unwrap_or_default().to_vec();
            (collection, record.key.clone().unwrap_or_default())
        });
        let parts = self.parts.entry((record.partition, document)).or_default();
        let Some(place) = record.header("tw-chunk") else {
            ensure!(parts.is_empty(), "only {} chunks before it", parts.len());
            return Ok(Some(value));
        };
        let place = std::str::from_utf8(place)?;
        let (index, count) = place.split_once('/').context("`tw-chunk` is no `i/n`")?;
        let (index, count): (usize, usize) = (index.parse()?, count.parse()?);
        ensure!(index == parts.len() && index < count, "chunk {place} behind {}", parts.len());
        parts.push(value);
        Ok((parts.len() == count).then(|| std::mem::take(parts).concat()))
    }

    /// How many values are not whole in the end.
    pub(super) fn unfinished(&self) -> usize {
        self.parts.values().filter(|parts| !parts.is_empty()).count()
    }
}

/// Reads a change event, as any Extended JSON parser would.
pub(super) fn change(record: &Record, value: &[u8]) -> anyhow::Result<Document> {
    match record.header("tw-format") {
        Some(b"json") => {
            serde_json::from_slice::<IgnoredAny>(value).context("no JSON")?;
            extended_json::document(value).context("no Extended JSON")
        }
        Some(b"bson") => Document::from_reader(value).context("no BSON"),
        other => bail!("`tw-format` is {:?}", other.map(String::from_utf8_lossy)),
    }
}
