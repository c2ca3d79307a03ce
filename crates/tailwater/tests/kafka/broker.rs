//! The broker is away, checks rights, or takes little. It is another one than that of the other
//! tests, which take turns with it.

use tailwater_pipeline::failpoint;
use tailwater_testkit::kafka::Cluster;
use tailwater_testkit::servers::{Kafka, KafkaProxy, Options};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::stage::Stage;

/// A broker for one test at a time. `None`: it is missing here, skip.
async fn broker() -> Option<MutexGuard<'static, Kafka>> {
    static BROKER: OnceCell<Option<Mutex<Kafka>>> = OnceCell::const_new();
    let start = async || {
        let options = Options {
            secured: true,
            authorized: true,
            // What is committed beside an offset takes some hundred.
            properties: vec![("offset.metadata.max.bytes", "250".to_owned())],
            ..Options::default()
        };
        Kafka::start_with(&options).await.unwrap().map(Mutex::new)
    };
    Some(BROKER.get_or_init(start).await.as_ref()?.lock().await)
}

impl Stage {
    /// Lets the pipeline go through that broker, where nobody has to sign in.
    fn go_through(&mut self, kafka: &Kafka) {
        self.cluster = Cluster::at(&kafka.bootstrap());
        self.settings.bootstrap = Some(kafka.bootstrap());
    }

    /// Lets it sign in by password.
    fn sign_in(&mut self, kafka: &Kafka, password: &str) {
        let secured = kafka.secured().unwrap();
        self.settings.bootstrap = Some(secured.password.clone());
        self.settings.kafka = format!(
            "  sasl: {{ mechanism: SCRAM-SHA-512, username: {}, password: {password} }}\n  \
             tls: {{ ca: {} }}\n",
            Kafka::USER,
            secured.ca.display()
        );
    }
}

/// What a part says of a broker that it does not reach.
const AWAY: &str = "BrokerTransportFailure";

/// `DELIVERY.md` §8, line 9, its second half.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_before_a_commit_commits_once() {
    let Some(mut stage) = Stage::set("restarted").await else { return };
    let Some(mut kafka) = broker().await else { return };
    stage.go_through(&kafka);
    stage.make_topics().await;
    let order = format!("{}:3:stop", failpoint::COMMITTING);
    let mut source = stage.start_at(&["source"], &order);
    stage.write_until(|| source.is_still()).await;
    kafka.kill().unwrap();
    source.go_on();
    source.says(AWAY).await;
    kafka.start_again().await.unwrap();
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

/// A broker knows nothing of a producer yet, refuses what comes first, since it does not lead the
/// partition yet, and takes what comes second. For librdkafka both are there then.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_refused_while_the_next_one_was_taken_is_not_lost() {
    let Some(mut stage) = Stage::set("overtaken").await else { return };
    let proxy = KafkaProxy::start().await.unwrap();
    let Some(kafka) = Kafka::start_with(&proxy.options()).await.unwrap() else { return };
    stage.go_through(&kafka);
    stage.settings.partitions = 1;
    stage.settings.properties.push(("batch.num.messages", "1".to_owned()));
    stage.make_topics().await;
    stage.write(20).await;
    proxy.refuse_next(&stage.topic("files"));
    let mut source = stage.start(&["source"]);
    source.says("nobody knows where in topic `events.mongo.overtaken.files` a record is").await;
    stage.judge_topics(&mut source).await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_under_load_loses_and_repeats_nothing() {
    let Some(mut stage) = Stage::set("underload").await else { return };
    let Some(mut kafka) = broker().await else { return };
    stage.go_through(&kafka);
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(20).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    kafka.kill().unwrap();
    stage.write_until(|| [&source, &sink].iter().all(|part| part.log().contains(AWAY))).await;
    kafka.start_again().await.unwrap();
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_and_once_it_is_given_everything_arrives() {
    let Some(mut stage) = Stage::set("rights").await else { return };
    let Some(kafka) = broker().await else { return };
    stage.go_through(&kafka);
    stage.sign_in(&kafka, Kafka::PASSWORD);
    stage.write(10).await;
    let user = format!("User:{}", Kafka::USER);
    let all = ["--operation", "All", "--resource-pattern-type", "prefixed"];
    let give = async |resource: &str, name: &str| {
        kafka.allow(&user, &[&all[..], &[resource, name]].concat()).await.unwrap();
    };
    let acl = "an ACL is missing";
    stage
        .start(&["source"])
        .refuses(&[&format!("{acl} on the topic: `tailwater grants kafka-acl`")])
        .await;
    give("--topic", stage.name).await;
    stage
        .start(&["source"])
        .refuses(&[&format!("{acl}: allow this user Read on the groups")])
        .await;
    give("--group", stage.name).await;
    stage
        .start(&["source"])
        .refuses(&[&format!("{acl}: allow this user Write and Describe on the trans")])
        .await;
    give("--transactional-id", stage.name).await;
    stage
        .start(&["source"])
        .refuses(&[&format!("{acl} on the topic: `tailwater grants kafka-acl`")])
        .await;
    stage
        .start(&["sink"])
        .refuses(&[&format!("{acl} on the topic: `tailwater grants kafka-acl`")])
        .await;
    give("--topic", &format!("events.mongo.{}.", stage.name)).await;
    let mut source = stage.start(&["source"]);
    stage.judge_topics(&mut source).await;
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_broker_that_is_gone_are_named() {
    let Some(mut stage) = Stage::set("password").await else { return };
    {
        let Some(kafka) = broker().await else { return };
        stage.sign_in(&kafka, "wrong-password");
    }
    let wrong = stage.start(&["sink"]);
    let hints = ["cannot reach Kafka at", "hint: check `username` and `password` in `kafka.sasl`"];
    let log = wrong.refuses(&hints).await;
    assert!(!log.contains("wrong-password"), "{log}");

    stage.settings.kafka.clear();
    stage.settings.bootstrap = Some("127.0.0.1:1".to_owned());
    let gone = ["cannot reach Kafka at `127.0.0.1:1`", "hint: check that the server runs"];
    stage.start(&["source"]).refuses(&gone).await;
}

/// What a sink notes beside an offset is larger than the broker takes.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_too_large_is_named_and_nothing_is_lost() {
    let Some(mut stage) = Stage::set("metadata").await else { return };
    let Some(kafka) = broker().await else { return };
    stage.go_through(&kafka);
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    stage.write(20).await;
    stage.judge_topics(&mut source).await;
    let [records, raw] = ["r", "c"].map(|letter| letter.repeat(140));
    stage.settings.clickhouse = format!("tables: {{ records: {records}, raw_cdc: {raw} }},");
    let broker = ["hint: raise the broker's `offset.metadata.max.bytes`"];
    stage.start(&["sink"]).refuses(&broker).await;
    stage.settings.clickhouse.clear();
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}
