//! Replaying: first a plan, then what it says. A letter whose event has a row by now, that was produced
//! again before, or whose record is gone from its topic, is left out, and the plan says so.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tailwater_clickhouse::letters as of_table;
use tailwater_core::config::{Config, Kafka, Output};
use tailwater_core::dead_letter::Place;
use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::reading::{Content, Reading};
use tailwater_core::record::Record;
use tailwater_core::spoken::table;
use tailwater_core::{Error, ErrorKind, doc_id};
use tailwater_kafka::Topics;
use tailwater_kafka::replay::Replay;
use tailwater_kafka::topics::NewTopics;

use super::{Letter, Letters};
use crate::reading;

/// So many records go into one transaction, or so many bytes.
const RECORDS: usize = 500;
const BYTES: usize = 8 << 20;

/// What is to be produced again.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    /// These letters.
    replay: Vec<String>,
    /// Left out: their events have rows.
    have_rows: Vec<String>,
    /// Left out: they were produced again before.
    replayed_before: Vec<String>,
    /// Left out: their records are gone from their topics.
    gone: Vec<String>,
    /// Whether rows could be looked for.
    rows_checked: bool,
    #[serde(skip)]
    records: Vec<(Place, Record)>,
}

/// Plans to produce letters again.
pub(crate) async fn plan(
    config: &Config,
    kafka: &Kafka,
    letters: &Letters,
    chosen: Vec<Letter>,
    while_running: bool,
) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        replay: Vec::new(),
        have_rows: Vec::new(),
        replayed_before: Vec::new(),
        gone: Vec::new(),
        rows_checked: letters.connection().is_some(),
        records: Vec::new(),
    };
    let (before, chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|letter| letter.replayed);
    plan.replayed_before = before.into_iter().map(|letter| letter.id).collect();
    if !while_running {
        refuse_writers(config, kafka, letters, &chosen).await?;
    }
    let records = records(config, letters, &chosen, &mut plan.gone).await?;
    let known = with_rows(config, kafka, letters, &records).await?;
    for (place, record) in records {
        match known.contains(&place) {
            true => plan.have_rows.push(place.to_string()),
            false => {
                plan.replay.push(place.to_string());
                plan.records.push((place, record));
            }
        }
    }
    Ok(plan)
}

/// Chunks of an event must follow each other: nothing may come between them.
async fn refuse_writers(
    config: &Config,
    kafka: &Kafka,
    letters: &Letters,
    chosen: &[Letter],
) -> anyhow::Result<()> {
    let Some(cluster) = &letters.cluster else { return Ok(()) };
    let of_normalized = |letter: &Letter| letter.place.lane.topic() == &*kafka.topics.normalized;
    for (part, is_written) in [
        ("source", chosen.iter().any(|letter| !of_normalized(letter))),
        ("normalize", chosen.iter().any(of_normalized)),
    ] {
        let group = format!("{}.{part}", config.pipeline);
        let refused = match is_written {
            true => cluster.observer.refuse_members(&group).await,
            false => Ok(()),
        };
        refused.map_err(|error| {
            Error::new(error.kind(), format!("{error}, and may be writing an event in chunks"))
                .with_hint(format!(
                    "a record between two chunks of an event breaks it: stop every `tailwater run {part}`, or \
                     add `--while-running` where no event is larger than `max.message.bytes` of its topic"
                ))
        })?;
    }
    Ok(())
}

/// The records of the letters, as they were.
async fn records(
    config: &Config,
    letters: &Letters,
    chosen: &[Letter],
    gone: &mut Vec<String>,
) -> anyhow::Result<Vec<(Place, Record)>> {
    let most = config.limits.memory_bytes as u64;
    let bytes: u64 = chosen.iter().map(|letter| letter.bytes).sum();
    if bytes > most {
        let what = format!("the letters hold {bytes} bytes, more than `memory_bytes`, {most}");
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("replay them in parts, with `--limit`")
            .into());
    }
    let in_topic: BTreeSet<Place> =
        chosen.iter().filter(|it| it.is_in_topic()).map(|it| it.place.clone()).collect();
    let mut found: BTreeMap<Place, Record> =
        letters.records_in_topic(in_topic).await?.into_iter().collect();
    let Some(cluster) = &letters.cluster else { return Ok(Vec::new()) };
    for letter in chosen.iter().filter(|letter| !letter.is_in_topic()) {
        if found.contains_key(&letter.place) {
            continue;
        }
        match cluster.observer.record(&letter.place).await? {
            Some(record) => drop(found.insert(letter.place.clone(), record)),
            None => gone.push(letter.id.clone()),
        }
    }
    Ok(found.into_iter().collect())
}

/// Those whose events have a row.
async fn with_rows(
    config: &Config,
    kafka: &Kafka,
    letters: &Letters,
    records: &[(Place, Record)],
) -> anyhow::Result<BTreeSet<Place>> {
    let (Some(connection), Some(clickhouse)) = (letters.connection(), &config.clickhouse) else {
        return Ok(BTreeSet::new());
    };
    let reading = reading::of(config, kafka);
    let to_topic = config.normalizer.as_ref().is_some_and(|it| it.output == Output::Topic);
    let normalized = to_topic.then(|| &*kafka.topics.normalized);
    let named: Vec<(&Place, (String, String))> = records
        .iter()
        .filter_map(|(place, record)| Some((place, name(&reading, normalized, place, record)?)))
        .collect();
    let events: Vec<_> = named.iter().map(|(_, event)| event.clone()).collect();
    let found = of_table::with_rows(connection, &clickhouse.tables.records, &events).await?;
    let known = named.into_iter().filter(|(_, (_, key))| found.contains(key));
    Ok(known.map(|(place, _)| place.clone()).collect())
}

/// The document and the `idempotency_key` of the event that a record is, where it is one.
fn name(
    reading: &Reading,
    normalized: Option<&str>,
    place: &Place,
    record: &Record,
) -> Option<(String, String)> {
    if normalized == Some(place.lane.topic()) {
        let event = NormalizedEvent::read(record).ok()?;
        return Some((event.doc_id, event.idempotency_key));
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
        for (place, _) in &self.records {
            *topics.entry(place.lane.topic()).or_default() += 1;
        }
        let mut lines = vec![["topic", ">records"].map(str::to_owned).to_vec()];
        lines.extend(topics.iter().map(|(topic, count)| vec![(*topic).to_owned(), count.to_string()]));
        let mut text = match topics.is_empty() {
            true => "nothing is to be produced again\n".to_owned(),
            false => format!("to be produced again:\n{}", table(&lines)),
        };
        for (left_out, why) in [
            (&self.have_rows, "left out, since their events have rows"),
            (&self.replayed_before, "left out, since they were replayed before"),
            (&self.gone, "left out, since their records are gone from their topics"),
        ] {
            if !left_out.is_empty() {
                text.push_str(&format!("{why}: {}\n", left_out.join(", ")));
            }
        }
        if !self.rows_checked && !self.is_empty() {
            text.push_str("whether events have rows was not checked: the config has no `clickhouse`\n");
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
        let Some(cluster) = &letters.cluster else { return Ok(0) };
        let topics = Topics::new(&cluster.client, NewTopics::of(kafka))?;
        let (observer, dead_letter) = (cluster.observer.clone(), &kafka.topics.dead_letter);
        let begun = Replay::begin(&cluster.client, observer, topics, &config.pipeline, dead_letter);
        let (replay, found) = begun.await?;
        // Somebody else may have been quicker.
        let records = self.records.into_iter().filter(|(place, _)| !found.replayed.contains(place));
        let (mut batch, mut bytes, mut count) = (Vec::new(), 0, 0);
        for (place, record) in records {
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
