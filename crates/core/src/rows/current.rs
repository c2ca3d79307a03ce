//! Current: the columns of a current-state table, the newest row of each document.

use twox_hash::XxHash64;

use crate::bson::{BsonError, Doc, Value};
use crate::event::ChangeEvent;
use crate::json_column::text;
use crate::json_column::{Dates, JsonColumn};
use crate::native::{self, Numbers, Strings};
use crate::table::{self, TableName};
use crate::{Result, doc_id};

use super::{Block, as_text, block, malformed};

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
                    images.extend(states(event)?.map(|(_, image)| (event, image)));
                }
                Some(as_text(images, text::document)?)
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
