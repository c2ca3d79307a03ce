//! The config file on real servers: `run -c` does what the file says, refuses tables that do not
//! fit it, and tells a wrong file as a whole.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use tailwater_testkit::servers::{Engine, Exit, Fault, Mongod, Proxy, Tailwater, free_port};

const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// A folder with a config file, and what runs by it.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the file, with the state folder at its end.
    fn write(&self, text: &str) {
        let state = self.path("state");
        let text = format!("version: 1\n{text}\nstate: {}\n", state.display());
        std::fs::write(self.path("tailwater.yaml"), text).unwrap();
    }

    /// Starts `run -c` with what is written, and the given flags.
    fn run(&self, flags: &[&str]) -> Tailwater {
        let mut arguments = ["run", "-c"].map(str::to_owned).to_vec();
        arguments.push(self.path("tailwater.yaml").display().to_string());
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Tailwater::start(binary(), &arguments, &self.path("log")).unwrap()
    }

    /// Starts `run -c` and waits for it to refuse; what it said.
    async fn refused(&self) -> String {
        let before = std::fs::metadata(self.path("log")).map_or(0, |log| log.len()) as usize;
        let mut tailwater = self.run(&[]);
        let exit = tailwater.wait(DEADLINE).await.unwrap();
        let said = tailwater.log()[before..].to_owned();
        assert_eq!(exit, Exit::Code(1), "{said}");
        said
    }
}

async fn until_log_says(tailwater: &mut Tailwater, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    while !tailwater.log().contains(what) {
        tailwater.expect_running().unwrap();
        assert!(Instant::now() < deadline, "{what}\n{}", tailwater.log_tail());
        tokio::time::sleep(LOOK).await;
    }
}

fn client(url: &str, database: &str) -> clickhouse::Client {
    clickhouse::Client::default().with_url(url).with_database(database)
}

/// The answer, or the error: a table is made with its first row.
async fn ask(client: &clickhouse::Client, sql: &str) -> String {
    let mut answer = client.query(sql).fetch_bytes("TabSeparatedRaw").unwrap();
    match answer.collect().await {
        Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

/// Asks until the answer is what is wanted.
async fn expect(client: &clickhouse::Client, sql: &str, wanted: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ask(client, sql).await;
        if answer == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}\n{answer}\nwanted\n{wanted}");
        tokio::time::sleep(LOOK).await;
    }
}

async fn write(client: &Client) {
    let files = client.database("ingest").collection::<Document>("files");
    let documents = (0..3).map(|id| doc! { "_id": id, "name": "x", "payload": { "blob": "y" } });
    files.insert_many(documents).await.unwrap();
    files.update_one(doc! { "_id": 0 }, doc! { "$set": { "name": "z" } }).await.unwrap();
    files.delete_one(doc! { "_id": 1 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_alone_runs_the_embedded_engine_as_it_says() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let home = Home::new();
    // Finds out whether there is an engine to embed.
    let Some(engine) = Engine::start(binary(), &home.path("other")).await.unwrap() else { return };
    drop(engine);
    let (port, metrics) = (free_port().unwrap(), free_port().unwrap());
    std::fs::write(home.path("uri"), format!("{}\n", mongod.uri())).unwrap();
    home.write(&format!(
        "pipeline: ledger
mongodb:
  uri: {{ file: {} }}
  collections: ['ingest.*']
  operations: [insert, update]
clickhouse:
  embedded: true
  listen: 127.0.0.1:{port}
  password: open sesame
  deduplication_window: 777
  insert_deadline_s: 15
  tables: {{ records: events, current: null }}
  ttl_days: 400
  batch: {{ max_rows: 2, max_wait_ms: 20 }}
",
        home.path("uri").display(),
    ));
    let mut tailwater = home.run(&["--http", &format!("127.0.0.1:{metrics}")]);
    until_log_says(&mut tailwater, "stream begins").await;
    write(&mongod.client().await.unwrap()).await;

    let url = format!("http://127.0.0.1:{port}");
    let stranger = client(&url, "default");
    let engine = stranger.clone().with_password("open sesame");
    let operations = "SELECT op, count() FROM events GROUP BY op ORDER BY op";
    expect(&engine, operations, "insert\t3\nupdate\t1\n").await;
    assert!(ask(&stranger, "SELECT 1").await.contains("password"));
    let tables = ask(
        &engine,
        "SELECT name, comment FROM system.tables WHERE database = 'default' ORDER BY name",
    )
    .await;
    assert_eq!(
        tables,
        "events\ttailwater: pipeline `ledger`\n\
         tailwater_dead_letters\ttailwater: pipeline `ledger`\ntailwater_gaps\t\n"
    );
    let described =
        ask(&engine, "SELECT engine_full FROM system.tables WHERE name = 'events'").await;
    assert!(described.contains("TTL toDateTime(ts) + toIntervalDay(400)"), "{described}");
    assert!(described.contains("non_replicated_deduplication_window = 777"), "{described}");
    let answer = std::net::TcpStream::connect(("127.0.0.1", metrics));
    assert!(answer.is_ok(), "a flag stands beside the file");
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));

    // Asked by the same file, with the engine at rest.
    let file = home.path("tailwater.yaml");
    let asked = command(&["query", "SELECT count() FROM events", "-c", file.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "count()\n4\n", "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_the_names_of_the_file_and_must_fit_it() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let home = Home::new();
    let Some(engine) = Engine::start(binary(), &home.path("engine")).await.unwrap() else { return };
    let url = format!("http://{}", engine.address());
    let admin = client(&url, "default");
    assert_eq!(ask(&admin, "CREATE DATABASE events").await, "");
    let events = client(&url, "events");
    let config = |pipeline: &str, tables: &str| {
        format!(
            "pipeline: {pipeline}
mongodb:
  uri: {}
  collections: [ingest.files]
  exclude_fields: {{ ingest.files: [payload.blob] }}
clickhouse:
  url: {url}
  database: events
  {tables}
",
            mongod.uri(),
        )
    };
    home.write(&config("one", "tables: { current: 'now `{coll}`' }"));
    let mut tailwater = home.run(&[]);
    until_log_says(&mut tailwater, "stream begins").await;
    write(&mongod.client().await.unwrap()).await;
    let state = "SELECT _id, doc FROM `now \\`files\\`_current` ORDER BY _id";
    let wanted = "0\t{\"_id\":0,\"name\":\"z\"}\n2\t{\"_id\":2,\"name\":\"x\"}\n";
    expect(&events, state, wanted).await;
    let raw = "SELECT countIf(raw LIKE '%blob%') FROM record_raw";
    expect(&events, raw, "0\n").await;
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));

    // Both event tables are refused with the statement that mends them, and the statement does.
    for (pipeline, keys, why, tables) in [
        ("two", "username: default", "belongs to pipeline `one`", 2),
        ("two", "deduplication_window: 20000", "is 10000 blocks, not the 20000", 2),
        ("two", "ttl_days: 30", "should go after 30 days", 1),
    ] {
        home.write(&config(pipeline, keys));
        for _ in 0..tables {
            let said = home.refused().await;
            assert!(said.contains(why), "{said}");
            let (_, mend) = said.rsplit_once("run: ").unwrap();
            assert_eq!(ask(&events, mend.trim()).await, "", "{mend}");
        }
    }
    let mut tailwater = home.run(&[]);
    let files = mongod.client().await.unwrap().database("ingest").collection::<Document>("files");
    files.insert_one(doc! { "_id": 9 }).await.unwrap();
    expect(&events, "SELECT _id FROM ingest__files_current WHERE _id = '9'", "9\n").await;
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_collection_is_refused() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let home = Home::new();
    let Some(engine) = Engine::start(binary(), &home.path("engine")).await.unwrap() else { return };
    let config = |collection: &str| {
        let (uri, address) = (mongod.uri(), engine.address());
        format!(
            "mongodb: {{ uri: {uri}, collections: [{collection}] }}\n\
             clickhouse: {{ url: 'http://{address}', tables: {{ current: '{{db}}_{{coll}}' }} }}"
        )
    };
    home.write(&config("a.b_c"));
    let mut tailwater = home.run(&[]);
    until_log_says(&mut tailwater, "stream goes on").await;
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));
    home.write(&config("a_b.c"));
    let said = home.refused().await;
    assert!(said.contains("the table `a_b_c` belongs to `a.b_c`, not to `a_b.c`"), "{said}");
}

/// One refused event is one too many, and what is under way at the end has one second.
#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_of_the_file() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let home = Home::new();
    let Some(engine) = Engine::start(binary(), &home.path("engine")).await.unwrap() else { return };
    let proxy = Proxy::start(engine.address()).await.unwrap();
    home.write(&format!(
        "mongodb: {{ uri: {}, collections: [ingest.files] }}
clickhouse: {{ url: 'http://{}', insert_deadline_s: 5, max_rejected: {{ percent: 0, rows: 0 }} }}
limits: {{ shutdown_s: 1 }}",
        mongod.uri(),
        proxy.address(),
    ));
    let files = mongod.client().await.unwrap().database("ingest").collection::<Document>("files");
    let admin = client(&format!("http://{}", engine.address()), "default");

    let mut tailwater = home.run(&[]);
    until_log_says(&mut tailwater, "stream goes on").await;
    let caught = proxy.arm(Fault::HoldRequest);
    files.insert_one(doc! { "_id": 1 }).await.unwrap();
    let caught = caught.await.unwrap();
    // By default it may take longer than this.
    let soon = Duration::from_secs(20);
    assert_eq!(tailwater.terminate(soon).await.unwrap(), Exit::Code(1));
    assert!(tailwater.log().contains("could not settle within 1 s"), "{}", tailwater.log_tail());
    drop(caught);

    let constraint = "ALTER TABLE record_raw ADD CONSTRAINT c CHECK doc_id != '2'";
    assert_eq!(ask(&admin, constraint).await, "");
    let mut tailwater = home.run(&[]);
    files.insert_one(doc! { "_id": 2 }).await.unwrap();
    assert_eq!(tailwater.wait(DEADLINE).await.unwrap(), Exit::Code(1));
    assert!(tailwater.log().contains("ClickHouse refuses 1 and more"), "{}", tailwater.log_tail());
    expect(&admin, "SELECT doc_id FROM record_raw WHERE op = 'insert'", "1\n").await;
    expect(&admin, "SELECT count() FROM tailwater_dead_letters", "0\n").await;
}

/// A name that nobody else signs for, its certificate, and who signed it, as PEM.
fn certificates() -> (rustls::ServerConfig, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (config, ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_and_no_other() {
    let home = Home::new();
    let Some(engine) = Engine::start(binary(), &home.path("engine")).await.unwrap() else { return };
    let (config, ca) = certificates();
    let (_, other) = certificates();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = engine.address();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            // A client that does not trust us breaks off.
            let Ok(mut client) = acceptor.accept(client).await else { continue };
            let mut server = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    });
    std::fs::write(home.path("ca.pem"), ca).unwrap();
    std::fs::write(home.path("other.pem"), other).unwrap();
    let ask = async |tls: &str| {
        home.write(&format!(
            "mongodb: {{ uri: mongodb://nobody, collections: [a.b] }}
clickhouse: {{ url: 'https://localhost:{port}' {tls} }}"
        ));
        let file = home.path("tailwater.yaml").display().to_string();
        let query = move || command(&["query", "-c", &file, "SELECT 42"]);
        let output = tokio::task::spawn_blocking(query).await.unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        (answer, String::from_utf8(output.stderr).unwrap())
    };
    let tls = |name: &str| format!(", tls: {{ ca: '{}' }}", home.path(name).display());
    let (answer, said) = ask(&tls("ca.pem")).await;
    assert_eq!(answer, "42\n42\n", "{said}");
    for tls in [tls("other.pem"), String::new()] {
        let (answer, said) = ask(&tls).await;
        assert!(answer.is_empty() && said.contains("invalid peer certificate"), "{answer}{said}");
        assert!(said.contains("`tls.ca`"), "{said}");
    }
}

fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    for variable in ["TAILWATER_CONFIG", "TAILWATER_SOURCE", "TAILWATER_TARGET"] {
        command.env_remove(variable);
    }
    command.env("URI_OF_A_TEST", "mongodb://me:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=1");
    command.args(arguments).output().unwrap()
}

#[test]
fn a_wrong_file_is_told_as_a_whole_and_without_its_secrets() {
    let home = Home::new();
    home.write(
        "mongodb:
  uri: mongodb://me:hunter2@127.0.0.1
  colections: [a.b]
clickhouse: { url: 'http://me:hunter2@127.0.0.1', ttl_days: 90d, embedded: true }",
    );
    let file = home.path("tailwater.yaml");
    let file = file.to_str().unwrap();
    let output = command(&["run", "-c", file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap().replace(file, "FILE");
    insta::assert_snapshot!(said, @"
    error: `FILE` has 3 problems

    FILE:4:3: unknown key `colections` in `mongodb`
      4 |   colections: […]
        |   ^^^^^^^^^^ did you mean `collections`?

    FILE:5:61: `ttl_days` is not a whole number of days
      5 | clickhouse: { url: …, ttl_days: 90d, embedded: true }
        |                                 ^^^ write 90: the name has the unit

    FILE:5:66: `url` and `embedded` exclude each other
      5 | clickhouse: { url: …, ttl_days: 90d, embedded: true }
        |                                      ^^^^^^^^ remove one of them
    hint: docs/config.md lists every key
    ");
    assert!(!home.path("state").exists(), "something was started");
}

#[test]
fn a_file_is_found_by_flag_by_variable_and_by_its_usual_name() {
    let home = Home::new();
    home.write("mongodb: { uri: { env: URI_OF_A_TEST }, collections: [a.b] }\nclickhouse: { url: http://127.0.0.1:1 }");
    let file = home.path("tailwater.yaml");
    let run = || {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("URI_OF_A_TEST", "mongodb://me:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=1");
        command.arg("run").current_dir(std::env::temp_dir());
        command
    };
    let code = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("hunter2"), "{said}");
        (output.status.code(), said.contains("cannot connect to MongoDB"))
    };
    assert_eq!(code(run().arg("-c").arg(&file)), (Some(1), true));
    assert_eq!(code(run().env("TAILWATER_CONFIG", &file)), (Some(1), true));
    assert_eq!(code(run().current_dir(home.folder.path())), (Some(1), true));
    // Flags that stand for themselves leave the usual file alone.
    let alone = ["--source", "mongodb://127.0.0.1:1"];
    assert_eq!(code(run().args(alone).current_dir(home.folder.path())), (Some(2), false));
    assert_eq!(code(&mut run()), (Some(2), false));
    assert_eq!(code(run().args(["-c", "/nowhere.yaml"])), (Some(1), false));
    assert_eq!(code(run().args(["--collectons", "a.b"])), (Some(2), false));
}
