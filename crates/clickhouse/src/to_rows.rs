//! ToRows: the transform of direct mode, change events into the rows of a part.

use tailwater_core::Result;
use tailwater_core::event::ChangeEvent;
use tailwater_core::rows::{Layout, Rows};
use tailwater_pipeline::budget::Share;
use tailwater_pipeline::{Part, Transform};

use crate::tables::PartRows;

/// Encodes change events for the tables of a layout.
#[derive(Debug)]
pub struct ToRows {
    layout: Layout,
}

impl ToRows {
    /// Encodes for the given tables.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }
}

impl Transform for ToRows {
    type In = Vec<ChangeEvent>;
    type Out = PartRows;

    fn apply(&self, mut part: Part<Vec<ChangeEvent>>) -> Result<Part<PartRows>> {
        let events = std::mem::take(&mut part.body);
        let first = part.range.map_or(part.next.seq, |range| range.first);
        let rows = Rows::encode(&self.layout, part.lane.clone(), part.epoch, first, events)?;
        // Until now it was a guess what the rows would take.
        if let Some(mut share) = part.held.drain(..).reduce(Share::and) {
            share.resize(rows.bytes());
            part.held.push(share);
        }
        Ok(part.with_body(PartRows(rows)))
    }
}
