//! The section `properties`: what goes to librdkafka as it is. What Tailwater sets itself is refused by
//! name: a promise hangs on it, or another key says it.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::Kafka;
use crate::config::problem::nearest;
use crate::config::section::{Reader, Section};
use crate::config::tree::{Node, Value};

/// A client of librdkafka, by the properties that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// One that asks and manages.
    Admin,
    /// One that reads.
    Consumer,
    /// One that writes.
    Producer,
}

impl Kafka {
    /// The configured properties that a client takes; it would warn of those of others.
    pub fn properties_of(&self, client: Client) -> impl Iterator<Item = (&str, &SecretString)> {
        let takes = move |name: &str| match client {
            _ if OF_ALL.contains(&name) => true,
            Client::Admin => false,
            Client::Consumer => OF_CONSUMERS.contains(&name),
            Client::Producer => OF_PRODUCERS.contains(&name),
        };
        let properties = self.properties.iter().map(|(name, value)| (name.as_str(), value));
        properties.filter(move |(name, _)| takes(name))
    }
}

/// What Tailwater sets itself, by the beginning of the name, and what to do instead.
const OWNED: [(&str, &str); 37] = [
    ("bootstrap.servers", "write `bootstrap_servers` in `kafka`"),
    ("metadata.broker.list", "write `bootstrap_servers` in `kafka`"),
    ("security.protocol", "write `security_protocol` in `kafka`"),
    ("sasl.", "write `sasl` in `kafka`"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "write `unsecured` in `sasl`"),
    ("ssl.ca.", "write `ca` in `tls`"),
    ("ssl_ca", "write `ca` in `tls`"),
    ("ssl.certificate.", "write `certificate` in `tls`"),
    ("ssl_certificate", "write `certificate` in `tls`"),
    ("ssl.key.", "write `key` and `key_password` in `tls`"),
    ("ssl_key", "write `key` and `key_password` in `tls`"),
    ("ssl.keystore.", "write `certificate` and `key` in `tls`, as PEM files"),
    ("group.id", "remove it: groups are named after the pipeline"),
    (
        "transactional.id",
        "remove it: by its name, after the pipeline, a source fences the one before",
    ),
    ("enable.idempotence", ONCE),
    ("enable.gapless.guarantee", ONCE),
    ("acks", ONCE),
    ("request.required.acks", ONCE),
    ("queuing.strategy", ONCE),
    ("isolation.level", "remove it: what is not committed is never read"),
    ("enable.auto.commit", COMMIT),
    ("auto.commit.", COMMIT),
    ("enable.auto.offset.store", COMMIT),
    ("offset.store.", COMMIT),
    ("auto.offset.reset", "remove it: a position that is gone is told, never replaced"),
    ("enable.partition.eof", "remove it: where a topic ends is asked for where it counts"),
    ("partitioner", "remove it: each document has its partition"),
    ("message.max.bytes", "write `max_message_bytes` in `topics`"),
    ("allow.auto.create.topics", "remove it: topics are made as `topics` says"),
    (
        "retry.backoff.",
        "remove it: by how long nothing is sent again, a commit that may arrive twice is told",
    ),
    ("delivery.report.only.error", REPORT),
    ("produce.offset.report", REPORT),
    ("queue.buffering.max.kbytes", BOUNDED),
    ("queued.max.messages.kbytes", BOUNDED),
    ("builtin.features", PROGRAM),
    ("log.queue", PROGRAM),
    ("enabled_events", PROGRAM),
];

const BOUNDED: &str = "remove it: what is in flight is bounded by `limits.memory_bytes`";
const ONCE: &str = "remove it: what is written is written once, and in order";
const COMMIT: &str = "remove it: positions move when what is before them is durable";
const REPORT: &str = "remove it: checkpoints hold what was written last";
const PROGRAM: &str = "remove it: it is for programs";

pub(super) fn read(
    section: Option<Section<'_>>,
    reader: &Reader<'_>,
) -> BTreeMap<String, SecretString> {
    let mut properties = BTreeMap::new();
    let entries = section.map_or(&[][..], |section| section.free_entries());
    for (key, node) in entries {
        let name = key.name.as_str();
        if let Some((_, mend)) = OWNED.into_iter().find(|(start, _)| name.starts_with(start)) {
            reader.hide(node);
            let what = format!("Tailwater sets {} itself", reader.shown(key, node));
            reader.complain(&key.place, what, mend);
            continue;
        }
        let mut known = OF_ALL.into_iter().chain(OF_CONSUMERS).chain(OF_PRODUCERS);
        if !known.clone().any(|known| known == name) {
            reader.hide(node);
            let what = format!("librdkafka has no property {}", reader.shown(key, node));
            let mend = match nearest(name, &mut known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "see the table of its properties, CONFIGURATION.md".to_owned(),
            };
            reader.complain(&key.place, what, mend);
            continue;
        }
        if let Some(value) = value(name, node, reader) {
            properties.insert(name.to_owned(), value.into());
        }
    }
    properties
}

/// A value as librdkafka reads it; it may be a secret.
fn value(name: &str, node: &Node, reader: &Reader<'_>) -> Option<String> {
    match &node.value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Section(_) => reader.text(name, node),
        _ => {
            reader.hide(node);
            reader.text(name, node)
        }
    }
}

/// What every client takes, of librdkafka 2.12.
const OF_ALL: [&str; 50] = [
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "enable.random.seed",
    "enable.ssl.certificate.verification",
    "log.connection.close",
    "log.thread.name",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.copy.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "plugin.library.paths",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.providers",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// What consumers alone take.
const OF_CONSUMERS: [&str; 18] = [
    "check.crcs",
    "coordinator.query.interval.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "queued.min.messages",
    "session.timeout.ms",
];

/// What producers alone take.
const OF_PRODUCERS: [&str; 16] = [
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.timeout.ms",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_is_not_owned() {
        for name in OF_ALL.into_iter().chain(OF_CONSUMERS).chain(OF_PRODUCERS) {
            let owned = OWNED.into_iter().find(|(start, _)| name.starts_with(start));
            assert_eq!(owned, None, "{name}");
        }
    }
}
