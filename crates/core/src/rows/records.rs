//! Records: the columns of the event table, a row for each event.

use crate::bson::Doc;
use crate::event::ChangeEvent;
use crate::json_column::text;
use crate::json_column::{Dates, JsonColumn};
use crate::mapping::Normalized;
use crate::native::{self, DateTime64, Numbers, Strings};
use crate::normalized::NormalizedEvent;
use crate::table;
use crate::{Error, ErrorKind, Result};

use super::item::Item;
use super::place::Places;
use super::{Append, AsText, Block, Origin, as_text, block, malformed, raw_cdc};

/// What a row of the event table is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Record<'a> {
    /// An event, and what the mapping made of it.
    Event(&'a ChangeEvent, Option<&'a Normalized>),
    /// What came through the normalized topic.
    Normalized(&'a NormalizedEvent),
}

impl<'a> Record<'a> {
    /// The event, where the row keeps it.
    pub(super) fn raw(self) -> Option<&'a ChangeEvent> {
        match self {
            Self::Event(event, None) => Some(event),
            Self::Event(event, Some(normalized)) => normalized.keep_raw.then_some(event),
            Self::Normalized(_) => None,
        }
    }

    fn tags(self) -> Doc<'a> {
        match self {
            Self::Event(_, None) => Doc::EMPTY,
            Self::Event(_, Some(normalized)) => normalized.tags.document(),
            Self::Normalized(event) => event.tags.document(),
        }
    }

    /// The fields of the attributes; of a document that was not mapped only the scalars.
    fn attrs(self) -> (Doc<'a>, Kept) {
        match self {
            Self::Event(event, None) => (last_image(event).unwrap_or(Doc::EMPTY), Kept::Scalars),
            Self::Event(_, Some(normalized)) => (normalized.attrs.document(), Kept::All),
            Self::Normalized(event) => (event.attrs.document(), Kept::All),
        }
    }

    fn malformed(self) -> Error {
        match self {
            Self::Event(event, _) => malformed(event),
            Self::Normalized(event) => malformed_normalized(event),
        }
    }
}

/// Which fields of a document a JSON column has.
#[derive(Debug, Clone, Copy)]
enum Kept {
    All,
    Scalars,
}

/// The columns of the event table.
pub(super) struct Records<'o> {
    origin: &'o Origin,
    ts: Numbers<DateTime64>,
    event_type: Strings,
    source: Strings,
    ns_db: Strings,
    ns_coll: Strings,
    idempotency_key: Strings,
    tags: JsonColumn,
    attrs: JsonColumn,
    doc_id: Strings,
    op: Strings,
    version: Numbers<u128>,
    raw: Strings,
    superseded: Numbers<bool>,
    places: Places,
    mapping: Strings,
    pub(super) rows: u64,
    scratch: Vec<u8>,
}

impl<'o> Records<'o> {
    pub(super) fn new(origin: &'o Origin) -> Self {
        let kept = origin.items.iter().filter_map(|item| item.record()?.raw());
        Self {
            origin,
            ts: Numbers::default(),
            event_type: Strings::default(),
            source: Strings::default(),
            ns_db: Strings::default(),
            ns_coll: Strings::default(),
            idempotency_key: Strings::default(),
            tags: JsonColumn::new(Dates::Text),
            attrs: JsonColumn::new(Dates::Text),
            doc_id: Strings::default(),
            op: Strings::default(),
            version: Numbers::default(),
            // Text takes about twice as much. What is not used costs nothing, but growing by doubling
            // would hold the column three times.
            raw: Strings::with_capacity(2 * kept.map(|event| event.bytes().len()).sum::<usize>()),
            superseded: Numbers::default(),
            places: Places::new(origin),
            mapping: Strings::default(),
            rows: 0,
            scratch: Vec::new(),
        }
    }

    /// Puts a row; nothing for an item that has none.
    pub(super) fn push(&mut self, item: &Item) -> Result<()> {
        let (Some(record), Some(subject)) = (item.record(), item.subject(&mut self.scratch)?)
        else {
            return Ok(());
        };
        let malformed = |error| record.malformed().with_source(error);
        match (record.raw(), record) {
            (Some(event), _) => raw_cdc::push_text(event, &mut self.raw)?,
            (None, Record::Normalized(event)) => {
                self.raw.push(event.raw.as_deref().unwrap_or_default().as_bytes());
            }
            (None, Record::Event(..)) => self.raw.push(b""),
        }
        self.tags.begin_row();
        self.tags.document(record.tags()).map_err(malformed)?;
        self.tags.end_row();
        self.attrs.begin_row();
        match record.attrs() {
            (fields, Kept::All) => self.attrs.document(fields).map_err(malformed)?,
            (document, Kept::Scalars) => self.attrs.scalars(document).map_err(malformed)?,
        }
        self.attrs.end_row();
        match record {
            Record::Event(event, normalized) => {
                let event_type = normalized.map(|it| it.event_type.as_bytes());
                self.event_type.push(event_type.unwrap_or(event.operation_type()));
                self.idempotency_key
                    .push_with(|out| {
                        event.idempotency_key(subject.doc_id, out);
                        Ok::<(), std::convert::Infallible>(())
                    })
                    .unwrap_or_else(|never| match never {});
                self.superseded.push(event.is_superseded());
            }
            Record::Normalized(event) => {
                self.event_type.push(event.event_type.as_bytes());
                self.idempotency_key.push(event.idempotency_key.as_bytes());
                self.superseded.push(event.superseded);
            }
        }
        self.ts.push(DateTime64(item.ts(Append::Records).0));
        self.source.push(b"mongo");
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

    /// The block of the rows, which were made of these items.
    pub(super) fn finish<'e>(
        mut self,
        items: impl Iterator<Item = &'e Item> + Clone,
    ) -> Result<Block> {
        let records = || items.clone().filter_map(Item::record);
        let tags = match self.tags.is_too_wide() {
            true => {
                let rows = records().map(|record| (record, record.tags()));
                Some(as_text(rows, |_| text::document, |record| record.malformed())?)
            }
            false => None,
        };
        let attrs = match self.attrs.is_too_wide() {
            true => {
                let rows = records().map(|record| (record, record.attrs().0));
                let write = |record: &Record<'_>| match record.attrs().1 {
                    Kept::All => text::document as AsText,
                    Kept::Scalars => text::scalars,
                };
                Some(as_text(rows, write, |record| record.malformed())?)
            }
            false => None,
        };
        let tags: &dyn native::Column = tags.as_ref().map_or(&self.tags, |text| text);
        let attrs: &dyn native::Column = attrs.as_ref().map_or(&self.attrs, |text| text);
        let columns: [&dyn native::Column; 18] = [
            &self.ts,
            &self.event_type,
            &self.source,
            &self.ns_db,
            &self.ns_coll,
            &self.idempotency_key,
            tags,
            attrs,
            &self.doc_id,
            &self.op,
            &self.version,
            &self.raw,
            &self.superseded,
            &self.places.topic,
            &self.places.partition,
            &self.places.offset,
            &self.places.epoch,
            &self.mapping,
        ];
        block(self.origin.layout.records.clone(), table::RECORD_COLUMNS, &columns, self.rows)
    }
}

/// The document as it was left, or as it was before it was deleted.
fn last_image(event: &ChangeEvent) -> Option<Doc<'_>> {
    if event.operation_type() == b"delete" { event.before() } else { event.full_document() }
}

/// Names the event by its version alone: its values stay out of messages.
pub(super) fn malformed_normalized(event: &NormalizedEvent) -> Error {
    let version = event.version;
    Error::new(ErrorKind::Refused, format!("cannot read the normalized event of version {version}"))
}
