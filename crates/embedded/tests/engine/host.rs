//! Engines for tests: one that all tests share, and private ones to kill.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::http::{Answer, Ask};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_embedded-engine");

/// An engine in a child process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Whether the engine's library is there.
pub(crate) fn present() -> bool {
    match tailwater_embedded::find_library() {
        Ok(_) => true,
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}: {}", error.hint()),
        Err(error) => {
            eprintln!("\n***** SKIPPED: {error} ({}) *****\n", error.hint());
            false
        }
    }
}

impl Engine {
    /// Starts an engine over `state`, or gives its report.
    pub(crate) fn try_start(state: &Path, listen: &str, password: &str) -> Result<Self, String> {
        let mut child = Command::new(PROGRAM)
            .args(["engine", "serve", "--state"])
            .arg(state)
            .args(["--listen", listen, "--child"])
            .env(tailwater_embedded::PASSWORD_VARIABLE, password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let report: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        match report["ready"]["address"].as_str() {
            Some(address) => Ok(Self { child, address: address.parse().unwrap() }),
            None => {
                child.wait().unwrap();
                Err(line)
            }
        }
    }

    pub(crate) fn start(state: &Path) -> Self {
        Self::try_start(state, "127.0.0.1:0", "").unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Peak memory so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| name(task.ok()?).ok()).collect()
    }

    pub(crate) fn sql(&self, sql: &str) -> Answer {
        Ask::post(self.address, sql).send()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Closing stdin would end it too; the folder must be free at once.
        if self.child.kill().is_ok() {
            let _status = self.child.wait();
        }
    }
}

/// The engine that tests share; each takes a database of its own.
pub(crate) fn shared() -> Option<&'static Database> {
    static ENGINE: OnceLock<Option<(tempfile::TempDir, Engine)>> = OnceLock::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let engine = ENGINE.get_or_init(|| {
        present().then(|| {
            let folder = tempfile::tempdir().unwrap();
            let engine = Engine::start(folder.path());
            (folder, engine)
        })
    });
    let (_, engine) = engine.as_ref()?;
    let name = format!("d{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    engine.sql(&format!("CREATE DATABASE {name}")).ok();
    Some(Box::leak(Box::new(Database { address: engine.address, name, engine })))
}

/// A test's own database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) engine: &'static Engine,
}

impl Database {
    pub(crate) fn post(&self, body: impl Into<Vec<u8>>) -> Ask {
        Ask::post(self.address, body).with("database", &self.name)
    }

    pub(crate) fn get(&self, query: &str) -> Ask {
        Ask::get(self.address, query).with("database", &self.name)
    }

    /// Runs a statement that must succeed.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.post(sql).send().ok()
    }

    /// Inserts `data` by a statement in the URL.
    pub(crate) fn insert(&self, statement: &str, data: impl Into<Vec<u8>>) -> Ask {
        self.post(data).with("query", statement).with("async_insert", "0")
    }
}

/// Waits for a condition, a minute at most.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
