//! The config file: what is wrong with one is told all at once, with line, caret and the nearest
//! name; what is right becomes what the parts take.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tailwater_core::config::{Config, DEFAULT_LISTEN, Endpoint, Given, Secrets, Target};
use tailwater_core::scope::Scope;
use tailwater_core::watch::{BeforeChange, FullDocument};

/// A host with some variables and files.
pub(crate) struct Host;

impl Secrets for Host {
    fn variable(&self, name: &str) -> Result<String, String> {
        match name {
            "MONGODB_URI" => Ok("mongodb://me:hunter2@db:27017".to_owned()),
            "EMPTY" => Ok(String::new()),
            _ => Err(format!("the environment variable `{name}` is not set")),
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        match path {
            "/run/secrets/ch" => Ok("hunter2\n".to_owned()),
            "/etc/ca.pem" => Ok("-----BEGIN CERTIFICATE-----".to_owned()),
            "/etc/key.pem" => Ok("-----BEGIN PRIVATE KEY-----\nhunter2".to_owned()),
            "/etc/locked.pem" => Ok("-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2".to_owned()),
            "mapping.yaml" => {
                Ok("mappings: [{ match: { ns.db: ingest }, tags: [status] }]".to_owned())
            }
            "wrong.yaml" => {
                Ok("defaults: { hash_key: hunter2, unmaped: keep }\nmappings:\n".to_owned())
            }
            _ => Err(format!("cannot read `{path}`: no such file")),
        }
    }
}

pub(crate) fn read(text: &str) -> Result<Config, String> {
    read_with(text, &Given::default())
}

pub(crate) fn read_with(text: &str, given: &Given) -> Result<Config, String> {
    Config::read("tailwater.yaml", text, given, &Host).map_err(|error| {
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        error.to_string()
    })
}

const MINIMAL: &str = "\
version: 1
mongodb: { uri: mongodb://db, collections: [ingest.files] }
clickhouse: { embedded: true }
";

const WHOLE: &str = r#"
version: 1
pipeline: ingest
mongodb:
  uri: { env: MONGODB_URI }
  collections: [ingest.files, "ingest.job_*"]
  operations: [insert, update, replace, delete]
  exclude_fields: { ingest.files: [payload_blob, meta.secret] }
  full_document: whenAvailable
  full_document_before_change: off
  on_history_lost: stop
clickhouse:
  url: https://ch.example:8443
  database: events
  username: tailwater
  password: { file: /run/secrets/ch }
  tls: { ca: /etc/ca.pem }
  cluster: null
  deduplication_window: 20000
  insert_deadline_s: 30
  max_rejected: { percent: 5, rows: 7 }
  tables: { records: events_raw, current: "now_{db}_{coll}", raw_cdc: cdc }
  ttl_days: 90
  batch: { max_rows: 1000, max_bytes: 1048576, max_wait_ms: 1000 }
state: /var/lib/tailwater
http: { listen: "127.0.0.1:9464" }
limits: { memory_bytes: 134217728, shutdown_s: 5 }
kafka:
"#;

#[test]
fn a_minimal_file_has_the_defaults() {
    let config = read(MINIMAL).unwrap();
    let of_flags = Config::of_flags(Given {
        source: Some("mongodb://db".into()),
        scopes: Some(vec![Scope::collection("ingest.files").unwrap()]),
        ..Given::default()
    });
    assert_eq!(format!("{config:?}"), format!("{:?}", of_flags.unwrap()));
    assert!(
        matches!(config.clickhouse.as_ref().unwrap().target, Target::Embedded { listen, .. } if listen == DEFAULT_LISTEN)
    );
    assert!(config.mongodb.unwrap().watch.operations.is_none());
    let table = config.clickhouse.unwrap().tables.current.unwrap().table("a", "b");
    assert_eq!(table.as_str(), "a__b");
}

#[test]
fn every_key_arrives() {
    let Config { pipeline, mongodb, kafka, normalizer, clickhouse, state, http, limits } =
        read(WHOLE).unwrap();
    let (mongodb, clickhouse) = (mongodb.unwrap(), clickhouse.unwrap());
    assert!(kafka.is_none() && normalizer.is_none());
    assert_eq!(pipeline, "ingest");
    assert_eq!(mongodb.uri.expose_secret(), "mongodb://me:hunter2@db:27017");
    assert_eq!(mongodb.scopes.len(), 2);
    let watch = mongodb.watch;
    let operations: Vec<String> = watch.operations.unwrap().into_iter().collect();
    assert_eq!(operations, ["delete", "insert", "replace", "update"]);
    assert_eq!(watch.exclude_fields["ingest.files"], ["payload_blob", "meta.secret"]);
    assert_eq!(watch.full_document, FullDocument::WhenAvailable);
    assert_eq!(watch.before_change, BeforeChange::Off);
    let Target::Server(endpoint) = &clickhouse.target else { panic!("{clickhouse:?}") };
    assert_eq!(endpoint.url.as_str(), "https://ch.example:8443/");
    assert_eq!((endpoint.database.as_str(), endpoint.username.as_str()), ("events", "tailwater"));
    assert_eq!(endpoint.password.expose_secret(), "hunter2");
    assert!(endpoint.ca.is_some());
    assert_eq!(clickhouse.deduplication_window, Some(20_000));
    assert_eq!(clickhouse.insert_deadline, Some(Duration::from_secs(30)));
    assert_eq!(clickhouse.max_rejected_percent.zip(clickhouse.max_rejected_rows), Some((5, 7)));
    assert_eq!(clickhouse.tables.records.as_str(), "events_raw");
    assert_eq!(clickhouse.tables.raw_cdc.unwrap().as_str(), "cdc");
    let names = clickhouse.tables.current.unwrap();
    assert_eq!(names.table("ingest", "files").as_str(), "now_ingest_files");
    assert_eq!(clickhouse.ttl_days, Some(90));
    assert_eq!(clickhouse.batch.max_rows.zip(clickhouse.batch.max_bytes), Some((1000, 1 << 20)));
    assert_eq!(clickhouse.batch.max_wait, Some(Duration::from_secs(1)));
    assert_eq!(state.to_str(), Some("/var/lib/tailwater"));
    assert_eq!(http.unwrap().port(), 9464);
    assert_eq!((limits.memory_bytes, limits.shutdown), (128 << 20, Duration::from_secs(5)));
}

#[test]
fn flags_stand_above_the_file_and_fill_it_up() {
    let given = Given {
        source: Some("mongodb://other".into()),
        scopes: Some(vec![Scope::Deployment]),
        target: Some(Endpoint::parse("http://other:8123/x").unwrap()),
        state: Some("/other".into()),
        http: Some("127.0.0.1:1".parse().unwrap()),
        listen: None,
        parts: None,
    };
    for text in ["version: 1\n", WHOLE] {
        let text = text.replace("exclude_fields", "#").replace("now_", "");
        let config = read_with(&text, &given).unwrap();
        let (mongodb, clickhouse) = (config.mongodb.unwrap(), config.clickhouse.unwrap());
        assert_eq!(mongodb.uri.expose_secret(), "mongodb://other");
        assert_eq!(mongodb.scopes, [Scope::Deployment]);
        assert!(matches!(clickhouse.target, Target::Server(e) if e.database == "x"));
        assert_eq!(config.state.to_str(), Some("/other"));
        assert_eq!(config.http.unwrap().port(), 1);
    }
    let listen = Given { listen: Some("127.0.0.1:2".parse().unwrap()), ..Given::default() };
    let config = read_with(MINIMAL, &listen).unwrap();
    assert!(
        matches!(config.clickhouse.unwrap().target, Target::Embedded { listen, .. } if listen.port() == 2)
    );
    assert!(read_with(WHOLE, &listen).unwrap_err().contains("`--listen`"));
}

#[test]
fn no_current_state_lets_operations_be_without_deletes() {
    let text = MINIMAL
        .replace("collections:", "full_document: default, operations: [insert], collections:")
        .replace("embedded: true", "embedded: true, tables: { current: null }");
    assert!(read(&text).unwrap().clickhouse.unwrap().tables.current.is_none());
}

/// A file with one line more, or with a piece replaced.
fn with(old: &str, new: &str) -> String {
    assert!(MINIMAL.contains(old), "{old}");
    MINIMAL.replace(old, new)
}

fn in_mongodb(keys: &str) -> String {
    with("uri:", &format!("{keys}, uri:"))
}

fn in_clickhouse(keys: &str) -> String {
    with("embedded: true", &format!("embedded: true, {keys}"))
}

fn at_url(keys: &str) -> String {
    with("embedded: true", &format!("url: https://ch:8443, {keys}"))
}

#[test]
fn each_mistake_is_told_with_line_and_caret() {
    let wrong: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("not a section", "version\n".to_owned()),
        ("no yaml", with("[ingest.files]", "[ingest.files")),
        (
            "an open quote behind a secret",
            with("uri: mongodb://db,", "uri: \"mongodb://me:hunter2@db,"),
        ),
        ("two documents", format!("{MINIMAL}---\n{MINIMAL}")),
        ("no version", with("version: 1\n", "")),
        ("another version", with("version: 1", "version: 2")),
        ("a version in quotes", with("version: 1", "version: '1'")),
        ("a key twice", format!("{MINIMAL}version: 1\n")),
        ("an unknown key", in_mongodb("colections: [a.b]")),
        ("an unknown key with a secret", in_clickhouse("pasword: hunter2")),
        (
            "a uri without a blank",
            with("uri: mongodb://db", "uri:mongodb://me:hunter2@db"),
        ),
        ("a password without a blank", in_clickhouse("password:hunter2")),
        ("a password with a comma", in_clickhouse("password: x,hunter2, ttl_days: 0")),
        ("a password twice", in_clickhouse("password: hunter2, password: hunter2, password: x")),
        ("a password like a tag or an anchor", at_url("password: !hunter2, ttl_days: &hunter2 0")),
        (
            "a section twice",
            "{ version: 1, mongodb: { uri: mongodb://me:hunter2@db }, mongodb: { uri: mongodb://db, collections: [a.b] }, clickhouse: { embedded: true } }".to_owned(),
        ),
        ("a password in braces", at_url("password: {hunter2}")),
        ("a password in a number", in_clickhouse("ttl_days: { password:hunter2 }")),
        ("secrets in an unknown section", format!("{MINIMAL}sasl: {{ a: {{ password:hunter2 }} }}\n")),
        (
            "a secret in a comment",
            format!("{MINIMAL}ttl: 1 # hunter2\nx:\n  # hunter2\n").replace("}\nttl", "} # hunter2\nttl"),
        ),
        ("an unknown key, unlike any", in_clickhouse("zzz: 1")),
        ("a key with a dash", in_clickhouse("ttl-days: 1")),
        ("a section that is none", with("{ embedded: true }", "http://me:hunter2@ch")),
        (
            "an empty section",
            with("mongodb: { uri: mongodb://db, collections: [ingest.files] }", "mongodb:"),
        ),
        ("no uri", with("uri: mongodb://db, ", "")),
        ("a uri of something else", with("mongodb://db", "postgres://me:hunter2@db")),
        ("a uri without a value", with("mongodb://db", "")),
        ("a variable that is not set", with("mongodb://db", "{ env: MONGO_URI }")),
        ("an empty variable", with("mongodb://db", "{ env: EMPTY }")),
        ("a file that is not there", with("mongodb://db", "{ file: /nowhere }")),
        ("an aws secret", with("mongodb://db", "{ aws_secret: prod/mongo, key: uri }")),
        ("a misspelt source of a value", with("mongodb://db", "{ evn: MONGODB_URI }")),
        ("nothing to watch", with(", collections: [ingest.files]", "")),
        ("an empty list", with("[ingest.files]", "[]")),
        ("no collection", with("[ingest.files]", "[ingest, a.b, c]")),
        ("streams that overlap", with("[ingest.files]", "[ingest.files, 'ingest.*']")),
        ("several things to watch", in_mongodb("deployment: true, databases: [a]")),
        (
            "a database with a pattern",
            with("collections: [ingest.files]", "databases: ['ingest*']"),
        ),
        ("an unknown operation", in_mongodb("operations: [insert, updte, delete, foo]")),
        ("operations without deletes", in_mongodb("operations: [insert, update]")),
        ("an operation twice", in_mongodb("operations: [delete, insert, delete]")),
        ("no documents of updates", in_mongodb("full_document: default")),
        ("an unknown full_document", in_mongodb("full_document: update_lookup")),
        ("an unknown before", in_mongodb("full_document_before_change: 'on'")),
        ("fields of _id", in_mongodb("exclude_fields: { ingest.files: [_id, a..b, _id.x, ok] }")),
        (
            "fields of an unwatched collection",
            in_mongodb("exclude_fields: { ingest.jobs: [a], 'ingest.*': [a], x: [a] }"),
        ),
        ("a resnapshot", in_mongodb("on_history_lost: resnapshot")),
        ("a snapshot", in_mongodb("snapshot: { mode: initial }")),
        (
            "archive and alerts",
            format!("{MINIMAL}archive: {{ url: u }}\nalerts: {{ rules: r }}\n"),
        ),
        ("neither url nor embedded", with("embedded: true", "ttl_days: 1")),
        ("embedded: false", with("embedded: true", "embedded: false")),
        ("embedded: 1", with("embedded: true", "embedded: 1")),
        ("both url and embedded", in_clickhouse("url: http://me:hunter2@ch:8123")),
        ("listen without embedded", at_url("listen: 127.0.0.1:8123")),
        ("listen nowhere", in_clickhouse("listen: localhost")),
        ("the native port", with("embedded: true", "url: 'http://me:hunter2@ch:9000'")),
        (
            "credentials twice",
            with(
                "embedded: true",
                "url: https://me:hunter2@ch/x, username: you, password: hunter2, database: y",
            ),
        ),
        ("an engine with a user", in_clickhouse("username: me, tls: { ca: /etc/ca.pem }")),
        (
            "tls without https",
            with("embedded: true", "url: http://ch, tls: { ca: /nowhere, cert: x }"),
        ),
        ("a password that is a number", at_url("password: 1234567")),
        ("a cluster", at_url("cluster: main")),
        (
            "numbers out of bounds",
            in_clickhouse(
                "ttl_days: 0, deduplication_window: -5, insert_deadline_s: 0, max_rejected: { percent: 101 }",
            ),
        ),
        (
            "numbers with units",
            in_clickhouse(
                "ttl_days: 90d, insert_deadline_s: 2m, batch: { max_bytes: 64MiB, max_wait_ms: 1s, max_rows: lots }",
            ),
        ),
        (
            "numbers that are none",
            in_clickhouse("ttl_days: 1.5, insert_deadline_s: [1], batch: { max_rows: true }"),
        ),
        ("units in names", in_clickhouse("insert_deadline: 60, batch: { max_wait_s: 1 }")),
        ("an engine for everybody", in_clickhouse("listen: 0.0.0.0:8123")),
        (
            "a batch larger than memory",
            format!(
                "{}limits: {{ memory_bytes: 67108864 }}\n",
                in_clickhouse("batch: { max_bytes: 67108864 }")
            ),
        ),
        (
            "too little memory",
            format!("{MINIMAL}limits: {{ memory_bytes: 1000, shutdown_s: 0, cpu: 1 }}\n"),
        ),
        ("a template without a collection", in_clickhouse("tables: { current: '{db}' }")),
        (
            "a template with something else",
            in_clickhouse("tables: { current: '{coll}_{collection}' }"),
        ),
        (
            "tables that are shared",
            with("[ingest.files]", "[a.b_c, a.b, 'x.y']")
                .replace("true", "true, tables: { current: '{coll}' }"),
        ),
        (
            "names that are the same",
            with("[ingest.files]", "[a.b_c, a_b.c]")
                .replace("true", "true, tables: { current: '{db}_{coll}' }"),
        ),
        ("a table for two", with("[ingest.files]", "[a.b, a.b_current]")),
        (
            "a table that is taken",
            in_clickhouse("tables: { records: tailwater_dead_letters, raw_cdc: tailwater_gaps }"),
        ),
        (
            "events and documents in one table",
            in_clickhouse("tables: { records: ingest__files_current }"),
        ),
        (
            "one table for all events",
            in_clickhouse("tables: { records: ingest__files, raw_cdc: ingest__files }"),
        ),
        (
            "change events and documents in one table",
            in_clickhouse("tables: { raw_cdc: ingest__files }"),
        ),
        ("a pipeline with a slash", format!("{MINIMAL}pipeline: a/b\n")),
        ("http for everybody", format!("{MINIMAL}http: {{ listen: 0.0.0.0:9464 }}\n")),
        ("http nowhere", format!("{MINIMAL}http: {{ port: 9464 }}\n")),
        (
            "many at once, in block style",
            "\
version: 1
mongdb:
  uri: mongodb://me:hunter2@db
clickhouse:
  url: http://ch:8123
  pasword: hunter2
  batch:
    max_wait: 1s\t# é
    max_rows: 0
limits:
  shutdown_s: 25s
"
            .to_owned(),
        ),
    ];
    let mut all = String::new();
    for (name, text) in wrong {
        let said = read(&text).err().unwrap_or_else(|| "nothing is wrong: ^".to_owned());
        assert!(!said.contains("hunter2"), "{name}: {said}");
        assert!(said.contains('^'), "{name}: {said}");
        all.push_str(&format!("──── {name}\n{said}\n\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_question_needs_the_target_alone() {
    let text = "{ mongodb: { uri: { env: NOT_SET } }, pipeline: 1, clickhouse: { url: 'http://ch:8123' }, state: /s }";
    let ask = |text: &str| Config::read_target("t", text, &Given::default(), &Host);
    let (target, state) = ask(text).unwrap();
    assert!(matches!(target, Target::Server(e) if e.url.host_str() == Some("ch")));
    assert_eq!(state.to_str(), Some("/s"));
    let wrong = text.replace("{ env: NOT_SET }", "mongodb://me:hunter2@db").replace("url:", "ulr:");
    let said = ask(&wrong).unwrap_err().to_string();
    assert!(said.contains("did you mean `url`") && !said.contains("hunter2"), "{said}");
    assert!(ask("version: 1").unwrap_err().to_string().contains("has no `clickhouse`"));
}
