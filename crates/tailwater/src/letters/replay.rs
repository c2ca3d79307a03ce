//! Replaying: first a plan, then what it says. What cannot be produced again, or would come twice, is
//! left out, and the plan says why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tailwater_clickhouse::letters as of_table;
use tailwater_core::config::{Config, Kafka};
use tailwater_core::dead_letter::Place;
use tailwater_core::message::Joiner;
use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::reading::{Content, Reading};
use tailwater_core::record::Record;
use tailwater_core::spoken::table;
use tailwater_core::topics::is_subscribed;
use tailwater_core::{Error, ErrorKind, doc_id};
use tailwater_kafka::Topics;
use tailwater_kafka::replay::Replay;
use tailwater_kafka::topics::NewTopics;
use tailwater_pipeline::failpoint;

use super::{KeptIn, Letter, Letters};
use crate::reading;

/// So many records go into one transaction, or so many bytes.
const RECORDS: usize = 500;
const BYTES: usize = 8 << 20;

/// What is to be produced again.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    /// These records.
    replay: Vec<String>,
    /// The rest.
    left_out: LeftOut,
    /// Whether rows could be looked for.
    rows_checked: bool,
    /// Whether each change event is kept in a table, which has them already.
    #[serde(skip)]
    has_raw_cdc: bool,
    #[serde(skip)]
    records: BTreeMap<Place, Record>,
}

/// What is not produced again, by why.
#[derive(Debug, Default, Serialize)]
struct LeftOut {
    /// It was, before.
    replayed: BTreeSet<String>,
    /// Their events have rows.
    have_rows: BTreeSet<String>,
    /// Their records are no longer in their topics.
    gone: BTreeSet<String>,
    /// They are parts of events.
    parts: BTreeSet<String>,
    /// They are of topics that the config does not read: another pipeline's.
    others: BTreeSet<String>,
}

/// Plans to produce letters again.
pub(crate) async fn plan(
    config: &Config,
    kafka: &Kafka,
    letters: &Letters,
    chosen: Vec<Letter>,
) -> anyhow::Result<Plan> {
    let mut left_out = LeftOut::default();
    let mut wanted = Vec::new();
    for letter in chosen {
        if letter.replayed {
            left_out.replayed.insert(letter.id);
        } else if !is_read(config, kafka, letter.place.lane.topic()) {
            left_out.others.insert(letter.id);
        } else if letter.reason == Joiner::rejection().reason {
            left_out.parts.insert(letter.id);
        } else {
            wanted.push(letter);
        }
    }
    let mut records = records(config, letters, &wanted, &mut left_out.gone).await?;
    for place in with_rows(config, kafka, letters, &records).await? {
        left_out.have_rows.insert(place.to_string());
        records.remove(&place);
    }
    Ok(Plan {
        replay: records.keys().map(Place::to_string).collect(),
        left_out,
        rows_checked: letters.connection.is_some(),
        has_raw_cdc: config.clickhouse.as_ref().is_some_and(|it| it.tables.raw_cdc.is_some()),
        records,
    })
}

/// Whether a topic is one of those that the config's parts read.
fn is_read(config: &Config, kafka: &Kafka, topic: &str) -> bool {
    let reading = config.reading();
    *kafka.topics.normalized == *topic
        || reading.is_some_and(|reading| is_subscribed(&reading.topics, topic))
}

/// The records of the letters, as they were: those of normalize are in the letters, those of the sink
/// still in their topics.
async fn records(
    config: &Config,
    letters: &Letters,
    wanted: &[Letter],
    gone: &mut BTreeSet<String>,
) -> anyhow::Result<BTreeMap<Place, Record>> {
    let most = config.limits.memory_bytes as u64;
    let bytes: u64 = wanted.iter().map(|letter| letter.bytes).sum();
    if bytes > most {
        let what = format!("the letters hold {bytes} bytes, more than `memory_bytes`, {most}");
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("replay them in parts, with `--limit`")
            .into());
    }
    let places = |kept_in| -> BTreeSet<Place> {
        let of = wanted.iter().filter(|letter| letter.kept_in == kept_in);
        of.map(|letter| letter.place.clone()).collect()
    };
    let mut found = letters.of_topic(places(KeptIn::Topic)).await?;
    let mut others = places(KeptIn::Table);
    others.retain(|place| !found.contains_key(place));
    if let Some((cluster, _)) = letters.cluster.as_ref().filter(|_| !others.is_empty()) {
        found.extend(cluster.observer.records(&others).await?);
    }
    gone.extend(others.iter().filter(|place| !found.contains_key(place)).map(Place::to_string));
    Ok(found)
}

/// Those whose events have a row.
async fn with_rows(
    config: &Config,
    kafka: &Kafka,
    letters: &Letters,
    records: &BTreeMap<Place, Record>,
) -> anyhow::Result<Vec<Place>> {
    let (Some(connection), Some(clickhouse)) = (&letters.connection, &config.clickhouse) else {
        return Ok(Vec::new());
    };
    let reading = reading::of(config, kafka);
    let normalized = config.parts().normalize.then(|| &*kafka.topics.normalized);
    let (places, events): (Vec<&Place>, Vec<(String, String)>) = records
        .iter()
        .filter_map(|(place, record)| Some((place, event(&reading, normalized, place, record)?)))
        .unzip();
    let found = of_table::with_rows(connection, &clickhouse.tables.records, &events).await?;
    let known = places.into_iter().zip(&events).filter(|(_, (_, key))| found.contains(key));
    Ok(known.map(|(place, _)| place.clone()).collect())
}

/// The document and the `idempotency_key` of the event that a record is, where it is one.
fn event(
    reading: &Reading,
    normalized: Option<&str>,
    place: &Place,
    record: &Record,
) -> Option<(String, String)> {
    if normalized == Some(place.lane.topic()) {
        let event = NormalizedEvent::read(record).ok()?;
        let has_key = !event.idempotency_key.is_empty();
        return has_key.then_some((event.doc_id, event.idempotency_key));
    }
    let Ok(Content::Event(event)) = reading.read(place.lane.topic(), record) else { return None };
    let (mut id, mut key) = (Vec::new(), Vec::new());
    if let Some(document_key) = event.document_key() {
        doc_id::write(document_key, &mut id).ok()?;
    }
    event.idempotency_key(&id, &mut key);
    Some((String::from_utf8(id).ok()?, String::from_utf8(key).ok()?))
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn to_text(&self) -> String {
        let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
        for place in self.records.keys() {
            *topics.entry(place.lane.topic()).or_default() += 1;
        }
        let mut lines = vec![["topic", ">records"].map(str::to_owned).to_vec()];
        lines.extend(
            topics.iter().map(|(topic, count)| vec![(*topic).to_owned(), count.to_string()]),
        );
        let mut text = match topics.is_empty() {
            true => "nothing is to be produced again\n".to_owned(),
            false => format!("to be produced again:\n{}", table(&lines)),
        };
        let LeftOut { replayed, have_rows, gone, parts, others } = &self.left_out;
        for (ids, why) in [
            (replayed, "they were replayed before"),
            (have_rows, "their events have rows"),
            (gone, "their records are no longer in their topics"),
            (parts, "they are parts of events"),
            (others, "the config does not read their topics"),
        ] {
            if !ids.is_empty() {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                text.push_str(&format!("left out, since {why}: {}\n", ids.join(", ")));
            }
        }
        if self.is_empty() {
            return text;
        }
        if !self.rows_checked {
            text.push_str(
                "whether events have rows is not known: the config has no `clickhouse`\n",
            );
        }
        if self.has_raw_cdc {
            text.push_str("`raw_cdc` gets the events a second time, where it has them already\n");
        }
        text
    }

    /// Produces them. Gives how many.
    pub(crate) async fn carry_out(
        self,
        config: &Config,
        kafka: &Kafka,
        letters: &Letters,
    ) -> anyhow::Result<usize> {
        let Some((cluster, _)) = &letters.cluster else { return Ok(0) };
        let topics = Topics::new(&cluster.client, NewTopics::of(kafka))?;
        let (observer, dead_letter) = (cluster.observer.clone(), &kafka.topics.dead_letter);
        failpoint::reach(failpoint::PLANNED);
        let begun = Replay::begin(&cluster.client, observer, topics, &config.pipeline, dead_letter);
        let (replay, replayed) = begun.await?;
        let (mut batch, mut bytes, mut count) = (Vec::new(), 0, 0);
        // Somebody else may have been quicker.
        for (place, record) in self.records.into_iter().filter(|(it, _)| !replayed.contains(it)) {
            bytes += record.bytes();
            count += 1;
            batch.push((place, record));
            if batch.len() >= RECORDS || bytes >= BYTES {
                replay.produce(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            replay.produce(batch).await?;
        }
        Ok(count)
    }
}
