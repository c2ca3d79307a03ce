//! RawCdc: the columns of the ledger, every change event as it is.

use crate::event::ChangeEvent;
use crate::native::{self, DateTime64, Numbers, Strings};
use crate::table::{self, TableName};
use crate::{Result, ejson};

use super::item::Item;
use super::place::Places;
use super::{Append, Block, Origin, block, malformed};

/// The columns of `raw_cdc`.
pub(super) struct RawCdc {
    ts: Numbers<DateTime64>,
    op: Strings,
    ns_db: Strings,
    ns_coll: Strings,
    doc_id: Strings,
    version: Numbers<u128>,
    event: Strings,
    places: Places,
    pub(super) rows: u64,
    scratch: Vec<u8>,
}

impl RawCdc {
    pub(super) fn new(origin: &Origin) -> Self {
        let events = origin.items.iter().filter_map(Item::event);
        Self {
            ts: Numbers::default(),
            op: Strings::default(),
            ns_db: Strings::default(),
            ns_coll: Strings::default(),
            doc_id: Strings::default(),
            version: Numbers::default(),
            // As `raw` of the event table.
            event: Strings::with_capacity(
                2 * events.map(|event| event.bytes().len()).sum::<usize>(),
            ),
            places: Places::new(origin),
            rows: 0,
            scratch: Vec::new(),
        }
    }

    /// Puts a row; nothing for an item that is no event.
    pub(super) fn push(&mut self, item: &Item) -> Result<()> {
        let (Some(event), Some(subject)) = (item.event(), item.subject(&mut self.scratch)?) else {
            return Ok(());
        };
        push_text(event, &mut self.event)?;
        self.ts.push(DateTime64(item.ts(Append::RawCdc).0));
        self.op.push(subject.op);
        self.ns_db.push(subject.db);
        self.ns_coll.push(subject.coll);
        self.doc_id.push(subject.doc_id);
        self.version.push(subject.version);
        self.places.push(item.seq);
        self.rows += 1;
        Ok(())
    }

    pub(super) fn finish(self, table: TableName) -> Result<Block> {
        let columns: [&dyn native::Column; 11] = [
            &self.ts,
            &self.op,
            &self.ns_db,
            &self.ns_coll,
            &self.doc_id,
            &self.version,
            &self.event,
            &self.places.topic,
            &self.places.partition,
            &self.places.offset,
            &self.places.epoch,
        ];
        block(table, table::RAW_CDC_COLUMNS, &columns, self.rows)
    }
}

/// Puts canonical Extended JSON of the whole event.
pub(super) fn push_text(event: &ChangeEvent, column: &mut Strings) -> Result<()> {
    column
        .push_with(|out| ejson::canonical(event.document()?, out))
        .map_err(|error| malformed(event).with_source(error))
}
