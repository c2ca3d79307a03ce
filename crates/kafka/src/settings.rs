//! Settings: what the config says of a cluster, as librdkafka's properties. They hold secrets, and
//! nothing prints them.

use std::num::NonZeroU32;

use secrecy::ExposeSecret as _;
use tailwater_core::config::{Client as Kind, Kafka, PasswordMechanism, Sasl, Tls};

use crate::client::{Client, Property};
use crate::tokens::Tokens;
use crate::topics::NewTopics;

impl Client {
    /// A client as it is configured; the [`tokens`](crate::tokens()) where the sign-in takes some.
    pub fn of(kafka: &Kafka, tokens: Option<Tokens>) -> Self {
        Self::with(&kafka.bootstrap_servers, properties(kafka), tokens, hint(kafka))
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

/// What to do when the brokers refuse the sign-in.
const fn hint(kafka: &Kafka) -> &'static str {
    match &kafka.sasl {
        Some(Sasl::Password { mechanism: PasswordMechanism::Plain, .. }) => {
            "check `username` and `password` in `kafka.sasl`, and that the port is one for PLAIN"
        }
        Some(Sasl::Password { .. }) => {
            "check `username` and `password` in `kafka.sasl`; a user has a password for each SCRAM mechanism apart, and the port must be one for this"
        }
        Some(Sasl::OAuthBearer(_)) => {
            "check the token of `kafka.sasl`: who has issued it, for whom, until when; and that the port is one for OAUTHBEARER"
        }
        Some(Sasl::AwsMskIam { .. }) => {
            "check whose the AWS credentials are, that a policy of theirs allows `kafka-cluster:Connect` on this cluster, this host's clock, and the port (9098, public 9198)"
        }
        None => "if the brokers want a sign-in, write `sasl` in `kafka`",
    }
}

/// Checked against librdkafka 2.12: PEM goes in as text, so that nothing is written to a disk;
/// certificates may hold a chain; the brokers' names are checked (`ssl.endpoint.identification.algorithm`
/// is `https` by default).
fn properties(kafka: &Kafka) -> Vec<Property> {
    let mut all = Vec::new();
    let mut set = |name: &str, value: &str| all.push((None, name.to_owned(), value.to_owned()));
    set("security.protocol", kafka.security_protocol.name());
    if let Some(sasl) = &kafka.sasl {
        set("sasl.mechanism", sasl.mechanism());
        match sasl {
            Sasl::Password { username, password, .. } => {
                set("sasl.username", username);
                set("sasl.password", password.expose_secret());
            }
            // The client is given tokens.
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
    for kind in [Kind::Admin, Kind::Consumer, Kind::Producer] {
        for (name, value) in kafka.properties_of(kind) {
            all.push((Some(kind), name.to_owned(), value.expose_secret().to_owned()));
        }
    }
    all
}
