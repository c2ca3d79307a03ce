//! A real `mongod` as a replica set of one, or several as a larger one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use rustix::process::Signal;
use tokio::sync::OnceCell;

use super::child::Child;
use super::lasting::remove_in_the_end;
use super::{Needed, START_DEADLINE, folder, free_port};

/// The oplog of a server that forgets nothing within a test.
const OPLOG: &[&str] = &["--oplogSize=990"];
/// Between two looks at a server.
const LOOK: Duration = Duration::from_millis(50);

/// A replica set on free loopback ports, most often of one member, with its data in a temporary
/// folder.
#[derive(Debug)]
pub struct Mongod {
    program: PathBuf,
    home: tempfile::TempDir,
    /// The arguments for its oplog, if it was started as a replica set.
    replica_set: Option<&'static [&'static str]>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    port: u16,
    child: Option<Child>,
}

impl Mongod {
    /// Starts a replica set of one and waits until it takes writes. `None`: no server here, skip.
    ///
    /// # Errors
    ///
    /// When the server is missing under `CI`, or does not come up.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        Self::launch(Some(OPLOG), 1).await
    }

    /// The replica set of one that all tests of this process share, each with databases of its own.
    ///
    /// # Errors
    ///
    /// As [`Mongod::start`].
    pub async fn shared() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: OnceCell<Option<Mongod>> = OnceCell::const_new();
        let start = async || {
            let mongod = Self::start().await?;
            if let Some(mongod) = &mongod {
                remove_in_the_end(mongod.home.path())?;
            }
            anyhow::Ok(mongod)
        };
        Ok(SHARED.get_or_try_init(start).await?.as_ref())
    }

    /// Starts a replica set of one whose oplog holds a megabyte and forgets what is older at once.
    ///
    /// # Errors
    ///
    /// As [`Mongod::start`].
    pub async fn start_forgetful() -> anyhow::Result<Option<Self>> {
        // What is not in a checkpoint yet stays in the oplog, whatever its size.
        Self::launch(Some(&["--oplogSize=1", "--syncdelay=1"]), 1).await
    }

    /// Starts a replica set of three.
    ///
    /// # Errors
    ///
    /// As [`Mongod::start`].
    pub async fn start_three() -> anyhow::Result<Option<Self>> {
        Self::launch(Some(OPLOG), 3).await
    }

    /// Starts a standalone server, on which change streams do not work.
    ///
    /// # Errors
    ///
    /// As [`Mongod::start`].
    pub async fn start_standalone() -> anyhow::Result<Option<Self>> {
        Self::launch(None, 1).await
    }

    async fn launch(
        replica_set: Option<&'static [&'static str]>,
        members: usize,
    ) -> anyhow::Result<Option<Self>> {
        let Some(program) = Needed::Mongod.find()? else { return Ok(None) };
        let home = tempfile::Builder::new().prefix("tailwater-mongod-").tempdir()?;
        let member = |_| anyhow::Ok(Member { port: free_port()?, child: None });
        let members = (0..members).map(member).collect::<Result<_, _>>()?;
        let mut mongod = Self { program, home, replica_set, members };
        mongod.start_again().await?;
        Ok(Some(mongod))
    }

    /// The port on 127.0.0.1, of the first member.
    pub fn port(&self) -> u16 {
        self.members[0].port
    }

    /// The connection string; several members acknowledge what a majority has.
    pub fn uri(&self) -> String {
        let query = match (self.replica_set, self.members.len()) {
            (None, _) => "",
            (Some(_), 1) => "?replicaSet=tw",
            (Some(_), _) => "?replicaSet=tw&w=majority",
        };
        let hosts: Vec<String> = self.members.iter().map(Member::host).collect();
        format!("mongodb://{}/{query}", hosts.join(","))
    }

    /// A client of its own, patient enough for a restart of the server.
    ///
    /// # Errors
    ///
    /// When the options cannot be used.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    /// Kills the server at once (SIGKILL), all of its members. Its data stays.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Member::kill)
    }

    /// Kills the member that is the primary now.
    ///
    /// # Errors
    ///
    /// When there is none, or the process cannot be signalled.
    pub async fn kill_primary(&mut self) -> anyhow::Result<()> {
        let primary = self.primary().await?;
        self.members[primary].kill()
    }

    /// Asks the primary to become a secondary; returns when another member is the primary.
    ///
    /// # Errors
    ///
    /// When there is none, or no other member takes its place.
    pub async fn step_down(&self) -> anyhow::Result<()> {
        let primary = self.primary().await?;
        // By force: of the others one may be starting, and one may have stepped down just now.
        let order = doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5, "force": true };
        self.members[primary].admin()?.run_command(order).await.context("cannot step down")?;
        let started = Instant::now();
        while !self.primary().await.is_ok_and(|now| now != primary) {
            if started.elapsed() > START_DEADLINE {
                bail!("no new primary after {START_DEADLINE:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The number of the member that takes writes.
    async fn primary(&self) -> anyhow::Result<usize> {
        for (number, member) in self.members.iter().enumerate() {
            if member.child.is_some() && member.role().await == Some(Role::Primary) {
                return Ok(number);
            }
        }
        bail!("no member takes writes")
    }

    /// Stops the processes where they are (SIGSTOP), so that connections hang instead of breaking.
    ///
    /// # Errors
    ///
    /// When a process cannot be signalled.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(|member| member.signal(Signal::STOP))
    }

    /// Lets paused processes go on.
    ///
    /// # Errors
    ///
    /// When a process cannot be signalled.
    pub fn go_on(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(|member| member.signal(Signal::CONT))
    }

    /// Starts killed members again on the same ports and data, and waits until one takes writes and
    /// the others follow it.
    ///
    /// # Errors
    ///
    /// When one ends or is not ready in time.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let hosts: Vec<String> = self.members.iter().map(Member::host).collect();
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.child.is_none() {
                let data = folder(self.home.path(), &format!("data-{number}"))?;
                let log = self.home.path().join(format!("mongod-{number}.log"));
                let mut arguments = arguments(member.port, &data);
                if let Some(oplog) = self.replica_set {
                    arguments.push("--replSet=tw".into());
                    arguments.extend(oplog.iter().map(|argument| (*argument).into()));
                }
                member.child = Some(Child::start(&self.program, &arguments, &log)?);
            }
        }
        let started = Instant::now();
        loop {
            let mut roles = Vec::new();
            for member in &mut self.members {
                let child = member.child.as_mut().context("`mongod` does not run")?;
                if let Err(error) = child.expect_running() {
                    bail!("{error:#}{}", missing_library(&child.output()));
                }
                roles.push(member.role().await);
            }
            let ready = |role: &Option<Role>| matches!(role, Some(Role::Primary | Role::Secondary));
            if roles.contains(&Some(Role::Primary)) && roles.iter().all(ready) {
                return Ok(());
            }
            if roles.iter().all(|role| *role == Some(Role::None)) {
                let members = (0..).zip(&hosts).map(|(id, host)| doc! { "_id": id, "host": host });
                let members: Vec<Document> = members.collect();
                let settings = doc! { "electionTimeoutMillis": 2000 };
                let set = doc! { "_id": "tw", "members": members, "settings": settings };
                self.members[0]
                    .admin()?
                    .run_command(doc! { "replSetInitiate": set })
                    .await
                    .context("cannot make `mongod` a replica set")?;
            }
            if started.elapsed() > START_DEADLINE {
                bail!("`mongod` takes no writes after {START_DEADLINE:?}: {roles:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What a member is in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Primary,
    Secondary,
    /// It waits to be made a member.
    None,
    /// It starts, or elects.
    Other,
}

impl Member {
    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill(),
            None => Ok(()),
        }
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.child.as_mut().context("`mongod` does not run")?.signal(signal)
    }

    /// The database `admin` of this very member.
    fn admin(&self) -> anyhow::Result<Database> {
        let options = ClientOptions::builder()
            .hosts(vec![self.host().parse()?])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_millis(500))
            .build();
        Ok(Client::with_options(options)?.database("admin"))
    }

    /// `None`: it does not answer.
    async fn role(&self) -> Option<Role> {
        let hello = self.admin().ok()?.run_command(doc! { "hello": 1 }).await.ok()?;
        let says = |what| hello.get_bool(what).unwrap_or_default();
        Some(match () {
            () if says("isWritablePrimary") => Role::Primary,
            () if says("secondary") => Role::Secondary,
            () if says("isreplicaset") => Role::None,
            () => Role::Other,
        })
    }
}

fn arguments(port: u16, data: &Path) -> Vec<String> {
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
    arguments.push(format!("--port={port}"));
    arguments.push(format!("--dbpath={}", data.display()));
    arguments
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

    #[tokio::test(flavor = "multi_thread")]
    async fn of_three_members_one_takes_the_place_of_another() {
        let Some(mut mongod) = Mongod::start_three().await.unwrap() else { return };
        let things = mongod.client().await.unwrap().database("d").collection::<Document>("things");
        things.insert_one(doc! { "_id": 1 }).await.unwrap();
        mongod.step_down().await.unwrap();
        mongod.kill_primary().await.unwrap();
        things.insert_one(doc! { "_id": 2 }).await.unwrap();
        mongod.start_again().await.unwrap();
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 2);
    }
}
