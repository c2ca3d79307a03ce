//! Member: our membership in a consumer group, and nothing else. It never fetches a record.
//!
//! ```text
//!   group ── assigned ──▶ Rebalance::Assigned
//!   group ── revoked ───▶ Rebalance::Revoked ─▶ … the lanes are let go … ─▶ the group goes on
//! ```
//!
//! Brokers check who commits, and not whether the partition is still theirs. So the thread that tells
//! of a revoked partition does not return before its lane has stopped and its commits are answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tailwater_core::config::Client as Kind;
use tailwater_core::position::LaneId;
use tailwater_core::{Action, Error, Result};
use tailwater_pipeline::recall::{Recall, Recaller, Release};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::classify;
use crate::client::{self, Client, Context};
use crate::reader::lane_of;

/// A lane that is to be let go may finish its Range for so long.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// A dead member is noticed within this time.
const SESSION: Duration = Duration::from_secs(10);
/// A member that cannot let its lanes go is thrown out of the group after this time. So long a group also
/// waits, at times, for members of before its broker was killed.
const HANG: Duration = Duration::from_secs(30);
/// New topics and partitions are noticed within this time.
const METADATA: Duration = Duration::from_secs(5);
/// How long one look at the queue waits.
const POLL: Duration = Duration::from_millis(100);

/// What the group says.
#[derive(Debug)]
pub(crate) enum Rebalance {
    /// These lanes are ours.
    Assigned(Vec<LaneId>),
    /// These go to somebody else, who waits.
    Revoked(Vec<LaneId>, Release),
    /// The membership ended for a reason that waiting does not mend.
    Failed(Error),
}

/// The consumer behind a membership.
pub(crate) type Consumer = BaseConsumer<Membership>;

/// A membership; it ends when dropped.
pub(crate) struct Member {
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) rebalances: mpsc::UnboundedReceiver<Rebalance>,
    /// Held while something is committed.
    pub(crate) busy: Arc<Mutex<()>>,
    recall: Recall,
    left: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

impl Member {
    /// Joins a group for some topics; a name that begins with `^` is a regular expression.
    pub(crate) fn join(client: &Client, group: &str, topics: &[String]) -> Result<Self> {
        let mut config = client.config_of_once(Kind::Consumer);
        let millis = |duration: Duration| duration.as_millis().to_string();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Nothing is ever fetched here, so nothing may be looked up for it either.
            .set("auto.offset.reset", "latest")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.interval.ms", millis(METADATA))
            .set("queued.max.messages.kbytes", "64")
            .set("queued.min.messages", "1");
        // Only while a lane is let go nobody polls. Whoever hangs there for longer is better thrown out
        // than waited for. librdkafka wants no less than the session's time-out.
        let session = config.get("session.timeout.ms").and_then(|text| text.trim().parse().ok());
        let hang = HANG.max(Duration::from_millis(session.unwrap_or(0)));
        client::set_usual(&mut config, "max.poll.interval.ms", &millis(hang));
        // The newer protocol has these at the broker.
        if config.get("group.protocol") != Some("consumer") {
            let strategy = ("partition.assignment.strategy", "cooperative-sticky");
            for (name, value) in [strategy, ("session.timeout.ms", &millis(SESSION))] {
                client::set_usual(&mut config, name, value);
            }
        }
        let (sender, rebalances) = mpsc::unbounded_channel();
        let busy = Arc::new(Mutex::new(()));
        let recaller = Recaller::new();
        let recall = recaller.listen();
        let membership = Membership {
            client: client.context(),
            sender: sender.clone(),
            busy: Arc::clone(&busy),
            recaller,
        };
        let consumer: Consumer = config
            .create_with_context(membership)
            .map_err(|error| classify::error(error, "cannot make a Kafka consumer"))?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let what = || format!("cannot subscribe to `{}`", topics.join("`, `"));
        consumer.subscribe(&names).map_err(|error| classify::error(error, what()))?;
        info!(group, topics = topics.join(","), "joining the group");
        let consumer = client.signing_in(consumer);
        let left = Arc::new(AtomicBool::new(false));
        let (polled, ended, client) = (Arc::clone(&consumer), Arc::clone(&left), client.clone());
        let poll = move || poll(&client, &polled, &ended, &sender);
        let thread = std::thread::Builder::new().name("kafka-group".to_owned()).spawn(poll);
        let thread = thread.map_err(|error| {
            Error::new(tailwater_core::ErrorKind::Storage, "the system gives no thread")
                .with_source(error)
        })?;
        Ok(Self { consumer, rebalances, busy, recall, left, thread: Some(thread) })
    }

    /// Lets the thread of the group wait for this once it ends.
    #[cfg(test)]
    pub(crate) fn wait_at_the_end(&mut self, wait: impl FnOnce() + Send + 'static) {
        let thread = self.thread.take();
        self.thread = Some(std::thread::spawn(move || {
            wait();
            thread.map(std::thread::JoinHandle::join);
        }));
    }

    /// Tells when lanes are wanted back.
    pub(crate) fn recall(&self) -> Recall {
        self.recall.clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
        // Nobody is there any more to let lanes go.
        self.rebalances.close();
        while self.rebalances.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread of the group panicked");
        }
    }
}

/// Hears what the group says until the membership ends.
fn poll(
    client: &Client,
    consumer: &Consumer,
    left: &AtomicBool,
    sender: &mpsc::UnboundedSender<Rebalance>,
) {
    let mut missing = false;
    while !left.load(Ordering::Acquire) {
        let error = match consumer.poll(POLL) {
            None | Some(Ok(_)) => continue,
            Some(Err(error)) => error,
        };
        if error.rdkafka_error_code() == Some(Code::UnknownTopicOrPartition) {
            if !std::mem::replace(&mut missing, true) {
                info!(%error, "a topic is not there yet");
            }
            continue;
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let away = client::is_away(error.rdkafka_error_code());
        let error = client.explain(error, "the consumer group answered with an error");
        if fatal || error.kind().action() == Action::Stop {
            drop(sender.send(Rebalance::Failed(error)));
            return;
        }
        match away {
            // Told already, by librdkafka.
            true => debug!(%error, cause = std::error::Error::source(&error), "kafka"),
            false => warn!(%error, cause = std::error::Error::source(&error), "kafka"),
        }
    }
}

/// What librdkafka calls back.
pub(crate) struct Membership {
    client: Context,
    sender: mpsc::UnboundedSender<Rebalance>,
    busy: Arc<Mutex<()>>,
    recaller: Recaller,
}

impl Membership {
    fn revoke(&self, consumer: &Consumer, lanes: Vec<LaneId>) {
        let lost = consumer.assignment_lost();
        info!(lanes = lanes.len(), lost, "partitions are wanted back");
        let grace = if lost { Duration::ZERO } else { GRACE };
        let (release, released) = self.recaller.want_back(grace);
        // Where nobody listens any more, the duty is gone with the message.
        drop(self.sender.send(Rebalance::Revoked(lanes, release)));
        released.wait();
        // A commit whose task is gone may still be on its way.
        drop(self.busy.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn lanes(list: &TopicPartitionList) -> Vec<LaneId> {
    list.elements().iter().map(|element| lane_of(element.topic(), element.partition())).collect()
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &Consumer, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let lanes = lanes(list);
        let done = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Without an offset librdkafka would look one up.
            let assigned = list.set_all_offsets(Offset::End).and_then(|()| match cooperative {
                true => consumer.incremental_assign(list),
                false => consumer.assign(list),
            });
            let paused = assigned.and_then(|()| consumer.pause(list));
            info!(lanes = lanes.len(), "partitions are ours");
            drop(self.sender.send(Rebalance::Assigned(lanes)));
            paused
        } else {
            if !lanes.is_empty() {
                self.revoke(consumer, lanes);
            }
            match cooperative {
                true => consumer.incremental_unassign(list),
                false => consumer.unassign(),
            }
        };
        if let Err(error) = done {
            warn!(%error, "the group's word could not be followed");
        }
    }
}
