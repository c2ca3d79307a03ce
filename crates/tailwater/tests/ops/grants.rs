//! With the rights that are printed, and no others, a pipeline runs.

use serde_json::Value;
use tailwater_testkit::kafka::Message;
use tailwater_testkit::servers::{Kafka, Options};

use crate::stage::Stage;

/// The arguments of each line behind the principal.
pub(crate) fn rights(lines: &str, principal: &str) -> Vec<Vec<String>> {
    let lines = lines.lines().filter(|line| line.starts_with("kafka-acls.sh "));
    let of_line = |line: &str| {
        let (line, _) = line.split_once("   # ").unwrap();
        let (_, rights) = line.split_once(&format!(" --allow-principal {principal} ")).unwrap();
        rights.split(' ').map(str::to_owned).collect()
    };
    lines.map(of_line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_runs_with_the_printed_acls_and_says_without_them_what_is_missing() {
    let options = Options { secured: true, authorized: true, ..Options::default() };
    let Some(kafka) = Kafka::start_with(&options).await.unwrap() else { return };
    let Some(mut stage) = Stage::on("granted", &kafka).await else { return };
    let secured = kafka.secured().unwrap();
    stage.ask(&secured.password);
    stage.kafka = format!(
        "  sasl: {{ mechanism: SCRAM-SHA-512, username: {}, password: {} }}\n  tls: {{ ca: {} }}\n",
        Kafka::USER,
        Kafka::PASSWORD,
        secured.ca.display(),
    );
    std::fs::write(stage.path("mapping.yaml"), "mappings: []\n").unwrap();
    stage.more = format!(
        "normalizer: {{ mapping: {}, output: topic }}\n",
        stage.path("mapping.yaml").display()
    );

    let user = format!("User:{}", Kafka::USER);
    let parts = ["--part", "source", "--part", "normalize", "--part", "sink"];
    let lines = stage.run(&[&["grants", "kafka-acl"], &parts[..]].concat()).await.done();
    let rights = rights(&lines, &user);
    assert_eq!(rights.len(), 12, "{lines}");

    stage.write(0, 20).await;
    // Without any it stops, and says what is missing.
    let mut alone = stage.start(&["source"]);
    let log = alone.refused().await;
    assert!(log.contains("an ACL is missing"), "{log}");
    for right in &rights {
        let right: Vec<&str> = right.iter().map(String::as_str).collect();
        kafka.allow(&user, &right).await.unwrap();
    }
    let mut all = stage.start(&[]);
    stage.wait_for_rows(20, &mut [&mut all]).await;
    stage.write(20, 5).await;
    stage.wait_for("SELECT count() FROM granted__files_current", "25", &mut [&mut all]).await;

    // An operator has rights of their own.
    let lines = stage.run(&["grants", "kafka-acl", "--part", "operator"]).await.done();
    for right in self::rights(&lines, &user) {
        let right: Vec<&str> = right.iter().map(String::as_str).collect();
        kafka.allow(&user, &right).await.unwrap();
    }
    let bad = Message::new("key", "{no json");
    stage.cluster.produce("events.mongo.granted.files", &[bad]).await.unwrap();
    let count = |count: usize| move |all: &Value| all.as_array().unwrap().len() == count;
    stage.wait_for_json(&["dlq", "list"], count(2)).await;
    stage.run(&["dlq", "replay", "--all", "--yes"]).await.done();
    stage.wait_for_json(&["dlq", "list", "--replayed"], count(4)).await;
    all.stop().await;
}
