//! A transaction that somebody else has open.

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, Producer as _};

use super::{Message, PATIENCE, send};

/// An open transaction with its records written. Dropped, it stays open until the broker ends it.
pub struct Open {
    producer: FutureProducer,
    /// Where its records are: partition and offset.
    pub written: Vec<(u32, u64)>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Open {
    pub(super) async fn begin(
        mut config: ClientConfig,
        transactional_id: &str,
        topic: &str,
        messages: &[Message],
    ) -> anyhow::Result<Self> {
        let producer: FutureProducer =
            config.set("transactional.id", transactional_id).set("linger.ms", "0").create()?;
        let begun = producer.clone();
        let begin = move || {
            begun.init_transactions(PATIENCE)?;
            begun.begin_transaction()
        };
        tokio::task::spawn_blocking(begin)
            .await?
            .with_context(|| format!("cannot begin a transaction of `{transactional_id}`"))?;
        let written = send(&producer, topic, messages).await?;
        Ok(Self { producer, written })
    }

    /// Commits it.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn commit(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || self.producer.commit_transaction(PATIENCE))
            .await?
            .context("cannot commit the transaction")
    }

    /// Aborts it.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub async fn abort(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || self.producer.abort_transaction(PATIENCE))
            .await?
            .context("cannot abort the transaction")
    }
}
