//! The rights that a config needs, as an administrator gives them.

use tailwater_core::grants::{Part, acl, iam, of_kafka};

use crate::config::read;

const WHOLE: &str = r#"
version: 1
pipeline: ingest
mongodb: { uri: mongodb://db, collections: [ingest.files, "jobs.job_*"] }
kafka:
  bootstrap_servers: b-1.example:9096
  sasl: { mechanism: SCRAM-SHA-512, username: tailwater, password: hunter2 }
normalizer: { mapping: mapping.yaml, output: topic }
clickhouse: { url: http://ch:8123 }
"#;

#[test]
fn a_whole_pipeline_needs_these_acls() {
    let grants = of_kafka(&read(WHOLE).unwrap()).unwrap();
    insta::assert_snapshot!(acl::lines(&grants, "b-1.example:9096", "User:tailwater"));
}

#[test]
fn a_whole_pipeline_needs_this_policy() {
    let grants = of_kafka(&read(WHOLE).unwrap()).unwrap();
    let cluster =
        iam::Cluster::parse("arn:aws:kafka:eu-west-1:123456789012:cluster/one/abc-1").unwrap();
    let policy = iam::policy(&grants, &cluster);
    insta::assert_snapshot!(serde_json::to_string_pretty(&policy).unwrap());
}

#[test]
fn a_sink_of_others_needs_to_read_what_it_subscribes_to() {
    let config = read(
        r#"
version: 1
kafka: { bootstrap_servers: localhost:9092, topics: { read: [files, "^jobs[.].*$", '^(a|b)$'] } }
clickhouse: { url: http://ch:8123 }
"#,
    );
    let grants = of_kafka(&config.unwrap()).unwrap();
    let sink: Vec<_> = grants.into_iter().filter(|grant| grant.part == Part::Sink).collect();
    // Of the last one nothing can be said but that it may be any.
    insta::assert_snapshot!(acl::lines(&sink, "localhost:9092", "User:CN=me, O=us"));
}

#[test]
fn without_a_kafka_there_is_nothing_to_grant() {
    let direct = "version: 1\nmongodb: { uri: mongodb://db, collections: [a.b] }\nclickhouse: { url: http://ch:8123 }";
    assert!(of_kafka(&read(direct).unwrap()).unwrap_err().to_string().contains("`kafka`"));
}
