//! ToNormalized: the transform of `normalize`, records of raw topics into normalized events.
//!
//! What cannot be read, and what the mapping rejects, goes to the dead letters, with its bytes.

use std::sync::Arc;

use tailwater_core::Result;
use tailwater_core::dead_letter::dead_letter;
use tailwater_core::mapping::{Mapped, Mapping, Outcome};
use tailwater_core::message;
use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::position::{Epoch, LaneId, Millis};
use tailwater_core::reading::{Content, Reading};
use tailwater_core::record::{Incoming, Message, Record};
use tailwater_core::rows::Rejection;
use tailwater_core::scope::{self, Scope};
use tailwater_pipeline::{Part, Transform};

use crate::to_messages::Messages;

/// Normalizes.
#[derive(Debug)]
pub struct ToNormalized {
    /// Makes events of records.
    pub reading: Reading,
    /// The collections that count; `None`: all that is in the topics.
    pub scopes: Option<Vec<Scope>>,
    /// What is made of them.
    pub mapping: Arc<Mapping>,
    /// Where normalized events go.
    pub normalized: Arc<str>,
    /// Where events go that cannot be normalized.
    pub dead_letter: Arc<str>,
}

impl ToNormalized {
    /// The message of a record; `None` where there is nothing to say.
    fn message(&self, lane: &LaneId, epoch: Epoch, incoming: &Incoming) -> Result<Option<Message>> {
        let Incoming { record, rejection } = incoming;
        let made = match rejection {
            Some(rejection) => Err(rejection.clone()),
            None => self.normalize(lane, record)?,
        };
        Ok(made
            .unwrap_or_else(|why| Some(dead_letter(&self.dead_letter, record, lane, epoch, &why))))
    }

    fn normalize(
        &self,
        lane: &LaneId,
        record: &Record,
    ) -> Result<Result<Option<Message>, Rejection>> {
        let event = match self.reading.read(lane.topic(), record) {
            Ok(Content::Event(event)) => event,
            Ok(Content::Nothing(_)) => return Ok(Ok(None)),
            Err(rejection) => return Ok(Err(rejection)),
        };
        if !event.has_row() || !scope::counts(self.scopes.as_deref(), &event) {
            return Ok(Ok(None));
        }
        let Mapped { event, outcome } = self.mapping.apply(&event)?;
        let normalized = match &outcome {
            Outcome::Dropped => return Ok(Ok(None)),
            Outcome::Rejected(rejection) => return Ok(Err(rejection.clone())),
            Outcome::Unmapped => None,
            Outcome::Normalized(normalized) => Some(normalized),
        };
        let key = record.key.clone();
        let made = NormalizedEvent::of(&event, normalized, self.mapping.hash());
        Ok(made.and_then(|made| made.message(&self.normalized, &event, key)).map(Some))
    }
}

impl Transform for ToNormalized {
    type In = Vec<Incoming>;
    type Out = Messages;

    fn apply(&self, mut part: Part<Vec<Incoming>>) -> Result<Part<Messages>> {
        let records = std::mem::take(&mut part.body);
        let mut messages = Vec::with_capacity(records.len());
        for incoming in &records {
            messages.extend(self.message(&part.lane, part.epoch, incoming)?);
        }
        let newest = records.iter().filter_map(|incoming| incoming.record.timestamp).max();
        part.hold(messages.iter().map(message::bytes_in_batch).sum());
        let events = records.len() as u64;
        Ok(part.with_body(Messages { messages, newest: newest.unwrap_or(Millis(0)), events }))
    }
}
