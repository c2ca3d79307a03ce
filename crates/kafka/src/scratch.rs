//! Scratch: a transaction in a topic of its own, to see that transactions work here.
//!
//! ```text
//!   make the topic ─▶ begin, send, commit ─▶ is it committed? ─▶ delete the topic
//! ```
//!
//! It must never touch a topic that is there already: whose it is, nobody knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminOptions;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tailwater_core::position::LaneId;
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::retry::Backoff;

use crate::classify;
use crate::client::PATIENCE;
use crate::observer::Observer;
use crate::producer::{OWN_TRANSACTION_TIMEOUT, Outgoing, Producer};
use crate::topics::{NewTopics, Topics};

/// All steps together take no longer.
const ALL_STEPS: Duration = Duration::from_secs(60);

impl Observer {
    /// Commits a record in a transaction, in a topic of this name that is made for it and deleted
    /// behind it, under a transactional id of the same name; tells how long the transaction took.
    ///
    /// # Errors
    /// `InUse` for a topic that is there; those of the steps.
    pub async fn try_transaction(&self, name: &str, new: NewTopics) -> Result<Duration> {
        let topic: Arc<str> = name.into();
        let topics = Topics::new(&self.client, new)?;
        if topics.is_there(&topic).await? {
            let what = format!("there is a topic `{topic}` already, and it is left alone");
            return Err(Error::new(ErrorKind::InUse, what).with_hint(
                "it may be of a `tailwater check` that was killed, or of one that runs; if it is of nobody, delete it",
            ));
        }
        let tried = tokio::time::timeout(ALL_STEPS, self.transact(&topic, &topics)).await;
        let deleted = self.delete(&topic).await;
        let took = tried.map_err(|_| {
            let what = format!("no transaction within {} s", ALL_STEPS.as_secs());
            Error::new(ErrorKind::Unreachable, what)
                .with_hint("look at the brokers' logs for the transaction coordinator")
        })??;
        deleted.map(|()| took)
    }

    async fn transact(&self, topic: &Arc<str>, topics: &Topics) -> Result<Duration> {
        topics.ensure(topic, None).await?;
        let producer =
            Producer::start(&self.client, topic, OWN_TRANSACTION_TIMEOUT, Arc::default()).await?;
        let began = Instant::now();
        let name = Arc::clone(topic);
        let offsets = producer.transact(move |open| {
            open.send(&Outgoing {
                topic: &name,
                partition: 0,
                key: None,
                value: Some(b"tailwater check"),
                headers: &[],
                timestamp: None,
            })?;
            open.flush()
        });
        let offsets = offsets.await?;
        let sent = offsets.get(&**topic).and_then(|of| of.get(&0)).copied().unwrap_or(-1);
        let lane = LaneId::partition_of(topic, 0);
        // A commit is answered before its marks are written.
        let mut backoff = Backoff::new();
        while began.elapsed() < PATIENCE {
            let logs = self.logs(std::slice::from_ref(&lane)).await?;
            let stable = logs.get(&lane).map_or(0, |log| log.stable.0);
            if u64::try_from(sent).is_ok_and(|sent| stable > sent) {
                return Ok(began.elapsed());
            }
            backoff.pause().await;
        }
        let what =
            format!("a record in `{topic}` was committed, and is not among what is committed");
        Err(Error::new(ErrorKind::Unsuitable, what)
            .with_hint("look at the brokers' logs for the transaction coordinator"))
    }

    async fn delete(&self, topic: &str) -> Result<()> {
        let options =
            AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let what = || format!("cannot delete topic `{topic}`, which was made to be tried");
        let answers = self.admin.delete_topics(&[topic], &options).await;
        let answers = answers.map_err(|error| self.client.explain(error, what()))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition)) => {}
                Err((_, code)) => return Err(classify::error(KafkaError::AdminOp(code), what())),
            }
        }
        Ok(())
    }
}
