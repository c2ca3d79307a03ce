//! What is configured: the config file of the rig's processes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::mapped;
use crate::rig::INSERT_DEADLINE;
use crate::topics::Topics;
use crate::watch::Watch;

/// The config file's name in the rig's folder.
pub(super) const FILE: &str = "tailwater.yaml";
/// The mapping's.
const MAPPING: &str = "mapping.yaml";
/// The pipeline, before the names of its groups and of its topic of checkpoints.
pub const PIPELINE: &str = "rig";
/// The topic of normalized events.
pub const NORMALIZED: &str = "events.normalized.record";
/// The topic of dead letters.
pub(super) const DEAD_LETTER: &str = "events.dead_letter";
/// The ledger's table, where there is one.
pub const RAW_CDC: &str = "raw_cdc";
/// Of every topic, where nothing else is said.
const PARTITIONS: u32 = 4;

/// What the rows of `record_raw` are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Records {
    /// Events as they are: no mapping.
    AsTheyAre,
    /// What the mapping makes of them in the sink.
    Inline,
    /// What `normalize` has written.
    Topic,
}

/// What is configured.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What is watched.
    pub watch: Watch,
    /// What rows are made of.
    pub records: Records,
    /// Whether there is a ledger.
    pub raw_cdc: bool,
    /// A member that is killed is missed after so long, in milliseconds; `None`: as usual.
    pub session_ms: Option<u32>,
    /// How many partitions topics get.
    pub partitions: u32,
    /// The largest record of new topics; larger events go in chunks.
    pub max_message_bytes: Option<u64>,
    /// `clickhouse.batch.max_wait_ms`.
    pub max_wait_ms: Option<u64>,
    /// `limits.memory_bytes`.
    pub memory_bytes: Option<u64>,
}

impl Setup {
    /// As it comes, with this being watched.
    pub const fn new(watch: Watch) -> Self {
        Self {
            watch,
            records: Records::AsTheyAre,
            raw_cdc: false,
            session_ms: None,
            partitions: PARTITIONS,
            max_message_bytes: None,
            max_wait_ms: None,
            memory_bytes: None,
        }
    }

    /// What the topics are like.
    pub fn topics(&self) -> Topics {
        let normalized = (self.records == Records::Topic).then(|| NORMALIZED.to_owned());
        Topics { partitions: self.partitions, normalized }
    }

    /// Writes the files.
    pub(super) fn write(
        &self,
        home: &Path,
        mongodb: &str,
        kafka: &str,
        clickhouse: SocketAddr,
    ) -> anyhow::Result<()> {
        let mapping = home.join(MAPPING);
        std::fs::write(&mapping, mapped::FILE)?;
        std::fs::write(home.join(FILE), self.text(&mapping, mongodb, kafka, clickhouse)?)?;
        Ok(())
    }

    fn text(
        &self,
        mapping: &Path,
        mongodb: &str,
        kafka: &str,
        clickhouse: SocketAddr,
    ) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        writeln!(text, "version: 1\npipeline: {PIPELINE}")?;
        writeln!(text, "mongodb: {{ uri: \"{mongodb}\", {} }}", watched(&self.watch))?;
        writeln!(text, "kafka:\n  bootstrap_servers: \"{kafka}\"")?;
        write!(text, "  topics: {{ partitions: {}, replication_factor: 1", self.partitions)?;
        if let Some(bytes) = self.max_message_bytes {
            write!(text, ", max_message_bytes: {bytes}")?;
        }
        writeln!(text, " }}")?;
        if let Some(millis) = self.session_ms {
            writeln!(text, "  properties:\n    session.timeout.ms: {millis}")?;
            writeln!(text, "    heartbeat.interval.ms: {}", millis / 5)?;
        }
        let output = match self.records {
            Records::AsTheyAre => None,
            Records::Inline => Some("inline"),
            Records::Topic => Some("topic"),
        };
        if let Some(output) = output {
            let mapping = mapping.display();
            writeln!(text, "normalizer: {{ mapping: \"{mapping}\", output: {output} }}")?;
        }
        writeln!(text, "clickhouse:\n  url: \"http://{clickhouse}\"")?;
        writeln!(text, "  insert_deadline_s: {}", INSERT_DEADLINE.as_secs())?;
        if self.raw_cdc {
            writeln!(text, "  tables: {{ raw_cdc: {RAW_CDC} }}")?;
        }
        if let Some(millis) = self.max_wait_ms {
            writeln!(text, "  batch: {{ max_wait_ms: {millis} }}")?;
        }
        if let Some(bytes) = self.memory_bytes {
            writeln!(text, "limits: {{ memory_bytes: {bytes} }}")?;
        }
        Ok(text)
    }
}

/// What is watched, as a key of the section `mongodb`.
fn watched(watch: &Watch) -> String {
    let list = |names: &[String]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    match watch {
        Watch::Collections(names) => format!("collections: {}", list(names)),
        Watch::Databases(names) => format!("databases: {}", list(names)),
        Watch::Deployment => "deployment: true".into(),
    }
}
