//! Settings: what the config says of a cluster, as librdkafka's properties. They hold secrets, and
//! nothing prints them.

use std::num::NonZeroU32;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tailwater_core::config::{Kafka, OAuthBearer, Sasl, Tls};

use crate::client::{Client, Tokens};
use crate::topics::NewTopics;

impl Client {
    /// A client as it is configured; `tokens` where the sign-in takes some.
    pub fn of(kafka: &Kafka, tokens: Option<Arc<dyn Tokens>>) -> Self {
        Self::new(&kafka.bootstrap_servers, properties(kafka), tokens)
    }
}

impl NewTopics {
    /// New topics as they are configured.
    pub fn of(kafka: &Kafka) -> Self {
        let topics = &kafka.topics;
        Self {
            partitions: NonZeroU32::new(topics.partitions).unwrap_or(NonZeroU32::MIN),
            replication_factor: topics.replication_factor,
            retention: topics.retention,
            max_message_bytes: topics.max_message_bytes,
        }
    }
}

fn properties(kafka: &Kafka) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut set = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    set("security.protocol", kafka.security_protocol.name());
    if let Some(sasl) = &kafka.sasl {
        set("sasl.mechanism", sasl.mechanism());
        match sasl {
            Sasl::Password { username, password, .. } => {
                set("sasl.username", username);
                set("sasl.password", password.expose_secret());
            }
            Sasl::OAuthBearer(OAuthBearer::Unsecured(config)) => {
                set("sasl.oauthbearer.config", config);
                set("enable.sasl.oauthbearer.unsecure.jwt", "true");
            }
            Sasl::OAuthBearer(_) | Sasl::AwsMskIam { .. } => {}
        }
    }
    let Tls { ca, certificate, key, key_password } = &kafka.tls;
    if let Some(ca) = ca {
        set("ssl.ca.pem", ca);
    } else if kafka.security_protocol.has_tls() {
        // OpenSSL is built in, and does not know where this host keeps its certificates.
        set("ssl.ca.location", "probe");
    }
    if let Some(certificate) = certificate {
        set("ssl.certificate.pem", certificate);
    }
    if let Some(key) = key {
        set("ssl.key.pem", key.expose_secret());
    }
    if let Some(password) = key_password {
        set("ssl.key.password", password.expose_secret());
    }
    for (name, value) in &kafka.properties {
        set(name, value.expose_secret());
    }
    all
}
