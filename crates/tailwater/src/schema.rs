//! Schema: what a config needs of ClickHouse and Kafka, planned and carried out.

use std::sync::Arc;

use tailwater_clickhouse::{Connection, schema};
use tailwater_core::config::{Config, Output};
use tailwater_core::kafka_engine::KafkaEngine;
use tailwater_core::plan::{Action, Plan, Step};
use tailwater_core::rows::{Namespace, RecordsFrom};
use tailwater_core::scope::Scope;
use tailwater_embedded::EngineProcess;
use tailwater_kafka::Topics;
use tailwater_kafka::topics::NewTopics;

use crate::cluster::{self, Cluster};
use crate::commands::run::tables;
use crate::target;

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
    topics: Option<Topics>,
}

impl Servers {
    /// Reaches them.
    pub(crate) async fn reach(config: &Config) -> anyhow::Result<Self> {
        let topics = match &config.kafka {
            Some(kafka) => {
                let client = Cluster::reach(config).await?.client;
                Some(Topics::new(&client, NewTopics::of(kafka))?)
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
        Ok(Self { connection, engine, topics })
    }

    /// What is there, and what is to be made.
    pub(crate) async fn plan(&self, config: &Config, ingest: Ingest) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        if let Some(topics) = &self.topics {
            plan.steps.extend(plan_topics(config, topics).await?);
        }
        match ingest {
            Ingest::Sink => {
                if let Some(connection) = &self.connection {
                    let tables = tables_of(config, false)?;
                    plan.steps.extend(schema::plan(connection, &tables).await?);
                }
            }
            Ingest::KafkaEngine => {
                let tables = tables_of(config, true)?;
                let connection = self.connection()?;
                let (layout, pipeline) = (&tables.layout, &config.pipeline);
                let database = connection.database();
                let engine = KafkaEngine::of(config, database, &layout.dead_letters)?;
                plan.steps.extend(schema::plan(connection, &tables).await?);
                let records = &layout.records;
                plan.steps
                    .extend(schema::plan_engine(connection, pipeline, records, &engine).await?);
                plan.notes.extend(engine.notes);
                plan.notes.extend(BY_ENGINE.map(str::to_owned));
            }
        }
        Ok(plan)
    }

    /// What there is of the pipeline, and what of it goes.
    pub(crate) async fn teardown(&self, config: &Config, data: bool) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        if let Some(connection) = &self.connection {
            let scopes = config.mongodb.as_ref().map(|mongodb| mongodb.scopes.clone());
            let leaving = schema::Leaving { pipeline: config.pipeline.clone(), scopes, data };
            plan.steps.extend(schema::plan_teardown(connection, &leaving).await?);
        }
        if let (Some(topics), Some(kafka)) = (&self.topics, &config.kafka) {
            let (records, checkpoints) = topics_of(config);
            let own: Vec<_> = records.into_iter().chain(checkpoints).collect();
            for name in &own {
                if !topics.is_there(name).await? {
                    continue;
                }
                let thing = format!("topic `{name}`");
                plan.steps.push(match data {
                    true => Step::drop(thing, Action::DeleteTopic(name.to_string())),
                    false => Step::stays(thing, "its records stay; `--data` deletes it"),
                });
            }
            if data {
                let groups = cluster::groups(config, kafka).into_iter().map(|group| group.name);
                let of_engine = format!("{}.clickhouse", config.pipeline);
                plan.steps.extend(
                    groups.chain([of_engine]).map(|name| {
                        Step::drop(format!("group `{name}`"), Action::DeleteGroup(name))
                    }),
                );
            }
        } else if data {
            let state = config.state.display();
            plan.notes.push(format!(
                "the checkpoints in `{state}` stay: remove the folder too before the pipeline runs again"
            ));
        }
        Ok(plan)
    }

    /// Does what a plan says, in its order.
    pub(crate) async fn carry_out(&self, plan: &Plan) -> anyhow::Result<()> {
        for step in plan.work() {
            match step.action() {
                None => {}
                Some(Action::Statements(statements)) => {
                    schema::carry_out(self.connection()?, &step.thing, statements).await?;
                }
                Some(action) => {
                    let topics = self.topics.as_ref();
                    let topics = topics.ok_or_else(|| anyhow::anyhow!("there is no Kafka"))?;
                    topics.carry_out(action).await?;
                }
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

    fn connection(&self) -> anyhow::Result<&Connection> {
        self.connection.as_ref().ok_or_else(|| anyhow::anyhow!("there is no ClickHouse"))
    }
}

/// What follows when ClickHouse reads the topics itself.
const BY_ENGINE: [&str; 3] = [
    "a crash of ClickHouse may bring messages twice: docs/option-a.md has the query that tells them apart",
    "there is no current state, and no `raw_cdc`: these come from the sink alone",
    "run the other parts without a sink: `tailwater run source`, and `normalize` where the config has it",
];

/// The topics that the parts of a config write: those of records, and that of the checkpoints.
fn topics_of(config: &Config) -> (Vec<Arc<str>>, Option<Arc<str>>) {
    let Some(kafka) = &config.kafka else { return Default::default() };
    let scopes = config.mongodb.iter().flat_map(|mongodb| &mongodb.scopes);
    let mut records: Vec<Arc<str>> = scopes
        .filter_map(|scope| match scope {
            Scope::Collection { db, coll } => kafka.topics.raw.topic(db, coll),
            // Made when their first event comes.
            Scope::Pattern { .. } | Scope::Database(_) | Scope::Deployment => None,
        })
        .collect();
    if config.parts().normalize {
        let topics = &kafka.topics;
        records.extend([Arc::clone(&topics.normalized), Arc::clone(&topics.dead_letter)]);
    }
    records.sort_unstable();
    records.dedup();
    let checkpoints = config.mongodb.is_some().then(|| Arc::clone(&kafka.topics.checkpoints));
    (records, checkpoints)
}

async fn plan_topics(config: &Config, topics: &Topics) -> anyhow::Result<Vec<Step>> {
    let (records, checkpoints) = topics_of(config);
    let mut steps = topics.plan(&records, checkpoints.as_ref()).await?;
    if config.mongodb.is_none() {
        let read = config.reading().map(|reading| reading.topics).unwrap_or_default();
        for name in read.iter().filter(|topic| !topic.starts_with('^')) {
            let thing = format!("topic `{name}`");
            steps.push(match topics.is_there(name).await? {
                true => Step::there(thing, "others write it"),
                false => Step::stays(thing, "it is missing, and those who write it must make it"),
            });
        }
    }
    Ok(steps)
}

/// The tables that a config needs.
fn tables_of(config: &Config, by_engine: bool) -> anyhow::Result<schema::Tables> {
    let clickhouse = config.require_clickhouse()?;
    let to_topic = config.normalizer.as_ref().is_some_and(|it| it.output == Output::Topic);
    let from = if to_topic { RecordsFrom::Normalized } else { RecordsFrom::Inline };
    let scopes = config.mongodb.as_ref().map_or(&[][..], |mongodb| &mongodb.scopes);
    let lanes = match &config.kafka {
        None => scopes.len(),
        Some(kafka) => {
            let topics = config.reading().map_or(0, |reading| reading.topics.len());
            topics * usize::try_from(kafka.topics.partitions).unwrap_or(1)
        }
    };
    let (wanted, _) = tables::wanted(config, clickhouse, lanes);
    let mut layout = tables::layout(clickhouse, from);
    if by_engine {
        (layout.raw_cdc, layout.current) = (None, None);
    }
    let named = scopes.iter().filter_map(|scope| match scope {
        Scope::Collection { db, coll } => Some(Namespace { db: db.clone(), coll: coll.clone() }),
        Scope::Pattern { .. } | Scope::Database(_) | Scope::Deployment => None,
    });
    Ok(schema::Tables { layout, wanted, collections: named.collect(), by_engine })
}
