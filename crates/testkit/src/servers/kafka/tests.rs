//! A broker that is killed, and one where clients must sign in.

use super::secured::text;
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

/// Asks the broker anything; what the client is told when it is refused.
async fn ask(config: ClientConfig) -> Result<(), String> {
    let (told, telling) = std::sync::mpsc::channel();
    let ask = move || {
        let consumer: BaseConsumer<Told> = config.create_with_context(Told(told)).unwrap();
        let started = Instant::now();
        while started.elapsed() < START_DEADLINE {
            if consumer.fetch_metadata(None, Duration::from_millis(100)).is_ok() {
                return Ok(());
            }
            consumer.poll(Duration::ZERO);
            if let Ok(reason) = telling.try_recv() {
                return Err(reason);
            }
        }
        Err("silence".into())
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

struct Told(std::sync::mpsc::Sender<String>);

impl rdkafka::ClientContext for Told {
    fn error(&self, _: rdkafka::error::KafkaError, reason: &str) {
        drop(self.0.send(reason.to_owned()));
    }
}

impl rdkafka::consumer::ConsumerContext for Told {}

#[tokio::test]
async fn who_signs_in_is_let_in_and_nobody_else() {
    let options = Options { secured: true, ..Options::default() };
    let Some(kafka) = Kafka::start_with(&options).await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    let password = |mechanism, password| secured.by_password(mechanism, Kafka::USER, password);
    let nobody = {
        let mut config = secured.by_certificate();
        config.remove("ssl.certificate.location");
        config.remove("ssl.key.location");
        config
    };
    let mut stranger = secured.by_certificate();
    stranger.set("ssl.certificate.location", text(&secured.stranger_certificate));
    stranger.set("ssl.key.location", text(&secured.stranger_key));
    let mut distrustful = secured.by_certificate();
    distrustful.set("ssl.ca.location", text(&secured.stranger_certificate));
    let mut not_by_token = secured.by_token();
    not_by_token.set("sasl.mechanism", "SCRAM-SHA-256");
    not_by_token.set("sasl.username", Kafka::USER).set("sasl.password", Kafka::PASSWORD);

    let cases = [
        (password("SCRAM-SHA-512", Kafka::PASSWORD), None),
        (password("SCRAM-SHA-512", "wrong"), Some("invalid credentials")),
        (password("SCRAM-SHA-256", Kafka::PASSWORD), None),
        (password("SCRAM-SHA-256", "wrong"), Some("invalid credentials")),
        (password("PLAIN", Kafka::PASSWORD), None),
        (password("PLAIN", "wrong"), Some("Invalid username or password")),
        (secured.by_certificate(), None),
        (nobody, Some("certificate")),
        (stranger, Some("certificate")),
        (distrustful, Some("certificate verify failed")),
        (secured.by_token(), None),
        (not_by_token, Some("Unsupported SASL mechanism")),
    ];
    let asking = cases.map(async |(config, refused)| {
        let case = format!("{config:?}");
        match (ask(config).await, refused) {
            (Ok(()), None) => {}
            (Err(told), Some(refused)) => assert!(told.contains(refused), "{case}: {told}"),
            (answer, _) => panic!("{case}: {answer:?}"),
        }
    });
    futures_util::future::join_all(asking).await;
}

#[tokio::test]
async fn a_paused_broker_answers_when_it_goes_on() {
    let Some(mut kafka) = Kafka::start().await.unwrap() else { return };
    let cluster = Cluster::at(&kafka.bootstrap());
    cluster.create_topic("things", 1, &[]).await.unwrap();
    kafka.pause().unwrap();
    let ends = cluster.ends("things");
    tokio::pin!(ends);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut ends).await;
    assert!(early.is_err(), "{early:?}");
    kafka.go_on().unwrap();
    assert_eq!(ends.await.unwrap().len(), 1);
    assert!(kafka.resident().unwrap().most > 50 << 20);
}

#[tokio::test]
async fn a_right_is_missing_until_it_is_given() {
    let options = Options { secured: true, authorized: true, ..Options::default() };
    let Some(kafka) = Kafka::start_with(&options).await.unwrap() else { return };
    let open = Cluster::at(&kafka.bootstrap());
    open.create_topic("things", 1, &[]).await.unwrap();
    let secured = kafka.secured().unwrap();
    let signed_in =
        Cluster::over(secured.by_password("SCRAM-SHA-512", Kafka::USER, Kafka::PASSWORD));
    let things = [Message::new("a", "1")];
    let refused = signed_in.produce("things", &things).await.unwrap_err();
    assert!(format!("{refused:#}").contains("authorization"), "{refused:#}");
    let user = format!("User:{}", Kafka::USER);
    let right = ["--operation", "Write", "--operation", "Describe", "--topic", "things"];
    kafka.allow(&user, &right).await.unwrap();
    assert_eq!(signed_in.produce("things", &things).await.unwrap(), [(0, 0)]);
}
