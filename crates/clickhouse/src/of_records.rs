//! OfRecords: the transform of the sink, records of topics into the rows of a part.
//!
//! Whoever wrote a record, it becomes a change event here, so that the mapping and the encoder see one
//! form. What cannot become one is a dead letter of its Range, with its bytes.

use std::sync::Arc;

use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::position::{LaneId, Millis, Plan, Seq};
use tailwater_core::reading::{Content as Read, Reading};
use tailwater_core::record::{Incoming, Record};
use tailwater_core::rows::{Content, Entry, Rejected, Rejection};
use tailwater_core::scope::{self, Scope};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::{Part, Transform};

use crate::ToRows;
use crate::tables::PartRows;

/// Makes rows of records.
#[derive(Debug)]
pub struct OfRecords {
    reading: Reading,
    /// The topic whose records are normalized events.
    normalized: Option<Arc<str>>,
    /// The collections that count; `None`: all that is in the topics.
    scopes: Option<Vec<Scope>>,
    rows: ToRows,
}

impl OfRecords {
    /// Reads with `reading` and encodes with `rows`; in `normalized` are normalized events, and of the
    /// other topics only the collections of `scopes` count.
    pub fn new(
        reading: Reading,
        normalized: Option<Arc<str>>,
        scopes: Option<Vec<Scope>>,
        rows: ToRows,
    ) -> Self {
        Self { reading, normalized, scopes, rows }
    }

    fn entries(&self, mut part: Part<Vec<Incoming>>) -> Result<Part<Vec<Entry>>> {
        let records = std::mem::take(&mut part.body);
        let mut entries = Vec::with_capacity(records.len());
        for incoming in records {
            let seq = incoming.record.offset;
            let content = self.content(&part.lane, incoming);
            if let Content::Event(event) = &content
                && !event.is_typed()
                && event.tells_state()
                && self.rows.has_current()
            {
                return Err(untyped(&part.lane, seq));
            }
            entries.push(Entry { seq, content });
        }
        Ok(part.with_body(entries))
    }

    fn content(&self, lane: &LaneId, Incoming { record, rejection }: Incoming) -> Content {
        let read = match rejection {
            Some(rejection) => Err(rejection),
            None if self.normalized.as_deref() == Some(lane.topic()) => normalized(&record),
            None => self.reading.read(lane.topic(), &record).map(|read| match read {
                Read::Event(event) if scope::counts(self.scopes.as_deref(), &event) => {
                    Content::Event(event)
                }
                Read::Event(_) | Read::Nothing(_) => Content::Nothing,
            }),
        };
        read.unwrap_or_else(|why| rejected(record, why))
    }
}

/// A copy of a collection must have the types of its values.
fn untyped(lane: &LaneId, seq: Seq) -> Error {
    let what = format!(
        "the event at offset {seq} of `{lane}` has lost its types (SimplifiedJson, or a schema): the \
         current state would not be the collection"
    );
    Error::new(ErrorKind::Unsuitable, what).with_hint(
        "write `tables: { current: null }`, or let the producer write Extended JSON (the connector's \
         `output.json.formatter`)",
    )
}

fn normalized(record: &Record) -> Result<Content, Rejection> {
    match record.value.as_deref() {
        // For compaction.
        None => Ok(Content::Nothing),
        Some(value) => {
            let read = NormalizedEvent::read_json(value, record.timestamp);
            read.map(Box::new).map(Content::Normalized)
        }
    }
}

fn rejected(record: Record, why: Rejection) -> Content {
    let ts = record.timestamp.unwrap_or(Millis(0));
    let bytes = record.value.or(record.key).unwrap_or_default();
    Content::Rejected(Rejected { why, ts, bytes })
}

impl Transform for OfRecords {
    type In = Vec<Incoming>;
    type Out = PartRows;

    fn apply(&self, part: Part<Vec<Incoming>>) -> Result<Part<PartRows>> {
        self.rows.encode(self.entries(part)?)
    }

    fn apply_declared(&self, part: Part<Vec<Incoming>>, plan: &Plan) -> Result<Part<PartRows>> {
        self.rows.encode_declared(self.entries(part)?, plan)
    }
}
