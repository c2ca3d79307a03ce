//! A `run` between two servers, with a proxy before each of them.

use std::path::Path;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use rustix::process::{Pid, Signal, kill_process};
use tailwater_pipeline::failpoint;
use tailwater_testkit::rig::Rig;
use tailwater_testkit::servers::{Caught, Engine, Exit, Fault, Proxy, Tailwater, Target};
use tailwater_testkit::workload::{self, Workload};

use crate::{DEADLINE, binary};

/// The collection that is written and watched.
const COLLECTION: &str = "ingest.files";
/// Between two looks at something that will come true.
const LOOK: Duration = Duration::from_millis(50);

/// Everything that a test needs.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    pub(crate) engine: Engine,
    /// Before ClickHouse.
    pub(crate) clickhouse: Proxy,
    /// Before MongoDB.
    pub(crate) mongodb: Proxy,
    _home: tempfile::TempDir,
}

impl Stage {
    /// Starts everything; what was written so far has arrived. `None`: a server is missing here, skip.
    pub(crate) async fn start() -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let engine = Engine::start(binary(), &home.path().join("state")).await.unwrap()?;
        let clickhouse = Proxy::start(engine.address()).await.unwrap();
        let target = Target::Server { through: clickhouse.address(), direct: engine.address() };
        let mut rig = Rig::assemble(binary(), &[COLLECTION.into()], target).await.unwrap()?;
        rig.tailwater.kill().unwrap();
        let mongodb = Proxy::start(([127, 0, 0, 1], rig.mongod.port()).into()).await.unwrap();
        // Without this the driver would find its way around the proxy.
        rig.arguments.source = format!("mongodb://{}/?directConnection=true", mongodb.address());
        rig.start_again().unwrap();
        rig.warm_up(|number| doc! { "_id": format!("warm-up {number}") }).await.unwrap();
        assert!(rig.judge().await.unwrap().is_clean());
        Some(Self { rig, engine, clickhouse, mongodb, _home: home })
    }

    /// Ends `run` and starts it again: it looks only then which views there are.
    pub(crate) async fn restart(&mut self) {
        let exit = self.rig.tailwater.terminate(DEADLINE).await.unwrap();
        assert_eq!(exit, Exit::Code(0), "{}", self.rig.tailwater.log_tail());
        self.rig.start_again().unwrap();
    }

    /// Kills `run` and starts it with a failpoint.
    pub(crate) fn start_with_failpoint(&mut self, order: &str) {
        self.rig.tailwater.kill().unwrap();
        start_with_failpoint(&mut self.rig, order);
    }

    /// Writes so many documents.
    pub(crate) async fn write(&self, count: usize) {
        let (database, name) = COLLECTION.split_once('.').unwrap();
        let files = self.rig.client.database(database).collection::<Document>(name);
        let documents = (0..count).map(|number| doc! { "number": i64::try_from(number).unwrap() });
        files.insert_many(documents).await.unwrap();
    }

    /// Starts a workload.
    pub(crate) fn load(&self) -> Workload {
        let plan = workload::Plan::new(7, vec![COLLECTION.into()]);
        Workload::start(&self.rig.client, &plan).unwrap()
    }

    /// Sets a trap for the next insert, writes, and gives the insert that was caught.
    pub(crate) async fn catch(&self, fault: Fault) -> Caught {
        let caught = self.clickhouse.arm(fault);
        self.write(3).await;
        tokio::time::timeout(DEADLINE, caught).await.unwrap().unwrap()
    }

    /// Runs a statement in ClickHouse.
    pub(crate) async fn execute(&self, sql: &str) {
        let url = format!("http://{}/", self.engine.address());
        clickhouse::Client::default().with_url(url).query(sql).execute().await.unwrap();
    }

    /// Changes the event table.
    pub(crate) async fn alter(&self, change: &str) {
        self.execute(&format!("ALTER TABLE record_raw {change}")).await;
    }

    /// How many rows the event table holds.
    pub(crate) async fn rows(&self) -> u64 {
        self.count("SELECT count() AS count FROM record_raw").await
    }

    /// Asks for one `count`.
    pub(crate) async fn count(&self, sql: &str) -> u64 {
        #[derive(serde::Deserialize)]
        struct Rows {
            count: u64,
        }
        self.rig.checker.clickhouse.one::<Rows>(sql).await.unwrap().count
    }

    /// Waits until the event table holds so many rows.
    pub(crate) async fn wait_for_rows(&mut self, rows: u64) {
        let started = Instant::now();
        while self.rows().await < rows {
            self.rig.tailwater.expect_running().unwrap();
            let tail = self.rig.tailwater.log_tail();
            assert!(
                started.elapsed() < DEADLINE,
                "{} rows, not {rows}:\n{tail}",
                self.rows().await
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the log of `run`, from `offset` on, holds this text.
    pub(crate) async fn wait_for_log(&mut self, offset: usize, text: &str, deadline: Duration) {
        let started = Instant::now();
        loop {
            let log = self.rig.tailwater.log();
            if log[offset..].contains(text) {
                return;
            }
            self.rig.tailwater.expect_running().unwrap();
            assert!(started.elapsed() < deadline, "no `{text}` in:\n{log}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until `run` has tried and failed with this several times.
    pub(crate) async fn wait_for_failures(&mut self, text: &str) {
        for _ in 0..4 {
            let log = self.log_end();
            self.wait_for_log(log, text, DEADLINE).await;
        }
    }

    /// Where the log of `run` ends now.
    pub(crate) fn log_end(&self) -> usize {
        self.rig.tailwater.log().len()
    }

    /// The checkpoints as they are stored, without the line of their checksum.
    pub(crate) fn checkpoints(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.rig.arguments.state.join("checkpoints")).unwrap();
        serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
    }

    /// When the pending Range was declared, in milliseconds since 1970.
    pub(crate) fn declared_at(&self) -> i64 {
        self.checkpoints()[0]["pending"]["declared_at"].as_i64().unwrap()
    }

    /// Waits until the process has stopped itself.
    pub(crate) async fn wait_until_stopped(&mut self) {
        let stat = format!("/proc/{}/stat", self.rig.tailwater.id());
        let started = Instant::now();
        // `pid (name) state …`
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            self.rig.tailwater.expect_running().unwrap();
            assert!(started.elapsed() < DEADLINE, "it did not stop");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets the stopped process go on.
    pub(crate) fn go_on(&self) {
        let pid = i32::try_from(self.rig.tailwater.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
    }

    /// Waits for everything that was written, judges it, and ends `run`.
    pub(crate) async fn judge(&mut self) {
        let verdict = self.rig.judge().await.unwrap();
        assert!(verdict.is_clean(), "{verdict}\n{}", self.rig.tailwater.log_tail());
        assert_eq!(self.count("SELECT count() AS count FROM tailwater_dead_letters").await, 0);
        let started = Instant::now();
        loop {
            let (read, delivered) = self.rig.counters().await.unwrap();
            if read == delivered {
                break;
            }
            assert!(started.elapsed() < DEADLINE, "{read} events read, {delivered} delivered");
            tokio::time::sleep(LOOK).await;
        }
        let exit = self.rig.tailwater.terminate(DEADLINE).await.unwrap();
        assert_eq!(exit, Exit::Code(0), "{}", self.rig.tailwater.log_tail());
    }
}

/// Starts `run` with a failpoint. The one before must have ended.
pub(crate) fn start_with_failpoint(rig: &mut Rig, order: &str) {
    let log = rig.arguments.state.with_file_name("run.log");
    let mut arguments = vec![format!("{}={order}", failpoint::VARIABLE)];
    arguments.push(binary().display().to_string());
    arguments.extend(rig.arguments.to_vec());
    rig.tailwater = Tailwater::start(Path::new("env"), &arguments, &log).unwrap();
}
