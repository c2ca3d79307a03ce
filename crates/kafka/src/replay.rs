//! Replay: produces records again that became dead letters, each into the topic that it was in, with a
//! mark beside the letter in the same transaction, so that nobody produces it twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use tailwater_core::dead_letter::{Place, again, mark};
use tailwater_core::position::Millis;
use tailwater_core::record::Record;
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::{clock, failpoint};

use crate::client::Client;
use crate::observer::Observer;
use crate::producer::{OWN_TRANSACTION_TIMEOUT, Producer};
use crate::sending::Sending;
use crate::topics::Topics;
use crate::transaction::Routes;

/// One who produces again. Another one of the same pipeline that began before is fenced.
#[derive(Debug)]
pub struct Replay {
    producer: Producer,
    observer: Observer,
    topics: Topics,
    dead_letter: Arc<str>,
    at: Millis,
}

impl Replay {
    /// Takes the pipeline's id for it, and then reads what was produced again before: in this order, so
    /// that nothing can be added behind our back.
    ///
    /// # Errors
    /// Those of the cluster.
    pub async fn begin(
        client: &Client,
        observer: Observer,
        topics: Topics,
        pipeline: &str,
        dead_letter: &Arc<str>,
    ) -> Result<(Self, BTreeSet<Place>)> {
        let id = format!("{pipeline}.replay");
        let producer =
            Producer::start(client, &id, OWN_TRANSACTION_TIMEOUT, Arc::default()).await?;
        observer.wait_until_stable(dead_letter).await?;
        let found = observer.letters(dead_letter, |_| false).await?;
        let (dead_letter, at) = (Arc::clone(dead_letter), clock::now());
        Ok((Self { producer, observer, topics, dead_letter, at }, found.replayed))
    }

    /// Produces these records again, all or none.
    ///
    /// # Errors
    /// `Unsuitable` when a topic is gone; `InUse` when another replay has begun; those of sending.
    pub async fn produce(&self, records: Vec<(Place, Record)>) -> Result<()> {
        let hint = "run it again: what was produced is marked, and is not produced twice";
        self.producer.refuse_worn(hint)?;
        let mut messages = Vec::with_capacity(2 * records.len());
        for (place, record) in records {
            messages.push(mark(&self.dead_letter, &place, self.at));
            messages.push(again(&place, record, self.at));
        }
        let mut routes = Routes::new();
        for message in &messages {
            let name = &message.topic;
            if routes.contains_key(name) {
                continue;
            }
            if *name != self.dead_letter && self.observer.topic(name).await?.is_none() {
                let what = format!("there is no topic `{name}` any more to produce records into");
                return Err(Error::new(ErrorKind::Unsuitable, what)
                    .with_hint("let the part that writes to it make it again"));
            }
            routes.insert(Arc::clone(name), self.topics.ensure(name, None).await?);
        }
        self.producer
            .transact(move |open| {
                let mut sending = Sending::over(open);
                for message in &messages {
                    sending.send(message, routes.get(&message.topic))?;
                }
                open.flush()?;
                failpoint::reach(failpoint::COMMITTING);
                Ok(())
            })
            .await?;
        failpoint::reach(failpoint::COMMITTED);
        Ok(())
    }
}
