//! The dead letters of a pipeline: those of normalize in their topic, those of the sink in their table.

pub(crate) mod replay;
mod shown;

use std::collections::BTreeSet;

use serde::Serialize;
use tailwater_clickhouse::letters::{self as of_table, Which};
use tailwater_clickhouse::Connection;
use tailwater_core::config::Config;
use tailwater_core::dead_letter::Place;
use tailwater_core::message::header;
use tailwater_core::position::{Epoch, LaneId, Millis, Seq};
use tailwater_core::record::Record;
use tailwater_core::spoken::{moment, table};
use tailwater_core::{Error, ErrorKind};
use tailwater_embedded::EngineProcess;
use tailwater_kafka::letters as of_topic;

pub(crate) use self::shown::Shown;
use crate::cluster::Cluster;
use crate::target;

/// Which letters are wanted.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) reason: Option<String>,
    pub(crate) since: Option<Millis>,
    /// Also those that were produced again.
    pub(crate) replayed: bool,
    /// The last so many.
    pub(crate) limit: usize,
}

/// A dead letter.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Letter {
    /// Where its record was.
    pub(crate) id: String,
    kept_in: KeptIn,
    at: String,
    reason: String,
    error: String,
    ns: String,
    op: String,
    doc_id: String,
    epoch: String,
    bytes: u64,
    replayed: bool,
    #[serde(skip)]
    pub(crate) place: Place,
    #[serde(skip)]
    millis: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum KeptIn {
    Topic,
    Table,
}

/// The places where letters are kept, opened.
#[derive(Debug)]
pub(crate) struct Letters {
    pub(crate) cluster: Option<Cluster>,
    topic: String,
    connection: Option<Connection>,
    _engine: Option<EngineProcess>,
}

impl Letters {
    /// Opens what a config names.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let cluster = match config.kafka {
            Some(_) => Some(Cluster::reach(config).await?),
            None => None,
        };
        let topic = config.kafka.as_ref().map(|kafka| kafka.topics.dead_letter.to_string());
        let (mut connection, mut engine) = (None, None);
        if let Some(clickhouse) = &config.clickhouse {
            let (endpoint, started) = target::reach(&clickhouse.target, &config.state).await?;
            (connection, engine) = (Some(Connection::new(endpoint)?), started);
        }
        let topic = topic.unwrap_or_default();
        Ok(Self { cluster, topic, connection, _engine: engine })
    }

    /// The letters of a filter, the oldest first.
    pub(crate) async fn list(&self, filter: &Filter) -> anyhow::Result<Vec<Letter>> {
        let mut all = Vec::new();
        let mut replayed = BTreeSet::new();
        if let Some(cluster) = &self.cluster {
            let found = cluster.observer.letters(&self.topic, |_| false).await?;
            all.extend(found.letters.values().map(|letter| of_record(letter)));
            replayed = found.replayed;
        }
        if let Some(connection) = &self.connection {
            let which = Which { reason: filter.reason.as_deref(), since: filter.since, ..Which::default() };
            let rows = of_table::all(connection, &which).await?;
            all.extend(rows.iter().filter_map(|row| self.of_row(row)));
        }
        for letter in &mut all {
            letter.replayed = replayed.contains(&letter.place);
        }
        all.retain(|letter| {
            filter.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
                && filter.since.is_none_or(|since| letter.millis >= since)
                && (filter.replayed || !letter.replayed)
        });
        all.sort_by(|a, b| (a.millis, &a.id, a.kept_in).cmp(&(b.millis, &b.id, b.kept_in)));
        all.drain(..all.len().saturating_sub(filter.limit));
        Ok(all)
    }

    /// All letters of an id, each with what it holds: a record may have one in both places, or in
    /// several lives of its topic.
    pub(crate) async fn show(&self, id: &str) -> anyhow::Result<Vec<Shown>> {
        let filter = Filter { replayed: true, limit: usize::MAX, ..Filter::default() };
        let mut all = self.list(&filter).await?;
        all.retain(|letter| letter.id == id);
        if all.is_empty() {
            let what = format!("there is no dead letter `{id}`");
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("`tailwater dlq list --replayed` shows all; an id looks like `topic-0@41`")
                .into());
        }
        let mut shown = Vec::new();
        for letter in all {
            shown.push(match letter.kept_in {
                KeptIn::Topic => {
                    let record = self.records_in_topic([letter.place.clone()].into()).await?;
                    let record = record.into_iter().next().map(|(_, record)| record);
                    Shown::of_record(letter, record)
                }
                KeptIn::Table => {
                    let content = self.content(&letter).await?;
                    Shown::of_row(letter, content)
                }
            });
        }
        Ok(shown)
    }

    /// The records of letters that are kept in the topic, as they were.
    pub(crate) async fn records_in_topic(
        &self,
        places: BTreeSet<Place>,
    ) -> anyhow::Result<Vec<(Place, Record)>> {
        let Some(cluster) = &self.cluster else { return Ok(Vec::new()) };
        let wanted = places.clone();
        let found = cluster.observer.letters(&self.topic, move |place| wanted.contains(place)).await?;
        let of = |(place, found): (Place, of_topic::Letter)| (place, found.letter.record);
        Ok(found.letters.into_iter().filter(|(place, _)| places.contains(place)).map(of).collect())
    }

    /// The connection to the table, where there is one.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    async fn content(&self, letter: &Letter) -> anyhow::Result<String> {
        let Some(connection) = &self.connection else { return Ok(String::new()) };
        let Place { lane, epoch, offset } = &letter.place;
        let place = Some((lane.topic(), lane.partition(), offset.0));
        let which = Which { place, with_events: true, ..Which::default() };
        let rows = of_table::all(connection, &which).await?;
        let of_life = rows.into_iter().find(|row| row.epoch == epoch.to_string());
        Ok(of_life.map(|row| row.content).unwrap_or_default())
    }

    /// `None` for a row that nobody here wrote.
    fn of_row(&self, row: &of_table::Letter) -> Option<Letter> {
        let lane = match self.cluster {
            Some(_) => LaneId::partition_of(&row.topic, row.partition),
            None => LaneId::stream(&row.topic),
        };
        let place = Place { lane, epoch: Epoch::parse(&row.epoch)?, offset: Seq(row.offset) };
        Some(Letter {
            id: place.to_string(),
            kept_in: KeptIn::Table,
            at: moment(Millis(row.ts_ms)),
            reason: row.reason.clone(),
            error: row.error.clone(),
            ns: namespace(&row.ns_db, &row.ns_coll),
            op: row.op.clone(),
            doc_id: row.doc_id.clone(),
            epoch: row.epoch.clone(),
            bytes: row.bytes,
            replayed: false,
            place,
            millis: Millis(row.ts_ms),
        })
    }
}

impl Letter {
    pub(crate) const fn is_in_topic(&self) -> bool {
        matches!(self.kept_in, KeptIn::Topic)
    }
}

fn of_record(found: &of_topic::Letter) -> Letter {
    let of_topic::Letter { at, letter, bytes } = found;
    let header = |name| {
        let value = letter.record.header(name).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let (place, millis) = (letter.place(), at.unwrap_or(Millis(0)));
    Letter {
        id: place.to_string(),
        kept_in: KeptIn::Topic,
        at: moment(millis),
        reason: letter.reason.clone(),
        error: letter.error.clone(),
        ns: header(header::NS),
        op: header(header::OP),
        doc_id: String::new(),
        epoch: letter.epoch.to_string(),
        bytes: *bytes as u64,
        replayed: false,
        place,
        millis,
    }
}

fn namespace(db: &str, coll: &str) -> String {
    match coll {
        "" => db.to_owned(),
        coll => format!("{db}.{coll}"),
    }
}

/// Letters as a table.
pub(crate) fn to_text(letters: &[Letter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let heads = ["id", "time", "reason", "op", "namespace", "document", ">bytes", "in", "error"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    lines.extend(letters.iter().map(|letter| {
        let kept_in = match (letter.kept_in, letter.replayed) {
            (KeptIn::Topic, false) => "topic",
            (KeptIn::Table, false) => "table",
            (KeptIn::Topic, true) => "topic, replayed",
            (KeptIn::Table, true) => "table, replayed",
        };
        vec![
            letter.id.clone(),
            letter.at.clone(),
            letter.reason.clone(),
            letter.op.clone(),
            letter.ns.clone(),
            letter.doc_id.clone(),
            letter.bytes.to_string(),
            kept_in.to_owned(),
            letter.error.clone(),
        ]
    }));
    table(&lines)
}
