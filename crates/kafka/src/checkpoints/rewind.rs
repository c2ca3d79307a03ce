//! Rewind: gives a stream an earlier checkpoint, with the transactional id of the source, so that one
//! that runs is fenced and nothing is written behind our back.

use std::sync::Arc;

use tailwater_core::position::{Checkpoint, LaneId};
use tailwater_core::{Error, ErrorKind, Result};

use super::{Advance, CheckpointTopic};
use crate::client::Client;
use crate::producer::{OWN_TRANSACTION_TIMEOUT, Offsets, Producer};
use crate::transaction::Progress as _;

impl CheckpointTopic {
    /// Gives a stream that is known another checkpoint, durably: its events from there on are published
    /// again. Gives the number of the new record.
    ///
    /// # Errors
    /// `Config` for a stream that is not known; those of the transaction.
    pub async fn rewind(
        client: &Client,
        pipeline: &str,
        name: &Arc<str>,
        lane: &LaneId,
        to: Checkpoint,
    ) -> Result<u64> {
        let id = format!("{pipeline}.source");
        let producer =
            Producer::start(client, &id, OWN_TRANSACTION_TIMEOUT, Arc::default()).await?;
        let topic = Self::read(client, &id, name).await?;
        if topic.stream(lane).is_none() {
            let what = format!("the checkpoint topic `{name}` knows no stream `{lane}`");
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("`tailwater checkpoint list` shows those that it knows"));
        }
        let advance = Advance { streams: vec![(lane.clone(), to)], topics: Default::default() };
        let after = producer.transact(move |open| {
            topic.put_early(open, &advance)?;
            topic.put(open, &advance, &Offsets::new())
        });
        let after = after.await?;
        let numbered = after.streams.get(lane.topic());
        Ok(numbered.map_or(0, |found| found.n))
    }
}
