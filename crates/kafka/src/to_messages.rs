//! ToMessages: the transform of the source, change events into the messages of a part.

use tailwater_core::event::ChangeEvent;
use tailwater_core::message;
use tailwater_core::position::Millis;
use tailwater_core::producing::{Produced, Producing};
use tailwater_core::record::Message;
use tailwater_core::scope::Scope;
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::{Part, Transform};

/// The messages of one part, in order.
#[derive(Debug)]
pub struct Messages {
    /// The messages.
    pub messages: Vec<Message>,
    /// When the newest event happened.
    pub newest: Millis,
    /// Of how many events they are.
    pub events: u64,
}

/// Turns change events into messages.
#[derive(Debug)]
pub struct ToMessages {
    producing: Producing,
    scopes: Vec<Scope>,
}

impl ToMessages {
    /// Messages as they are configured.
    pub fn new(producing: Producing) -> Self {
        Self { producing, scopes: Vec::new() }
    }

    /// The same for streams of these scopes, each of which tells only of what it watches.
    #[must_use]
    pub fn watching(self, scopes: Vec<Scope>) -> Self {
        Self { scopes, ..self }
    }
}

impl Transform for ToMessages {
    type In = Vec<ChangeEvent>;
    type Out = Messages;

    fn apply(&self, mut part: Part<Vec<ChangeEvent>>) -> Result<Part<Messages>> {
        let events = std::mem::take(&mut part.body);
        let mut messages = Vec::with_capacity(events.len());
        let scope = self.scopes.iter().find(|scope| scope.entry() == part.lane.topic());
        for event in &events {
            let produced = self.producing.messages_of(scope, event, &mut messages)?;
            if produced == Produced::NoTopic {
                let namespace = [event.db(), event.coll()].map(String::from_utf8_lossy).join(".");
                let what = format!("events of `{namespace}` have no topic");
                return Err(Error::new(ErrorKind::Unsuitable, what)
                    .with_hint("name one in `kafka.topics.map`, or do not watch the collection"));
            }
        }
        let newest = events.iter().map(ChangeEvent::ts).max().unwrap_or(Millis(0));
        part.hold(messages.iter().map(message::bytes_in_batch).sum());
        Ok(part.with_body(Messages { messages, newest, events: events.len() as u64 }))
    }
}
