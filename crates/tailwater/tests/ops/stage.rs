//! A pipeline of its own on servers that all tests share, and the commands that are run on it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use bson::{Document, doc};
use mongodb::{Client, Collection};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tailwater_pipeline::failpoint;
use tailwater_testkit::kafka::Cluster;
use tailwater_testkit::servers::{Engine, Exit, Kafka, Mongod, Tailwater, lasting_folder};
use tokio::sync::OnceCell;

use crate::{DEADLINE, LOOK, binary};

/// Everything that a test needs. Its collection is `<name>.files`.
pub(crate) struct Stage {
    /// Of the pipeline, and of its databases.
    pub(crate) name: &'static str,
    pub(crate) cluster: Cluster,
    pub(crate) mongodb: Client,
    /// Lines of the config in `kafka`, each with its indent.
    pub(crate) kafka: String,
    /// Keys in `clickhouse`, each with a comma behind it.
    pub(crate) clickhouse: String,
    /// Lines of the config beside the usual.
    pub(crate) more: String,
    /// Where tables are in ClickHouse.
    pub(crate) database: String,
    /// Whether there is no Kafka in the middle.
    pub(crate) direct: bool,
    bootstrap: String,
    uri: String,
    url: String,
    home: tempfile::TempDir,
    starts: Cell<u32>,
}

impl Stage {
    /// On the shared broker. `None`: a server is missing here, skip.
    pub(crate) async fn set(name: &'static str) -> Option<Self> {
        Self::on(name, Kafka::shared().await.unwrap()?).await
    }

    /// On that broker.
    pub(crate) async fn on(name: &'static str, kafka: &Kafka) -> Option<Self> {
        static ENGINE: OnceCell<Option<Engine>> = OnceCell::const_new();
        let engine = async || Engine::start(binary(), &lasting_folder().unwrap()).await.unwrap();
        let (mongod, engine) = tokio::join!(Mongod::shared(), ENGINE.get_or_init(engine));
        let (mongod, engine) = (mongod.unwrap()?, engine.as_ref()?);
        let stage = Self {
            name,
            cluster: Cluster::at(&kafka.bootstrap()),
            mongodb: mongod.client().await.unwrap(),
            kafka: String::new(),
            clickhouse: String::new(),
            more: String::new(),
            database: name.to_owned(),
            direct: false,
            bootstrap: kafka.bootstrap(),
            uri: mongod.uri(),
            url: format!("http://{}", engine.address()),
            home: tempfile::tempdir().unwrap(),
            starts: Cell::new(0),
        };
        stage.execute(&format!("CREATE DATABASE `{name}`")).await;
        Some(stage)
    }

    /// Has the tables in another database, which is new.
    pub(crate) async fn move_to(&mut self, database: &str) {
        database.clone_into(&mut self.database);
        self.execute(&format!("CREATE DATABASE `{database}`")).await;
    }

    /// Runs a statement in ClickHouse.
    pub(crate) async fn execute(&self, sql: &str) {
        let client = clickhouse::Client::default().with_url(&self.url);
        client.query(sql).execute().await.unwrap();
    }

    /// Who is asked at first, if not the broker's open listener.
    pub(crate) fn ask(&mut self, bootstrap: &str) {
        bootstrap.clone_into(&mut self.bootstrap);
    }

    /// Another MongoDB than that of all tests.
    pub(crate) fn read_from(&mut self, uri: &str) {
        uri.clone_into(&mut self.uri);
    }

    /// Who is asked at first.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes the config file.
    fn config(&self) -> PathBuf {
        let Self { name, uri, bootstrap, url, kafka, clickhouse, more, database, .. } = self;
        let state = self.path("state").display().to_string();
        let own = format!("normalized: {name}.normalized, dead_letter: {name}.dead");
        let kafka = match self.direct {
            true => String::new(),
            false => format!(
                "kafka:\n  bootstrap_servers: \"{bootstrap}\"\n  \
                 topics: {{ partitions: 2, replication_factor: 1, {own} }}\n{kafka}"
            ),
        };
        let text = format!(
            "version: 1
pipeline: {name}
mongodb: {{ uri: \"{uri}\", collections: [{name}.files] }}
{kafka}clickhouse: {{ {clickhouse} url: \"{url}\", database: {database}, insert_deadline_s: 5 }}
state: {state}
{more}"
        );
        let file = self.path("tailwater.yaml");
        // Another command may be reading it.
        std::fs::write(self.path("next.yaml"), text).unwrap();
        std::fs::rename(self.path("next.yaml"), &file).unwrap();
        file
    }

    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// The collection.
    pub(crate) fn files(&self) -> Collection<Document> {
        self.mongodb.database(self.name).collection("files")
    }

    /// Inserts so many documents, numbered from `first` on.
    pub(crate) async fn write(&self, first: i64, count: i64) {
        let documents = (first..first + count).map(|number| doc! { "_id": number, "n": number });
        self.files().insert_many(documents).await.unwrap();
    }

    /// Starts parts of the pipeline.
    pub(crate) fn start(&self, parts: &[&str]) -> Running {
        let number = self.starts.get();
        self.starts.set(number + 1);
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(parts.iter().map(|part| (*part).to_owned()));
        arguments.extend(["-c".to_owned(), self.config().display().to_string()]);
        arguments.push("--start=oldest".to_owned());
        let log = self.path(&format!("{number}.log"));
        Running(Tailwater::start(binary(), &arguments, &log).unwrap())
    }

    /// Starts the pipeline without its Kafka, by flags alone.
    pub(crate) fn start_direct(&self) -> Running {
        let target = format!("{}/{}", self.url, self.name);
        let collection = self.own("files");
        let state = self.path("state").display().to_string();
        let arguments = [
            ["run", "--source", &self.uri],
            ["--collections", &collection, "--start=oldest"],
            ["--target", &target, "--state"],
        ];
        let mut arguments: Vec<String> =
            arguments.concat().into_iter().map(str::to_owned).collect();
        arguments.push(state);
        Running(Tailwater::start(binary(), &arguments, &self.path("direct.log")).unwrap())
    }

    /// Runs a command by the config file.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Answer {
        let config = self.config().display().to_string();
        run_alone(&[arguments, &["-c", &config]].concat()).await
    }

    /// Starts a command that stops itself at a failpoint, and waits until it has.
    pub(crate) async fn stopped(&self, arguments: &[&str], failpoint: &str) -> Running {
        let number = self.starts.get();
        self.starts.set(number + 1);
        let config = self.config().display().to_string();
        let order = format!("{}={failpoint}:1:stop", failpoint::VARIABLE);
        let program = binary().display().to_string();
        let all = [&[order.as_str(), &program], arguments, &["-c", &config]].concat();
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let log = self.path(&format!("{number}.log"));
        let mut running = Running(Tailwater::start(Path::new("env"), &all, &log).unwrap());
        let stat = format!("/proc/{}/stat", running.0.id());
        let started = Instant::now();
        // `pid (name) state …`
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            running.expect_running();
            assert!(started.elapsed() < DEADLINE, "it did not stop:\n{}", running.0.log());
            tokio::time::sleep(LOOK).await;
        }
        running
    }

    /// Runs a command that ends well, and reads its JSON.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.run(&[arguments, &["--format", "json"]].concat()).await;
        assert_eq!(answer.code, Some(0), "{answer:?}");
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// What ClickHouse answers, or its error: a table may not be there yet.
    pub(crate) async fn ask_rows(&self, sql: &str) -> String {
        let client =
            clickhouse::Client::default().with_url(&self.url).with_database(&self.database);
        let mut answer = client.query(sql).fetch_bytes("TabSeparatedRaw").unwrap();
        match answer.collect().await {
            Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap().trim_end().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Waits until ClickHouse answers so.
    pub(crate) async fn wait_for(&self, sql: &str, wanted: &str, parts: &mut [&mut Running]) {
        let started = Instant::now();
        loop {
            let answer = self.ask_rows(sql).await;
            if answer == wanted {
                return;
            }
            parts.iter_mut().for_each(|part| part.expect_running());
            if started.elapsed() > DEADLINE {
                let logs: Vec<String> = parts.iter().map(|part| part.0.log()).collect();
                panic!("{sql}\n{answer}\nwanted\n{wanted}\n{}", logs.join("\n-----\n"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the event table holds so many inserted documents.
    pub(crate) async fn wait_for_rows(&self, rows: u64, parts: &mut [&mut Running]) {
        let inserted = "SELECT count() FROM record_raw WHERE op = 'insert'";
        self.wait_for(inserted, &rows.to_string(), parts).await;
    }

    /// Waits until a command's JSON is as it should be.
    pub(crate) async fn wait_for_json(
        &self,
        arguments: &[&str],
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        let started = Instant::now();
        loop {
            let value = self.json(arguments).await;
            if is_so(&value) {
                return value;
            }
            assert!(started.elapsed() < DEADLINE, "{value:#}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Runs a command.
pub(crate) async fn run_alone(arguments: &[&str]) -> Answer {
    let mut command = Command::new(binary());
    for variable in ["TAILWATER_CONFIG", "TAILWATER_SOURCE", "TAILWATER_TARGET"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    Answer::of(&output.await.unwrap().unwrap())
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// That it ended well.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self.out
    }

    /// That an operator must act, as all of this says.
    pub(crate) fn refused(self, texts: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "{}\n{}", self.out, self.err);
        for text in texts {
            assert!(self.err.contains(text), "no `{text}` in:\n{}", self.err);
        }
        self.err
    }
}

/// A running `tailwater run`.
pub(crate) struct Running(Tailwater);

impl Running {
    pub(crate) fn expect_running(&mut self) {
        if let Err(error) = self.0.expect_running() {
            panic!("{error:#}\n{}", self.0.log());
        }
    }

    /// Lets a stopped one go on.
    pub(crate) fn go_on(&self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
    }

    /// Waits until it ends well; what it has said.
    pub(crate) async fn done(mut self) -> String {
        let exit = self.0.wait(DEADLINE).await;
        assert!(matches!(exit, Ok(Exit::Code(0))), "{exit:?}:\n{}", self.0.log());
        self.0.log()
    }

    /// Waits until it ends because an operator must act; what it has logged.
    pub(crate) async fn refused(&mut self) -> String {
        let exit = self.0.wait(DEADLINE).await;
        assert!(matches!(exit, Ok(Exit::Code(1))), "{exit:?}:\n{}", self.0.log());
        self.0.log()
    }

    /// Ends it, in order.
    pub(crate) async fn stop(mut self) {
        let exit = self.0.terminate(DEADLINE).await;
        assert!(matches!(exit, Ok(Exit::Code(0))), "{exit:?}:\n{}", self.0.log());
    }
}
