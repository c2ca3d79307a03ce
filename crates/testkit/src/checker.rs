//! The checker: compares the tables in ClickHouse with the truth. Its rules: `docs/checker.md`.

pub(crate) mod content;
mod current;
mod events;
mod ledger;
mod places;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bson::{RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::Client;
use serde::Deserialize;

pub use current::{CurrentRow, Lives, judge_current};
pub use events::{EventJudge, Row};
pub use verdict::{Findings, Rule, Verdict};

use ledger::{LedgerJudge, LedgerRow};

use crate::clickhouse::{ClickHouse, identifier, literal};
use crate::contract;
use crate::topics::Topics;
use crate::truth::{Event, MARKERS};
use crate::watch::Watch;

/// Rows that are read at once.
const PAGE: u64 = 20_000;

/// The checker gives up waiting when nothing has moved for so long. A Range with many renames and
/// drops takes a slow machine more than a minute.
const STANDSTILL: Duration = Duration::from_secs(240);

/// What is compared.
#[derive(Debug, Clone)]
pub struct Checker {
    /// Where the collections are.
    pub mongodb: Client,
    /// Where the tables are.
    pub clickhouse: ClickHouse,
    /// What the run was told to watch, and is judged by.
    pub watch: Watch,
    /// How the rows come.
    pub flow: Flow,
}

/// How rows come to the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// Each stream writes them itself, from a moment on that only it knows.
    Direct,
    /// Through topics, from the first change on.
    Topics {
        /// The topics.
        topics: Topics,
        /// Whether they are made by the mapping of [`crate::mapped::FILE`].
        mapped: bool,
    },
}

#[derive(Deserialize)]
struct Lane {
    topic: String,
    epoch: String,
    partition: u32,
    rows: u64,
    first: u64,
    last: u64,
}

#[derive(Deserialize)]
struct First {
    topic: String,
    key: String,
}

#[derive(Deserialize)]
struct Count {
    rows: u64,
}

impl Checker {
    /// Waits until the tables have caught up with the truth, then judges them. Nothing may be
    /// written meanwhile.
    ///
    /// # Errors
    ///
    /// When a server does not answer. A broken promise is no error but a finding.
    pub async fn check(&self, events: Vec<Event>) -> anyhow::Result<Verdict> {
        let events = match self.flow {
            Flow::Direct => self.since_first_row(events).await,
            Flow::Topics { .. } => self.watched(events),
        };
        self.wait_for_rows(events.len()).await;

        let mut judge = match &self.flow {
            Flow::Direct => EventJudge::new(&self.watch, &events),
            Flow::Topics { topics, mapped } => {
                EventJudge::of_topics(topics, *mapped, &self.watch, &events)
            }
        };
        self.read_rows(|row| judge.row(&row)).await?;
        let (rows, mut findings) = judge.finish();
        findings.extend(self.current_state(&events).await?);
        let documents: BTreeSet<(String, &str)> = events
            .iter()
            .filter(|event| event.concerns_a_document())
            .map(|event| (event.namespace(), event.doc_id.as_str()))
            .collect();
        let (events, documents) = (events.len().try_into()?, documents.len().try_into()?);
        Ok(Verdict { events, rows, documents, findings })
    }

    /// The events that some stream of the run brings.
    pub fn watched(&self, events: Vec<Event>) -> Vec<Event> {
        events.into_iter().filter(|event| self.watch.stream_of(event).is_some()).collect()
    }

    /// Waits until the ledger has caught up with the truth, then judges it: how many rows there are,
    /// and what is wrong with them. Nothing may be written meanwhile.
    ///
    /// # Errors
    ///
    /// When a server does not answer.
    pub async fn ledger(
        &self,
        table: &str,
        topics: &Topics,
        events: Vec<Event>,
    ) -> anyhow::Result<(u64, Findings)> {
        let events = self.watched(events);
        let table = identifier(table);
        let sql =
            format!("SELECT count() AS rows FROM {table} WHERE ns_db != {}", literal(MARKERS));
        self.wait_for(&sql, events.len()).await;
        let mut judge = LedgerJudge::new(topics, &self.watch, &events);
        let sql = format!("SELECT {} FROM {table}", LedgerRow::COLUMNS);
        self.clickhouse
            .each(&sql, |row| {
                judge.row(&row);
                Ok(())
            })
            .await?;
        Ok(judge.finish())
    }

    /// How many different keys `record_raw` holds; 0 as long as there is no such table.
    pub async fn keys(&self) -> u64 {
        self.count(&keys_sql()).await
    }

    /// How many rows `record_raw` holds, those of markers too: a number that the table knows, so that a
    /// loop may ask often. 0 as long as there is no such table.
    pub async fn rows(&self) -> u64 {
        self.count("SELECT count() AS rows FROM record_raw").await
    }

    async fn count(&self, sql: &str) -> u64 {
        self.clickhouse.one::<Count>(sql).await.map_or(0, |count| count.rows)
    }

    /// The key at offset 0 of each stream that has rows; none as long as there is no table.
    pub async fn first_keys(&self) -> BTreeMap<String, String> {
        let sql = "SELECT _topic AS topic, any(idempotency_key) AS key FROM record_raw \
                   WHERE _offset = 0 GROUP BY topic";
        let firsts: Vec<First> = self.clickhouse.all(sql).await.unwrap_or_default();
        firsts.into_iter().map(|first| (first.topic, first.key)).collect()
    }

    /// The events of each stream from its first row on: when `--start now` begins is the product's
    /// choice. Where the first row is no event of the truth, nothing is left out.
    async fn since_first_row(&self, events: Vec<Event>) -> Vec<Event> {
        let started = Instant::now();
        let streams = self.watch.streams().len();
        let mut firsts = self.first_keys().await;
        // A server that starts just now answers later, and so may the rows come.
        while firsts.len() < streams && started.elapsed() < STANDSTILL {
            tokio::time::sleep(Duration::from_millis(200)).await;
            firsts = self.first_keys().await;
        }
        firsts.retain(|_, key| events.iter().any(|event| event.key == *key));
        let mut kept = Vec::with_capacity(events.len());
        for event in events {
            let Some(stream) = self.watch.stream_of(&event) else { continue };
            if firsts.get(&stream.topic).is_some_and(|key| *key == event.key) {
                firsts.remove(&stream.topic);
            }
            if !firsts.contains_key(&stream.topic) {
                kept.push(event);
            }
        }
        kept
    }

    async fn wait_for_rows(&self, events: usize) {
        self.wait_for(&keys_sql(), events).await;
    }

    /// Waits until a query counts so many.
    async fn wait_for(&self, sql: &str, events: usize) {
        let mut most = 0;
        let mut moved = Instant::now();
        loop {
            let rows = self.count(sql).await;
            if usize::try_from(rows).is_ok_and(|rows| rows >= events) {
                return;
            }
            if rows > most {
                (most, moved) = (rows, Instant::now());
            }
            if moved.elapsed() > STANDSTILL {
                tracing::warn!(rows, events, "nothing has moved for long, judging what is there");
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Reads `record_raw` by pages of offsets.
    async fn read_rows(&self, mut take: impl FnMut(Row)) -> anyhow::Result<()> {
        let lanes: Vec<Lane> = self
            .clickhouse
            .all(
                "SELECT _topic AS topic, _epoch AS epoch, _partition AS partition, count() AS rows, \
                 min(_offset) AS first, max(_offset) AS last FROM record_raw GROUP BY ALL \
                 ORDER BY topic, epoch, partition",
            )
            .await?;
        let mut judged = 0;
        for lane in lanes {
            let mut rows = 0;
            for from in (lane.first..=lane.last).step_by(usize::try_from(PAGE)?) {
                let sql = format!(
                    "SELECT {} FROM record_raw WHERE _topic = {} AND _epoch = {} \
                     AND _partition = {} AND _offset BETWEEN {from} AND {} ORDER BY _offset",
                    Row::COLUMNS,
                    literal(&lane.topic),
                    literal(&lane.epoch),
                    lane.partition,
                    // A marker of our own may come last, behind what was counted.
                    from.saturating_add(PAGE - 1).min(lane.last),
                );
                self.clickhouse
                    .each(&sql, |row: Row| {
                        rows += 1;
                        judged += u64::from(row.ns_db != MARKERS);
                        take(row);
                        Ok(())
                    })
                    .await?;
            }
            ensure!(
                rows == lane.rows,
                "`{}`: {rows} rows were read, {} counted: something still writes",
                lane.topic,
                lane.rows
            );
        }
        let sql =
            format!("SELECT count() AS rows FROM record_raw WHERE ns_db != {}", literal(MARKERS));
        let rows = self.clickhouse.one::<Count>(&sql).await?.rows;
        ensure!(rows == judged, "{judged} rows were judged of {rows}: something still writes");
        Ok(())
    }

    /// The view follows `record_raw` within the same delivery: a short wait is part of the rule.
    async fn current_state(&self, events: &[Event]) -> anyhow::Result<Findings> {
        let mut last = Findings::default();
        let mut moved = Instant::now();
        let lives = Lives::follow(&self.watch, &self.flow, events);
        loop {
            let mut findings = Findings::default();
            for namespace in lives.namespaces() {
                if self.is_watched(namespace)? {
                    findings.extend(self.current_state_of(namespace, &lives).await?);
                }
            }
            if findings.is_empty() || moved.elapsed() > STANDSTILL / 8 {
                return Ok(findings);
            }
            if findings != last {
                (last, moved) = (findings, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn is_watched(&self, namespace: &str) -> anyhow::Result<bool> {
        let (database, name) = namespace.split_once('.').context("a namespace is `db.coll`")?;
        Ok(self.watch.streams().iter().any(|stream| stream.covers(database, name)))
    }

    async fn current_state_of(&self, namespace: &str, lives: &Lives) -> anyhow::Result<Findings> {
        let (database, name) = namespace.split_once('.').context("a namespace is `db.coll`")?;
        let collection = self.mongodb.database(database).collection::<RawDocumentBuf>(name);
        let mut documents = BTreeMap::new();
        let mut cursor = collection.find(doc! {}).await?;
        while let Some(document) = cursor.try_next().await? {
            let id = document.get("_id")?.context("a document without an `_id`")?;
            let id = contract::doc_id(&doc! { "_id": bson::Bson::try_from(id)? });
            documents.insert(id, document.into_bytes());
        }
        let table = format!("{database}__{name}");
        let view = identifier(&format!("{table}_current"));
        let table = identifier(&table);
        // Made with its first row, which may still be under way.
        let sql = format!(
            "SELECT count() AS rows FROM system.tables \
             WHERE database = currentDatabase() AND name = {}",
            literal(&format!("{database}__{name}_current"))
        );
        if self.clickhouse.one::<Count>(&sql).await?.rows == 0 {
            return Ok(judge_current(namespace, lives, &documents, &[]));
        }
        let rows: Vec<CurrentRow> =
            self.clickhouse.all(&format!("SELECT {} FROM {view}", CurrentRow::COLUMNS)).await?;
        let mut findings = judge_current(namespace, lives, &documents, &rows);
        // Notes of ends, whose ids are no document's, name in `_bson` where the documents went.
        let sql = format!(
            "SELECT count() AS rows FROM {table} WHERE _is_deleted = 1 AND (_bson != '' OR _hash != 0) \
             AND NOT startsWith(_id, '\"ended ')"
        );
        let tombstones: Count = self.clickhouse.one(&sql).await?;
        if tombstones.rows > 0 {
            findings.add(Rule::CurrentTombstone, || format!("{table}: {} rows", tombstones.rows));
        }
        Ok(findings)
    }
}

fn keys_sql() -> String {
    format!(
        "SELECT uniqExact(idempotency_key) AS rows FROM record_raw WHERE ns_db != {}",
        literal(MARKERS)
    )
}
