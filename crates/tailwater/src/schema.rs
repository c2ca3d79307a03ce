//! Schema: what a config needs of ClickHouse and Kafka, planned and carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tailwater_clickhouse::{Connection, schema};
use tailwater_core::config::{Config, Kafka};
use tailwater_core::kafka_engine::KafkaEngine;
use tailwater_core::plan::{Action, Plan, Step};
use tailwater_core::rows::Namespace;
use tailwater_core::scope::Scope;
use tailwater_core::{ErrorKind, Result};
use tailwater_embedded::EngineProcess;
use tailwater_kafka::rights::Members;
use tailwater_kafka::topics::NewTopics;
use tailwater_kafka::{CheckpointTopic, Topics};
use tailwater_mongodb::connect;
use tailwater_pipeline::retry::{self, Backoff};
use tailwater_pipeline::state_folder::StateFolder;
use tracing::info;

use crate::cluster::{self, Cluster};
use crate::commands::run::tables;
use crate::target;

/// A member that does not say that it leaves is forgotten within this time: the session of ClickHouse's
/// consumers is 45 s.
const LEAVES_WITHIN: Duration = Duration::from_secs(90);

/// Who fills the event table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingest {
    /// The sink, or `run` without a Kafka.
    Sink,
    /// ClickHouse itself.
    KafkaEngine,
}

/// The servers of a config, as far as it names them.
pub(crate) struct Servers {
    connection: Option<Connection>,
    /// The embedded engine, where it runs for this alone.
    engine: Option<EngineProcess>,
    broker: Option<Broker>,
}

struct Broker {
    cluster: Cluster,
    topics: Topics,
}

impl Servers {
    /// Reaches them.
    pub(crate) async fn reach(config: &Config) -> anyhow::Result<Self> {
        let broker = match &config.kafka {
            Some(kafka) => {
                let cluster = Cluster::reach(config).await?;
                let topics = Topics::new(&cluster.client, NewTopics::of(kafka))?;
                Some(Broker { cluster, topics })
            }
            None => None,
        };
        let (connection, engine) = match &config.clickhouse {
            Some(clickhouse) => {
                let (endpoint, engine) =
                    target::reach_or_make(&clickhouse.target, &config.state).await?;
                (Some(Connection::new(endpoint)?), engine)
            }
            None => (None, None),
        };
        Ok(Self { connection, engine, broker })
    }

    /// What is there, and what is to be made.
    pub(crate) async fn plan(&self, config: &Config, ingest: Ingest) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        if let (Some(broker), Some(kafka)) = (&self.broker, &config.kafka) {
            plan.steps.extend(broker.plan(config, kafka).await?);
        }
        let Some(connection) = &self.connection else { return Ok(plan) };
        let tables = tables_of(config, ingest)?;
        plan.steps.extend(schema::plan(connection, &tables).await?);
        if let (Ingest::KafkaEngine, Some(broker)) = (ingest, &self.broker) {
            plan.steps.extend(broker.refuse_sink(config).await?);
            let (layout, pipeline) = (&tables.layout, &config.pipeline);
            let engine = KafkaEngine::of(config, connection.database(), &layout.dead_letters)?;
            let steps = schema::plan_engine(connection, pipeline, &layout.records, &engine);
            plan.steps.extend(steps.await?);
            plan.notes.extend(engine.notes);
            plan.notes.extend(BY_ENGINE.map(str::to_owned));
        }
        Ok(plan)
    }

    /// What there is of the pipeline, and what of it goes.
    pub(crate) async fn teardown(&self, config: &Config, data: bool) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        let broker = self.broker.as_ref().zip(config.kafka.as_ref());
        match broker {
            // A plan that is half done loses no offset of a table that is gone.
            Some((broker, kafka)) if data => {
                let groups = cluster::groups(config, kafka).into_iter().map(|group| group.name);
                plan.steps.extend(broker.drop_groups(groups).await?);
            }
            Some(_) => {}
            None if data => {
                if config.state.exists() {
                    // Refused while somebody writes.
                    drop(StateFolder::open(&config.state)?);
                }
                let state = config.state.display();
                plan.notes.push(format!(
                    "the checkpoints in `{state}` stay: remove the folder too, or the next run goes on \
                     where this one was, with empty tables"
                ));
            }
            None => {}
        }
        if let Some(connection) = &self.connection {
            let scopes = config.mongodb.as_ref().map(|mongodb| mongodb.scopes.clone());
            let leaving = schema::Leaving { pipeline: config.pipeline.clone(), scopes, data };
            plan.steps.extend(schema::plan_teardown(connection, &leaving).await?);
            if !data && plan.work().next().is_some() {
                plan.notes.push(ROWS_OF_ENGINE.to_owned());
            }
        }
        if let Some((broker, kafka)) = broker {
            plan.steps.extend(broker.teardown(config, kafka, data).await?);
        }
        Ok(plan)
    }

    /// Does what a plan says, in its order.
    pub(crate) async fn carry_out(&self, plan: &Plan) -> anyhow::Result<()> {
        for step in plan.work() {
            match (step.action(), &self.connection, &self.broker) {
                (Some(Action::Statements(statements)), Some(connection), _) => {
                    schema::carry_out(connection, &step.thing, statements).await?;
                }
                (Some(action), _, Some(broker)) => broker.carry_out(action).await?,
                _ => anyhow::bail!("there is no server for this: {}", step.thing),
            }
        }
        Ok(())
    }

    /// Lets them go.
    pub(crate) async fn leave(self) {
        if let Some(engine) = self.engine {
            engine.shutdown().await;
        }
    }
}

impl Broker {
    /// What is there of the topics, and what is to be made.
    async fn plan(&self, config: &Config, kafka: &Kafka) -> anyhow::Result<Vec<Step>> {
        let records = self.records(config, kafka).await?;
        let checkpoints = config.parts().have_checkpoints().then_some(&kafka.topics.checkpoints);
        let mut steps = self.topics.plan(&records, checkpoints).await?;
        if config.mongodb.is_none() {
            let read = config.reading().map(|reading| reading.topics).unwrap_or_default();
            for name in read.iter().filter(|topic| !topic.starts_with('^')) {
                let thing = format!("topic `{name}`");
                steps.push(match self.topics.is_there(name).await? {
                    true => Step::there(thing, "others write it"),
                    false => Step::stays(thing, "it is missing, and who writes it must make it"),
                });
            }
        }
        Ok(steps)
    }

    /// The topics of records that the parts of a config write: those that it names, and those that its
    /// source has written.
    async fn records(&self, config: &Config, kafka: &Kafka) -> anyhow::Result<Vec<Arc<str>>> {
        let topics = &kafka.topics;
        let mut all = BTreeSet::new();
        if let Some(mongodb) = &config.mongodb {
            all.extend(mongodb.scopes.iter().filter_map(|scope| match scope {
                Scope::Collection { db, coll } => topics.raw.topic(db, coll),
                // Made when their first event comes.
                Scope::Pattern { .. } | Scope::Database(_) | Scope::Deployment => None,
            }));
            let observer = &self.cluster.observer;
            let looked = CheckpointTopic::look(observer, &topics.checkpoints).await?;
            let written = looked.iter().flat_map(|looked| looked.topic.topics());
            all.extend(written.map(|(name, _)| Arc::from(name)));
        }
        if config.parts().normalize {
            all.extend([Arc::clone(&topics.normalized), Arc::clone(&topics.dead_letter)]);
        }
        Ok(all.into_iter().collect())
    }

    /// Whether a source keeps its checkpoints there.
    async fn has_streams(&self, checkpoints: &Arc<str>) -> anyhow::Result<bool> {
        let looked = CheckpointTopic::look(&self.cluster.observer, checkpoints).await?;
        Ok(looked.is_some_and(|looked| !looked.slots.is_empty()))
    }

    /// Who is in a group. A young cluster makes its coordinators only then.
    async fn members(&self, group: &str) -> anyhow::Result<Members> {
        let members = || self.cluster.observer.members(group);
        Ok(retry::patiently(connect::DEFAULT_FIRST_CONNECTION, members).await?)
    }

    /// A sink that runs would write every row once more.
    async fn refuse_sink(&self, config: &Config) -> anyhow::Result<Option<Step>> {
        let group = format!("{}.sink", config.pipeline);
        let runs = self.members(&group).await?.count > 0;
        let why = "a sink runs, and with it every row would come twice";
        let mend = "stop it, and run the other parts alone: `tailwater run source normalize`";
        Ok(runs.then(|| Step::wrong(format!("group `{group}`"), why, mend)))
    }

    async fn carry_out(&self, action: &Action) -> Result<()> {
        let deadline = Instant::now() + LEAVES_WITHIN;
        let mut backoff = Backoff::new();
        loop {
            match self.topics.carry_out(action).await {
                Err(error) if error.kind() == ErrorKind::InUse && Instant::now() < deadline => {
                    if backoff.attempts() == 0 {
                        info!(%error, "waiting until its members are forgotten");
                    }
                    backoff.pause().await;
                }
                result => return result,
            }
        }
    }

    async fn drop_groups(&self, groups: impl Iterator<Item = String>) -> anyhow::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for name in groups {
            let members = self.members(&name).await?;
            let thing = format!("group `{name}`");
            if members.count > 0 {
                let mend = "stop every process of that part first";
                steps.push(Step::wrong(thing, "it has members: they run", mend));
            } else if members.is_there {
                steps.push(Step::drop(thing, "its offsets are lost", Action::DeleteGroup(name)));
            }
        }
        Ok(steps)
    }

    /// The topics that go, and last the group of the Kafka engine, whose members are forgotten only
    /// some time after its table is gone.
    async fn teardown(
        &self,
        config: &Config,
        kafka: &Kafka,
        data: bool,
    ) -> anyhow::Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut topics = self.records(config, kafka).await?;
        // The last, since it tells which there are.
        topics.extend(
            config.parts().have_checkpoints().then(|| Arc::clone(&kafka.topics.checkpoints)),
        );
        for name in topics {
            if !self.topics.is_there(&name).await? {
                continue;
            }
            let thing = format!("topic `{name}`");
            let is_source_s = config.mongodb.is_none() && name == kafka.topics.checkpoints;
            steps.push(match data {
                false => Step::stays(thing, "its records stay; `--data` deletes it"),
                true if is_source_s && self.has_streams(&name).await? => {
                    Step::stays(thing, OF_SOURCE)
                }
                true => {
                    let loses = "all its records are lost, to others that read it too";
                    Step::drop(thing, loses, Action::DeleteTopic(name.to_string()))
                }
            });
        }
        let group = format!("{}.clickhouse", config.pipeline);
        if data && self.members(&group).await?.is_there {
            let thing = format!("group `{group}`");
            steps.push(Step::drop(thing, "its offsets are lost", Action::DeleteGroup(group)));
        }
        Ok(steps)
    }
}

/// What follows when ClickHouse reads the topics itself.
const BY_ENGINE: [&str; 3] = [
    "a crash of ClickHouse may bring messages twice: docs/option-a.md has the query that tells them apart",
    "there is no current state, and no `raw_cdc`: these come from the sink alone",
    "run the other parts without a sink: `tailwater run source`, and `normalize` where the config has it",
];

/// Why a checkpoint topic stays that is not ours alone.
const OF_SOURCE: &str = "a source that this config does not name keeps its checkpoints there; what normalize has \
                         there stays too, and it goes on behind that: `tailwater checkpoint rewind normalize --to beginning` \
                         lets it begin anew";
/// What follows when it no longer does.
const ROWS_OF_ENGINE: &str = "the rows that ClickHouse has read stay, and a sink begins with the first message: \
                              give it another table, or all come a second time";

/// Refuses a config whose topics the Kafka engine cannot read, before any server is asked.
pub(crate) fn expect_readable(config: &Config) -> anyhow::Result<()> {
    let tables = tables_of(config, Ingest::KafkaEngine)?;
    KafkaEngine::of(config, "default", &tables.layout.dead_letters)?;
    Ok(())
}

/// The tables that a config needs.
fn tables_of(config: &Config, ingest: Ingest) -> anyhow::Result<schema::Tables> {
    let clickhouse = config.require_clickhouse()?;
    let scopes = config.mongodb.as_ref().map_or(&[][..], |mongodb| &mongodb.scopes);
    let (wanted, _) = tables::wanted(config, clickhouse);
    let mut layout = tables::layout(config, clickhouse);
    let by_engine = ingest == Ingest::KafkaEngine;
    if by_engine {
        (layout.raw_cdc, layout.current) = (None, None);
    }
    let named = scopes.iter().filter_map(|scope| match scope {
        Scope::Collection { db, coll } => Some(Namespace { db: db.clone(), coll: coll.clone() }),
        Scope::Pattern { .. } | Scope::Database(_) | Scope::Deployment => None,
    });
    Ok(schema::Tables { layout, wanted, collections: named.collect(), by_engine })
}
