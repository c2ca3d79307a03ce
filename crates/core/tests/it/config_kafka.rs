//! The config file with a Kafka in the middle: each key arrives, each mistake is told, and what the
//! sections say fits together.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tailwater_core::config::{
    Client, Compat, Config, Given, OAuthBearer, Output, Parts, PasswordMechanism, Publish, Reading,
    Sasl, Secrets, SecurityProtocol,
};
use tailwater_core::connector;
use tailwater_core::message::Format;
use tailwater_core::scope::Scope;

use crate::config::{read, read_with};

const MINIMAL: &str = "\
version: 1
mongodb: { uri: mongodb://db, collections: [ingest.files] }
kafka: { bootstrap_servers: localhost:9092 }
clickhouse: { url: http://ch:8123 }
";

const WHOLE: &str = r#"
version: 1
pipeline: ingest
mongodb: { uri: { env: MONGODB_URI }, collections: [ingest.files, "ingest.job_*"] }
kafka:
  bootstrap_servers: [ "b-1.example:9096, b-2.example:9096", "b-3.example:9096" ]
  security_protocol: SASL_SSL
  sasl: { mechanism: SCRAM-SHA-512, username: tailwater, password: { file: /run/secrets/ch } }
  tls: { ca: /etc/ca.pem, certificate: /etc/ca.pem, key: /etc/locked.pem, key_password: hunter2 }
  format: json_canonical
  publish: change_event
  tombstones: true
  compat: none
  topics:
    raw: "cdc.{db}.{coll}"
    map: { ingest.files: files, "ingest.*": jobs }
    read: [files, "^jobs$"]
    normalized: events.normalized
    dead_letter: events.dead
    checkpoints: events.checkpoints
    partitions: 3
    replication_factor: 1
    retention_hours: 24
    max_message_bytes: 1048576
  properties: { linger.ms: 5, socket.keepalive.enable: true, client.id: me, fetch.min.bytes: { env: MONGODB_URI } }
normalizer: { mapping: mapping.yaml, output: topic }
clickhouse: { url: http://ch:8123, tables: { raw_cdc: cdc } }
"#;

#[test]
fn every_key_arrives() {
    let config = read(WHOLE).unwrap();
    let all = Parts { source: true, normalize: true, sink: true };
    assert_eq!(config.parts(), all);
    let reads = Reading { topics: vec!["files".to_owned(), "^jobs$".to_owned()], scopes: None };
    assert_eq!(config.reading(), Some(reads));
    let normalizer = config.normalizer.unwrap();
    assert_eq!((normalizer.file.as_str(), normalizer.output), ("mapping.yaml", Output::Topic));
    assert!(normalizer.text.expose_secret().starts_with("mappings:"));
    assert_eq!(normalizer.mapping.hash().len(), 16);

    let kafka = config.kafka.unwrap();
    assert!(!format!("{kafka:?}").contains("hunter2"), "{kafka:?}");
    assert_eq!(kafka.bootstrap_servers, "b-1.example:9096,b-2.example:9096,b-3.example:9096");
    assert_eq!(kafka.security_protocol, SecurityProtocol::SaslSsl);
    let Some(Sasl::Password { mechanism, username, password }) = &kafka.sasl else { panic!() };
    assert_eq!(
        (*mechanism, username.as_str(), password.expose_secret()),
        (PasswordMechanism::ScramSha512, "tailwater", "hunter2")
    );
    let [ca, certificate] = [&kafka.tls.ca, &kafka.tls.certificate];
    assert!([ca, certificate].iter().all(|pem| pem.as_ref().unwrap().contains("BEGIN")));
    assert!(kafka.tls.key.as_ref().unwrap().expose_secret().contains("PRIVATE KEY"));
    assert_eq!(kafka.tls.key_password.as_ref().unwrap().expose_secret(), "hunter2");
    assert_eq!((kafka.format, kafka.publish), (Format::JsonCanonical, Publish::ChangeEvent));
    assert!(kafka.tombstones && kafka.compat == Compat::None);

    let topics = &kafka.topics;
    let raw = [("ingest", "files"), ("ingest", "job_1"), ("other", "x")]
        .map(|(db, coll)| topics.raw.topic(db, coll).unwrap());
    assert_eq!(raw.each_ref().map(|topic| &**topic), ["files", "jobs", "cdc.other.x"]);
    let own = [&topics.normalized, &topics.dead_letter, &topics.checkpoints];
    assert_eq!(
        own.map(|topic| &**topic),
        ["events.normalized", "events.dead", "events.checkpoints"]
    );
    assert_eq!((topics.partitions, topics.replication_factor), (3, 1));
    assert_eq!(topics.retention, Duration::from_secs(24 * 3600));
    assert_eq!(topics.max_message_bytes, 1 << 20);
    let of = |client| {
        let properties = kafka.properties_of(client);
        let text = |(name, value): (&str, &secrecy::SecretString)| {
            format!("{name}={}", value.expose_secret())
        };
        properties.map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(Client::Admin), "client.id=me socket.keepalive.enable=true");
    assert_eq!(of(Client::Producer), "client.id=me linger.ms=5 socket.keepalive.enable=true");
    assert!(of(Client::Consumer).contains("fetch.min.bytes=mongodb://"));
}

#[test]
fn a_minimal_file_has_the_defaults() {
    let config = read(MINIMAL).unwrap();
    assert_eq!(config.parts(), Parts { source: true, normalize: false, sink: true });
    let reading = config.reading().unwrap();
    assert_eq!(reading.topics, ["^events[.]mongo[.]ingest$", "events.mongo.ingest.files"]);
    assert_eq!(reading.scopes.unwrap(), config.require_mongodb().unwrap().scopes);
    let kafka = config.kafka.unwrap();
    assert_eq!(kafka.security_protocol, SecurityProtocol::Plaintext);
    assert!(kafka.sasl.is_none() && kafka.tls.ca.is_none() && kafka.properties.is_empty());
    assert_eq!((kafka.format, kafka.publish), (Format::Json, Publish::ChangeEvent));
    assert!(!kafka.tombstones && kafka.compat == Compat::None);
    let topics = kafka.topics;
    let names = [&topics.normalized, &topics.dead_letter, &topics.checkpoints];
    let usual = ["events.normalized.record", "events.dead_letter", "tailwater.checkpoints"];
    assert_eq!(names.map(|topic| &**topic), usual);
    assert_eq!((topics.partitions, topics.replication_factor), (12, 3));
    assert_eq!(topics.retention, Duration::from_secs(72 * 3600));
    assert_eq!(topics.max_message_bytes, 8_388_608);
}

/// A file with other keys in `kafka`.
fn in_kafka(keys: &str) -> String {
    MINIMAL.replace("localhost:9092", &format!("localhost:9092, {keys}"))
}

fn at(servers: &str, keys: &str) -> String {
    MINIMAL.replace("localhost:9092", &format!("'{servers}', {keys}"))
}

/// The same without a current state.
fn no_state(text: &str) -> String {
    text.replace("http://ch:8123", "http://ch:8123, tables: { current: null }")
}

/// A host that has whatever a manual names.
struct AnyHost;

impl Secrets for AnyHost {
    fn variable(&self, _: &str) -> Result<String, String> {
        Ok("mongodb://db".to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Ok(match path.rsplit('.').next() {
            Some("pem") => "-----BEGIN CERTIFICATE-----",
            Some("yaml") => "mappings: [{ match: { ns.db: ingest }, tags: [status] }]",
            _ => "secret",
        }
        .to_owned())
    }
}

#[test]
fn the_files_of_the_manual_are_right() {
    let page = include_str!("../../../../docs/config.md");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let files: Vec<&str> = blocks.filter(|block| block.starts_with("version")).collect();
    assert_eq!(files.len(), 2);
    for text in files {
        Config::read("docs/config.md", text, &Given::default(), &AnyHost).unwrap();
    }
}

#[test]
fn who_signs_in_says_how_connections_are_made() {
    let security = |keys: &str| {
        let kafka = read(&in_kafka(keys)).unwrap().kafka.unwrap();
        (kafka.security_protocol, kafka.sasl)
    };
    assert_eq!(security("tls: { ca: /etc/ca.pem }").0, SecurityProtocol::Ssl);
    assert_eq!(security("security_protocol: SSL").0, SecurityProtocol::Ssl);
    let (protocol, sasl) = security("sasl: { mechanism: PLAIN, username: u, password: p }");
    assert_eq!(protocol, SecurityProtocol::SaslSsl);
    assert_eq!(sasl.unwrap().mechanism(), "PLAIN");
    let (protocol, sasl) = security(
        "security_protocol: SASL_PLAINTEXT, sasl: { mechanism: OAUTHBEARER, unsecured: principal=me }",
    );
    assert_eq!(protocol, SecurityProtocol::SaslPlaintext);
    let Some(Sasl::OAuthBearer(OAuthBearer::Unsecured(config))) = sasl else { panic!("{sasl:?}") };
    assert_eq!(config, "principal=me");
    let (_, sasl) = security("sasl: { mechanism: OAUTHBEARER, token_file: /run/token }");
    assert!(
        matches!(sasl, Some(Sasl::OAuthBearer(OAuthBearer::TokenFile(file))) if file == "/run/token")
    );
    let (_, sasl) = security("sasl: { mechanism: OAUTHBEARER, token: { env: MONGODB_URI } }");
    assert!(matches!(sasl, Some(Sasl::OAuthBearer(OAuthBearer::Token(_)))));
    let (_, sasl) = security("sasl: { mechanism: AWS_MSK_IAM, region: eu-west-1 }");
    assert_eq!(sasl.unwrap().mechanism(), "OAUTHBEARER");
}

#[test]
fn brokers_of_msk_name_their_region() {
    for host in [
        "b-1.x.c2.kafka.eu-west-1.amazonaws.com",
        "boot-x.c3.kafka-serverless.eu-west-1.amazonaws.com",
    ] {
        let text = at(&format!("{host}:9098"), "sasl: { mechanism: AWS_MSK_IAM }");
        let sasl = read(&text).unwrap().kafka.unwrap().sasl;
        assert!(
            matches!(sasl, Some(Sasl::AwsMskIam { region }) if region == "eu-west-1"),
            "{host}"
        );
    }
}

#[test]
fn a_port_of_msk_behind_another_name_is_suspected() {
    let scram = "sasl: { mechanism: SCRAM-SHA-512, username: u, password: p }";
    let iam = "sasl: { mechanism: AWS_MSK_IAM, region: eu-west-1 }";
    let by_tls = "security_protocol: SSL";
    for (servers, keys, suspected) in [
        (
            "kafka.internal:9092",
            scram,
            Some("port 9092 of MSK is for PLAINTEXT; for SCRAM-SHA-512 it is 9096 (public 9196)"),
        ),
        (
            "kafka.internal",
            by_tls,
            Some("port 9092 of MSK is for PLAINTEXT; for SSL it is 9094 (public 9194)"),
        ),
        (
            "a:9098,b:9096",
            iam,
            Some("port 9096 of MSK is for SCRAM-SHA-512; for AWS_MSK_IAM it is 9098 (public 9198)"),
        ),
        (
            "kafka.internal:9096",
            "",
            Some("port 9096 of MSK is for SCRAM-SHA-512; for PLAINTEXT it is 9092"),
        ),
        ("kafka.internal:9196", scram, None),
        ("kafka.internal:19092", scram, None),
    ] {
        let config = read(&at(servers, keys)).unwrap();
        let kafka = config.kafka.unwrap();
        assert_eq!(kafka.suspicious_ports().as_deref(), suspected, "{servers} {keys}");
    }
}

#[test]
fn settings_of_the_connector_are_pasted() {
    let text = no_state(&in_kafka(
        r#"compat: mongo-kafka, connector: {
    "output.format.key": "bson",
    "output.json.formatter": "com.mongodb.kafka.connect.source.json.formatter.SimplifiedJson",
    "publish.full.document.only": "true",
    "publish.full.document.only.tombstone.on.delete": true,
    "change.stream.document.key.as.key": false,
    "topic.prefix": "mongo", "topic.suffix": "", "topic.separator": "_",
    "topic.namespace.map": "{\"ingest.files\": \"files\", \"/ingest.j(.*)\": \"jobs\"}" }"#,
    ));
    let kafka = read(&text).unwrap().kafka.unwrap();
    let Compat::MongoKafka { messages, topics } = &kafka.compat else { panic!("{kafka:?}") };
    let simplified = connector::Output::Json(connector::Formatter::Simplified);
    assert_eq!((messages.key, messages.value), (connector::Output::Bson, simplified));
    assert!(messages.full_document_only && messages.tombstones && messages.token_as_key);
    assert_eq!((topics.prefix.as_str(), topics.separator.as_str()), ("mongo", "_"));
    let topic = |coll| kafka.topics.raw.topic("ingest", coll).unwrap().to_string();
    assert_eq!(["files", "jx", "x"].map(topic), ["mongo_files", "mongo_jobs", "mongo_ingest_x"]);

    let usual = read(&in_kafka("compat: mongo-kafka")).unwrap().kafka.unwrap();
    let Compat::MongoKafka { messages, .. } = usual.compat else { panic!() };
    assert_eq!(messages, connector::Messages::default());
    assert_eq!(usual.topics.raw.topic("d", "c").as_deref(), Some("d.c"));
}

#[test]
fn a_file_may_be_for_some_parts_alone() {
    let parts = |text: &str| read(text).map(|config| config.parts());
    let source = MINIMAL.replace("clickhouse:", "#");
    assert_eq!(parts(&source), Ok(Parts { source: true, ..Parts::default() }));
    let sink = MINIMAL
        .replace("mongodb:", "#")
        .replace("9092 }", "9092, topics: { read: ['^mongo[.]'] }, publish: full_document }");
    let config = read(&sink).unwrap();
    assert_eq!(config.parts(), Parts { sink: true, ..Parts::default() });
    assert_eq!(config.reading().unwrap().scopes, None);
    let said = config.require_mongodb().unwrap_err().to_string();
    assert!(said.contains("no section `mongodb`"), "{said}");
    let normalize = sink.replace(
        "clickhouse: { url: http://ch:8123 }",
        "normalizer: { mapping: mapping.yaml, output: topic }",
    );
    assert_eq!(parts(&normalize), Ok(Parts { normalize: true, ..Parts::default() }));
    // In direct mode the mapping makes rows.
    let direct = MINIMAL.replace("kafka:", "normalizer: { mapping: mapping.yaml }\n#");
    let config = read(&direct).unwrap();
    assert!(config.normalizer.is_some() && config.kafka.is_none());
    assert_eq!(config.reading(), None);
    assert!(config.require_kafka().is_err() && config.require_normalizer().is_err());
    assert!(config.require_clickhouse().is_ok());
}

/// Hosts of a part need not have the secrets of others.
#[test]
fn a_part_needs_what_it_reads_alone() {
    let text = MINIMAL.replace("mongodb://db", "{ env: NOT_SET }").replace(
        "http://ch:8123",
        "https://ch:8443, password: { file: /nowhere }, tls: { ca: /nowhere }",
    );
    let text = format!("{text}normalizer: {{ mapping: nowhere.yaml, output: topic }}\n");
    let with = |parts: Option<Parts>| read_with(&text, &Given { parts, ..Given::default() });
    let problems =
        |parts| with(parts).map_or_else(|said| said.matches("tailwater.yaml:").count(), |_| 0);
    assert_eq!(problems(None), 4);
    assert_eq!(problems(Some(Parts { source: true, ..Parts::default() })), 1);
    assert_eq!(problems(Some(Parts { normalize: true, ..Parts::default() })), 1);
    assert_eq!(problems(Some(Parts { sink: true, ..Parts::default() })), 3);
    let text = text.replace(
        "kafka: {",
        "kafka: { sasl: { mechanism: PLAIN, username: u, password: { env: NOT_SET } },",
    );
    let parts = Some(Parts { normalize: true, ..Parts::default() });
    let said = read_with(&text, &Given { parts, ..Given::default() }).unwrap_err();
    assert_eq!(said.matches("NOT_SET").count(), 2, "{said}");
}

#[test]
fn whole_documents_of_others_are_a_state() {
    let foreign = MINIMAL
        .replace("mongodb:", "#")
        .replace("9092 }", "9092, publish: full_document, topics: { read: [x] } }");
    assert!(read(&foreign).is_ok());
    assert!(
        read(&foreign.replace("full_document", "change_event, format: json_simplified")).is_err()
    );
    assert!(read(&no_state(&in_kafka("publish: full_document, format: json_simplified"))).is_ok());
}

#[test]
fn each_mistake_is_told_with_line_and_caret() {
    const MSK: &str = "b-1.x.c2.kafka.eu-west-1.amazonaws.com";
    const PUBLIC: &str = "b-1-public.x.c2.kafka.eu-west-1.amazonaws.com";
    const SERVERLESS: &str = "boot-x.c3.kafka-serverless.eu-west-1.amazonaws.com";
    const SCRAM: &str = "sasl: { mechanism: SCRAM-SHA-512, username: u, password: hunter2 }";
    let msk = |host: &str, port: u16, keys: &str| at(&format!("{host}:{port}"), keys);
    let watched = |collections: &str, keys: &str| {
        in_kafka(keys).replace("collections: [ingest.files]", collections)
    };
    let sink = |keys: &str| in_kafka(keys).replace("mongodb:", "#");
    let wrong: Vec<(&str, String)> = vec![
        ("no brokers", MINIMAL.replace("bootstrap_servers: localhost:9092", "format: json")),
        ("brokers that are none", at("SSL://a:1, u:hunter2@a:1", "format: json").replace("'", "")),
        ("a list of brokers", MINIMAL.replace("localhost:9092", "[a:1, 'b:x', 'c d', '']")),
        ("a protocol of small letters", in_kafka("security_protocol: sasl_ssl")),
        ("a protocol without a name", in_kafka("security_protocol: SASL_SSL")),
        ("a name without a protocol", in_kafka(&format!("security_protocol: SSL, {SCRAM}"))),
        ("an unknown mechanism", in_kafka("sasl: { mechanism: SCRAM-SHA512, password: hunter2 }")),
        ("no mechanism", in_kafka("sasl: { username: u, pasword: hunter2 }")),
        ("nothing but a mechanism", in_kafka("sasl: { mechanism: PLAIN }")),
        (
            "a user of a token",
            in_kafka(
                "sasl: { mechanism: OAUTHBEARER, token: hunter2, unsecured: principal=me, username: u }",
            ),
        ),
        ("no token", in_kafka("sasl: { mechanism: OAUTHBEARER }")),
        (
            "openid connect",
            in_kafka(
                "sasl: { mechanism: OAUTHBEARER, method: oidc, token_endpoint_url: u, client_id: c, client_secret: hunter2, scope: s }",
            ),
        ),
        ("no region", in_kafka("sasl: { mechanism: AWS_MSK_IAM }")),
        (
            "a password of aws",
            in_kafka("sasl: { mechanism: AWS_MSK_IAM, region: r, username: u, password: hunter2 }"),
        ),
        (
            "aws without tls",
            in_kafka(
                "security_protocol: SASL_PLAINTEXT, sasl: { mechanism: AWS_MSK_IAM, region: r }",
            ),
        ),
        ("another region", msk(MSK, 9098, "sasl: { mechanism: AWS_MSK_IAM, region: us-east-1 }")),
        ("a port for nobody who signs in", msk(MSK, 9092, SCRAM)),
        ("a port for others who sign in", msk(MSK, 9098, SCRAM)),
        ("a port for tls", msk(MSK, 9094, "format: json")),
        ("a port for the outside", msk(MSK, 9198, "sasl: { mechanism: AWS_MSK_IAM }")),
        ("a port for the inside", msk(PUBLIC, 9094, "security_protocol: SSL")),
        ("no port at all", at(MSK, "security_protocol: SSL")),
        ("a port of something else", msk(MSK, 2181, "format: json")),
        ("an open line from the outside", msk(PUBLIC, 9092, "format: json")),
        ("a mechanism that msk has not", msk(MSK, 9096, &SCRAM.replace("512", "256"))),
        ("serverless with a password", msk(SERVERLESS, 9098, SCRAM)),
        (
            "certificates for an open line",
            in_kafka("security_protocol: PLAINTEXT, tls: { ca: /etc/ca.pem }"),
        ),
        (
            "certificates that are none",
            in_kafka("tls: { ca: /etc/key.pem, certificate: /nowhere, key: /etc/ca.pem }"),
        ),
        (
            "a certificate without a key",
            in_kafka("tls: { certificate: /etc/ca.pem, key_password: hunter2 }"),
        ),
        ("a key without a certificate", in_kafka("tls: { key: /etc/locked.pem, kee: hunter2 }")),
        (
            "words that are none",
            in_kafka("format: jsn, publish: fulldocument, compat: mongo_kafka, tombstones: 'yes'"),
        ),
        ("values without types", in_kafka("format: json_simplified")),
        (
            "documents alone",
            in_kafka("publish: full_document")
                .replace("8123 }", "8123, tables: { raw_cdc: cdc } }"),
        ),
        (
            "operations, too",
            watched("operations: [insert], collections: [a.b]", "publish: full_document"),
        ),
        (
            "nothing of updates",
            no_state(&watched(
                "full_document: default, collections: [a.b]",
                "publish: full_document",
            )),
        ),
        (
            "a connector unasked",
            in_kafka("connector: { connection.uri: 'mongodb://me:hunter2@db' }"),
        ),
        (
            "a connector and more",
            in_kafka(
                "compat: mongo-kafka, format: json, publish: change_event, tombstones: false, topics: { raw: x, map: { a.b: c } }",
            ),
        ),
        (
            "a connector's documents alone",
            in_kafka(
                "compat: mongo-kafka, connector: { publish.full.document.only: true, output.json.formatter: SimplifiedJson }",
            ),
        ),
        (
            "settings of a connector",
            in_kafka(
                "compat: mongo-kafka, connector: {
    name: x, connector.class: y, connection.uri: 'mongodb://me:hunter2@db', pipeline: '[]',
    key.converter.schemas.enable: true, startup.mode: latest, output.schema.value: '{}',
    topic.prefx: x, zzz: hunter2, sasl.jaas.config: hunter2,
    output.format.value: avro, output.json.formatter: org.example.DefaultJson,
    publish.full.document.only: 1, topic.suffix: 'a/b', topic.namespace.map: '[]' }",
            ),
        ),
        (
            "a map of a connector",
            in_kafka(
                "compat: mongo-kafka, connector: { topic.namespace.map: { a.b: 1, /(: x, /a: '{x}', c: 'd e', d: f } }",
            ),
        ),
        ("a template of other characters", in_kafka("topics: { raw: '{db}/{coll}' }")),
        ("a template of other variables", in_kafka("topics: { raw: '{database}' }")),
        ("a topic for two", watched("collections: [a.b, a.c]", "topics: { raw: 'x.{db}' }")),
        ("a topic for two databases", watched("databases: [a, b]", "topics: { raw: 'x.{coll}' }")),
        ("a topic for all", watched("deployment: true", "topics: { raw: x }")),
        ("topics that are alike", watched("collections: [a.b_c, a.b.c]", "format: json")),
        (
            "names that are none",
            in_kafka(
                "topics: { normalized: a b, dead_letter: __x, checkpoints: '..', read: ['x*', '^(', ok], map: { a: b, a.b: 'ö', c.d: } }",
            ),
        ),
        (
            "one topic for all",
            in_kafka("topics: { normalized: x.y, dead_letter: x_y, checkpoints: x.y }"),
        ),
        (
            "a topic that is read as a collection's",
            watched("deployment: true", "topics: { raw: '{db}.{coll}', normalized: records }"),
        ),
        (
            "a topic that is written as a collection's",
            watched("collections: [ingest.checkpoints]", "topics: { raw: '{db}.{coll}' }")
                .replace("clickhouse:", "pipeline: ingest\n#"),
        ),
        ("a dead letter that is read", sink("topics: { read: ['^events'] }")),
        (
            "numbers",
            in_kafka(
                "topics: { partitions: 0, replication_factor: 0, retention_hours: 3d, max_message_bytes: 8MiB, retention_ms: 1 }",
            ),
        ),
        ("nothing to read", sink("format: json")),
        ("nothing to read in topics", sink("topics: { partitions: 1 }")),
        (
            "nothing to do",
            in_kafka("format: json").replace("mongodb:", "#").replace("clickhouse:", "#"),
        ),
        (
            "properties that are ours",
            in_kafka(
                "properties: { bootstrap.servers: hunter2, sasl.password: hunter2, group.id: g, acks: 1, isolation.level: x, auto.offset.reset: latest, ssl.ca.location: /x, enable.auto.commit: true, message.max.bytes: 1 }",
            ),
        ),
        (
            "properties of nobody",
            in_kafka(
                "properties: { liger.ms: hunter2, zzz: hunter2, password:hunter2, linger.ms: [hunter2], client.id: }",
            ),
        ),
        (
            "a mapping without kafka",
            MINIMAL.replace("kafka:", "normalizer: { output: topic, maping: x }\n#"),
        ),
        ("a mapping that is not there", format!("{MINIMAL}normalizer: {{ mapping: /nowhere }}\n")),
        (
            "a mapping without rows",
            format!(
                "{}normalizer: {{ mapping: mapping.yaml }}\n",
                MINIMAL.replace("clickhouse:", "#")
            ),
        ),
        ("a wrong mapping", format!("{MINIMAL}normalizer: {{ mapping: wrong.yaml }}\n")),
        (
            "two wrong files",
            format!("{MINIMAL}normalizer: {{ mapping: wrong.yaml, outputs: topic }}\n"),
        ),
    ];
    let mut all = String::new();
    for (name, text) in wrong {
        let said = read(&text).err().unwrap_or_else(|| "nothing is wrong: ^".to_owned());
        assert!(!said.contains("hunter2"), "{name}: {said}");
        assert!(said.contains('^'), "{name}: {said}");
        all.push_str(&format!("──── {name}\n{said}\n\n"));
    }
    assert!(!all.contains("nothing is wrong"), "{all}");
    insta::assert_snapshot!(all);
}

#[test]
fn one_hint_names_the_pages_of_all_files() {
    let text = format!("{MINIMAL}normalizer: {{ mapping: wrong.yaml, outputs: topic }}\n");
    let both = Config::read("t", &text, &Given::default(), &crate::config::Host).unwrap_err();
    assert!(both.hint().contains("docs/config.md") && both.hint().contains("docs/mapping.md"));
    let text = text.replace("outputs: topic", "");
    let one = Config::read("t", &text, &Given::default(), &crate::config::Host).unwrap_err();
    assert!(!one.hint().contains("docs/config.md") && one.to_string().contains("wrong.yaml:1:"));
    let scopes = [Scope::collection("ingest.files").unwrap()];
    assert_eq!(read(MINIMAL).unwrap().mongodb.unwrap().scopes, scopes);
}
