//! The ClickHouse engine on its own: `tailwater engine serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::child::Child;
use super::{Needed, START_DEADLINE, free_port};

/// A running engine with its data in a folder of the caller.
#[derive(Debug)]
pub struct Engine {
    binary: PathBuf,
    state: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Engine {
    /// Starts `binary engine serve` over the folder `state` and waits until it answers. `None`: no
    /// engine library here, skip.
    ///
    /// # Errors
    ///
    /// When the library is missing under `CI`, or the engine does not come up.
    pub async fn start(binary: &Path, state: &Path) -> anyhow::Result<Option<Self>> {
        if Needed::Libchdb.find()?.is_none() {
            return Ok(None);
        }
        let (binary, state) = (binary.to_owned(), state.to_owned());
        let mut engine = Self { binary, state, port: free_port()?, child: None };
        engine.start_again().await?;
        Ok(Some(engine))
    }

    /// Where it answers HTTP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Kills the engine at once (SIGKILL). Its data stays.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill(),
            None => Ok(()),
        }
    }

    /// Starts the killed engine again on the same port and data, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it ends or does not answer in time.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.state)?;
        let arguments: Vec<String> = vec![
            "engine".into(),
            "serve".into(),
            "--state".into(),
            self.state.display().to_string(),
            "--listen".into(),
            format!("127.0.0.1:{}", self.port),
        ];
        let log = self.state.with_extension("engine.log");
        let child = Child::start(&self.binary, &arguments, &log)?;
        let child = self.child.insert(child);
        let client =
            clickhouse::Client::default().with_url(format!("http://127.0.0.1:{}", self.port));
        let started = Instant::now();
        while client.query("SELECT 1").fetch_one::<u8>().await.is_err() {
            child.expect_running()?;
            if started.elapsed() > START_DEADLINE {
                bail!("the engine does not answer after {START_DEADLINE:?}:\n{}", child.tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
