//! ToRows: the transform into rows, with the mapping inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_core::Result;
use tailwater_core::event::ChangeEvent;
use tailwater_core::mapping::Mapping;
use tailwater_core::position::Plan;
use tailwater_core::rows::{Entry, Layout, Rows};
use tailwater_pipeline::{Part, Transform};
use tracing::warn;

use crate::tables::PartRows;

/// Encodes what lanes yield for the tables of a layout.
#[derive(Debug, Clone)]
pub struct ToRows {
    layout: Layout,
    mappings: Mappings,
}

/// The mappings of a run: the one that new Ranges are made with, and earlier ones, since a Range is
/// finished with the one that it was declared with as long as that is known.
#[derive(Debug, Clone, Default)]
pub struct Mappings {
    current: Option<Arc<Mapping>>,
    by_hash: BTreeMap<String, Arc<Mapping>>,
}

impl Mappings {
    /// `current` for new Ranges; `None`: they have none.
    pub fn new(current: Option<Arc<Mapping>>) -> Self {
        let known = current.iter().map(|it| (it.hash().to_owned(), Arc::clone(it)));
        Self { by_hash: known.collect(), current }
    }

    /// The same, with an earlier mapping beside it.
    #[must_use]
    pub fn keeping(mut self, earlier: Arc<Mapping>) -> Self {
        self.by_hash.insert(earlier.hash().to_owned(), earlier);
        self
    }

    /// The mapping that a Range was declared with. Where the file was changed meanwhile that is gone,
    /// and what is missing of the Range is made with the new one.
    fn declared(&self, plan: &Plan) -> Option<&Mapping> {
        let hash = plan.mapping.as_ref()?;
        let kept = self.by_hash.get(hash);
        if kept.is_none() {
            warn!(
                mapping = %hash,
                "the mapping of the pending range is gone: what is missing of it is made with the new one"
            );
        }
        kept.or(self.current.as_ref()).map(|mapping| &**mapping)
    }
}

impl ToRows {
    /// Encodes for the given tables, without a mapping.
    pub fn new(layout: Layout) -> Self {
        Self { layout, mappings: Mappings::default() }
    }

    /// The same, with mappings.
    #[must_use]
    pub fn with_mappings(self, mappings: Mappings) -> Self {
        Self { mappings, ..self }
    }

    /// Whether rows of the current state are made.
    pub fn has_current(&self) -> bool {
        self.layout.current.is_some()
    }

    /// Encodes a part.
    ///
    /// # Errors
    /// As `Rows::encode`.
    pub fn encode(&self, part: Part<Vec<Entry>>) -> Result<Part<PartRows>> {
        self.encode_with(self.mappings.current.as_deref(), part)
    }

    /// Encodes a part as it was declared with this plan.
    ///
    /// # Errors
    /// As `Rows::encode`.
    pub fn encode_declared(&self, part: Part<Vec<Entry>>, plan: &Plan) -> Result<Part<PartRows>> {
        self.encode_with(self.mappings.declared(plan), part)
    }

    fn encode_with(
        &self,
        mapping: Option<&Mapping>,
        mut part: Part<Vec<Entry>>,
    ) -> Result<Part<PartRows>> {
        let entries = std::mem::take(&mut part.body);
        let rows = Rows::encode(&self.layout, mapping, part.lane.clone(), part.epoch, entries)?;
        // Until now it was a guess what the rows would take.
        part.hold(rows.bytes());
        Ok(part.with_body(PartRows(rows)))
    }
}

/// Numbers the events of a stream, which has no holes.
fn numbered(mut part: Part<Vec<ChangeEvent>>) -> Part<Vec<Entry>> {
    let first = part.range.map_or(part.next.seq, |range| range.first);
    let entries = Entry::dense(first, std::mem::take(&mut part.body));
    part.with_body(entries)
}

/// Direct mode.
impl Transform for ToRows {
    type In = Vec<ChangeEvent>;
    type Out = PartRows;

    fn apply(&self, part: Part<Vec<ChangeEvent>>) -> Result<Part<PartRows>> {
        self.encode(numbered(part))
    }

    fn apply_declared(&self, part: Part<Vec<ChangeEvent>>, plan: &Plan) -> Result<Part<PartRows>> {
        self.encode_declared(numbered(part), plan)
    }
}
