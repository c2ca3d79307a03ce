//! The Kafka of a config, for commands that look at it.

use tailwater_core::Result;
use tailwater_core::config::{Config, Kafka};
use tailwater_kafka::{Client, Observer, tokens};
use tailwater_mongodb::connect;

/// A Kafka that answered.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) observer: Observer,
}

/// A part that reads topics, in a group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) part: &'static str,
    pub(crate) name: String,
    /// The topics that it reads: names, and regexes that begin with `^`.
    pub(crate) subscription: Vec<String>,
    /// Whether the config names the part.
    pub(crate) is_configured: bool,
}

impl Cluster {
    /// Connects, and waits for the first answer.
    pub(crate) async fn reach(config: &Config) -> Result<Self> {
        let kafka = config.require_kafka()?;
        let client = client(kafka).await?;
        client.connect(connect::DEFAULT_FIRST_CONNECTION).await?;
        // A name that the rights of an operator take in; nobody joins it.
        let observer = Observer::new(&client, &format!("{}.check", config.pipeline))?;
        Ok(Self { client, observer })
    }
}

/// A client as it is configured.
pub(crate) async fn client(kafka: &Kafka) -> Result<Client> {
    Ok(Client::of(kafka, tokens(kafka).await?))
}

/// The groups of a pipeline, in the order of its flow.
pub(crate) fn groups(config: &Config, kafka: &Kafka) -> Vec<Group> {
    let raw = config.reading().map(|reading| reading.topics).unwrap_or_default();
    let parts = config.parts();
    let mut all = raw.clone();
    if parts.normalize {
        all.push(kafka.topics.normalized.to_string());
    }
    let group = |part, subscription, is_configured| {
        let name = format!("{}.{part}", config.pipeline);
        Group { part, name, subscription, is_configured }
    };
    vec![
        group("source", vec![kafka.topics.checkpoints.to_string()], parts.source),
        group("normalize", raw, parts.normalize),
        group("sink", all, parts.sink),
    ]
}
