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

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_core::config::{Config, Given, Secrets};

    /// Files by their names.
    struct Files;

    impl Secrets for Files {
        fn variable(&self, name: &str) -> Result<String, String> {
            Ok(format!("secret of {name}"))
        }

        fn file(&self, path: &str) -> Result<String, String> {
            Ok(match path {
                "key" => "-----BEGIN PRIVATE KEY-----".to_owned(),
                path => format!("-----BEGIN CERTIFICATE----- {path}"),
            })
        }
    }

    fn kafka(lines: &str) -> Kafka {
        let text = format!(
            "version: 1\nmongodb: {{ uri: 'mongodb://h', collections: [a.b] }}\n\
             clickhouse: {{ url: 'http://h' }}\nkafka: {{ bootstrap_servers: 'b:9093', {lines} }}\n"
        );
        let config = Config::read("t.yaml", &text, &Given::default(), &Files);
        config.expect("a valid config").kafka.expect("a kafka")
    }

    /// The properties of all clients, but for the protocol.
    fn of_all(lines: &str) -> Vec<(String, String)> {
        let all = properties(&kafka(lines)).into_iter();
        let all = all.filter(|(of, name, _)| of.is_none() && name != "security.protocol");
        all.map(|(_, name, value)| (name, value)).collect()
    }

    #[test]
    fn each_key_becomes_its_property() {
        let probe = [("ssl.ca.location", "probe")];
        for (lines, expected) in [
            ("", &[][..]),
            ("security_protocol: SSL", &probe),
            (
                "sasl: { mechanism: SCRAM-SHA-512, username: u, password: { env: P } }",
                &[
                    ("sasl.mechanism", "SCRAM-SHA-512"),
                    ("sasl.username", "u"),
                    ("sasl.password", "secret of P"),
                    probe[0],
                ],
            ),
            (
                "sasl: { mechanism: PLAIN, username: u, password: p }, security_protocol: SASL_PLAINTEXT",
                &[("sasl.mechanism", "PLAIN"), ("sasl.username", "u"), ("sasl.password", "p")],
            ),
            // librdkafka is given tokens, and must not ask or make any.
            (
                "sasl: { mechanism: OAUTHBEARER, unsecured: principal=u }",
                &[("sasl.mechanism", "OAUTHBEARER"), probe[0]],
            ),
            (
                "sasl: { mechanism: AWS_MSK_IAM, region: eu-west-1 }",
                &[("sasl.mechanism", "OAUTHBEARER"), probe[0]],
            ),
            (
                "tls: { ca: ca, certificate: own, key: key, key_password: { env: K } }",
                &[
                    ("ssl.ca.pem", "-----BEGIN CERTIFICATE----- ca"),
                    ("ssl.certificate.pem", "-----BEGIN CERTIFICATE----- own"),
                    ("ssl.key.pem", "-----BEGIN PRIVATE KEY-----"),
                    ("ssl.key.password", "secret of K"),
                ],
            ),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(of_all(lines), expected, "{lines}");
        }
    }

    #[test]
    fn passwords_never_go_over_an_open_line_unasked() {
        for (lines, expected) in [
            ("", "PLAINTEXT"),
            ("tls: { ca: ca }", "SSL"),
            ("sasl: { mechanism: PLAIN, username: u, password: p }", "SASL_SSL"),
            ("sasl: { mechanism: AWS_MSK_IAM, region: eu-west-1 }", "SASL_SSL"),
        ] {
            let config = Client::of(&kafka(lines), None).config(Kind::Admin);
            assert_eq!(config.get("security.protocol"), Some(expected), "{lines}");
        }
    }

    #[test]
    fn each_client_gets_the_properties_that_it_takes() {
        let client = Client::of(
            &kafka("properties: { linger.ms: 7, fetch.min.bytes: 8, client.id: c }"),
            None,
        );
        let get = |kind| {
            let config = client.config(kind);
            ["client.id", "linger.ms", "fetch.min.bytes"]
                .map(|name| config.get(name).map(String::from))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(get(Kind::Admin), [some("c"), None, None]);
        assert_eq!(get(Kind::Producer), [some("c"), some("7"), None]);
        assert_eq!(get(Kind::Consumer), [some("c"), None, some("8")]);
    }

    #[test]
    fn no_secret_is_shown() {
        let lines = "sasl: { mechanism: PLAIN, username: u, password: { env: P } }, \
                     tls: { certificate: own, key: key, key_password: { env: K } }, \
                     properties: { client.rack: { env: R } }";
        let kafka = kafka(lines);
        let client = Client::of(&kafka, None);
        let shown = format!("{client:?} {:?} {kafka:?}", client.context());
        assert!(!shown.contains("secret of") && !shown.contains("PRIVATE KEY"), "{shown}");
    }
}
