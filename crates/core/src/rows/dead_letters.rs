//! DeadLetters: the columns of the table for what the event table does not have.

use crate::bson::{BsonError, Value};
use crate::native::{self, DateTime64, Numbers, Strings};
use crate::normalized::NormalizedEvent;
use crate::position::Millis;
use crate::table;
use crate::{Result, ejson};

use super::item::Item;
use super::place::Places;
use super::records::{self, Record};
use super::{Block, Origin, Rejection, block, raw_cdc};

/// The columns of the dead letters.
pub(super) struct DeadLetters<'o> {
    origin: &'o Origin,
    ts: Numbers<DateTime64>,
    reason: Strings,
    error: Strings,
    ns_db: Strings,
    ns_coll: Strings,
    doc_id: Strings,
    op: Strings,
    version: Numbers<u128>,
    event: Strings,
    places: Places,
    mapping: Strings,
    pub(super) rows: u64,
    scratch: Vec<u8>,
}

impl<'o> DeadLetters<'o> {
    pub(super) fn new(origin: &'o Origin) -> Self {
        Self {
            origin,
            ts: Numbers::default(),
            reason: Strings::default(),
            error: Strings::default(),
            ns_db: Strings::default(),
            ns_coll: Strings::default(),
            doc_id: Strings::default(),
            op: Strings::default(),
            version: Numbers::default(),
            event: Strings::default(),
            places: Places::new(origin),
            mapping: Strings::default(),
            rows: 0,
            scratch: Vec::new(),
        }
    }

    /// Puts a row, of the time `ts`; nothing for an item that is nothing.
    pub(super) fn push(&mut self, item: &Item, ts: Millis, why: &Rejection) -> Result<()> {
        let Some(subject) = item.subject(&mut self.scratch)? else { return Ok(()) };
        match (item.event(), item.record()) {
            (Some(event), _) => raw_cdc::push_text(event, &mut self.event)?,
            (None, Some(Record::Normalized(event))) => self
                .event
                .push_with(|out| normalized_text(event, out))
                .map_err(|error| records::malformed_normalized(event).with_source(error))?,
            (None, _) => self.event.push(item.original().unwrap_or_default()),
        }
        self.ts.push(DateTime64(ts.0));
        self.reason.push(why.reason.as_bytes());
        self.error.push(why.error.as_bytes());
        self.ns_db.push(subject.db);
        self.ns_coll.push(subject.coll);
        self.doc_id.push(subject.doc_id);
        self.op.push(subject.op);
        self.version.push(subject.version);
        self.places.push(item.seq);
        self.mapping.push(self.origin.mapping_of(item));
        self.rows += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Block> {
        let columns: [&dyn native::Column; 14] = [
            &self.ts,
            &self.reason,
            &self.error,
            &self.ns_db,
            &self.ns_coll,
            &self.doc_id,
            &self.op,
            &self.version,
            &self.event,
            &self.places.topic,
            &self.places.partition,
            &self.places.offset,
            &self.places.epoch,
            &self.mapping,
        ];
        let table = self.origin.layout.dead_letters.clone();
        block(table, table::DEAD_LETTER_COLUMNS, &columns, self.rows)
    }
}

/// What is known of the event: itself where the topic keeps it, else what the mapping made of it, as
/// canonical Extended JSON.
fn normalized_text(event: &NormalizedEvent, out: &mut Vec<u8>) -> Result<(), BsonError> {
    if let Some(raw) = &event.raw {
        out.extend_from_slice(raw.as_bytes());
        return Ok(());
    }
    let version = event.version.to_string();
    let fields = [
        ("ts", Value::DateTime(event.ts.0)),
        ("db", text(&event.db)),
        ("coll", text(&event.coll)),
        ("event_type", text(&event.event_type)),
        ("idempotency_key", text(&event.idempotency_key)),
        ("tags", Value::Document(event.tags.document())),
        ("attrs", Value::Document(event.attrs.document())),
        ("doc_id", text(&event.doc_id)),
        ("op", text(&event.op)),
        ("version", text(&version)),
        ("superseded", Value::Bool(event.superseded)),
    ];
    let mut mark = b'{';
    for (name, value) in fields {
        out.push(mark);
        mark = b',';
        ejson::canonical_value(&Value::String(name.as_bytes()), out)?;
        out.push(b':');
        ejson::canonical_value(&value, out)?;
    }
    out.push(b'}');
    Ok(())
}

const fn text(text: &str) -> Value<'_> {
    Value::String(text.as_bytes())
}
