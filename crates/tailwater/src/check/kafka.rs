//! Probes of Kafka: the brokers, each topic, our rights, and a transaction in a topic of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tailwater_core::check::topic::{self, Facts, Role, Wanted};
use tailwater_core::check::{End, Probe, Verdict};
use tailwater_core::config::{Config, Kafka, Sasl};
use tailwater_core::grants::{self, Grant, Operation, Part, Resource};
use tailwater_core::position::Millis;
use tailwater_core::spoken::length;
use tailwater_core::topics::is_subscribed;
use tailwater_core::{Error, ErrorKind};
use tailwater_kafka::CheckpointTopic;
use tailwater_kafka::checkpoints::Acknowledged;
use tailwater_kafka::rights::Rights;
use tailwater_kafka::topics::NewTopics;
use tailwater_pipeline::retry;

use super::failed;
use crate::cluster::{self, Cluster};

const END: End = End::Kafka;
/// A broker that has just started, or elects, may not know its groups yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) probes: Vec<Probe>,
    pub(super) cluster: Option<Cluster>,
    /// The topics of collections that are there.
    pub(super) topics: Vec<String>,
}

/// What the probes of a cluster share.
struct Asking<'a> {
    config: &'a Config,
    kafka: &'a Kafka,
    cluster: &'a Cluster,
    /// What the parts need, without who operates them.
    grants: Vec<Grant>,
    brokers: usize,
    probes: Vec<Probe>,
}

pub(super) async fn probe(config: &Config, read_only: bool) -> Found {
    let mut found = Found::default();
    let Some(kafka) = &config.kafka else { return found };
    let cluster = match Cluster::reach(config).await {
        Ok(cluster) => cluster,
        Err(error) => {
            found.probes.push(not_reached(kafka, error));
            return found;
        }
    };
    let brokers = cluster.observer.brokers().await;
    let grants = grants::of_kafka(config).unwrap_or_default().into_iter();
    let grants = grants.filter(|grant| grant.part != Part::Operator).collect();
    let (number, first) = match brokers {
        Ok(number) => (number, Probe::ok(END, "brokers", way_in(kafka, number))),
        Err(error) => (usize::MAX, failed(END, "brokers", &error)),
    };
    let mut asking =
        Asking { config, kafka, cluster: &cluster, grants, brokers: number, probes: vec![first] };
    found.topics = asking.topics().await;
    asking.groups().await;
    let parts = config.parts();
    if !read_only && (parts.source || parts.normalize) {
        asking.transaction().await;
    }
    found.probes = asking.probes;
    found.cluster = Some(cluster);
    found
}

/// A port that is for something else explains more than a connection that was closed.
fn not_reached(kafka: &Kafka, error: Error) -> Probe {
    let mut probe = failed(END, "brokers", &error);
    if let Some(ports) = kafka.suspicious_ports() {
        let hint = probe.mend.take().unwrap_or_default();
        probe.mend = Some(format!("{hint}; {ports}"));
    }
    probe
}

fn way_in(kafka: &Kafka, brokers: usize) -> String {
    let Kafka { bootstrap_servers, security_protocol, sasl, .. } = kafka;
    let number = if brokers == 1 { "1 broker".to_owned() } else { format!("{brokers} brokers") };
    let by = match sasl {
        Some(Sasl::Password { username, mechanism, .. }) => {
            format!(", {} as `{username}`", mechanism.name())
        }
        Some(Sasl::AwsMskIam { .. }) => ", AWS_MSK_IAM".to_owned(),
        Some(sasl) => format!(", {}", sasl.mechanism()),
        None => String::new(),
    };
    format!("{number} at `{bootstrap_servers}`, {}{by}", security_protocol.name())
}

impl Asking<'_> {
    /// Probes each topic; gives those of collections that are there.
    async fn topics(&mut self) -> Vec<String> {
        let (config, parts) = (self.config, self.config.parts());
        let topics = &self.kafka.topics;
        let source = parts.source.then_some(Part::Source);
        let mut pinned = BTreeMap::new();
        if parts.have_checkpoints() || parts.sink {
            let makes = source.or(parts.normalize.then_some(Part::Normalize));
            let is_there = self.topic(&topics.checkpoints, Role::Checkpoints, makes, None).await;
            if is_there {
                pinned = self.pinned().await;
            }
        }
        let subscription = config.reading().map(|reading| reading.topics).unwrap_or_default();
        let mut raw: BTreeSet<String> =
            subscription.iter().filter(|entry| !entry.starts_with('^')).cloned().collect();
        match self.cluster.observer.topics(&subscription).await {
            Ok(found) => raw.extend(found.into_keys()),
            Err(error) => self.probes.push(failed(END, "topics", &error)),
        }
        let makes = source.filter(|_| topics.read.is_none());
        let mut there = Vec::new();
        for name in raw {
            if self.topic(&name, Role::Changes, makes, pinned.get(&name)).await {
                there.push(name);
            }
        }
        if parts.normalize {
            for name in [&topics.normalized, &topics.dead_letter] {
                self.topic(name, Role::Changes, Some(Part::Normalize), None).await;
            }
        }
        there
    }

    /// Probes a topic; tells whether it is there.
    async fn topic(
        &mut self,
        name: &str,
        role: Role,
        makes: Option<Part>,
        pinned: Option<&Acknowledged>,
    ) -> bool {
        let what = format!("topic `{name}`");
        let observer = &self.cluster.observer;
        let seen = match retry::patiently(PATIENCE, || observer.topic(name)).await {
            Ok(Some(seen)) => seen,
            Ok(None) => {
                let replication = self.kafka.topics.replication_factor;
                self.probes.push(topic::missing(name, makes, self.brokers, replication));
                return false;
            }
            Err(error) => {
                self.probes.push(failed(END, what, &error));
                return false;
            }
        };
        let settings = retry::patiently(PATIENCE, || observer.settings(name)).await;
        let pinned = pinned.filter(|pinned| pinned.id == seen.id);
        let facts = Facts {
            partitions: seen.partitions,
            replicas: seen.replicas,
            pinned: pinned.map(|pinned| pinned.partitions.get()),
            settings: settings.as_ref().cloned().unwrap_or_default(),
            lacking: self.lacking(Resource::Topic, name, seen.rights),
        };
        let kafka = &self.kafka.topics;
        let wanted = Wanted {
            retention: Millis(i64::try_from(kafka.retention.as_millis()).unwrap_or(i64::MAX)),
            max_message_bytes: kafka.max_message_bytes.into(),
        };
        self.probes.push(topic::judge(name, role, &facts, &wanted));
        if let Err(error) = settings {
            self.probes.push(Probe::of_error(END, what, Verdict::Warn, &error));
        }
        true
    }

    /// Among how many partitions the source chooses, by topic.
    async fn pinned(&mut self) -> BTreeMap<String, Acknowledged> {
        let name = &self.kafka.topics.checkpoints;
        match CheckpointTopic::look(&self.cluster.observer, name).await {
            Ok(Some(looked)) => {
                looked.topic.topics().map(|(name, it)| (name.to_owned(), it.clone())).collect()
            }
            Ok(None) => BTreeMap::new(),
            Err(error) => {
                self.probes.push(failed(END, "checkpoints", &error));
                BTreeMap::new()
            }
        }
    }

    async fn groups(&mut self) {
        for group in cluster::groups(self.config, self.kafka) {
            if !group.is_configured {
                continue;
            }
            let observer = &self.cluster.observer;
            let asked = retry::patiently(PATIENCE, || observer.members(&group.name)).await;
            let probe = match asked {
                Ok(members) => {
                    let lacking = self.lacking(Resource::Group, &group.name, members.rights);
                    topic::group(&group.name, &lacking)
                }
                Err(error) => failed(END, format!("group `{}`", group.name), &error),
            };
            self.probes.push(probe);
        }
    }

    /// What the parts need and may not do with a thing that is there.
    fn lacking(
        &self,
        resource: Resource,
        name: &str,
        rights: Option<Rights>,
    ) -> BTreeMap<Part, BTreeSet<Operation>> {
        let Some(rights) = rights else { return BTreeMap::new() };
        let mut needed = grants::on(&self.grants, resource, name);
        for operations in needed.values_mut() {
            operations.retain(|it| *it != Operation::Create && !rights.may(*it));
        }
        needed.retain(|_, operations| !operations.is_empty());
        needed
    }

    async fn transaction(&mut self) {
        let what = "transactions";
        let name = format!("{}.check", self.config.pipeline);
        let groups = cluster::groups(self.config, self.kafka);
        if groups.iter().any(|group| is_subscribed(&group.subscription, &name)) {
            let found = format!("not tried: a topic `{name}` would be read as one of changes");
            let mend = "name the pipeline otherwise than the topics begin, to have it tried";
            self.probes.push(Probe::warn(END, what, found, mend));
            return;
        }
        let new = NewTopics { partitions: std::num::NonZeroU32::MIN, ..NewTopics::of(self.kafka) };
        self.probes.push(match self.cluster.observer.try_transaction(&name, new).await {
            Ok(took) => {
                let took = length(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
                Probe::ok(END, what, format!("one in the topic `{name}` took {took}"))
            }
            // The rights to it are those of who operates, not of the parts.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                let found = format!("not tried: {}", tailwater_core::check::told(&error));
                let mend = "`tailwater grants kafka-acl --part operator` prints what it takes; or add `--read-only`";
                Probe::warn(END, what, found, mend)
            }
            Err(error) if error.kind() == ErrorKind::InUse => {
                Probe::of_error(END, what, Verdict::Warn, &error)
            }
            Err(error) => failed(END, what, &error),
        });
    }
}
