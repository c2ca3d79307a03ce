//! Producer: one transactional producer, whose every call blocks a thread of its own.
//!
//! ```text
//!   begin ─▶ send … ─▶ flush ─▶ offsets are known ─▶ send them ─▶ commit
//!     └────────── any failure: abort, and say so ──────────┘
//! ```
//!
//! A commit whose outcome is unknown is tried again until it is known. Who was fenced never begins
//! again: somebody else has taken over.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use tailwater_core::config::Client as Kind;
use tailwater_core::position::Millis;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tracing::{info, warn};

use crate::classify;
use crate::client::{self, Client, Context, NEVER_RESENT, blocking, blocking_while_wanted};

/// The last offset of each partition of each topic.
pub(crate) type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// After so long the broker aborts a transaction whose producer is gone, where nobody takes over its
/// id at once. Brokers that are away for longer cost one more beginning, nothing else.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for an id that nobody will take over.
pub(crate) const OWN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one step may take before it is tried again.
const STEP: Duration = Duration::from_secs(30);
/// Between two looks at the queue of acknowledgements. The wrapper's own waiting, as in its flush,
/// lasts as long as it may, whatever comes, and is busy for its last millisecond.
const GLANCE: Duration = Duration::from_millis(1);
/// So many bytes are on their way at most, each a copy that no budget counts; what is larger goes alone.
const ON_THE_WAY: usize = 16 << 20;
/// librdkafka's largest. It would refuse for ever what is larger than its queue, so it sets no bound.
const QUEUE_KBYTES: &str = "2147483647";
/// librdkafka's default.
const USUAL_BATCH_BYTES: usize = 1_000_000;
/// Larger than any message can be; what a topic takes is checked before.
const LARGEST_MESSAGE: &str = "1000000000";

const GIVEN_UP: &str = "nothing is lost: Tailwater begins again from what is committed";
const IMPLIED: &str = "it was not acknowledged itself, only what was sent behind it";

/// A record to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing<'m> {
    pub(crate) topic: &'m str,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'m [u8]>,
    pub(crate) value: Option<&'m [u8]>,
    pub(crate) headers: &'m [(Cow<'static, str>, Bytes)],
    pub(crate) timestamp: Option<Millis>,
}

/// A transactional producer.
#[derive(Clone)]
pub(crate) struct Producer {
    inner: Arc<BaseProducer<Landing>>,
    client: Client,
    id: Arc<str>,
    busy: Arc<Mutex<()>>,
    worn: Arc<AtomicBool>,
    batch_bytes: usize,
}

/// So long brokers still write the marks of a transaction that they have said is committed. Who adds to
/// the next one meanwhile is refused, and librdkafka asks again only after 20 ms.
const MARKS: Duration = Duration::from_millis(8);
/// How long a look at the group waits while transactions begin.
const LOOK: Duration = Duration::from_secs(5);

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An open transaction.
#[derive(Debug)]
pub struct Open<'p>(&'p Producer);

impl Producer {
    /// A producer that has the transactional id for itself: an earlier one with this id is fenced, and
    /// its open transaction is aborted.
    ///
    /// `timeout` is how long a transaction may stay open, where nothing else is configured. `busy` is
    /// held while one is open, also by a thread whose task is gone.
    pub(crate) async fn start(
        client: &Client,
        id: &str,
        timeout: Duration,
        busy: Arc<Mutex<()>>,
    ) -> Result<Self> {
        let timeout = client.transaction_timeout(timeout);
        let mut config = client.config_of_once(Kind::Producer);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("acks", "all")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            .set("message.max.bytes", LARGEST_MESSAGE);
        for (name, value) in [("linger.ms", "1"), ("compression.type", "lz4")] {
            client::set_usual(&mut config, name, value);
        }
        let batch_bytes = config.get("batch.size").and_then(|bytes| bytes.parse().ok());
        let batch_bytes = batch_bytes.unwrap_or(USUAL_BATCH_BYTES);
        let landing = Landing {
            client: client.context(),
            landed: Mutex::default(),
            on_the_way: AtomicUsize::new(0),
            committed: Mutex::default(),
        };
        let inner = config
            .create_with_context(landing)
            .map_err(|error| classify::error(error, "cannot make a Kafka producer"))?;
        let inner = client.signing_in(inner);
        let worn = Arc::default();
        let this = Self { inner, client: client.clone(), id: id.into(), busy, worn, batch_bytes };
        // Who gives up must not go on: each try ends what a successor has open.
        let producer = this.clone();
        blocking_while_wanted(move |wanted| {
            let what = format!("cannot begin transactions as `{}`", producer.id);
            producer.until_definite(what, |inner| match wanted.is_over() {
                true => Err(KafkaError::Canceled),
                false => inner.init_transactions(LOOK),
            })
        })
        .await?;
        info!(transactional_id = id, "kafka takes our transactions");
        Ok(this)
    }

    /// Runs one transaction, on a thread of its own. On an error nothing of it is committed. One that
    /// nobody waits for any more does not begin: whose lanes it is of may be another's by then.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        fill: impl FnOnce(&Open<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.refuse_worn("nothing is lost: begin again from what is committed")?;
        let this = self.clone();
        blocking_while_wanted(move |wanted| {
            let _busy = this.busy.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted.is_over() {
                let what = format!("a transaction of `{}` was given up", this.id);
                return Err(Error::new(ErrorKind::Busy, what));
            }
            this.inner.context().let_marks_be_written();
            this.inner.context().begin();
            let begun = this.inner.begin_transaction();
            let what = || format!("cannot begin a transaction of `{}`", this.id);
            begun.map_err(|error| this.explain(error, what()))?;
            let open = Open(&this);
            // What is still on its way would be waited for in an abort, by nobody who listens; and why it
            // did not land is what was the matter.
            let filled = fill(&open).map_err(|error| open.flush().err().unwrap_or(error));
            let Ok(value) = filled else {
                this.abort()?;
                return filled;
            };
            match this.commit() {
                Ok(()) => Ok(value),
                // Whether it is committed is open: librdkafka takes no other step now, and who begins
                // next under this id, or the broker's time-out, ends it.
                Err(error) if error.kind() == ErrorKind::Unauthorized => Err(error),
                Err(error) => {
                    this.abort()?;
                    Err(error)
                }
            }
        })
        .await
    }

    /// Lets librdkafka say what it has to say: of lost connections, and refused sign-ins.
    pub(crate) async fn look(&self) -> Result<()> {
        let this = self.clone();
        blocking(move || {
            this.inner.poll(Duration::ZERO);
            Ok(())
        })
        .await
    }

    fn commit(&self) -> Result<()> {
        let what = format!("cannot commit a transaction of `{}`", self.id);
        self.end(what, |inner| inner.commit_transaction(STEP))?;
        self.inner.context().committed();
        Ok(())
    }

    /// Refuses where a copy of its last commit or abort may still arrive, and would end whatever is open
    /// then. The next one that begins under its id has another epoch, to which the copy does nothing.
    pub(crate) fn refuse_worn(&self, hint: &'static str) -> Result<()> {
        if !self.worn.load(Ordering::Acquire) {
            return Ok(());
        }
        let what = "a transaction was ended so late that a copy of the request may still arrive";
        Err(Error::new(ErrorKind::Unreachable, what).with_hint(hint))
    }

    fn abort(&self) -> Result<()> {
        let what = format!("cannot abort a transaction of `{}`", self.id);
        self.end(what, |inner| inner.abort_transaction(STEP))
    }

    /// Ends the transaction. How long that takes tells whether the request may have been sent twice, be
    /// its outcome what it may.
    fn end(
        &self,
        what: String,
        step: impl Fn(&BaseProducer<Landing>) -> std::result::Result<(), KafkaError>,
    ) -> Result<()> {
        let asked = Instant::now();
        let ended = self.until_definite(what, step);
        if asked.elapsed() > NEVER_RESENT {
            self.worn.store(true, Ordering::Release);
        }
        ended
    }

    /// Tries a step until its outcome is known: only what librdkafka calls retriable is tried again.
    fn until_definite(
        &self,
        what: String,
        step: impl Fn(&BaseProducer<Landing>) -> std::result::Result<(), KafkaError>,
    ) -> Result<()> {
        loop {
            let error = match step(&self.inner) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let retriable = match &error {
                // Another step is under way, of which nobody waits for the end.
                KafkaError::Transaction(error) if error.code() == Code::Conflict => false,
                KafkaError::Transaction(error) => error.is_retriable() && !error.is_fatal(),
                KafkaError::Flush(_) => true,
                _ => false,
            };
            // The call heard nothing, also not that we were refused.
            self.inner.poll(Duration::ZERO);
            let error = self.explain(error, what.clone());
            if !retriable || error.kind() == ErrorKind::Unauthorized {
                return Err(error);
            }
            warn!(%error, "trying again");
        }
    }

    /// An error of ours. A producer that librdkafka has given up, as when the broker has ended its
    /// transaction, or that stands in one which it could not abort, does nothing any more: there must be
    /// another one.
    fn explain(&self, error: KafkaError, what: String) -> Error {
        let stuck = error.rdkafka_error_code() == Some(Code::State);
        let explained = self.client.explain(error, what.clone());
        let given_up = stuck || self.inner.client().fatal_error().is_some();
        if given_up && explained.kind().action() == Action::Retry {
            return Error::new(ErrorKind::InUse, what).with_source(explained).with_hint(GIVEN_UP);
        }
        explained
    }
}

impl Open<'_> {
    /// Of how many bytes a batch may be that goes to a partition.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.0.batch_bytes
    }

    /// Puts a record on its way.
    pub(crate) fn send(&self, record: &Outgoing<'_>) -> Result<()> {
        let Outgoing { topic, partition, key, value, headers, timestamp } = record;
        let producer = &self.0.inner;
        let mut owned = OwnedHeaders::new_with_capacity(headers.len());
        for (name, value) in *headers {
            owned = owned.insert(Header { key: name, value: Some(&**value) });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(*partition);
        record.key = *key;
        record.payload = *value;
        record.timestamp = timestamp.map(|at| at.0);
        record.headers = (!headers.is_empty()).then_some(owned);
        let (landing, bytes) = (producer.context(), bytes(*key, *value));
        self.glance_until(|| landing.has_room(bytes));
        landing.on_the_way.fetch_add(bytes, Ordering::Relaxed);
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                // Too many, not too large.
                Err((KafkaError::MessageProduction(Code::QueueFull), refused)) => {
                    record = refused;
                    self.glance();
                }
                Err((error, _)) => {
                    landing.on_the_way.fetch_sub(bytes, Ordering::Relaxed);
                    return Err(self.0.explain(error, format!("cannot send to topic `{topic}`")));
                }
            }
        }
    }

    /// Hears what has landed, and lets more of it land.
    fn glance(&self) {
        self.0.inner.poll(Duration::ZERO);
        std::thread::sleep(GLANCE);
    }

    fn glance_until(&self, is_so: impl Fn() -> bool) {
        let mut told = Instant::now();
        while !is_so() {
            self.glance();
            if told.elapsed() > STEP {
                warn!(id = %self.0.id, "kafka has not acknowledged everything yet");
                told = Instant::now();
            }
        }
    }

    /// Waits until all that was sent is acknowledged, and tells where it is.
    pub(crate) fn flush(&self) -> Result<Offsets> {
        let producer = &self.0.inner;
        self.glance_until(|| producer.in_flight_count() == 0);
        let mut landed = producer.context().landed();
        if let Some((topic, error)) = landed.failed.take() {
            return Err(self.0.explain(error, format!("topic `{topic}` did not take a record")));
        }
        if let Some(topic) = landed.nowhere.take() {
            let what = format!("nobody knows where in topic `{topic}` a record is");
            return Err(Error::new(ErrorKind::Unreachable, what).with_source(IMPLIED));
        }
        Ok(landed.last.clone())
    }

    /// Puts a group's offsets into the transaction. `of` names their lanes in an error.
    pub(crate) fn commit_offsets(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
        of: &str,
    ) -> Result<()> {
        let what = format!("cannot put offsets of {of} into a transaction");
        self.0.until_definite(what, |inner| inner.send_offsets_to_transaction(offsets, group, STEP))
    }
}

/// Hears what became of each record.
struct Landing {
    client: Context,
    landed: Mutex<Landed>,
    /// Bytes that were sent and have not landed.
    on_the_way: AtomicUsize,
    /// When the last transaction was committed.
    committed: Mutex<Option<Instant>>,
}

fn bytes(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
    [key, value].into_iter().flatten().map(<[u8]>::len).sum()
}

/// What became of the records of a transaction.
#[derive(Debug, Default)]
struct Landed {
    last: Offsets,
    failed: Option<(String, KafkaError)>,
    /// The topic of a record that is said to be there, and nobody says where: it may be nowhere. See
    /// `docs/adr/0010`.
    nowhere: Option<String>,
}

impl Landing {
    fn landed(&self) -> MutexGuard<'_, Landed> {
        self.landed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        *self.landed() = Landed::default();
    }

    fn has_room(&self, bytes: usize) -> bool {
        let on_the_way = self.on_the_way.load(Ordering::Relaxed);
        on_the_way == 0 || on_the_way + bytes <= ON_THE_WAY
    }

    fn committed(&self) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn let_marks_be_written(&self) {
        let committed = *self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(committed) = committed {
            std::thread::sleep(MARKS.saturating_sub(committed.elapsed()));
        }
    }
}

impl ClientContext for Landing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }
}

impl ProducerContext for Landing {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (Ok(message) | Err((_, message))) = result;
        self.on_the_way.fetch_sub(bytes(message.key(), message.payload()), Ordering::Relaxed);
        let mut landed = self.landed();
        match result {
            Ok(message) if message.offset() < 0 => {
                landed.nowhere = Some(message.topic().to_owned());
            }
            Ok(message) => {
                let (topic, partition) = (message.topic(), message.partition());
                match landed.last.get_mut(topic) {
                    Some(partitions) => {
                        partitions.insert(partition, message.offset());
                    }
                    None => {
                        let partitions = BTreeMap::from([(partition, message.offset())]);
                        landed.last.insert(topic.to_owned(), partitions);
                    }
                }
            }
            Err((error, message)) => {
                // What was purged is told before what it was purged for.
                let purged =
                    |error: &KafkaError| error.rdkafka_error_code() == Some(Code::PurgeQueue);
                if landed.failed.as_ref().is_none_or(|(_, error)| purged(error)) {
                    landed.failed = Some((message.topic().to_owned(), error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    /// A producer of a cluster of librdkafka's own, which fails as it is told to.
    async fn producer() -> (MockCluster<'static, DefaultProducerContext>, Producer) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let client = Client::new(&cluster.bootstrap_servers(), Vec::new(), None);
        let timeout = OWN_TRANSACTION_TIMEOUT;
        let producer = Producer::start(&client, "id", timeout, Arc::default()).await.unwrap();
        (cluster, producer)
    }

    fn one(open: &Open<'_>) -> Result<Offsets> {
        open.send(&Outgoing {
            topic: "t",
            partition: 0,
            key: None,
            value: Some(b"one"),
            headers: &[],
            timestamp: None,
        })?;
        open.flush()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_transaction_with_a_record_that_is_there_and_nobody_says_where_is_aborted() {
        let (cluster, producer) = producer().await;
        // For librdkafka that is as good as an acknowledgement.
        let there = RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER;
        cluster.request_errors(RDKafkaApiKey::Produce, &[there]);
        let error = producer.transact(one).await.unwrap_err();
        assert_eq!(error.to_string(), "nobody knows where in topic `t` a record is");
        assert_eq!(error.kind().action(), Action::Retry);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_producer_that_cannot_abort_is_given_up() {
        let (cluster, producer) = producer().await;
        let fails = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN;
        cluster.request_errors(RDKafkaApiKey::EndTxn, &[fails]);
        let aborted = producer.transact(|open| {
            one(open)?;
            Err::<(), _>(Error::new(ErrorKind::Unreachable, "it is not wanted"))
        });
        aborted.await.unwrap_err();
        let error = producer.transact(one).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn after_an_end_that_was_sent_twice_no_other_transaction_begins() {
        // The connection breaks instead of the answer.
        let breaks = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT;
        for aborts in [false, true] {
            let (cluster, producer) = producer().await;
            producer.transact(one).await.unwrap();
            cluster.request_errors(RDKafkaApiKey::EndTxn, &[breaks]);
            let ended = producer.transact(move |open| match (one(open), aborts) {
                (sent, false) => sent,
                (_, true) => Err(Error::new(ErrorKind::Unreachable, "it is not wanted")),
            });
            assert_eq!(ended.await.is_err(), aborts);
            let error = producer.transact(one).await.unwrap_err();
            assert!(
                error.to_string().contains("a copy of the request may still arrive"),
                "{error}"
            );
        }
    }
}
