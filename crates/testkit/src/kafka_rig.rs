//! The whole chain with a Kafka in the middle: servers, the truth, any number of processes of the
//! product, and the judges.
//!
//! ```text
//!   mongod ─▶ source ─▶ raw topics ─▶ normalize ─▶ normalized topic ─▶ sink ─▶ engine
//!      │         ×n          │           ×n                │            ×n        │
//!      └─▶ truth ─▶ judges ◀─┴─────────────────────────────┴──────────────────────┘
//! ```

mod member;
mod setup;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mongodb::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::checker::{self, Checker, Flow};
use crate::clickhouse::ClickHouse;
use crate::kafka::Cluster;
use crate::servers::{Engine, Kafka, Mongod, Needed, Proxy};
use crate::topics::{self, NormalizedJudge, RawJudge};
use crate::truth::{Event, Truth};

pub use member::{Member, Role};
pub use setup::{NORMALIZED, PIPELINE, RAW_CDC, Records, Setup};
pub use verdict::{Judged, Verdict};

/// Copies of markers in other topics may still be under way when all rows are there.
const COPIES_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(200);
/// How long the broker may take to list its topics.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole chain.
#[derive(Debug)]
pub struct KafkaRig {
    /// The processes of the product. First, so that they end before the servers do.
    pub members: Vec<Member>,
    /// Before ClickHouse: the product writes through it.
    pub proxy: Proxy,
    /// The ClickHouse.
    pub engine: Engine,
    /// The broker.
    pub kafka: Kafka,
    /// The MongoDB.
    pub mongod: Mongod,
    /// A client of the MongoDB.
    pub client: Client,
    /// A client of the broker.
    pub cluster: Cluster,
    /// The independent stream.
    pub truth: Truth,
    /// The judge of the tables.
    pub checker: Checker,
    /// What is configured.
    pub setup: Setup,
    binary: PathBuf,
    home: tempfile::TempDir,
}

impl KafkaRig {
    /// Starts the servers and the truth, and none of the product. `None`: a server is missing here,
    /// skip.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(binary: &Path, setup: Setup) -> anyhow::Result<Option<Self>> {
        for needed in [Needed::Mongod, Needed::Libchdb, Needed::Kafka] {
            if needed.find()?.is_none() {
                return Ok(None);
            }
        }
        let home = tempfile::Builder::new().prefix("tailwater-kafka-rig-").tempdir()?;
        let state = home.path().join("engine");
        let started =
            tokio::try_join!(Kafka::start(), Mongod::start(), Engine::start(binary, &state))?;
        let (Some(kafka), Some(mongod), Some(engine)) = started else { return Ok(None) };
        let proxy = Proxy::start(engine.address()).await?;
        let client = mongod.client().await?;
        let truth = Truth::start(&client).await?;
        let cluster = Cluster::at(&kafka.bootstrap());
        setup.write(home.path(), &mongod.uri(), &kafka.bootstrap(), proxy.address())?;
        let checker = Checker {
            mongodb: client.clone(),
            clickhouse: ClickHouse::new(&format!("http://{}", engine.address()), "default"),
            watch: setup.watch.clone(),
            flow: Flow::Topics {
                topics: setup.topics(),
                mapped: setup.records != Records::AsTheyAre,
            },
        };
        let (binary, members) = (binary.to_owned(), Vec::new());
        Ok(Some(Self {
            members,
            proxy,
            engine,
            kafka,
            mongod,
            client,
            cluster,
            truth,
            checker,
            setup,
            binary,
            home,
        }))
    }

    /// Starts one more process of the product, with a log of its own.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add(&mut self, role: Role) -> anyhow::Result<&mut Member> {
        let number = self.members.iter().filter(|member| member.role == role).count() + 1;
        let name = format!("{}-{number}", role.name());
        let config = self.home.path().join(setup::FILE);
        let log = self.home.path().join(format!("{name}.log"));
        let mut member = Member::new(role, name, &self.binary, &config, log)?;
        member.start()?;
        self.members.push(member);
        self.members.last_mut().context("it was just put there")
    }

    /// Fails if a process has ended by itself.
    ///
    /// # Errors
    ///
    /// When one has, with the end of its log.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Member::expect_running)
    }

    /// Waits until everything that was written has arrived, and judges all of it. Nothing may be
    /// written meanwhile.
    ///
    /// # Errors
    ///
    /// When a server does not answer, or a process has ended.
    pub async fn judge(&mut self) -> anyhow::Result<Verdict> {
        let events = self.truth.up_to_now().await?;
        let tables = self.tables(events.clone()).await?;
        let ledger = match self.setup.raw_cdc {
            true => {
                let topics = self.setup.topics();
                let (count, findings) =
                    self.checker.ledger(RAW_CDC, &topics, events.clone()).await?;
                Some(Judged { count, findings })
            }
            false => None,
        };
        let watched = self.checker.watched(events);
        let raw = self.raw(&watched).await?;
        let normalized = match self.setup.records {
            Records::Topic => Some(self.normalized(&watched).await?),
            Records::AsTheyAre | Records::Inline => None,
        };
        let dead = self.dead().await?;
        Ok(Verdict { tables, raw, normalized, ledger, dead })
    }

    /// Judges the tables, once they have caught up.
    async fn tables(&mut self, events: Vec<Event>) -> anyhow::Result<checker::Verdict> {
        let checker = self.checker.clone();
        let judged = checker.check(events);
        tokio::pin!(judged);
        loop {
            tokio::select! {
                verdict = &mut judged => return verdict,
                () = tokio::time::sleep(LOOK) => self.expect_running()?,
            }
        }
    }

    /// Judges the raw topics.
    async fn raw(&self, events: &[Event]) -> anyhow::Result<Judged> {
        let started = Instant::now();
        let expected = self.setup.topics();
        loop {
            let mut judge = RawJudge::new(&expected, &self.setup.watch, events);
            for topic in self.topics().await?.iter().filter(|topic| topics::is_raw(topic)) {
                let mut records = self.cluster.stream_committed(topic);
                while let Some(record) = records.recv().await {
                    judge.record(topic, &record?);
                }
            }
            let (count, findings) = judge.finish();
            if findings.is_empty() || started.elapsed() > COPIES_DEADLINE {
                return Ok(Judged { count, findings });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Judges the normalized topic.
    async fn normalized(&self, events: &[Event]) -> anyhow::Result<Judged> {
        let expected = self.setup.topics();
        let mut judge =
            NormalizedJudge::new(NORMALIZED, &expected, true, &self.setup.watch, events);
        let mut records = self.cluster.stream_committed(NORMALIZED);
        while let Some(record) = records.recv().await {
            judge.record(&record?);
        }
        let (count, findings) = judge.finish();
        Ok(Judged { count, findings })
    }

    /// Counts what nobody should have made: dead letters and gaps.
    async fn dead(&self) -> anyhow::Result<u64> {
        #[derive(serde::Deserialize)]
        struct Count {
            rows: u64,
        }
        let sql = "SELECT (SELECT count() FROM tailwater_dead_letters) \
                   + (SELECT count() FROM tailwater_gaps) AS rows";
        let mut dead = self.checker.clickhouse.one::<Count>(sql).await?.rows;
        for topic in self.topics().await?.iter().filter(|topic| *topic == setup::DEAD_LETTER) {
            dead += u64::try_from(self.cluster.read_committed(topic).await?.len())?;
        }
        Ok(dead)
    }

    /// The names of all topics.
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn topics(&self) -> anyhow::Result<Vec<String>> {
        let config = self.cluster.config();
        let list = move || {
            let consumer: BaseConsumer = config.create()?;
            let metadata = consumer.fetch_metadata(None, PATIENCE)?;
            let mut names: Vec<String> =
                metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
            names.sort_unstable();
            anyhow::Ok(names)
        };
        tokio::task::spawn_blocking(list).await?.context("cannot list the topics")
    }

    /// Ends all processes in order.
    ///
    /// # Errors
    ///
    /// When one does not end with 0.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.stop().await?;
        }
        Ok(())
    }

    /// The end of every log.
    pub fn log_tails(&self) -> String {
        let tail = |member: &Member| format!("== {}\n{}\n", member.name, member.log_tail());
        self.members.iter().map(tail).collect()
    }

    /// Everything that the processes of a role have logged.
    pub fn logs(&self, role: Role) -> String {
        self.members.iter().filter(|member| member.role == role).map(Member::log).collect()
    }

    /// Keeps the logs for a look after a failure, and tells where they are.
    pub fn keep(self) -> PathBuf {
        if let Err(error) = self.kafka.keep_log(self.home.path()) {
            tracing::warn!(error = format!("{error:#}"), "the broker's log is not kept");
        }
        self.home.keep()
    }
}
