//! A real `mongod` as a replica set of one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use rustix::process::Signal;

use super::child::Child;
use super::{Needed, folder, free_port};

/// How long a healthy server may take to start or to elect itself, on the slowest machine.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// A replica set of one member on a free loopback port, with its data in a temporary folder.
#[derive(Debug)]
pub struct Mongod {
    program: PathBuf,
    port: u16,
    home: tempfile::TempDir,
    /// Whether it was started as a member of a replica set.
    replica_set: bool,
    child: Option<Child>,
}

impl Mongod {
    /// Starts a replica set of one and waits until it takes writes. `None`: no server here, skip.
    ///
    /// # Errors
    ///
    /// When the server is missing under `CI`, or does not come up.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        Self::launch(true).await
    }

    /// Starts a standalone server, on which change streams do not work.
    ///
    /// # Errors
    ///
    /// As [`Mongod::start`].
    pub async fn start_standalone() -> anyhow::Result<Option<Self>> {
        Self::launch(false).await
    }

    async fn launch(replica_set: bool) -> anyhow::Result<Option<Self>> {
        let Some(program) = Needed::Mongod.find()? else { return Ok(None) };
        let home = tempfile::Builder::new().prefix("tailwater-mongod-").tempdir()?;
        let mut mongod = Self { program, port: free_port()?, home, replica_set, child: None };
        mongod.start_again().await?;
        Ok(Some(mongod))
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The connection string.
    pub fn uri(&self) -> String {
        let query = if self.replica_set { "?replicaSet=tw" } else { "" };
        format!("mongodb://127.0.0.1:{}/{query}", self.port)
    }

    /// A client of its own, patient enough for a restart of the server.
    ///
    /// # Errors
    ///
    /// When the options cannot be used.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    /// Kills the server at once (SIGKILL). Its data stays.
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

    /// Stops the process where it is (SIGSTOP), so that connections hang instead of breaking.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.child.as_mut().context("`mongod` does not run")?.signal(Signal::STOP)
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn go_on(&mut self) -> anyhow::Result<()> {
        self.child.as_mut().context("`mongod` does not run")?.signal(Signal::CONT)
    }

    /// Starts the killed server again on the same port and data, and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let data = folder(self.home.path(), "data")?;
        let mut arguments: Vec<String> = [
            "--bind_ip=127.0.0.1",
            "--nounixsocket",
            // A cache of 256 MB takes no document of 16 MB.
            "--wiredTigerCacheSizeGB=0.5",
            "--setParameter=diagnosticDataCollectionEnabled=false",
            "--setParameter=ttlMonitorEnabled=false",
        ]
        .map(String::from)
        .into();
        arguments.push(format!("--port={}", self.port));
        arguments.push(format!("--dbpath={}", data.display()));
        if self.replica_set {
            arguments.extend(["--replSet=tw".into(), "--oplogSize=990".into()]);
        }
        let log = self.home.path().join("mongod.log");
        let child = self.child.insert(Child::start(&self.program, &arguments, &log)?);

        let options = ClientOptions::builder()
            .hosts(vec![format!("127.0.0.1:{}", self.port).parse()?])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_millis(500))
            .build();
        let admin = Client::with_options(options)?.database("admin");
        let started = Instant::now();
        loop {
            if let Err(error) = child.expect_running() {
                bail!("{error:#}{}", missing_library(&child.output()));
            }
            if let Ok(hello) = admin.run_command(doc! { "hello": 1 }).await {
                if hello.get_bool("isWritablePrimary").unwrap_or_default() {
                    return Ok(());
                }
                if is_uninitiated(&hello) {
                    let member = doc! { "_id": 0, "host": format!("127.0.0.1:{}", self.port) };
                    let set = doc! { "_id": "tw", "members": [member] };
                    admin
                        .run_command(doc! { "replSetInitiate": set })
                        .await
                        .context("cannot make `mongod` a replica set")?;
                }
            }
            if started.elapsed() > START_DEADLINE {
                bail!("`mongod` takes no writes after {START_DEADLINE:?}:\n{}", child.tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn is_uninitiated(hello: &Document) -> bool {
    hello.get_bool("isreplicaset").unwrap_or_default()
}

/// The mend, when the loader says which shared library is missing.
fn missing_library(output: &str) -> &'static str {
    if output.contains("error while loading shared libraries") {
        "\nthis `mongod` needs OpenSSL 3 and libcurl 4 (Debian: libssl3, libcurl4); \
         or name another one in TAILWATER_MONGOD"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_server_comes_back_with_its_data() {
        let Some(mut mongod) = Mongod::start().await.unwrap() else { return };
        let things = mongod.client().await.unwrap().database("d").collection::<Document>("things");
        things.insert_one(doc! { "_id": 1 }).await.unwrap();
        mongod.kill().unwrap();
        mongod.start_again().await.unwrap();
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
    }
}
