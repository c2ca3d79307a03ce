//! What tests and the judge do with a Kafka: topics, plain records, what is there when only
//! committed records count, what a group has committed.
//!
//! Shares no code with the product, and never joins a group.

mod open;
mod reading;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;

pub use open::Open;

/// How long a healthy broker may take for an answer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a topic.
const LOOK: Duration = Duration::from_millis(20);

/// A record to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Where to; when absent, by the key as the Java client does.
    pub partition: Option<u32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub partition: u32,
    /// Where it is in there.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The last header of this name, if it has a value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(key, _)| key == name)?.1.as_deref()
    }
}

/// The ends of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that is still there.
    pub first: u64,
    /// Behind the last record before the first open transaction: the last stable offset.
    pub stable: u64,
    /// Behind the last record, the high watermark.
    pub end: u64,
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: u32,
    /// The next offset to read.
    pub offset: u64,
    /// The text beside it.
    pub metadata: String,
}

/// A cluster, seen by a client.
#[derive(Debug, Clone)]
pub struct Cluster {
    config: ClientConfig,
}

impl Cluster {
    /// The cluster at an address where nobody has to sign in.
    pub fn at(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        Self::over(config)
    }

    /// The cluster that a client with these properties reaches.
    pub fn over(mut config: ClientConfig) -> Self {
        // A broker that comes back is there at once.
        config.set("reconnect.backoff.max.ms", "200");
        Self { config }
    }

    /// The properties of its clients.
    pub fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// Makes a topic and waits until it takes records.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn create_topic(
        &self,
        topic: &str,
        partitions: u32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let replication = TopicReplication::Fixed(1);
        let mut new = NewTopic::new(topic, i32::try_from(partitions)?, replication);
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let made = self.admin()?.create_topics([&new], &options()).await?;
        one(made, |(_, code)| code).with_context(|| format!("cannot make the topic `{topic}`"))?;
        self.wait_for_partitions(topic, partitions).await
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn delete_topic(&self, topic: &str) -> anyhow::Result<()> {
        let gone = self.admin()?.delete_topics(&[topic], &options()).await?;
        one(gone, |(_, code)| code)
            .with_context(|| format!("cannot delete the topic `{topic}`"))?;
        self.wait_for_partitions(topic, 0).await
    }

    /// Lets a topic grow to this many partitions, and waits until all take records.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn add_partitions(&self, topic: &str, partitions: u32) -> anyhow::Result<()> {
        let new = NewPartitions::new(topic, partitions as usize);
        let made = self.admin()?.create_partitions([&new], &options()).await?;
        one(made, |(_, code)| code)
            .with_context(|| format!("cannot add partitions to the topic `{topic}`"))?;
        self.wait_for_partitions(topic, partitions).await
    }

    /// Deletes the records of a partition before an offset, as retention does.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: u32,
        before: u64,
    ) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(before)?);
        list.add_partition_offset(topic, i32::try_from(partition)?, offset)?;
        let deleted = self.admin()?.delete_records(&list, &options()).await?;
        for element in deleted.elements() {
            element.error().with_context(|| format!("cannot delete records of `{topic}`"))?;
        }
        Ok(())
    }

    /// The value of a topic's setting, as the broker tells it.
    ///
    /// # Errors
    ///
    /// When there is no such topic or setting.
    pub async fn topic_setting(&self, topic: &str, name: &str) -> anyhow::Result<String> {
        let resource = ResourceSpecifier::Topic(topic);
        let told = self.admin()?.describe_configs([&resource], &options()).await?;
        let told = one(told, |code| code).with_context(|| format!("no topic `{topic}`"))?;
        let entry = told.get(name).with_context(|| format!("no setting `{name}`"))?;
        entry.value.clone().with_context(|| format!("`{name}` has no value"))
    }

    /// Changes a topic's setting.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn set_topic(&self, topic: &str, name: &str, value: &str) -> anyhow::Result<()> {
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let told = self.admin()?.alter_configs([&config], &options()).await?;
        one(told, |(_, code)| code).with_context(|| format!("cannot set `{name}` of `{topic}`"))?;
        Ok(())
    }

    /// Writes records, each acknowledged; gives their partitions and offsets.
    ///
    /// # Errors
    ///
    /// When one is refused.
    pub async fn produce(
        &self,
        topic: &str,
        messages: &[Message],
    ) -> anyhow::Result<Vec<(u32, u64)>> {
        let producer: FutureProducer =
            self.config().set("partitioner", "murmur2_random").set("linger.ms", "0").create()?;
        send(&producer, topic, messages).await
    }

    /// Writes records in a transaction of its own and leaves it open.
    ///
    /// # Errors
    ///
    /// When a record or the transaction is refused.
    pub async fn open(
        &self,
        transactional_id: &str,
        topic: &str,
        messages: &[Message],
    ) -> anyhow::Result<Open> {
        Open::begin(self.config(), transactional_id, topic, messages).await
    }

    /// All records of a topic that are committed now, by partition and offset.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker does not answer.
    pub async fn read_committed(&self, topic: &str) -> anyhow::Result<Vec<Record>> {
        let mut stream = self.stream_committed(topic);
        let mut records = Vec::new();
        while let Some(record) = stream.recv().await {
            records.push(record?);
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// As [`Cluster::read_committed`], record by record, ordered only within each partition. It has
    /// seen everything when it ends without an error.
    pub fn stream_committed(&self, topic: &str) -> mpsc::Receiver<anyhow::Result<Record>> {
        let (sender, receiver) = mpsc::channel(1_000);
        let (config, topic) = (self.config(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = reading::committed(config, &topic, &sender) {
                // Nobody waits for it any more.
                drop(sender.blocking_send(Err(error)));
            }
        });
        receiver
    }

    /// The ends of a topic's partitions, in their order.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker does not answer.
    pub async fn ends(&self, topic: &str) -> anyhow::Result<Vec<Ends>> {
        let (config, topic) = (self.config(), topic.to_owned());
        tokio::task::spawn_blocking(move || reading::ends(config, &topic)).await?
    }

    /// What a group has committed for a topic: only the partitions for which it has.
    ///
    /// # Errors
    ///
    /// When there is no such topic, or the broker does not answer.
    pub async fn committed(&self, group: &str, topic: &str) -> anyhow::Result<Vec<Committed>> {
        let (mut config, topic) = (self.config(), topic.to_owned());
        config.set("group.id", group);
        tokio::task::spawn_blocking(move || reading::offsets(config, &topic)).await?
    }

    /// Commits offsets for a group that has no members now.
    ///
    /// # Errors
    ///
    /// When the broker refuses: the group has members.
    pub async fn commit(
        &self,
        group: &str,
        topic: &str,
        offsets: &[Committed],
    ) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        for committed in offsets {
            let mut element = list.add_partition(topic, i32::try_from(committed.partition)?);
            element.set_offset(Offset::Offset(i64::try_from(committed.offset)?))?;
            element.set_metadata(&committed.metadata);
        }
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync))
            .await?
            .with_context(|| format!("cannot commit for the group `{group}`"))
    }

    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn delete_group(&self, group: &str) -> anyhow::Result<()> {
        let gone = self.admin()?.delete_groups(&[group], &options()).await?;
        one(gone, |(_, code)| code)
            .with_context(|| format!("cannot delete the group `{group}`"))
            .map(drop)
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(self.config.create()?)
    }

    /// Waits until a topic has so many partitions, each with a leader.
    async fn wait_for_partitions(&self, topic: &str, partitions: u32) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut found = self.count_partitions(topic).await;
        while !found.as_ref().is_ok_and(|found| *found == partitions) {
            if started.elapsed() > PATIENCE {
                let found = found?;
                bail!("`{topic}` has {found} partitions after {PATIENCE:?}, not {partitions}");
            }
            tokio::time::sleep(LOOK).await;
            found = self.count_partitions(topic).await;
        }
        Ok(())
    }

    async fn count_partitions(&self, topic: &str) -> anyhow::Result<u32> {
        let (config, topic) = (self.config(), topic.to_owned());
        let count = move || {
            let consumer: BaseConsumer = config.create()?;
            let partitions = reading::partitions(&consumer, &topic)?;
            anyhow::Ok(u32::try_from(partitions.len())?)
        };
        tokio::task::spawn_blocking(count).await?
    }
}

/// Sends all and waits until all are acknowledged.
async fn send(
    producer: &FutureProducer,
    topic: &str,
    messages: &[Message],
) -> anyhow::Result<Vec<(u32, u64)>> {
    let deliveries = messages.iter().map(async |message| {
        let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_deref() })
        });
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        record.partition = message.partition.map(i32::try_from).transpose()?;
        let sent = producer.send(record, PATIENCE).await;
        let delivery = sent
            .map_err(|(error, _)| error)
            .with_context(|| format!("cannot write to the topic `{topic}`"))?;
        let (partition, offset) = (u32::try_from(delivery.partition)?, delivery.offset);
        anyhow::Ok((partition, u64::try_from(offset)?))
    });
    try_join_all(deliveries).await
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// The result of the one thing that was asked for.
fn one<T, E>(
    mut results: Vec<Result<T, E>>,
    code: impl FnOnce(E) -> rdkafka::types::RDKafkaErrorCode,
) -> anyhow::Result<T> {
    ensure!(results.len() == 1, "{} results instead of one", results.len());
    let result = results.pop().context("no result")?;
    result.map_err(code).map_err(anyhow::Error::from)
}

#[cfg(test)]
mod tests;
