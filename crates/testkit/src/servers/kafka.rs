//! A real Kafka broker: one node that is broker and controller, its data in a temporary folder.
//!
//! It waits for nothing that a test would have to wait out: groups balance at once, sessions and
//! open transactions of the dead end within seconds. Without a log of its own disk it loses nothing
//! when it is killed, since the kernel keeps what was written.

mod java;
mod properties;
mod secured;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::child::Child;
use super::lasting::remove_in_the_end;
use super::resident::Resident;
use super::{Needed, START_DEADLINE, folder};
use java::Java;
use properties::Ports;
pub use secured::Secured;

/// The broker's class, after which its log is named.
const BROKER: &str = "kafka.Kafka";
/// Between two looks at the broker.
const LOOK: Duration = Duration::from_millis(50);

/// What a broker has beside one open listener.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether there are listeners with TLS and sign-in too: see [`Secured`].
    pub secured: bool,
    /// Whether rights are checked. On the open listener nobody is asked for any; whoever signs in
    /// has none but what [`Kafka::allow`] gives.
    pub authorized: bool,
    /// The port of the open listener, where it has to be known before.
    pub open: Option<u16>,
    /// Lines of `server.properties`; they win over what the rig says.
    pub properties: Vec<(&'static str, String)>,
}

/// A broker on free loopback ports.
#[derive(Debug)]
pub struct Kafka {
    child: Option<Child>,
    java: Java,
    ports: Ports,
    secured: Option<Secured>,
    home: tempfile::TempDir,
}

impl Kafka {
    /// Who may sign in by password.
    pub const USER: &'static str = "tailwater";
    /// The password.
    pub const PASSWORD: &'static str = "tailwater-secret";

    /// Starts a broker with one open listener and waits until it answers. `None`: no Kafka here,
    /// skip.
    ///
    /// # Errors
    ///
    /// When Kafka is missing under `CI`, or does not come up.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        Self::start_with(&Options::default()).await
    }

    /// The broker that all tests of this process share, each with topics and groups of its own.
    ///
    /// # Errors
    ///
    /// As [`Kafka::start`].
    pub async fn shared() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();
        let start = || Self::start_for_all(Options::default());
        Ok(SHARED.get_or_try_init(start).await?.as_ref())
    }

    /// The broker with [`Options::secured`] and [`Options::authorized`] that all tests of this process
    /// share. Where a sign-in has an end, it is over then unless it was renewed.
    ///
    /// # Errors
    ///
    /// As [`Kafka::start`].
    pub async fn shared_secured() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();
        let properties = vec![
            ("connections.max.reauth.ms", "3600000".to_owned()),
            // Who is refused need not wait for the answer.
            ("connection.failed.authentication.delay.ms", "0".to_owned()),
        ];
        let options = Options { secured: true, authorized: true, properties, ..Options::default() };
        let start = || Self::start_for_all(options.clone());
        Ok(SHARED.get_or_try_init(start).await?.as_ref())
    }

    /// One that ends with this process, and whose folder goes then.
    async fn start_for_all(options: Options) -> anyhow::Result<Option<Self>> {
        let kafka = Self::start_with(&options).await?;
        if let Some(kafka) = &kafka {
            remove_in_the_end(kafka.home.path())?;
        }
        Ok(kafka)
    }

    /// As [`Kafka::start`], with more than that.
    ///
    /// # Errors
    ///
    /// As [`Kafka::start`].
    pub async fn start_with(options: &Options) -> anyhow::Result<Option<Self>> {
        let Some(libs) = Needed::Kafka.find()? else { return Ok(None) };
        let java = Java::over(libs);
        let format = formatted(&java).await?;
        Ok(Some(Self::launch(java, format, options).await?))
    }

    /// Lets a broker write down the classes that it loads, from which later ones start in half the
    /// time; does nothing where that is done.
    ///
    /// # Errors
    ///
    /// When Kafka is missing under `CI`, or does not come up.
    pub async fn prepare() -> anyhow::Result<()> {
        let Some(libs) = Needed::Kafka.find()? else { return Ok(()) };
        let archive = java::archive(&libs);
        if archive.is_file() {
            return Ok(());
        }
        let aside = archive.with_extension(format!("{}.tmp", std::process::id()));
        let java = Java::over(libs);
        let format = formatted(&java).await?;
        let mut kafka = Self::launch(java.archiving(&aside), format, &Options::default()).await?;
        let child = kafka.child.as_mut().context("the broker does not run")?;
        child.signal(Signal::TERM)?;
        child.wait(START_DEADLINE).await?;
        std::fs::rename(&aside, &archive)
            .with_context(|| format!("no archive of classes:\n{}", child.tail()))
    }

    async fn launch(java: Java, format: &[File], options: &Options) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("tailwater-kafka-").tempdir()?;
        let ports = Ports::free(options)?;
        let secured = match ports.secured {
            Some(ports) => Some(secured::make(home.path(), ports)?),
            None => None,
        };
        let text = properties::server(home.path(), &ports, options);
        std::fs::write(home.path().join(properties::FILE), text)?;
        let data = folder(home.path(), properties::DATA)?;
        for (name, bytes) in format {
            std::fs::write(data.join(name), bytes)?;
        }
        let mut kafka = Self { child: None, java, ports, secured, home };
        kafka.start_again().await?;
        Ok(kafka)
    }

    /// The address of the open listener.
    pub fn bootstrap(&self) -> String {
        address(self.ports.open)
    }

    /// The listeners with sign-in.
    ///
    /// # Errors
    ///
    /// When it was started without them.
    pub fn secured(&self) -> anyhow::Result<&Secured> {
        self.secured.as_ref().context("this broker was not started with `secured`")
    }

    /// Gives a right, such as `allow("User:tailwater", &["--operation", "Read", "--topic", "t"])`:
    /// the arguments are those of `kafka-acls.sh --add`.
    ///
    /// # Errors
    ///
    /// When the tool fails.
    pub async fn allow(&self, principal: &str, right: &[&str]) -> anyhow::Result<()> {
        let bootstrap = self.bootstrap();
        let add = ["--bootstrap-server", &bootstrap, "--add", "--allow-principal", principal];
        let arguments = [&add, right].concat();
        self.java.run("org.apache.kafka.tools.AclCommand", &arguments, self.home.path()).await
    }

    /// Kills the broker at once (SIGKILL). Its data stays.
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
        self.child.as_mut().context("the broker does not run")?.signal(Signal::STOP)
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled.
    pub fn go_on(&mut self) -> anyhow::Result<()> {
        self.child.as_mut().context("the broker does not run")?.signal(Signal::CONT)
    }

    /// Starts a killed broker again on the same ports and data, and waits until it answers. The
    /// session of its former life has to run out first, which takes some seconds.
    ///
    /// # Errors
    ///
    /// When it ends or does not answer in time.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        if self.child.is_none() {
            let file = self.home.path().join(properties::FILE).display().to_string();
            let child = self.java.start(BROKER, &[&file], self.home.path())?;
            self.child = Some(child);
        }
        self.wait_ready().await
    }

    /// Waits until all listeners take connections and the broker knows itself.
    ///
    /// # Errors
    ///
    /// When it ends or does not answer in time.
    pub async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("reconnect.backoff.max.ms", "100")
            .create()?;
        let mut look = tokio::task::spawn_blocking(move || {
            while started.elapsed() < START_DEADLINE {
                let metadata = consumer.fetch_metadata(None, Duration::from_secs(1));
                if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                    return true;
                }
            }
            false
        });
        let child = self.child.as_mut().context("the broker does not run")?;
        let answers = loop {
            tokio::select! {
                answers = &mut look => break answers?,
                () = tokio::time::sleep(LOOK) => child.expect_running()?,
            }
        };
        let mut waiting = self.ports.clients();
        while answers && started.elapsed() < START_DEADLINE {
            let Some(port) = waiting.last() else { return Ok(()) };
            if TcpStream::connect(("127.0.0.1", *port)).await.is_ok() {
                waiting.pop();
            } else {
                child.expect_running()?;
                tokio::time::sleep(LOOK).await;
            }
        }
        bail!("the broker does not answer after {START_DEADLINE:?}:\n{}", child.tail())
    }

    /// Copies what the broker has logged into a folder.
    ///
    /// # Errors
    ///
    /// When it cannot be copied.
    pub fn keep_log(&self, folder: &Path) -> anyhow::Result<()> {
        let name = format!("{BROKER}.log");
        std::fs::copy(self.home.path().join(&name), folder.join(&name))?;
        Ok(())
    }

    /// What the broker holds in memory.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resident(&self) -> anyhow::Result<Resident> {
        Resident::of(self.child.as_ref().context("the broker does not run")?.id())
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A file's name and what is in it.
type File = (OsString, Vec<u8>);

/// The files of a formatted data folder, which hold the versions of all features and the users'
/// passwords. They fit every broker of the rig, and formatting is a Java of its own: so one is
/// enough for all brokers of a process.
async fn formatted(java: &Java) -> anyhow::Result<&'static [File]> {
    static FILES: OnceCell<Vec<File>> = OnceCell::const_new();
    let format = async || {
        let home = tempfile::Builder::new().prefix("tailwater-kafka-format-").tempdir()?;
        let options = Options::default();
        let text = properties::server(home.path(), &Ports::free(&options)?, &options);
        let file = home.path().join(properties::FILE);
        std::fs::write(&file, text)?;
        let file = file.display().to_string();
        let user =
            |mechanism| format!("{mechanism}=[name={},password={}]", Kafka::USER, Kafka::PASSWORD);
        let users = [user("SCRAM-SHA-256"), user("SCRAM-SHA-512")];
        let arguments = [
            "format",
            "--cluster-id",
            properties::CLUSTER,
            "--config",
            &file,
            "--add-scram",
            &users[0],
            "--add-scram",
            &users[1],
        ];
        java.run("kafka.tools.StorageTool", &arguments, home.path()).await?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(home.path().join(properties::DATA))? {
            let entry = entry?;
            files.push((entry.file_name(), std::fs::read(entry.path())?));
        }
        anyhow::Ok(files)
    };
    FILES.get_or_try_init(format).await.map(Vec::as_slice)
}

#[cfg(test)]
mod tests;
