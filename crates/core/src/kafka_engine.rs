//! KafkaEngine: ClickHouse reads topics by itself, the guide's "Option A": a table of the Kafka engine
//! and views behind it, instead of the sink.
//!
//! ```text
//!   topics ─▶ <records>_kafka ─▶ …_feed ─▶ <records>_kafka_messages ─┬─▶ …_rows ────▶ <records>
//!             (Kafka)            (reads)   (Null: keeps nothing)     └─▶ …_letters ─▶ dead letters
//! ```
//!
//! The feed is made last and dropped first: while it is there messages are consumed, and each of them
//! must find both other views. None of the views may fail on any message, or the engine would read its
//! block again for ever, with the rows of the other view each time.
//!
//! It never promises exactly-once: `docs/option-a.md`.

mod feed;
mod normalized;
mod raw;
mod settings;

use twox_hash::XxHash64;

use crate::config::{
    Compat, Config, Kafka, Output, PasswordMechanism, Publish, Sasl, SecurityProtocol, Target,
};
use crate::message::Format;
use crate::plan::Statement;
use crate::scope::Scope;
use crate::sql::{identifier, literal};
use crate::table::{DEAD_LETTER_COLUMNS, RECORD_COLUMNS, TableName};
use crate::{Error, ErrorKind, Result};

/// What the engine reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    /// Events after the mapping.
    Normalized(String),
    /// Change events in `format: json`.
    Raw(Vec<String>),
}

/// A table or a view.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its name.
    pub name: TableName,
    /// What people call it.
    pub kind: &'static str,
    /// Its comment: whose it is, and by which statement it was made.
    pub comment: String,
    /// What makes it.
    pub create: Statement,
}

impl Object {
    /// What drops it.
    pub fn drop(database: &str, name: &TableName) -> Statement {
        let (database, name) = (identifier(database), identifier(name.as_str()));
        Statement::plain(format!("DROP TABLE IF EXISTS {database}.{name} SYNC"))
    }

    /// What drops a view, and never a table.
    pub fn drop_view(database: &str, name: &TableName) -> Statement {
        let (database, name) = (identifier(database), identifier(name.as_str()));
        Statement::plain(format!("DROP VIEW IF EXISTS {database}.{name} SYNC"))
    }
}

/// The tables and views by which ClickHouse reads topics itself.
#[derive(Debug, Clone)]
pub struct KafkaEngine {
    /// In the order in which they are made. They are dropped the other way round.
    pub objects: Vec<Object>,
    /// The topics that are read.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// What the server's own configuration must have, and what is not read.
    pub notes: Vec<String>,
}

/// Begins the comments of all objects of a pipeline.
pub fn comment_of(pipeline: &str) -> String {
    format!("tailwater: pipeline `{pipeline}`, kafka engine ")
}

/// The names of all objects beside an event table, in the order in which they are made.
pub fn names(records: &TableName) -> [TableName; 5] {
    ["kafka", "kafka_messages", "kafka_rows", "kafka_letters", "kafka_feed"]
        .map(|suffix| TableName::new(format!("{records}_{suffix}")))
}

impl KafkaEngine {
    /// What a config asks for, in a database whose tables of events and of dead letters are there.
    ///
    /// # Errors
    /// `Config` where a section is missing, or the engine cannot read what the topics hold.
    pub fn of(config: &Config, database: &str, dead_letters: &TableName) -> Result<Self> {
        let kafka = config.require_kafka()?;
        let clickhouse = config.require_clickhouse()?;
        let records = &clickhouse.tables.records;
        expect_client(kafka, &clickhouse.target)?;
        let mut notes = Vec::new();
        let input = input(config, &mut notes)?;
        let topics = match &input {
            Input::Normalized(topic) => vec![topic.clone()],
            Input::Raw(topics) => topics.clone(),
        };
        let group = format!("{}.clickhouse", config.pipeline);
        let settings = settings::of(kafka, &topics, &group, clickhouse.batch, &mut notes)?;
        let [source, messages, rows, letters, feed] = names(records);
        let in_database =
            |name: &TableName| format!("{}.{}", identifier(database), identifier(name.as_str()));
        let view = |view: &TableName, to: &TableName, select: &str| {
            let (view, to) = (in_database(view), in_database(to));
            format!("CREATE MATERIALIZED VIEW {view} TO {to} AS\n{select}")
        };
        let select = match &input {
            Input::Normalized(_) => normalized::select(&in_database(&source)),
            Input::Raw(_) => raw::select(&in_database(&source)),
        };
        let source_table = settings::create(&in_database(&source), &settings);
        let statements = [
            (source, "Kafka engine table", source_table),
            (messages.clone(), "table", Statement::plain(feed::create(&in_database(&messages)))),
            (
                rows.clone(),
                "view",
                Statement::plain(view(&rows, records, &of_rows(&in_database(&messages)))),
            ),
            (
                letters.clone(),
                "view",
                Statement::plain(view(
                    &letters,
                    dead_letters,
                    &of_letters(&in_database(&messages)),
                )),
            ),
            (feed.clone(), "view", Statement::plain(view(&feed, &messages, &select))),
        ];
        let objects = statements.map(|(name, kind, create)| {
            let hash = XxHash64::oneshot(0, create.shown().as_bytes());
            let comment = format!("{}{hash:016x}", comment_of(&config.pipeline));
            let create = create.followed_by(&format!("\nCOMMENT {}", literal(&comment)));
            Object { name, kind, comment, create }
        });
        Ok(Self { objects: objects.into(), topics, group, notes })
    }
}

/// The Kafka client of the embedded engine is built without OpenSSL. It says so to nobody but
/// `system.kafka_consumers`, and reads nothing (seen with 26.7: "No provider for SASL mechanism
/// SCRAM-SHA-512 … Current build options: PLAIN").
fn expect_client(kafka: &Kafka, target: &Target) -> Result<()> {
    let is_tls =
        matches!(kafka.security_protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl);
    let is_plain =
        |sasl: &Sasl| matches!(sasl, Sasl::Password { mechanism: PasswordMechanism::Plain, .. });
    let is_fit = !is_tls && kafka.sasl.as_ref().is_none_or(is_plain);
    if is_fit || matches!(target, Target::Server(_)) {
        return Ok(());
    }
    let what =
        "the Kafka client of the embedded engine has no TLS, and no way to sign in but PLAIN";
    Err(Error::new(ErrorKind::Config, what)
        .with_hint("let a ClickHouse server read the topics, or the sink"))
}

/// What there is to read, as far as the engine can.
fn input(config: &Config, notes: &mut Vec<String>) -> Result<Input> {
    let kafka = config.require_kafka()?;
    let cannot = |what: &str, mend: &str| {
        Err(Error::new(ErrorKind::Config, format!("the Kafka engine cannot read this: {what}"))
            .with_hint(format!("{mend}, or let the sink read it")))
    };
    match &config.normalizer {
        Some(normalizer) if normalizer.output == Output::Topic => {
            return Ok(Input::Normalized(kafka.topics.normalized.to_string()));
        }
        Some(_) => {
            let what = "the mapping is applied in the sink, and there is none";
            return cannot(what, "write `output: topic` in `normalizer`");
        }
        None => {}
    }
    if kafka.compat != Compat::None {
        return cannot("messages of `compat` have no headers", "remove `compat`");
    }
    if kafka.publish != Publish::ChangeEvent {
        return cannot("documents without their change events", "write `publish: change_event`");
    }
    if kafka.format != Format::Json {
        return cannot("raw topics that are not in `format: json`", "write `format: json`");
    }
    let topics = match (&kafka.topics.read, &config.mongodb) {
        (Some(read), _) if read.iter().all(|topic| !topic.starts_with('^')) => read.clone(),
        (Some(_), _) => return cannot("topics by a regex", "name each topic in `topics.read`"),
        (None, Some(mongodb)) => {
            let mut topics = Vec::new();
            for scope in &mongodb.scopes {
                let Scope::Collection { db, coll } = scope else {
                    return cannot("topics that are not known by name", "name each collection");
                };
                topics.extend(kafka.topics.raw.topic(db, coll).map(|topic| topic.to_string()));
            }
            let of_databases = "events of whole databases, such as `dropDatabase`, are not read";
            notes.push(of_databases.to_owned());
            topics
        }
        (None, None) => return cannot("nothing names its topics", "name them in `topics.read`"),
    };
    let mut topics: Vec<String> = topics;
    topics.sort_unstable();
    topics.dedup();
    Ok(Input::Raw(topics))
}

fn of_rows(messages: &str) -> String {
    let columns: Vec<String> = RECORD_COLUMNS.iter().map(|(name, _)| identifier(name)).collect();
    format!("SELECT {}\nFROM {messages}\nWHERE reason = ''", columns.join(", "))
}

fn of_letters(messages: &str) -> String {
    let column = |name: &str| match name {
        "event" => format!("value AS {}", identifier(name)),
        name => identifier(name),
    };
    let columns: Vec<String> = DEAD_LETTER_COLUMNS.iter().map(|(name, _)| column(name)).collect();
    format!("SELECT {}\nFROM {messages}\nWHERE reason != ''", columns.join(", "))
}
