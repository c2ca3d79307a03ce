//! Grants: the least rights in Kafka that a config needs, by part, and how they are written down.
//!
//! ```text
//!   config ─▶ of_kafka ─▶ grants ─┬─▶ acl   lines of `kafka-acls.sh`
//!                                 └─▶ iam   a policy for MSK
//! ```
//!
//! Pure. Nobody is asked whether the rights are there: `tailwater check` does.

pub mod acl;
pub mod iam;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::Result;
use crate::config::{Config, Kafka};
use crate::scope::Scope;
use crate::topics::covering;

/// Who needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// `tailwater run source`.
    Source,
    /// `tailwater run normalize`.
    Normalize,
    /// `tailwater run sink`.
    Sink,
    /// Who runs `check`, `status`, `dlq` and `checkpoint`.
    Operator,
}

/// What a right is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Topics.
    Topic,
    /// Consumer groups.
    Group,
    /// The ids of transactional producers.
    TransactionalId,
}

/// The names of what a right is to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// This one.
    Literal(String),
    /// All that begin so; with nothing, all.
    Prefixed(String),
}

/// What may be done. Kafka takes `Describe` to be in `Read`, `Write` and `Delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Operation {
    /// To fetch records; to join a group and commit its offsets.
    Read,
    /// To produce; to begin transactions.
    Write,
    /// To make.
    Create,
    /// To delete.
    Delete,
    /// To look at.
    Describe,
    /// To look at the settings.
    DescribeConfigs,
}

/// Rights that go together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Who needs them.
    pub part: Part,
    /// What for.
    pub why: &'static str,
    /// What they are to.
    pub resource: Resource,
    /// Its names.
    pub names: Vec<Names>,
    /// What may be done.
    pub operations: Vec<Operation>,
}

impl Part {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Source, Self::Normalize, Self::Sink, Self::Operator];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Normalize => "normalize",
            Self::Sink => "sink",
            Self::Operator => "operator",
        }
    }
}

/// The rights that a config needs in Kafka, by part.
///
/// # Errors
/// `Config` where it has no Kafka.
pub fn of_kafka(config: &Config) -> Result<Vec<Grant>> {
    let kafka = config.require_kafka()?;
    let runs = config.parts();
    let mut all = Grants { pipeline: &config.pipeline, part: Part::Source, all: Vec::new() };
    if runs.source {
        all.source(config, kafka);
    }
    if runs.normalize {
        all.normalize(config, kafka);
    }
    if runs.sink {
        all.sink(config, kafka);
    }
    all.operator(config, kafka);
    Ok(all.all)
}

/// What each part may have to do with one thing, of these grants.
pub fn on(grants: &[Grant], resource: Resource, name: &str) -> BTreeMap<Part, BTreeSet<Operation>> {
    let mut all: BTreeMap<Part, BTreeSet<Operation>> = BTreeMap::new();
    let of_it = |grant: &&Grant| {
        grant.resource == resource && grant.names.iter().any(|names| names.cover(name))
    };
    for grant in grants.iter().filter(of_it) {
        all.entry(grant.part).or_default().extend(grant.operations.iter().copied());
    }
    all
}

impl Names {
    fn cover(&self, name: &str) -> bool {
        match self {
            Self::Literal(own) => own == name,
            Self::Prefixed(start) => name.starts_with(start.as_str()),
        }
    }
}

use Operation::{Create, Delete, Describe, DescribeConfigs, Read, Write};

/// What is gathered.
struct Grants<'c> {
    pipeline: &'c str,
    part: Part,
    all: Vec<Grant>,
}

impl Grants<'_> {
    fn add(
        &mut self,
        why: &'static str,
        resource: Resource,
        names: Vec<Names>,
        operations: &[Operation],
    ) {
        if !names.is_empty() {
            let operations = operations.to_vec();
            self.all.push(Grant { part: self.part, why, resource, names, operations });
        }
    }

    fn topics(&mut self, why: &'static str, names: Vec<Names>, operations: &[Operation]) {
        self.add(why, Resource::Topic, names, operations);
    }

    fn own(&self, name: &str) -> Vec<Names> {
        vec![Names::Literal(format!("{}.{name}", self.pipeline))]
    }

    fn source(&mut self, config: &Config, kafka: &Kafka) {
        self.part = Part::Source;
        let raw = written(config, kafka);
        self.topics("the events", raw, &[Create, Write, DescribeConfigs]);
        let checkpoints = one(&kafka.topics.checkpoints);
        let all = [Create, Read, Write, DescribeConfigs];
        self.topics("how far the streams are", checkpoints, &all);
        self.add("one of several works", Resource::Group, self.own("source"), &[Read]);
        let ids = self.own("source");
        self.add("transactions", Resource::TransactionalId, ids, &[Write]);
    }

    fn normalize(&mut self, config: &Config, kafka: &Kafka) {
        self.part = Part::Normalize;
        self.topics("the events", read(config), &[Read, DescribeConfigs]);
        let mut to = one(&kafka.topics.normalized);
        to.extend(one(&kafka.topics.dead_letter));
        let all = [Create, Write, DescribeConfigs];
        self.topics("normalized events and dead letters", to, &all);
        let checkpoints = one(&kafka.topics.checkpoints);
        let all = [Create, Read, Write, DescribeConfigs];
        self.topics("how far its partitions are", checkpoints, &all);
        self.add("its partitions and offsets", Resource::Group, self.own("normalize"), &[Read]);
        // Each process has an id of its own.
        let ids = vec![Names::Prefixed(format!("{}.normalize.", self.pipeline))];
        self.add("transactions", Resource::TransactionalId, ids, &[Write]);
    }

    fn sink(&mut self, config: &Config, kafka: &Kafka) {
        self.part = Part::Sink;
        let mut from = read(config);
        if config.parts().normalize {
            from.extend(one(&kafka.topics.normalized));
        }
        self.topics("the events", from, &[Read, DescribeConfigs]);
        self.topics("gaps that the source knows of", one(&kafka.topics.checkpoints), &[Read]);
        self.add("its partitions and offsets", Resource::Group, self.own("sink"), &[Read]);
    }

    fn operator(&mut self, config: &Config, kafka: &Kafka) {
        self.part = Part::Operator;
        let mut raw = written(config, kafka);
        raw.extend(read(config));
        let raw = tidy(raw);
        self.topics("status, dlq replay", raw, &[Read, Write, DescribeConfigs]);
        let mut own = one(&kafka.topics.checkpoints);
        own.extend(one(&kafka.topics.dead_letter));
        let why = "checkpoint rewind, dlq replay, gaps";
        self.topics(why, own, &[Create, Read, Write, DescribeConfigs]);
        if config.parts().normalize {
            let normalized = one(&kafka.topics.normalized);
            self.topics("status, dlq replay", normalized, &[Read, Write, DescribeConfigs]);
        }
        let scratch = self.own("check");
        let all = [Create, Read, Write, Delete, DescribeConfigs];
        self.topics("check makes it and deletes it", scratch, &all);
        let groups = ["source", "normalize", "sink", "check"].map(|name| self.own(name)).concat();
        self.add("status, checkpoint rewind", Resource::Group, groups, &[Read, Describe]);
        let mut ids = ["check", "replay", "source"].map(|name| self.own(name)).concat();
        if config.parts().normalize {
            ids.push(Names::Prefixed(format!("{}.normalize.", self.pipeline)));
        }
        let why = "check, dlq replay, checkpoint rewind";
        self.add(why, Resource::TransactionalId, ids, &[Write]);
    }
}

fn one(topic: &str) -> Vec<Names> {
    vec![Names::Literal(topic.to_owned())]
}

/// The topics that the source writes events to.
fn written(config: &Config, kafka: &Kafka) -> Vec<Names> {
    let scopes = config.mongodb.as_ref().map(|mongodb| mongodb.scopes.as_slice());
    let mut all = Vec::new();
    for scope in scopes.unwrap_or_default() {
        match scope {
            // Of its database it sees no events.
            Scope::Collection { db, coll } => {
                all.extend(
                    kafka.topics.raw.topic(db, coll).map(|it| Names::Literal(it.to_string())),
                );
            }
            scope => all.extend(names(&kafka.topics.raw.subscription(std::slice::from_ref(scope)))),
        }
    }
    tidy(all)
}

/// The topics of collections that are read.
fn read(config: &Config) -> Vec<Names> {
    config.reading().map(|reading| tidy(names(&reading.topics))).unwrap_or_default()
}

/// The names that a subscription covers, or more where a right cannot say it.
fn names(subscription: &[String]) -> Vec<Names> {
    let one = |entry: &String| match covering(entry) {
        (name, true) => Names::Literal(name),
        (start, false) => Names::Prefixed(start),
    };
    subscription.iter().map(one).collect()
}

/// In order, each once, and none that another one covers.
fn tidy(mut all: Vec<Names>) -> Vec<Names> {
    all.sort();
    all.dedup();
    let starts: Vec<String> = all
        .iter()
        .filter_map(|names| match names {
            Names::Prefixed(start) => Some(start.clone()),
            Names::Literal(_) => None,
        })
        .collect();
    all.retain(|names| match names {
        Names::Literal(name) => !starts.iter().any(|start| name.starts_with(start.as_str())),
        Names::Prefixed(own) => {
            !starts.iter().any(|start| start != own && own.starts_with(start.as_str()))
        }
    });
    all
}
