//! Records: the columns of the event table, a row for each event.

use crate::bson::Doc;
use crate::event::ChangeEvent;
use crate::json_column::text;
use crate::json_column::{Dates, JsonColumn};
use crate::native::{self, DateTime64, Numbers, Strings};
use crate::position::Seq;
use crate::table;
use crate::{Result, doc_id, ejson};

use super::{Block, Layout, Origin, as_text, block, malformed};

/// The columns of the event table.
pub(super) struct Records {
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
    topic: Strings,
    partition: Numbers<u32>,
    offset: Numbers<u64>,
    epoch: Strings,
    mapping: Strings,
    pub(super) rows: u64,
    lane_topic: Vec<u8>,
    lane_partition: u32,
    lane_epoch: Vec<u8>,
    scratch: Vec<u8>,
}

impl Records {
    pub(super) fn new(origin: &Origin) -> Self {
        Self {
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
            raw: Strings::with_capacity(2 * origin.bytes()),
            superseded: Numbers::default(),
            topic: Strings::default(),
            partition: Numbers::default(),
            offset: Numbers::default(),
            epoch: Strings::default(),
            mapping: Strings::default(),
            rows: 0,
            lane_topic: origin.lane.topic().as_bytes().to_vec(),
            lane_partition: origin.lane.partition(),
            lane_epoch: origin.epoch.to_string().into_bytes(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, seq: Seq, event: &ChangeEvent) -> Result<()> {
        let malformed = |error| malformed(event).with_source(error);
        self.scratch.clear();
        if let Some(key) = event.document_key() {
            doc_id::write(key, &mut self.scratch).map_err(malformed)?;
        }
        let id = &self.scratch;
        self.raw.push_with(|out| ejson::canonical(event.document()?, out)).map_err(malformed)?;
        self.tags.begin_row();
        self.tags.end_row();
        self.attrs.begin_row();
        if let Some(image) = last_image(event) {
            self.attrs.scalars(image).map_err(malformed)?;
        }
        self.attrs.end_row();
        self.ts.push(DateTime64(event.ts().0));
        self.event_type.push(event.operation_type());
        self.source.push(b"mongo");
        self.ns_db.push(event.db());
        self.ns_coll.push(event.coll());
        self.idempotency_key
            .push_with(|out| {
                idempotency_key(event, id, out);
                Ok::<(), std::convert::Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        self.doc_id.push(id);
        self.op.push(event.operation_type());
        self.version.push(event.version());
        self.superseded.push(event.is_superseded());
        self.topic.push(&self.lane_topic);
        self.partition.push(self.lane_partition);
        self.offset.push(seq.0);
        self.epoch.push(&self.lane_epoch);
        self.mapping.push(b"");
        self.rows += 1;
        Ok(())
    }

    pub(super) fn finish<'e>(
        mut self,
        layout: &Layout,
        events: impl Iterator<Item = &'e ChangeEvent>,
    ) -> Result<Block> {
        let text = match self.attrs.is_too_wide() {
            true => Some(as_text(events.map(|event| (event, last_image(event))), text::scalars)?),
            false => None,
        };
        let attrs: &dyn native::Column = text.as_ref().map_or(&self.attrs, |text| text);
        let columns: [&dyn native::Column; 18] = [
            &self.ts,
            &self.event_type,
            &self.source,
            &self.ns_db,
            &self.ns_coll,
            &self.idempotency_key,
            &self.tags,
            attrs,
            &self.doc_id,
            &self.op,
            &self.version,
            &self.raw,
            &self.superseded,
            &self.topic,
            &self.partition,
            &self.offset,
            &self.epoch,
            &self.mapping,
        ];
        block(layout.records.clone(), table::RECORD_COLUMNS, &columns, self.rows)
    }
}

/// The document as it was left, or as it was before it was deleted.
fn last_image(event: &ChangeEvent) -> Option<Doc<'_>> {
    if event.operation_type() == b"delete" { event.before() } else { event.full_document() }
}

fn idempotency_key(event: &ChangeEvent, doc_id: &[u8], out: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"mongo:");
    out.extend_from_slice(event.db());
    out.push(b'.');
    out.extend_from_slice(event.coll());
    out.push(b':');
    out.extend_from_slice(doc_id);
    out.push(b':');
    out.extend_from_slice(event.operation_type());
    out.push(b':');
    let time = event.cluster_time();
    out.extend_from_slice(number.format(time.seconds).as_bytes());
    out.push(b'.');
    out.extend_from_slice(number.format(time.increment).as_bytes());
    if event.txn_op_index() > 0 {
        out.push(b'.');
        out.extend_from_slice(number.format(event.txn_op_index()).as_bytes());
    }
}
