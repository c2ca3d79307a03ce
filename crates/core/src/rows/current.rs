//! Current: the columns of a current-state table, the newest row of each document, and what ends
//! them all.

use std::collections::BTreeMap;

use twox_hash::XxHash64;

use crate::bson::{BsonError, Doc, Value};
use crate::event::ChangeEvent;
use crate::json_column::text;
use crate::json_column::{Dates, JsonColumn};
use crate::names::CurrentNames;
use crate::native::{self, Numbers, Strings};
use crate::table::{self, TableName};
use crate::{Error, ErrorKind, Result, doc_id};

use super::item::Item;
use super::{AsText, Block, Namespace, Origin, as_text, block, malformed};

/// A run of events up to the next `rename`, which must find the rows before it and none behind it:
/// of one document the newest row alone stays in a block, and sooner or later in the table.
#[derive(Debug)]
pub struct Stretch {
    /// Rows of the current state, by namespace; their version tells which one counts.
    pub upsert: Vec<(Namespace, Block)>,
    /// Ends of whole collections, to be applied behind those rows, in order.
    pub endings: Vec<Ending>,
}

/// A collection was dropped, or renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The collection that ended.
    pub of: Namespace,
    /// Under which name its documents live on.
    pub renamed_to: Option<Namespace>,
    /// Older rows end with it.
    pub version: u128,
    /// Whose rows: those of one partition, whose lane this is; or all.
    pub partition: Option<u32>,
}

impl Origin {
    /// The current state, in blocks of at most so many events.
    pub(super) fn stretches(&self, most: usize) -> Result<Vec<Stretch>> {
        let Some(names) = &self.layout.current else { return Ok(Vec::new()) };
        let is_rename = |item: &Item| item.event().is_some_and(|e| e.operation_type() == b"rename");
        let stretches = self.items.split_inclusive(is_rename);
        let stretches = stretches.flat_map(|items| items.chunks(most)).map(|items| {
            let events = || items.iter().filter_map(Item::event);
            Ok(Stretch { upsert: self.upsert(names, events)?, endings: self.endings(events())? })
        });
        stretches.collect()
    }

    fn upsert<'e, E: Iterator<Item = &'e ChangeEvent>>(
        &self,
        names: &CurrentNames,
        events: impl Fn() -> E,
    ) -> Result<Vec<(Namespace, Block)>> {
        let mut tables: BTreeMap<(&[u8], &[u8]), Current> = BTreeMap::new();
        let current = || events().filter(|event| event.tells_state());
        for event in current() {
            let table = tables.entry((event.db(), event.coll())).or_default();
            table.push(event, self.lane.partition())?;
        }
        tables
            .into_iter()
            .map(|((db, coll), rows)| {
                let namespace = namespace(db, coll)?;
                let table = names.table(&namespace.db, &namespace.coll);
                let events = current().filter(|event| (event.db(), event.coll()) == (db, coll));
                Ok((namespace, rows.finish(table, events)?))
            })
            .collect()
    }

    /// `dropDatabase` ends nothing: the server drops each collection before it.
    fn endings<'e>(&self, events: impl Iterator<Item = &'e ChangeEvent>) -> Result<Vec<Ending>> {
        let mut endings = Vec::new();
        for event in events {
            let renamed_to = match event.operation_type() {
                b"drop" => None,
                b"rename" => {
                    let (db, coll) = event.renamed_to();
                    Some(namespace(db, coll)?)
                }
                _ => continue,
            };
            let of = namespace(event.db(), event.coll())?;
            // One that no other lane sees is told for all of them: of those that lag behind it more
            // rows may come, but the others' would stay for ever.
            let in_all_lanes = self.lane.is_partition() && !event.is_in_one_lane();
            let partition = in_all_lanes.then(|| self.lane.partition());
            endings.push(Ending { of, renamed_to, version: event.version(), partition });
        }
        Ok(endings)
    }
}

fn namespace(db: &[u8], coll: &[u8]) -> Result<Namespace> {
    let text = |name: &[u8]| {
        std::str::from_utf8(name).map(str::to_owned).map_err(|error| {
            Error::new(ErrorKind::Refused, "a namespace is not UTF-8").with_source(error)
        })
    };
    Ok(Namespace { db: text(db)?, coll: text(coll)? })
}

/// By what a row of the current state is known.
enum Id<'e> {
    /// The document key.
    Key(Doc<'e>),
    /// The document's own `_id`.
    Own(Value<'e>),
}

/// The rows of the current state that an event makes.
///
/// Mostly one. But `1` and `1.0` are equal to MongoDB, so that a replacement may put one in the place
/// of the other, and they are texts of their own: then the old one gets a tombstone first.
fn states(event: &ChangeEvent) -> Result<impl Iterator<Item = (Id<'_>, Option<Doc<'_>>)>> {
    let image = event.full_document();
    let rows = match event.document_key() {
        None => [None, None],
        Some(key) => match new_id(key, image) {
            Err(error) => return Err(malformed(event).with_source(error)),
            Ok(None) => [Some((Id::Key(key), image)), None],
            Ok(Some(own)) => [Some((Id::Key(key), None)), Some((Id::Own(own), image))],
        },
    };
    Ok(rows.into_iter().flatten())
}

/// The document's own `_id`, where its text is not that of the document key.
fn new_id<'e>(key: Doc<'e>, image: Option<Doc<'e>>) -> Result<Option<Value<'e>>, BsonError> {
    let mut fields = key.elements();
    let (Some(old), None) = (fields.next().transpose()?, fields.next()) else { return Ok(None) };
    let Some(own) = image.map(|image| image.get("_id")).transpose()?.flatten() else {
        return Ok(None);
    };
    if old.key != b"_id" || old.value == own {
        return Ok(None);
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    doc_id::write_id(&old.value, &mut before)?;
    doc_id::write_id(&own, &mut after)?;
    Ok((before != after).then_some(own))
}

/// The columns of a current-state table.
#[derive(Debug)]
pub(super) struct Current {
    id: Strings,
    doc: JsonColumn,
    bson: Strings,
    hash: Numbers<u64>,
    version: Numbers<u128>,
    is_deleted: Numbers<u8>,
    partition: Numbers<u32>,
    rows: u64,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            id: Strings::default(),
            doc: JsonColumn::new(Dates::DateTime64),
            bson: Strings::default(),
            hash: Numbers::default(),
            version: Numbers::default(),
            is_deleted: Numbers::default(),
            partition: Numbers::default(),
            rows: 0,
        }
    }
}

impl Current {
    pub(super) fn push(&mut self, event: &ChangeEvent, partition: u32) -> Result<()> {
        let malformed = |error| malformed(event).with_source(error);
        for (id, image) in states(event)? {
            let write_id = |out: &mut _| match &id {
                Id::Key(key) => doc_id::write(*key, out),
                Id::Own(id) => doc_id::write_id(id, out),
            };
            self.id.push_with(write_id).map_err(malformed)?;
            self.doc.begin_row();
            match image {
                Some(image) => {
                    self.doc.document(image).map_err(malformed)?;
                    self.bson.push(image.as_bytes());
                    self.hash.push(XxHash64::oneshot(0, image.as_bytes()));
                    self.is_deleted.push(0);
                }
                None => {
                    self.bson.push(b"");
                    self.hash.push(0);
                    self.is_deleted.push(1);
                }
            }
            self.doc.end_row();
            self.version.push(event.version());
            self.partition.push(partition);
            self.rows += 1;
        }
        Ok(())
    }

    pub(super) fn finish<'e>(
        mut self,
        table: TableName,
        events: impl Iterator<Item = &'e ChangeEvent>,
    ) -> Result<Block> {
        let text = match self.doc.is_too_wide() {
            true => {
                let mut images = Vec::new();
                for event in events {
                    let states = states(event)?;
                    images.extend(states.map(|(_, image)| (event, image.unwrap_or(Doc::EMPTY))));
                }
                Some(as_text(images, |_| text::document as AsText, |event| malformed(event))?)
            }
            false => None,
        };
        let doc: &dyn native::Column = text.as_ref().map_or(&self.doc, |text| text);
        let columns: [&dyn native::Column; 7] = [
            &self.id,
            doc,
            &self.bson,
            &self.hash,
            &self.version,
            &self.is_deleted,
            &self.partition,
        ];
        block(table, table::CURRENT_COLUMNS, &columns, self.rows)
    }
}
