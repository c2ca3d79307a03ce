//! ClickHouse reads the topics itself, and has the rows that the sink writes.

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use tailwater_testkit::kafka::Message;
use tailwater_testkit::servers::Kafka;

use crate::stage::Stage;

const PLAN: [&str; 4] = ["schema", "plan", "--ingest", "kafka-engine"];
const APPLY: [&str; 5] = ["schema", "apply", "--ingest", "kafka-engine", "--yes"];

/// A document of every type that a column may hold, in a way of its own.
fn document(number: i64) -> Document {
    let at = DateTime::from_millis(1_700_000_000_000 + number);
    doc! {
        "_id": number, "status": if number % 2 == 0 { "arrived" } else { "sent \"now\"\n" },
        "long": i64::MAX - number, "int": 7, "double": 5.0, "part": 2.5, "yes": true, "none": null,
        "at": at, "id": ObjectId::from_bytes([number as u8; 12]), "list": [1, 2], "in": { "a.b": 1 },
        "decimal": Bson::Decimal128("1.50".parse().unwrap()), "a.b": "dot", "text": "5",
    }
}

/// Inserts, updates, replaces and deletes.
async fn change(stage: &Stage, first: i64, count: i64) {
    let files = stage.files();
    files.insert_many((first..first + count).map(document)).await.unwrap();
    files.update_many(doc! { "int": 7 }, doc! { "$set": { "int": 8 } }).await.unwrap();
    let other = doc! { "_id": first, "other": 1 };
    files.replace_one(doc! { "_id": first }, other).await.unwrap();
    files.delete_one(doc! { "_id": first + 1 }).await.unwrap();
}

/// All rows, but for the columns in which they differ by rule.
fn rows(database: &str, but: &str) -> String {
    format!(
        "SELECT * EXCEPT (_ingested_at, _epoch{but}), JSONAllPathsWithTypes(attrs), \
         JSONAllPathsWithTypes(tags) FROM {database}.record_raw ORDER BY _topic, _partition, _offset"
    )
}

fn count(database: &str) -> String {
    format!("SELECT count() FROM {database}.record_raw WHERE op = 'insert'")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_raw_topics_are_those_of_the_sink() {
    let Some(mut stage) = Stage::set("engined").await else { return };
    let mut source = stage.start(&["source"]);
    change(&stage, 0, 20).await;
    stage.move_to("engined_alone").await;
    stage.execute("CREATE TABLE engined_alone.mine (n UInt8) ENGINE = Log").await;
    stage.run(&APPLY[..4]).await.refused(&["there is nobody to ask"]);
    assert_eq!(stage.ask_rows("EXISTS TABLE record_raw").await, "0");
    let plan = stage.run(&APPLY).await.done();
    for text in ["make   table `record_raw`", "make   Kafka engine table `record_raw_kafka`"] {
        assert!(plan.contains(text), "{plan}");
    }
    let again = stage.run(&PLAN).await.done();
    assert!(again.contains("ok     view `record_raw_kafka_feed`"), "{again}");
    assert!(again.contains("\nnothing to do\n"), "{again}");

    // More comes while it reads; and what is no event, and what was never committed.
    change(&stage, 20, 20).await;
    let topic = "events.mongo.engined.files";
    let never = [Message::new("{\"_id\":1}", "{never")];
    let open = stage.cluster.open("engined.strange", topic, &never).await.unwrap();
    open.abort().await.unwrap();
    stage.cluster.produce(topic, &[Message::new("{\"_id\":1}", "{no json")]).await.unwrap();
    stage.wait_for(&count("engined_alone"), "40", &mut [&mut source]).await;
    "engined".clone_into(&mut stage.database);
    let mut sink = stage.start(&["sink"]);
    stage.wait_for(&count("engined"), "40", &mut [&mut source, &mut sink]).await;
    let letters = "tailwater_dead_letters";
    for database in ["engined", "engined_alone"] {
        let letter = format!("SELECT event, _topic FROM {database}.{letters}");
        let told = format!("{{no json\t{topic}");
        stage.wait_for(&letter, &told, &mut [&mut source, &mut sink]).await;
    }
    let of_sink = |but: &str| (rows("engined", but), rows("engined_alone", but));
    let (sink_sql, engine_sql) = of_sink(", raw");
    let deleted = "SELECT count() FROM engined.record_raw WHERE op = 'delete'";
    stage.wait_for(deleted, "2", &mut [&mut source, &mut sink]).await;
    let expected = stage.ask_rows(&sink_sql).await;
    assert!(expected.lines().count() > 80, "{expected}");
    stage.wait_for(&engine_sql, &expected, &mut [&mut source]).await;
    let raw =
        "SELECT countIf(NOT startsWith(raw, '{\"_id\":{\"_data\":')) FROM engined_alone.record_raw";
    assert_eq!(stage.ask_rows(raw).await, "0");

    // Beside a sink every row would come twice.
    "engined_alone".clone_into(&mut stage.database);
    let refused = stage.run(&APPLY).await.refused(&["group `engined.sink`"]);
    assert!(refused.contains("nothing was done"), "{refused}");
    sink.stop().await;
    let log = stage.start(&["sink"]).refused().await;
    assert!(log.contains("ClickHouse fills `record_raw` itself"), "{log}");
    stage.run(&["schema", "plan"]).await.refused(&["view `record_raw_kafka_feed`"]);

    // Made anew it goes on where it was.
    let port = stage.bootstrap().rsplit_once(':').unwrap().1.to_owned();
    stage.ask(&format!("localhost:{port}"));
    let plan = stage.run(&APPLY).await.done();
    assert!(plan.contains("5 to make, 5 to drop"), "{plan}");
    change(&stage, 40, 1).await;
    stage.wait_for(&count("engined_alone"), "41", &mut [&mut source]).await;
    let twice = "SELECT count() - uniqExact(_partition, _offset) FROM engined_alone.record_raw";
    assert_eq!(stage.ask_rows(twice).await, "0");

    // What holds no rows goes, and what holds some only when that is said, and nothing runs.
    let plan = stage.run(&["schema", "teardown", "--yes"]).await.done();
    assert!(plan.contains("5 to drop") && plan.contains("stays  table `record_raw`"), "{plan}");
    assert!(plan.contains("note: the rows that ClickHouse has read stay"), "{plan}");
    let tables = "SELECT arrayStringConcat(groupArray(name), ' ') FROM \
                  (SELECT name FROM system.tables WHERE database = 'engined_alone' ORDER BY name)";
    assert_eq!(stage.ask_rows(tables).await, "mine record_raw tailwater_dead_letters");
    let teardown = ["schema", "teardown", "--data", "--yes"];
    stage.run(&teardown).await.refused(&["group `engined.source`", "nothing was done"]);
    source.stop().await;
    let plan = stage.run(&teardown).await.done();
    for text in [
        "drop   group `engined.clickhouse`: its offsets are lost",
        "drop   table `tailwater_dead_letters`: its 1 row is lost",
        "drop   topic `events.mongo.engined.files`: all its records are lost",
        "drop   topic `engined.checkpoints`",
    ] {
        assert!(plan.contains(text), "no `{text}` in {plan}");
    }
    assert_eq!(stage.ask_rows(tables).await, "mine");
    let plan = stage.run(&["schema", "teardown", "--data"]).await.done();
    assert_eq!(plan, "\nnothing to do\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_normalized_topic_come_by_password_which_is_never_shown() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let Some(mut stage) = Stage::on("signed", kafka).await else { return };
    let secured = kafka.secured().unwrap();
    // The embedded engine has neither TLS nor SCRAM.
    stage.ask(&secured.token);
    stage.kafka = format!(
        "  security_protocol: SASL_PLAINTEXT\n  \
         sasl: {{ mechanism: PLAIN, username: {}, password: {} }}\n",
        Kafka::USER,
        Kafka::PASSWORD,
    );
    let user = format!("User:{}", Kafka::USER);
    for resource in [
        ["--topic", "signed"],
        ["--topic", "events.mongo.signed."],
        ["--group", "signed"],
        ["--transactional-id", "signed"],
    ] {
        let right = ["--operation", "All", "--resource-pattern-type", "prefixed"];
        kafka.allow(&user, &[&right[..], &resource].concat()).await.unwrap();
    }
    let mapping = "mappings: [{ match: { ns.db: signed }, tags: [status], \
                   attrs: [long, double, at, list, in, decimal, a.b], raw: true }]\n";
    std::fs::write(stage.path("mapping.yaml"), mapping).unwrap();
    let file = stage.path("mapping.yaml").display().to_string();
    stage.more = format!("normalizer: {{ mapping: {file}, output: topic }}\n");
    let mut parts = stage.start(&["source", "normalize"]);
    change(&stage, 0, 20).await;
    let mut sink = stage.start(&["sink"]);
    stage.wait_for(&count("signed"), "20", &mut [&mut parts, &mut sink]).await;
    let deleted = "SELECT count() FROM signed.record_raw WHERE op = 'delete'";
    stage.wait_for(deleted, "1", &mut [&mut parts, &mut sink]).await;
    sink.stop().await;
    let expected = stage.ask_rows(&rows("signed", "")).await;
    assert!(expected.lines().count() > 40, "{expected}");

    // What the sink has read it would read again.
    let wrong = stage.run(&PLAN).await;
    assert!(wrong.out.contains("a sink has written rows to it"), "{wrong:?}");
    wrong.refused(&["nothing was done: this must be mended by hand: table `record_raw`"]);
    stage.move_to("signed_alone").await;
    let plan = stage.run(&PLAN).await.done();
    let json = stage.json(&PLAN).await.to_string();
    let applied = stage.run(&APPLY).await;
    for text in [&plan, &json, &applied.out] {
        assert!(text.contains("kafka_sasl_mechanism = 'PLAIN'"), "{text}");
        assert!(text.contains("kafka_security_protocol = 'SASL_PLAINTEXT'"), "{text}");
        assert!(text.contains("kafka_sasl_password = '[HIDDEN]'"), "{text}");
    }
    let shown = stage.ask_rows("SHOW CREATE TABLE record_raw_kafka").await;
    for text in [&plan, &json, &applied.out, &applied.err, &shown] {
        assert!(!text.contains(Kafka::PASSWORD), "{text}");
    }
    assert!(shown.contains("kafka_sasl_username = 'tailwater'"), "{shown}");
    applied.done();
    stage.wait_for(&rows("signed_alone", ""), &expected, &mut [&mut parts]).await;
    stage.run(&["schema", "teardown", "--yes"]).await.done();
    parts.stop().await;
}
