//! A check says `ok` of what works, and of what does not, what it is and what mends it; nothing that it
//! tries stays, and with `--read-only` it tries nothing.

use serde_json::Value;
use tailwater_testkit::servers::{Kafka, Mongod, Options};

use crate::stage::{Answer, Stage, run_alone};

/// What a check found.
#[derive(Debug)]
struct Report(Value);

impl Report {
    /// Of a check that ends with this code.
    async fn of(stage: &Stage, arguments: &[&str], code: i32) -> Self {
        let (report, ended) = Self::any(stage, arguments).await;
        assert_eq!(ended, code, "{:#}", report.0);
        report
    }

    /// Of a check, and the code that it ends with.
    async fn any(stage: &Stage, arguments: &[&str]) -> (Self, i32) {
        let all = [&["check", "--format", "json"], arguments].concat();
        let answer: Answer = stage.run(&all).await;
        let report = serde_json::from_str(&answer.out);
        (Self(report.unwrap_or_else(|error| panic!("{error}: {answer:?}"))), answer.code.unwrap())
    }

    fn find(&self, end: &str, what: &str) -> Option<&Value> {
        let probes = self.0["probes"].as_array().unwrap();
        probes.iter().find(|probe| probe["end"] == end && probe["what"] == what)
    }

    /// That a thing is so, as its line says.
    #[track_caller]
    fn expect(&self, end: &str, what: &str, verdict: &str, text: &str) -> String {
        let Some(probe) = self.find(end, what) else { panic!("no `{what}` in {:#}", self.0) };
        assert_eq!(probe["verdict"], verdict, "{:#}", self.0);
        let found = probe["found"].as_str().unwrap();
        assert!(found.contains(text), "no `{text}` in {probe:#}");
        probe["mend"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_runs_is_told_from_one_that_stands() {
    let Some(stage) = Stage::set("checked").await else { return };
    let topic = "events.mongo.checked.files";
    stage.cluster.create_topic(topic, 2, &[("retention.ms", "3600000")]).await.unwrap();

    // Before the first start nothing fails: what a run makes it makes.
    let early = Report::of(&stage, &["--wait", "0"], 0).await;
    early.expect("mongodb", "server", "ok", "the replica set `tw`");
    early.expect("mongodb", "change streams", "ok", "`checked.files`");
    early.expect("kafka", "brokers", "ok", "1 broker");
    early.expect("kafka", "topic `checked.checkpoints`", "ok", "source makes it");
    early.expect("clickhouse", "table `record_raw`", "ok", "not there yet");
    early.expect("clickhouse", "writing", "ok", "is there once");
    early.expect("pipeline", "source moves", "warn", "no source has run");
    early.expect("pipeline", "rows rise", "warn", "not there yet");

    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(0, 20).await;
    stage.wait_for_rows(20, &mut [&mut source, &mut sink]).await;
    let mut next = 20;
    let check = Report::of(&stage, &["--wait", "60"], 0);
    tokio::pin!(check);
    let running = loop {
        tokio::select! {
            report = &mut check => break report,
            () = tokio::time::sleep(crate::LOOK) => {
                stage.write(next, 1).await;
                next += 1;
            }
        }
    };
    for (end, what, text) in [
        ("mongodb", "oplog", "holds the last"),
        ("kafka", "group `checked.sink`", "may be used"),
        ("kafka", "transactions", "took"),
        ("clickhouse", "server", "ClickHouse"),
        ("clickhouse", "table `record_raw`", "columns and engine fit"),
        ("clickhouse", "table `checked__files`", "columns and engine fit"),
        ("pipeline", "source moves", "1 process; 1 stream up to date"),
        ("pipeline", "messages in Kafka", "in 1 topic"),
        ("pipeline", "sink keeps up", "1 process"),
        ("pipeline", "rows rise", " more within "),
        ("pipeline", "latency", "p50"),
    ] {
        running.expect(end, what, "ok", text);
    }
    let mend = running.expect("kafka", &format!("topic `{topic}`"), "warn", "kept 60 min");
    assert!(mend.contains("retention.ms=259200000"), "{mend}");
    assert_eq!(running.0["fail"], 0, "{:#}", running.0);

    // What was tried is gone.
    assert!(stage.cluster.ends("checked.check").await.is_err());
    let there =
        "SELECT count() FROM system.tables WHERE database = 'checked' AND name = 'tailwater_check'";
    assert_eq!(stage.ask_rows(there).await, "0");

    sink.stop().await;
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    let mend = report.expect("pipeline", "sink keeps up", "fail", "no process runs it");
    assert!(mend.contains("tailwater run sink"), "{mend}");
    report.expect("pipeline", "source moves", "ok", "1 process");
    source.stop().await;
    let text = stage.run(&["check", "--wait", "0"]).await;
    assert!(text.out.contains("FAIL  pipeline    source moves"), "{}", text.out);
    text.refused(&["not everything is as it must be"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_named_and_a_broker_that_is_gone() {
    let options = Options { secured: true, authorized: true, ..Options::default() };
    let Some(mut kafka) = Kafka::start_with(&options).await.unwrap() else { return };
    let Some(mut stage) = Stage::on("unlicensed", &kafka).await else { return };
    let secured = kafka.secured().unwrap();
    stage.ask(&secured.password);
    let sign_in = |password: &str| {
        format!(
            "  sasl: {{ mechanism: SCRAM-SHA-512, username: {}, password: {password} }}\n  tls: {{ ca: {} }}\n",
            Kafka::USER,
            secured.ca.display(),
        )
    };
    stage.kafka = sign_in("wrong-secret");
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    let mend = report.expect("kafka", "brokers", "fail", "cannot reach Kafka");
    assert!(mend.contains("check `username` and `password`"), "{mend}");
    assert!(!report.0.to_string().contains("wrong-secret"), "{:#}", report.0);
    // The other ends are told of all the same.
    report.expect("mongodb", "server", "ok", "MongoDB");
    report.expect("clickhouse", "writing", "ok", "is there once");

    stage.kafka = sign_in(Kafka::PASSWORD);
    let topic = "events.mongo.unlicensed.files";
    stage.cluster.create_topic(topic, 2, &[]).await.unwrap();
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    let mend = report.expect("kafka", &format!("topic `{topic}`"), "fail", "cannot look at");
    assert!(mend.contains("an ACL is missing"), "{mend}");

    // All rights but one.
    let user = format!("User:{}", Kafka::USER);
    let lines = stage.run(&["grants", "kafka-acl"]).await.done();
    for right in crate::grants::rights(&lines, &user) {
        let right: Vec<&str> = right.iter().map(String::as_str).collect();
        let right: Vec<&str> = match right.contains(&topic) {
            true => vec!["--operation", "Read", "--operation", "DescribeConfigs", "--topic", topic],
            false => right,
        };
        kafka.allow(&user, &right).await.unwrap();
    }
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    let mend = report.expect("kafka", &format!("topic `{topic}`"), "fail", "source may not Write");
    assert!(mend.contains("tailwater grants kafka-acl"), "{mend}");
    report.expect("kafka", "transactions", "ok", "took");
    report.expect("kafka", "group `unlicensed.sink`", "ok", "may be used");

    kafka.allow(&user, &["--operation", "Write", "--topic", topic]).await.unwrap();
    // Whoever begins a transaction is written down there.
    let begun = async || stage.cluster.ends("__transaction_state").await.unwrap();
    let before = begun().await;
    let report = Report::of(&stage, &["--wait", "0", "--read-only"], 0).await;
    assert!(report.find("kafka", "transactions").is_none(), "{:#}", report.0);
    assert!(report.find("clickhouse", "writing").is_none(), "{:#}", report.0);
    assert_eq!(begun().await, before);
    Report::of(&stage, &["--wait", "0"], 0).await;
    assert_ne!(begun().await, before);

    kafka.kill().unwrap();
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    report.expect("kafka", "brokers", "fail", "cannot reach Kafka");
    assert!(report.find("pipeline", "source moves").is_none(), "{:#}", report.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_give_exactly_once_is_named_with_what_mends_it() {
    let Some(mut stage) = Stage::set("unfit").await else { return };
    stage
        .cluster
        .create_topic("events.mongo.unfit.files", 2, &[("cleanup.policy", "compact")])
        .await
        .unwrap();
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    let mend = report.expect("kafka", "topic `events.mongo.unfit.files`", "fail", "changes vanish");
    assert!(mend.contains("cleanup.policy=delete"), "{mend}");
    // A topic that is somebody's is not touched.
    stage.cluster.create_topic("unfit.check", 1, &[]).await.unwrap();
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    report.expect("kafka", "transactions", "warn", "left alone");
    assert_eq!(stage.cluster.ends("unfit.check").await.unwrap()[0].end, 0);

    stage.direct = true;
    let mut all = stage.start(&[]);
    stage.write(0, 3).await;
    stage.wait_for_rows(3, &mut [&mut all]).await;
    let report = Report::of(&stage, &[], 0).await;
    report.expect("pipeline", "source moves", "ok", "1 stream up to date");
    report.expect("pipeline", "rows rise", "ok", "none is waited for");
    report.expect("pipeline", "latency", "ok", "of 4 rows");
    assert!(report.find("kafka", "brokers").is_none(), "{:#}", report.0);
    let state = stage.path("state").display().to_string();
    let text = run_alone(&["check", "--state", &state]).await.done();
    assert!(text.contains("source moves") && text.contains("has never run here"), "{text}");
    all.stop().await;

    let window = "MODIFY SETTING non_replicated_deduplication_window";
    for (alter, text, mended) in [
        ("DROP COLUMN superseded", "no column `superseded`", "ADD COLUMN"),
        ("ADD COLUMN superseded String", "is String, not Bool", "rename"),
        ("MODIFY COLUMN superseded Bool", "columns and engine fit", ""),
        (&format!("{window} = 0"), "no deduplication window", window),
        (&format!("{window} = 10000"), "columns and engine fit", ""),
    ] {
        assert_eq!(stage.ask_rows(&format!("ALTER TABLE record_raw {alter}")).await, "", "{alter}");
        // Some time after its end the source is missed too.
        let (report, _) = Report::any(&stage, &["--wait", "0", "--read-only"]).await;
        let verdict = if mended.is_empty() { "ok" } else { "fail" };
        let mend = report.expect("clickhouse", "table `record_raw`", verdict, text);
        assert!(mend.contains(mended), "{mend}");
    }
    let other = "EXCHANGE TABLES record_raw AND other";
    for sql in ["CREATE TABLE other AS record_raw ENGINE = ReplacingMergeTree ORDER BY ts", other] {
        assert_eq!(stage.ask_rows(sql).await, "", "{sql}");
    }
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    report.expect("clickhouse", "table `record_raw`", "fail", "the engine ReplacingMergeTree");
    assert_eq!(stage.ask_rows(other).await, "");

    let theirs = "CREATE TABLE tailwater_check (id Int64) ENGINE = MergeTree ORDER BY id";
    assert_eq!(stage.ask_rows(theirs).await, "");
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    report.expect("clickhouse", "writing", "fail", "somebody else's");
    assert_eq!(stage.ask_rows("SELECT count() FROM tailwater_check").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_is_told_with_the_lines_that_mend_it() {
    let Some(mongod) = Mongod::start_standalone().await.unwrap() else { return };
    let Some(mut stage) = Stage::set("standalone").await else { return };
    stage.direct = true;
    stage.read_from(&mongod.uri());
    let report = Report::of(&stage, &["--wait", "0"], 1).await;
    let mend = report.expect("mongodb", "server", "fail", "is a standalone server");
    assert!(mend.contains("rs.initiate()"), "{mend}");
    report.expect("clickhouse", "writing", "ok", "is there once");
}
