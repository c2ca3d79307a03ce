//! With a Kafka in the middle: source, normalize and sink, together in one process or apart.
//!
//! Each part runs the same loop with other ends. Each has an equal share of the memory budget, so that a
//! sink whose ClickHouse is away does not stop the source beside it. They share one end: when one fails
//! for a reason that waiting does not mend, all end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tailwater_clickhouse::{Connection, Mappings, OfRecords, ToRows, Watched};
use tailwater_core::config::{Compat, Config, Kafka, Parts, Publish};
use tailwater_core::position::{LaneId, Seq};
use tailwater_core::producing::{self, Producing, Style};
use tailwater_core::rows::Namespace;
use tailwater_core::scope::Scope;
use tailwater_core::table;
use tailwater_core::topics::is_subscribed;
use tailwater_core::{Action, Error, ErrorKind};
use tailwater_kafka::topics::NewTopics;
use tailwater_kafka::{
    CheckpointTopic, Client, Election, Group, ToMessages, ToNormalized, Topics, Transaction,
};
use tailwater_mongodb::{Server, Start, Streams, connect};
use tailwater_pipeline::budget::Budget;
use tailwater_pipeline::retry::Backoff;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::write_ahead::WriteAhead;
use tailwater_pipeline::{BatchLimits, worker};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::tables::{self, Ready};
use crate::reading;

/// A transaction closes as soon as nothing more is there to add: others have come while the one before
/// was under way.
const MAX_WAIT: Duration = Duration::from_millis(2);
/// Large enough that the steps of a transaction do not count, small enough that none takes long.
const MAX_BYTES: usize = 16 << 20;

/// The vitals of some parts, in the order in which they are run.
pub(super) fn vitals(parts: Parts) -> Vec<Vitals> {
    let all = [
        (parts.source, Vitals::of("source", "mongodb")),
        (parts.normalize, Vitals::of("normalize", "kafka")),
        (parts.sink, Vitals::of("sink", "kafka")),
    ];
    all.into_iter().filter(|(runs, _)| *runs).map(|(_, vitals)| vitals).collect()
}

/// Gaps that the source finds are in the table within this time.
const MIRROR: Duration = Duration::from_secs(30);

/// What the parts of a process share.
#[derive(Debug, Clone)]
struct Shared {
    config: Arc<Config>,
    client: Client,
    topics: Topics,
    start: Start,
    stop: CancellationToken,
}

/// Runs the parts until `stop`, or until one of them cannot go on.
pub(super) async fn run(
    mut config: Config,
    parts: Parts,
    start: Start,
    vitals: Vec<Vitals>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let kafka = config.require_kafka()?;
    if parts.source {
        config.require_mongodb()?;
    }
    if parts.normalize {
        config.require_normalizer()?;
    }
    if parts.sink {
        config.require_clickhouse()?;
    }
    let client = Client::of(kafka, tailwater_kafka::tokens(kafka).await?);
    tokio::select! {
        connected = client.connect(connect::DEFAULT_FIRST_CONNECTION) => connected?,
        () = stop.cancelled() => return Ok(()),
    }
    let topics = Topics::new(&client, NewTopics::of(kafka))?;
    config.limits.memory_bytes /= vitals.len().max(1);
    let config = Arc::new(config);
    let shared = Shared { config, client, topics, start, stop: stop.clone() };
    let mut running = JoinSet::new();
    for vitals in vitals {
        let shared = shared.clone();
        running.spawn(async move {
            match vitals.part() {
                "source" => shared.source(vitals).await,
                "normalize" => shared.normalize(vitals).await,
                _ => shared.sink(vitals).await,
            }
        });
    }
    let mut outcome = Ok(());
    while let Some(ended) = running.join_next().await {
        stop.cancel();
        outcome = outcome.and(ended.map_err(anyhow::Error::from).and_then(|ended| ended));
    }
    outcome
}

impl Shared {
    fn kafka(&self) -> anyhow::Result<&Kafka> {
        Ok(self.config.require_kafka()?)
    }

    /// What a part of this process may have in flight.
    fn budget(&self) -> Budget {
        Budget::new(self.config.limits.memory_bytes)
    }

    fn limits(&self) -> BatchLimits {
        let max_bytes = MAX_BYTES.min(self.config.limits.largest_batch());
        BatchLimits { max_wait: MAX_WAIT, max_bytes, ..BatchLimits::default() }
    }

    /// From MongoDB into raw topics: of several processes one works, the others stand by.
    async fn source(self, vitals: Vitals) -> anyhow::Result<()> {
        let mut backoff = Backoff::new();
        loop {
            // Whoever was fenced stands anew: it works again only when it is its turn.
            match self.stand(vitals.clone()).await {
                Ok(()) if self.stop.is_cancelled() => return Ok(()),
                Ok(()) => backoff = Backoff::new(),
                Err(error) => pause(error, "source", &mut backoff).await?,
            }
        }
    }

    /// Stands by until it is our turn, and then works until it is another's.
    async fn stand(&self, vitals: Vitals) -> anyhow::Result<()> {
        let checkpoints = Arc::clone(&self.kafka()?.topics.checkpoints);
        self.topics.ensure_checkpoints(&checkpoints).await?;
        let mut election = Election::stand(&self.client, &self.config.pipeline, &checkpoints)?;
        tokio::select! {
            won = election.won() => won?,
            () = self.stop.cancelled() => return Ok(()),
        }
        let stop = self.stop.child_token();
        let mut work = Box::pin(self.copy(&checkpoints, vitals, stop.clone()));
        tokio::select! {
            result = &mut work => result,
            lost = election.lost() => {
                let release = lost?;
                info!("another process takes over");
                stop.cancel();
                let result = work.await;
                release.done();
                result
            }
        }
    }

    /// Copies change streams into topics from where the checkpoints are.
    async fn copy(
        &self,
        checkpoints: &Arc<str>,
        vitals: Vitals,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mongodb = self.config.require_mongodb()?.clone();
        let kafka = self.kafka()?;
        let lanes: Vec<LaneId> =
            mongodb.scopes.iter().map(|scope| LaneId::stream(&scope.entry())).collect();
        let prepare = async {
            let patience = connect::DEFAULT_FIRST_CONNECTION;
            let uri = mongodb.uri.expose_secret();
            let server = Server::connect(uri, mongodb.scopes.len(), patience).await?;
            let pipeline = &self.config.pipeline;
            let (client, topics) = (&self.client, self.topics.clone());
            let mut delivery =
                Transaction::begin(client, topics, pipeline, checkpoints, vitals.clone()).await?;
            if lanes.iter().any(|lane| delivery.checkpoints().stream(lane).is_none()) {
                let origin = server.origin(self.start).await?;
                delivery.begin_missing(lanes.clone(), &origin).await?;
            }
            anyhow::Ok((server, delivery))
        };
        let (server, delivery) = tokio::select! {
            prepared = prepare => prepared?,
            () = stop.cancelled() => return Ok(()),
        };
        let budget = self.budget();
        let transform = ToMessages::new(producing(kafka)).watching(mongodb.scopes.clone());
        let transform = Arc::new(transform);
        let streams = Streams::new(server, mongodb.scopes, mongodb.watch, budget, vitals.clone());
        let result = worker::run(streams, transform, delivery, self.limits(), stop).await;
        // Who stands by hears nothing of them, and is healthy.
        lanes.iter().for_each(|lane| vitals.forget(lane));
        Ok(result?)
    }

    /// From raw topics into the normalized topic.
    async fn normalize(self, vitals: Vitals) -> anyhow::Result<()> {
        let mut backoff = Backoff::new();
        loop {
            match self.normalize_once(vitals.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => pause(error, "normalize", &mut backoff).await?,
            }
        }
    }

    async fn normalize_once(&self, vitals: Vitals) -> anyhow::Result<()> {
        let kafka = self.kafka()?;
        let name = format!("{}.normalize", self.config.pipeline);
        let (topics, scopes) = self.reading()?;
        let group = Group::join(
            &self.client,
            &name,
            &topics,
            self.topics.clone(),
            self.budget(),
            vitals.clone(),
        )
        .await?;
        let offsets = group.offsets();
        let (topics, checkpoints) = (self.topics.clone(), &kafka.topics.checkpoints);
        let begin =
            Transaction::of_group(&self.client, topics, &name, offsets, checkpoints, vitals);
        let delivery = tokio::select! {
            begun = begin => begun?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let transform = ToNormalized {
            reading: reading::of(&self.config, kafka),
            scopes,
            mapping: Arc::clone(&self.config.require_normalizer()?.mapping),
            normalized: Arc::clone(&kafka.topics.normalized),
            dead_letter: Arc::clone(&kafka.topics.dead_letter),
        };
        let stop = self.stop.clone();
        worker::run(group, Arc::new(transform), delivery, self.limits(), stop).await?;
        Ok(())
    }

    /// From topics into ClickHouse.
    async fn sink(self, vitals: Vitals) -> anyhow::Result<()> {
        let mut backoff = Backoff::new();
        loop {
            match Box::pin(self.sink_once(vitals.clone())).await {
                Ok(()) => return Ok(()),
                Err(error) => pause(error, "sink", &mut backoff).await?,
            }
        }
    }

    async fn sink_once(&self, vitals: Vitals) -> anyhow::Result<()> {
        let kafka = self.kafka()?;
        let normalizer = self.config.normalizer.as_ref();
        let to_topic = self.config.parts().normalize;
        let normalized = to_topic.then(|| Arc::clone(&kafka.topics.normalized));
        let (mut topics, scopes) = self.reading()?;
        let (raw, read) = (kafka.topics.raw.clone(), topics.clone());
        let topic_of = move |of: &Namespace| {
            // In a topic of somebody else's a collection may be whatever our own would be called.
            let topic = raw.topic(&of.db, &of.coll)?;
            is_subscribed(&read, &topic).then(|| topic.to_string())
        };
        let watched = Watched::Topics(Arc::new(topic_of));
        topics.extend(normalized.iter().map(|topic| topic.to_string()));
        let prepared = tables::prepare(&self.config, watched);
        let Ready { tables, connection, batch, deadline, max_rejected, engine } = tokio::select! {
            ready = prepared => ready?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let mapping = normalizer.map(|normalizer| Arc::clone(&normalizer.mapping));
        let rows = ToRows::new(tables.layout().clone()).with_mappings(Mappings::new(mapping));
        let transform = OfRecords::new(reading::of(&self.config, kafka), normalized, scopes, rows);
        let name = format!("{}.sink", self.config.pipeline);
        let (kafka_topics, budget) = (self.topics.clone(), self.budget());
        let group =
            Group::join(&self.client, &name, &topics, kafka_topics, budget, vitals.clone()).await?;
        let delivery = WriteAhead::new(group.offsets(), tables, deadline, vitals)
            .with_max_rejected(max_rejected);
        let run = worker::run(group, Arc::new(transform), delivery, batch, self.stop.clone());
        tokio::select! {
            result = run => result?,
            never = self.mirror_gaps(&name, &connection) => match never {},
        }
        if let Some(engine) = engine {
            engine.shutdown().await;
        }
        Ok(())
    }

    /// Copies what the source knows to be missing into the table of gaps.
    async fn mirror_gaps(&self, group: &str, connection: &Connection) -> Infallible {
        let mut next = Seq::ZERO;
        loop {
            next = match self.mirror_gaps_from(next, group, connection).await {
                Ok(next) => next,
                Err(error) => {
                    warn!(error = format!("{error:#}"), "gap records are not mirrored yet");
                    // Perhaps it is another topic by now. To tell them twice is to tell them once.
                    Seq::ZERO
                }
            };
            tokio::time::sleep(MIRROR).await;
        }
    }

    /// Gives where to look next.
    async fn mirror_gaps_from(
        &self,
        next: Seq,
        group: &str,
        connection: &Connection,
    ) -> anyhow::Result<Seq> {
        let checkpoints = &self.kafka()?.topics.checkpoints;
        if !self.topics.is_there(checkpoints).await? {
            return Ok(Seq::ZERO);
        }
        let found = CheckpointTopic::gaps_from(&self.client, group, checkpoints, next).await?;
        let (gaps, next) = found;
        for gap in &gaps {
            let sql = table::record_gap(connection.database(), gap);
            connection.execute(&sql, "cannot write a gap record").await?;
        }
        Ok(next)
    }

    /// The raw topics, and the collections that count in them.
    fn reading(&self) -> anyhow::Result<(Vec<String>, Option<Vec<Scope>>)> {
        let reading = self.config.reading();
        let reading = reading.ok_or_else(|| self.config.require_mongodb().map(drop).err());
        match reading {
            Ok(reading) => Ok((reading.topics, reading.scopes)),
            Err(lacking) => Err(lacking.map_or_else(
                || anyhow::anyhow!("nothing says which topics to read"),
                anyhow::Error::from,
            )),
        }
    }
}

/// Waits before a part begins again, or hands on what waiting does not mend.
async fn pause(error: anyhow::Error, part: &str, backoff: &mut Backoff) -> anyhow::Result<()> {
    let known = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let again = |error: &Error| {
        // A transaction that took too long is fenced by the broker, as one of an earlier process is.
        error.kind().action() == Action::Retry || error.kind() == ErrorKind::InUse
    };
    if !known.is_some_and(again) {
        return Err(error);
    }
    warn!(part, error = format!("{error:#}"), "beginning again from the checkpoint");
    backoff.pause().await;
    Ok(())
}

/// Makes messages as they are configured.
fn producing(kafka: &Kafka) -> Producing {
    let naming = kafka.topics.raw.clone();
    let topics = Arc::new(move |db: &str, coll: &str| naming.topic(db, coll));
    match &kafka.compat {
        Compat::MongoKafka { messages, .. } => Producing::like_connector(topics, *messages),
        Compat::None => {
            let publish = match kafka.publish {
                Publish::ChangeEvent => producing::Publish::ChangeEvent,
                Publish::FullDocument => producing::Publish::FullDocument,
            };
            let style = Style { format: kafka.format, publish, tombstones: kafka.tombstones };
            Producing::new(topics, style)
        }
    }
}
