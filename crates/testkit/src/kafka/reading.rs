//! Reading without joining a group: everything here blocks.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{Committed, Ends, PATIENCE, Record};

/// How long one look for records takes.
const POLL: Duration = Duration::from_millis(200);

/// Hands over the records of a topic up to where each partition stably ends now.
pub(super) fn committed(
    mut config: ClientConfig,
    topic: &str,
    records: &mpsc::Sender<anyhow::Result<Record>>,
) -> anyhow::Result<()> {
    let consumer: BaseConsumer = config
        // Assigning needs a name; nothing is ever committed under it.
        .set("group.id", "tailwater-judge")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .create()?;
    let mut waiting: BTreeSet<i32> = partitions(&consumer, topic)?.into_iter().collect();
    ensure!(!waiting.is_empty(), "no topic `{topic}`");
    let mut list = TopicPartitionList::new();
    for partition in &waiting {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut moved, mut last) = (Instant::now(), None);
    while !waiting.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                moved = Instant::now();
                // Behind the end that was seen there may be more by now.
                if waiting.contains(&message.partition())
                    && records.blocking_send(record(&message)).is_err()
                {
                    return Ok(());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                moved = Instant::now();
                waiting.remove(&partition);
            }
            // The client mends what it can; what it cannot shows in the deadline.
            Some(Err(error)) => last = Some(error),
            None => {}
        }
        if moved.elapsed() > PATIENCE {
            bail!("cannot read `{topic}`: nothing within {PATIENCE:?}; last error: {last:?}");
        }
    }
    Ok(())
}

fn record(message: &BorrowedMessage<'_>) -> anyhow::Result<Record> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Ok(Record {
        partition: u32::try_from(message.partition())?,
        offset: u64::try_from(message.offset())?,
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    })
}

/// The ends of all partitions.
pub(super) fn ends(mut config: ClientConfig, topic: &str) -> anyhow::Result<Vec<Ends>> {
    // The isolation decides which end the broker tells.
    let mut consumer = |level: &str| config.set("isolation.level", level).create::<BaseConsumer>();
    let (stable, all) = (consumer("read_committed")?, consumer("read_uncommitted")?);
    let mut ends = Vec::new();
    for partition in partitions(&stable, topic)? {
        let (_, stable) = stable.fetch_watermarks(topic, partition, PATIENCE)?;
        let (first, end) = all.fetch_watermarks(topic, partition, PATIENCE)?;
        ends.push(Ends {
            first: first.try_into()?,
            stable: stable.try_into()?,
            end: end.try_into()?,
        });
    }
    ensure!(!ends.is_empty(), "no topic `{topic}`");
    Ok(ends)
}

/// What the configured group has committed.
pub(super) fn offsets(config: ClientConfig, topic: &str) -> anyhow::Result<Vec<Committed>> {
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in partitions(&consumer, topic)? {
        list.add_partition(topic, partition);
    }
    ensure!(list.count() > 0, "no topic `{topic}`");
    let started = Instant::now();
    let found = loop {
        match consumer.committed_offsets(list.clone(), PATIENCE) {
            // A fresh broker has no coordinator yet for its first group.
            Err(error) if is_moving(&error) && started.elapsed() < PATIENCE => {
                std::thread::sleep(POLL);
            }
            found => break found?,
        }
    };
    let mut offsets = Vec::new();
    for element in found.elements() {
        element.error().with_context(|| format!("cannot read what is committed for `{topic}`"))?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.push(Committed {
                partition: element.partition().try_into()?,
                offset: offset.try_into()?,
                metadata: element.metadata().to_owned(),
            });
        }
    }
    Ok(offsets)
}

fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

/// The partitions that have a leader, in their order; none when there is no such topic.
pub(super) fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let topic = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions = topic.map(|topic| topic.partitions()).unwrap_or_default();
    let led = partitions.iter().filter(|partition| partition.leader() >= 0);
    let mut led: Vec<i32> = led.map(|partition| partition.id()).collect();
    led.sort_unstable();
    Ok(led)
}
