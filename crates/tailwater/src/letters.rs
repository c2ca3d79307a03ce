//! The dead letters of a pipeline: those of normalize in their topic, those of the sink in their table.

pub(crate) mod replay;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tailwater_clickhouse::Connection;
use tailwater_clickhouse::letters::{self as of_table, Which};
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
    /// Also those that were replayed.
    pub(crate) replayed: bool,
}

/// A dead letter.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Letter {
    /// Where its record was.
    pub(crate) id: String,
    #[serde(rename = "in")]
    kept_in: KeptIn,
    time: String,
    reason: String,
    error: String,
    namespace: String,
    op: String,
    document: String,
    epoch: String,
    bytes: u64,
    replayed: bool,
    #[serde(skip)]
    place: Place,
    #[serde(skip)]
    at: Millis,
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
    /// With the name of the letters' topic.
    cluster: Option<(Cluster, String)>,
    connection: Option<Connection>,
    _engine: Option<EngineProcess>,
}

impl Letters {
    /// Opens what a config names.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let cluster = match &config.kafka {
            Some(kafka) => {
                Some((Cluster::reach(config).await?, kafka.topics.dead_letter.to_string()))
            }
            None => None,
        };
        let (mut connection, mut engine) = (None, None);
        if let Some(clickhouse) = &config.clickhouse {
            let (endpoint, started) = target::reach(&clickhouse.target, &config.state).await?;
            (connection, engine) = (Some(Connection::new(endpoint)?), started);
        }
        Ok(Self { cluster, connection, _engine: engine })
    }

    /// The letters of a filter, the oldest first.
    pub(crate) async fn list(&self, filter: &Filter) -> anyhow::Result<Vec<Letter>> {
        let mut all = Vec::new();
        let mut replayed = BTreeSet::new();
        if let Some((cluster, topic)) = &self.cluster {
            let found = cluster.observer.letters(topic, |_| false).await?;
            all.extend(found.letters.values().map(of_record));
            replayed = found.replayed;
        }
        if let Some(connection) = &self.connection {
            let (reason, since) = (filter.reason.as_deref(), filter.since);
            let which = Which { reason, since, ..Which::default() };
            let rows = of_table::all(connection, &which).await?;
            all.extend(rows.iter().filter_map(|row| self.of_row(row)));
        }
        for letter in &mut all {
            letter.replayed = replayed.contains(&letter.place);
        }
        all.retain(|letter| {
            filter.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
                && filter.since.is_none_or(|since| letter.at >= since)
                && (filter.replayed || !letter.replayed)
        });
        all.sort_by(|a, b| (a.at, &a.place, a.kept_in).cmp(&(b.at, &b.place, b.kept_in)));
        Ok(all)
    }

    /// The letters of some ids. There may be several of one: in both places, and in several lives of
    /// a topic.
    pub(crate) async fn of_ids(&self, ids: &[String]) -> anyhow::Result<Vec<Letter>> {
        let mut all = self.list(&Filter { replayed: true, ..Filter::default() }).await?;
        all.retain(|letter| ids.contains(&letter.id));
        match ids.iter().find(|id| all.iter().all(|letter| letter.id != **id)) {
            None => Ok(all),
            Some(id) => {
                Err(Error::new(ErrorKind::Config, format!("there is no dead letter `{id}`"))
                    .with_hint(
                        "`tailwater dlq list --replayed` shows all; an id looks like `topic-0@41`",
                    )
                    .into())
            }
        }
    }

    /// All letters of an id, each with what it holds.
    pub(crate) async fn show(&self, id: &str) -> anyhow::Result<Vec<Shown>> {
        let mut shown = Vec::new();
        for letter in self.of_ids(&[id.to_owned()]).await? {
            shown.push(match letter.kept_in {
                KeptIn::Topic => {
                    let place = letter.place.clone();
                    let record = self.of_topic([place.clone()].into()).await?.remove(&place);
                    Shown::of_record(letter, record)
                }
                KeptIn::Table => {
                    let row = self.row(&letter).await?;
                    Shown::of_row(letter, row)
                }
            });
        }
        Ok(shown)
    }

    /// The records of letters that are kept in the topic, as they were.
    async fn of_topic(&self, places: BTreeSet<Place>) -> anyhow::Result<BTreeMap<Place, Record>> {
        let Some((cluster, topic)) = self.cluster.as_ref().filter(|_| !places.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let wanted = places.clone();
        let found = cluster.observer.letters(topic, move |place| wanted.contains(place)).await?;
        let of = |(place, found): (Place, of_topic::Letter)| (place, found.letter.record);
        Ok(found.letters.into_iter().filter(|(place, _)| places.contains(place)).map(of).collect())
    }

    async fn row(&self, letter: &Letter) -> anyhow::Result<Option<of_table::Letter>> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let Place { lane, offset, .. } = &letter.place;
        let place = Some((lane.topic(), lane.partition(), offset.0));
        let which = Which { place, with_events: true, ..Which::default() };
        let rows = of_table::all(connection, &which).await?;
        Ok(rows.into_iter().find(|row| row.epoch == letter.epoch))
    }

    /// `None` for a row whose epoch is none of ours. Those of ClickHouse's Kafka engine have none.
    fn of_row(&self, row: &of_table::Letter) -> Option<Letter> {
        let lane = match self.cluster {
            Some(_) => LaneId::partition_of(&row.topic, row.partition),
            None => LaneId::stream(&row.topic),
        };
        let epoch = match row.epoch.as_str() {
            "" => Epoch::new([0; 16]),
            text => Epoch::parse(text)?,
        };
        let place = Place { lane, epoch, offset: Seq(row.offset) };
        let namespace = match row.ns_coll.as_str() {
            "" => row.ns_db.clone(),
            coll => format!("{}.{coll}", row.ns_db),
        };
        Some(Letter {
            id: place.to_string(),
            kept_in: KeptIn::Table,
            time: moment(Millis(row.ts_ms)),
            reason: row.reason.clone(),
            error: row.error.clone(),
            namespace,
            op: row.op.clone(),
            document: row.doc_id.clone(),
            epoch: row.epoch.clone(),
            bytes: row.bytes,
            replayed: false,
            place,
            at: Millis(row.ts_ms),
        })
    }
}

fn of_record(found: &of_topic::Letter) -> Letter {
    let of_topic::Letter { at, letter, bytes } = found;
    let header = |name| {
        let value = letter.record.header(name).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let (place, at) = (letter.place(), at.unwrap_or(Millis(0)));
    Letter {
        id: place.to_string(),
        kept_in: KeptIn::Topic,
        time: moment(at),
        reason: letter.reason.clone(),
        error: letter.error.clone(),
        namespace: header(header::NS),
        op: header(header::OP),
        document: String::new(),
        epoch: letter.epoch.to_string(),
        bytes: *bytes as u64,
        replayed: false,
        place,
        at,
    }
}

impl Letter {
    /// Where it is kept, and what became of it.
    fn kept_in(&self) -> &'static str {
        match (self.kept_in, self.replayed) {
            (KeptIn::Topic, false) => "topic",
            (KeptIn::Table, false) => "table",
            (KeptIn::Topic, true) => "topic, replayed",
            (KeptIn::Table, true) => "table, replayed",
        }
    }
}

/// Letters as a table.
pub(crate) fn to_text(letters: &[Letter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let heads = ["id", "time", "in", "op", "namespace", "document", ">bytes", "reason", "error"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    lines.extend(letters.iter().map(|letter| {
        let Letter { id, time, reason, error, namespace, op, document, bytes, .. } = letter;
        let (kept_in, bytes) = (letter.kept_in(), bytes.to_string());
        [id, time, kept_in, op, namespace, document, &bytes, reason, error]
            .map(str::to_owned)
            .to_vec()
    }));
    table(&lines)
}
