//! Replay: produces records again that became dead letters, each into the topic that it was in, with a
//! mark beside the letter in the same transaction, so that nobody produces it twice.

use std::sync::Arc;

use tailwater_core::dead_letter::{Place, replayed};
use tailwater_core::message::murmur2;
use tailwater_core::position::Millis;
use tailwater_core::record::{Message, Record, Route};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::clock;

use crate::client::Client;
use crate::letters::Letters;
use crate::observer::Observer;
use crate::producer::{OWN_TRANSACTION_TIMEOUT, Producer};
use crate::topics::{Topic, Topics};
use crate::transaction;

/// One who produces again. Another one of the same pipeline that began before is fenced.
#[derive(Debug)]
pub struct Replay {
    producer: Producer,
    observer: Observer,
    topics: Topics,
    dead_letter: Arc<str>,
}

impl Replay {
    /// Takes the pipeline's id for it, and reads what was produced again before: in this order, so that
    /// nothing can be added behind our back.
    ///
    /// # Errors
    /// Those of the cluster.
    pub async fn begin(
        client: &Client,
        observer: Observer,
        topics: Topics,
        pipeline: &str,
        dead_letter: &Arc<str>,
    ) -> Result<(Self, Letters)> {
        let id = format!("{pipeline}.replay");
        let producer =
            Producer::start(client, &id, OWN_TRANSACTION_TIMEOUT, Arc::default()).await?;
        observer.wait_until_stable(dead_letter).await?;
        let found = observer.letters(dead_letter, |_| false).await?;
        let dead_letter = Arc::clone(dead_letter);
        Ok((Self { producer, observer, topics, dead_letter }, found))
    }

    /// Produces these records again, all or none.
    ///
    /// # Errors
    /// `Unsuitable` when a topic is gone; `InUse` when another replay has begun; those of sending.
    pub async fn produce(&self, records: Vec<(Place, Record)>) -> Result<()> {
        let at = clock::now();
        let mut all: Vec<(Message, Topic)> = Vec::with_capacity(2 * records.len());
        for (place, record) in records {
            let name: Arc<str> = place.lane.topic().into();
            let Some(seen) = self.observer.topic(&name).await? else {
                return Err(Error::new(ErrorKind::Unsuitable, format!("topic `{name}` is gone")));
            };
            let topic = self.topics.ensure(&name, None).await?;
            // There are the other events of its document, unless the topic was made anew since.
            let route = match seen.id == place.epoch {
                true => Route::Hash(place.lane.partition()),
                false => Route::Hash(murmur2(record.key.as_deref().unwrap_or_default())),
            };
            all.push((message(name, route, record), topic));
            let marks = self.topics.ensure(&self.dead_letter, None).await?;
            all.push((replayed(&self.dead_letter, &place, at), marks));
        }
        self.producer
            .transact(move |open| {
                for (message, topic) in &all {
                    transaction::send(open, message, Some(topic))?;
                }
                open.flush().map(drop)
            })
            .await
    }
}

/// The record as it was.
fn message(topic: Arc<str>, route: Route, record: Record) -> Message {
    let Record { timestamp, key, value, headers, .. } = record;
    let headers = headers.into_iter().map(|(name, value)| (String::from(name).into(), value));
    let timestamp = timestamp.unwrap_or(Millis(0));
    Message { topic, route, key, value, headers: headers.collect(), timestamp }
}
