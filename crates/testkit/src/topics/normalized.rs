//! Judges the normalized topic against the truth, by the same rules as the rows of `record_raw`: a
//! normalized event is such a row as JSON. Pure: records in, findings out.

use anyhow::{Context as _, ensure};
use bson::DateTime;
use serde_json::Value;

use super::values::Chunks;
use super::{Topics, extended_json};
use crate::checker::{EventJudge, Findings, Row, Rule};
use crate::kafka::Record;
use crate::truth::Event;
use crate::watch::Watch;

/// The judge of the normalized topic.
#[derive(Debug)]
pub struct NormalizedJudge<'a> {
    topic: &'a str,
    judge: EventJudge<'a>,
    chunks: Chunks,
    wrong: Findings,
}

impl<'a> NormalizedJudge<'a> {
    /// A judge who knows the truth of what is watched.
    pub fn new(
        topic: &'a str,
        topics: &Topics,
        mapped: bool,
        watch: &'a Watch,
        events: &'a [Event],
    ) -> Self {
        let judge = EventJudge::of_topics(topics, mapped, watch, events);
        Self { topic, judge, chunks: Chunks::of_many(), wrong: Findings::default() }
    }

    /// Judges one record. Those of a partition must come in their order.
    pub fn record(&mut self, record: &Record) {
        let row = match self.chunks.push(record) {
            Ok(Some(value)) => row(self.topic, record, &value),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match row {
            Ok(row) => self.judge.row(&row),
            Err(error) => self.wrong.add(Rule::Content, || {
                format!("{}/{}: {error:#}", record.partition, record.offset)
            }),
        }
    }

    /// The number of records and all findings.
    pub fn finish(mut self) -> (u64, Findings) {
        let unfinished = self.chunks.unfinished();
        if unfinished > 0 {
            self.wrong.add(Rule::Content, || format!("{unfinished} values are not whole"));
        }
        let (records, mut findings) = self.judge.finish();
        findings.extend(self.wrong);
        (records, findings)
    }
}

/// The row that a normalized event is.
fn row(topic: &str, record: &Record, value: &[u8]) -> anyhow::Result<Row> {
    let event = extended_json::columns(value).context("no JSON")?;
    let format = record.header("tw-format");
    ensure!(format == Some(b"normalized"), "`tw-format` is no normalized event's");
    let text = |value: &Value, name: &str| -> anyhow::Result<String> {
        let text = value[name].as_str().with_context(|| format!("no `{name}`"))?;
        Ok(text.to_owned())
    };
    ensure!(event["mapping"].is_string(), "no `mapping`");
    Ok(Row {
        topic: topic.to_owned(),
        partition: record.partition,
        offset: record.offset,
        // A record has none.
        epoch: "0".repeat(32),
        idempotency_key: text(&event, "idempotency_key")?,
        doc_id: text(&event, "doc_id")?,
        op: text(&event, "op")?,
        version: text(&event, "version")?,
        ns_db: text(&event["ns"], "db")?,
        ns_coll: text(&event["ns"], "coll")?,
        event_type: text(&event, "event_type")?,
        source: text(&event, "source")?,
        millis: DateTime::parse_rfc3339_str(text(&event, "ts")?)?.timestamp_millis(),
        superseded: event["superseded"] == Value::Bool(true),
        raw: text(&event, "raw")?,
        attrs: event["attrs"].clone(),
        tags: event["tags"].clone(),
    })
}
