//! A broker that is killed, and one where clients must sign in.

use super::*;
use crate::kafka::{Cluster, Message};

#[tokio::test]
async fn a_killed_broker_comes_back_with_its_data() {
    let Some(mut kafka) = Kafka::start().await.unwrap() else { return };
    let cluster = Cluster::at(&kafka.bootstrap());
    cluster.create_topic("things", 1, &[]).await.unwrap();
    let open = cluster.open("writer", "things", &[Message::new("a", "1")]).await.unwrap();
    open.commit().await.unwrap();
    let open = cluster.open("writer", "things", &[Message::new("b", "2")]).await.unwrap();
    kafka.kill().unwrap();
    kafka.start_again().await.unwrap();
    let records = cluster.read_committed("things").await.unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    open.commit().await.unwrap();
    let records = cluster.read_committed("things").await.unwrap();
    assert_eq!(records.len(), 2, "{records:?}");
    let values: Vec<_> = records.iter().map(|record| record.value.as_deref()).collect();
    assert_eq!(values, [Some(&b"1"[..]), Some(&b"2"[..])]);
}

/// The properties of a client that must sign in.
fn client(address: &str, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config
}

/// What the client is told when it asks the broker anything: all of its errors when it is refused.
async fn ask(config: ClientConfig) -> Result<(), String> {
    let (told, telling) = std::sync::mpsc::channel();
    let context = Told(std::sync::Mutex::new(told));
    let ask = move || {
        let consumer: BaseConsumer<Told> = config.create_with_context(context).unwrap();
        let started = Instant::now();
        while started.elapsed() < START_DEADLINE {
            if consumer.fetch_metadata(None, Duration::from_millis(300)).is_ok() {
                return Ok(());
            }
            consumer.poll(Duration::ZERO);
            let errors: Vec<String> = telling.try_iter().collect();
            if !errors.is_empty() {
                return Err(errors.join("\n"));
            }
        }
        Err("silence".into())
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

struct Told(std::sync::Mutex<std::sync::mpsc::Sender<String>>);

impl rdkafka::ClientContext for Told {
    fn error(&self, _: rdkafka::error::KafkaError, reason: &str) {
        drop(self.0.lock().unwrap().send(reason.to_owned()));
    }
}

impl rdkafka::consumer::ConsumerContext for Told {}

#[tokio::test]
async fn who_signs_in_is_let_in_and_nobody_else() {
    let options = Options { secured: true, ..Options::default() };
    let Some(kafka) = Kafka::start_with(&options).await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    let ca = secured.ca.to_str().unwrap();

    let password = |mechanism, password| {
        client(
            &secured.password,
            &[
                ("security.protocol", "SASL_SSL"),
                ("ssl.ca.location", ca),
                ("sasl.mechanism", mechanism),
                ("sasl.username", Kafka::USER),
                ("sasl.password", password),
            ],
        )
    };
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        ask(password(mechanism, Kafka::PASSWORD)).await.unwrap();
        let refused = ask(password(mechanism, "wrong")).await.unwrap_err();
        assert!(refused.contains("Authentication failed"), "{mechanism}: {refused}");
    }

    let certificate = |certificate: &std::path::Path, key: &std::path::Path| {
        client(
            &secured.certificate,
            &[
                ("security.protocol", "SSL"),
                ("ssl.ca.location", ca),
                ("ssl.certificate.location", certificate.to_str().unwrap()),
                ("ssl.key.location", key.to_str().unwrap()),
            ],
        )
    };
    ask(certificate(&secured.client_certificate, &secured.client_key)).await.unwrap();
    let stranger = certificate(&secured.stranger_certificate, &secured.stranger_key);
    let refused = ask(stranger).await.unwrap_err();
    assert!(refused.contains("SSL"), "{refused}");
    let nobody =
        client(&secured.certificate, &[("security.protocol", "SSL"), ("ssl.ca.location", ca)]);
    let refused = ask(nobody).await.unwrap_err();
    assert!(refused.contains("SSL"), "{refused}");

    let token = |mechanism| {
        client(
            &secured.token,
            &[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", mechanism),
                ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
                ("sasl.oauthbearer.config", "principal=tailwater"),
                ("sasl.username", Kafka::USER),
                ("sasl.password", Kafka::PASSWORD),
            ],
        )
    };
    ask(token("OAUTHBEARER")).await.unwrap();
    let refused = ask(token("PLAIN")).await.unwrap_err();
    assert!(refused.contains("mechanism"), "{refused}");
}

#[tokio::test]
async fn a_right_is_missing_until_it_is_given() {
    let options = Options { secured: true, authorized: true, ..Options::default() };
    let Some(kafka) = Kafka::start_with(&options).await.unwrap() else { return };
    let open = Cluster::at(&kafka.bootstrap());
    open.create_topic("things", 1, &[]).await.unwrap();
    let secured = kafka.secured().unwrap();
    let signed_in = Cluster::over(client(
        &secured.password,
        &[
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", secured.ca.to_str().unwrap()),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", Kafka::USER),
            ("sasl.password", Kafka::PASSWORD),
        ],
    ));
    let things = [Message::new("a", "1")];
    let refused = signed_in.produce("things", &things).await.unwrap_err();
    assert!(format!("{refused:#}").contains("authorization"), "{refused:#}");
    let user = format!("User:{}", Kafka::USER);
    let right = ["--operation", "Write", "--operation", "Describe", "--topic", "things"];
    kafka.allow(&user, &right).await.unwrap();
    assert_eq!(signed_in.produce("things", &things).await.unwrap(), [(0, 0)]);
}
