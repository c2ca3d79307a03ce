//! Rows: what a part yields as blocks of the append tables and of the current-state tables.
//!
//! ```text
//!   entry ─▶ mapping ─┬─▶ record_raw            every event but `invalidate`, once
//!                     ├─▶ raw_cdc               the same, as it is; only where it is wanted
//!                     ├─▶ dead letters          what is rejected, instead of a row in record_raw
//!                     └─▶ <db>__<coll>          the newest image, or a tombstone; may come again
//! ```
//!
//! The values are a contract (`docs/columns.md`). The same entries and the same mapping always make
//! the same plan. Everything is made of the event as the mapping left it, so that nobody sees what it
//! hides.
//!
//! | file | what |
//! |---|---|
//! | `entry` | what comes in |
//! | `item` | the fate of an entry: which tables have a row of it |
//! | `records`, `raw_cdc`, `dead_letters`, `place` | the columns of the append tables |
//! | `current` | the columns of the current state, and the ends of collections |

mod current;
mod dead_letters;
mod entry;
mod item;
mod place;
mod raw_cdc;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;

use bytes::Bytes;
use twox_hash::XxHash64;

use crate::bson::{BsonError, Doc};
use crate::event::ChangeEvent;
use crate::json_column::text::JsonText;
use crate::mapping::Mapping;
use crate::names::CurrentNames;
use crate::native;
use crate::position::{Epoch, LaneId, Millis, Plan, Seq};
use crate::table::{self, TableName};
use crate::{Error, ErrorKind, Result};

use self::dead_letters::DeadLetters;
use self::item::Item;
use self::raw_cdc::RawCdc;
use self::records::{Record, Records};

pub use self::current::{Ending, Stretch};
pub use self::entry::{Content, Entry, Rejected};

/// A database and a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    /// The database.
    pub db: String,
    /// The collection.
    pub coll: String,
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The event table.
    pub records: TableName,
    /// What its rows are made of.
    pub records_from: RecordsFrom,
    /// The table of change events as they are; `None`: there is none.
    pub raw_cdc: Option<TableName>,
    /// The table of what the event table does not have: events that were rejected.
    pub dead_letters: TableName,
    /// What the current-state tables are called; `None`: there are none.
    pub current: Option<CurrentNames>,
}

/// What the rows of the event table are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordsFrom {
    /// Of change events, by the mapping where there is one.
    #[default]
    Inline,
    /// Of what comes through the normalized topic. A change event has neither a row nor, when the
    /// mapping rejects it, a dead letter: `normalize` sees to both.
    Normalized,
}

/// A table whose rows must come once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Append {
    /// The event table.
    Records,
    /// The change events as they are.
    RawCdc,
    /// What was rejected.
    DeadLetters,
}

impl Append {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Records, Self::RawCdc, Self::DeadLetters];
}

impl Layout {
    /// The name of a table; `None` where there is none of it.
    pub const fn name(&self, table: Append) -> Option<&TableName> {
        match table {
            Append::Records => Some(&self.records),
            Append::RawCdc => self.raw_cdc.as_ref(),
            Append::DeadLetters => Some(&self.dead_letters),
        }
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<Append> {
        let is_it = |table: &Append| self.name(*table).is_some_and(|it| it.as_str() == name);
        Append::ALL.into_iter().find(is_it)
    }
}

/// Why an event has no row in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// A short word for it, the same for all of a kind.
    pub reason: &'static str,
    /// What exactly was said.
    pub error: String,
}

/// Rows of one table in the form in which they travel.
#[derive(Debug, Clone)]
pub struct Block {
    /// The table.
    pub table: TableName,
    /// The columns, in the order of the block.
    pub columns: &'static [table::Column],
    /// How many rows.
    pub rows: u64,
    /// The Native block.
    pub bytes: Bytes,
}

/// By what a row's event is known, whatever number it has: XXH64 of its namespace, document, kind
/// and version, as `table::IDENTITY` has it in SQL. What has no version is known by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u64);

/// What one part writes, and what it was made of.
#[derive(Debug)]
pub struct Rows {
    /// What is declared before any of it is written.
    pub plan: Plan,
    /// Rows that must come once.
    pub append: Vec<Block>,
    /// The current state, in order.
    pub stretches: Vec<Stretch>,
    origin: Origin,
}

#[derive(Debug)]
struct Origin {
    lane: LaneId,
    epoch: Epoch,
    layout: Layout,
    mapping: Option<String>,
    items: Vec<Item>,
}

impl Rows {
    /// Encodes what one lane yields, whose numbers grow.
    ///
    /// # Errors
    /// `Refused` when an event's document is not BSON.
    pub fn encode(
        layout: &Layout,
        mapping: Option<&Mapping>,
        lane: LaneId,
        epoch: Epoch,
        entries: Vec<Entry>,
    ) -> Result<Self> {
        let items = entries.into_iter().map(|entry| Item::of(entry, layout, mapping));
        let items = items.collect::<Result<_>>()?;
        let (layout, mapping) = (layout.clone(), mapping.map(|it| it.hash().to_owned()));
        let origin = Origin { lane, epoch, layout, mapping, items };
        let blocks = Append::ALL.into_iter().map(|table| origin.append(table, |_| true));
        let append: Vec<Block> = blocks.filter_map(Result::transpose).collect::<Result<_>>()?;
        let plan = origin.plan(&append);
        let stretches = origin.stretches(usize::MAX)?;
        Ok(Self { plan, append, stretches, origin })
    }

    /// Encodes once more just one table's rows of these events; `None`: there are none.
    ///
    /// # Errors
    /// As `encode`.
    pub fn only(&self, table: Append, seqs: &BTreeSet<Seq>) -> Result<Option<Block>> {
        self.origin.append(table, |seq| seqs.contains(&seq))
    }

    /// The block of one table; `None`: there are no rows for it.
    pub fn block(&self, table: Append) -> Option<&Block> {
        let name = self.origin.layout.name(table)?;
        self.append.iter().find(|block| block.table == *name)
    }

    /// How many entries the part holds.
    pub fn len(&self) -> usize {
        self.origin.items.len()
    }

    /// Whether the part holds no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries have neither a row in the event table nor a dead letter, by rule.
    pub fn dropped(&self) -> u64 {
        self.origin.items.iter().filter(|item| item.is_dropped()).count() as u64
    }

    /// Why entries are dead letters from the start, each.
    pub fn rejections(&self) -> impl Iterator<Item = &Rejection> {
        self.origin.items.iter().filter_map(Item::rejection)
    }

    /// When the newest of the events happened, whatever time their rows have.
    pub fn newest_time(&self) -> Option<Millis> {
        // What a mapping makes of it is only in the event table.
        self.origin.items.iter().map(|item| item.ts(Append::RawCdc)).max()
    }

    /// Encodes once more the current state, in blocks of at most so many events.
    ///
    /// # Errors
    /// As `encode`.
    pub fn smaller_stretches(&self, most: usize) -> Result<Vec<Stretch>> {
        self.origin.stretches(most)
    }

    /// The dead letter that takes the place of an event's row in a table.
    ///
    /// # Errors
    /// As `encode`; a bug when the part has no such event.
    pub fn dead_letter(&self, table: Append, seq: Seq, why: &Rejection) -> Result<Block> {
        let found = self.origin.items.iter().find(|item| item.seq == seq);
        let mut letters = DeadLetters::new(&self.origin);
        if let Some(item) = found {
            letters.push(item, item.ts(table), why)?;
        }
        match letters.rows {
            0 => Err(Error::new(ErrorKind::Bug, format!("event {seq} is not in its range"))),
            _ => letters.finish(),
        }
    }

    /// What they hold in memory, the entries included.
    pub fn bytes(&self) -> usize {
        let upsert = self.stretches.iter().flat_map(|stretch| &stretch.upsert);
        let blocks = self.append.iter().chain(upsert.map(|(_, block)| block));
        self.origin.items.iter().map(Item::bytes).sum::<usize>()
            + blocks.map(|block| block.bytes.len()).sum::<usize>()
    }

    /// The events whose rows in a table are older than that, and so may be gone if it has a TTL.
    pub fn older_than(&self, table: Append, time: Millis) -> BTreeSet<Seq> {
        let old = self.origin.in_table(table).filter(|item| item.ts(table) < time);
        old.map(|item| item.seq).collect()
    }

    /// The greatest version among the rows of all append tables, and how many rows have it.
    pub fn newest(&self) -> (u128, u64) {
        let tables = Append::ALL.into_iter();
        let versions =
            || tables.clone().flat_map(|table| self.origin.in_table(table).map(Item::version));
        let newest = versions().max().unwrap_or(0);
        (newest, versions().filter(|version| *version == newest).count() as u64)
    }

    /// The least and the greatest version of the events.
    pub fn versions(&self) -> (u128, u128) {
        let versions = || self.origin.items.iter().map(Item::version).filter(|it| *it > 0);
        (versions().min().unwrap_or(0), versions().max().unwrap_or(0))
    }

    /// The events that have a row in a table when the part is there as a whole: number and identity.
    ///
    /// # Errors
    /// As `encode`.
    pub fn identities(&self, table: Append) -> Result<Vec<(Seq, Identity)>> {
        let mut scratch = Vec::new();
        let mut identities = Vec::new();
        for item in self.origin.in_table(table) {
            if let Some(identity) = self.origin.identity(item, &mut scratch)? {
                identities.push((item.seq, identity));
            }
        }
        Ok(identities)
    }

    /// The identity of every entry, whether it has a row or not; `None` where a rule left nothing to
    /// know it by.
    ///
    /// # Errors
    /// As `encode`.
    pub fn all_identities(&self) -> Result<BTreeMap<Seq, Option<Identity>>> {
        let mut scratch = Vec::new();
        let items = self.origin.items.iter();
        items.map(|item| Ok((item.seq, self.origin.identity(item, &mut scratch)?))).collect()
    }
}

impl Origin {
    fn in_table(&self, table: Append) -> impl Iterator<Item = &Item> + Clone {
        self.items.iter().filter(move |item| item.is_in(table, &self.layout))
    }

    fn identity(&self, item: &Item, scratch: &mut Vec<u8>) -> Result<Option<Identity>> {
        let subject = item.subject(scratch)?;
        Ok(subject.map(|subject| subject.identity(&self.lane, item.seq)))
    }

    /// The `_mapping` of an item's rows.
    fn mapping_of<'a>(&'a self, item: &'a Item) -> &'a [u8] {
        match item.record() {
            Some(Record::Normalized(event)) => event.mapping.as_bytes(),
            _ => self.mapping.as_deref().unwrap_or_default().as_bytes(),
        }
    }

    fn plan(&self, append: &[Block]) -> Plan {
        let mut digest = XxHash64::with_seed(0);
        self.items.iter().for_each(|item| item.digest(&mut digest));
        let times = || {
            let tables = Append::ALL.into_iter();
            tables.flat_map(|table| self.in_table(table).map(move |item| item.ts(table)))
        };
        Plan {
            ts_min: times().min().unwrap_or(Millis(0)),
            ts_max: times().max().unwrap_or(Millis(0)),
            rows: append.iter().map(|block| (block.table.to_string(), block.rows)).collect(),
            digest: digest.finish(),
            mapping: self.mapping.clone(),
        }
    }

    fn append(&self, table: Append, keep: impl Fn(Seq) -> bool) -> Result<Option<Block>> {
        let Some(name) = self.layout.name(table) else { return Ok(None) };
        let items = self.in_table(table).filter(|item| keep(item.seq));
        if items.clone().next().is_none() {
            return Ok(None);
        }
        let block = match table {
            Append::Records => {
                let mut records = Records::new(self);
                items.clone().try_for_each(|item| records.push(item))?;
                records.finish(items)?
            }
            Append::RawCdc => {
                let mut ledger = RawCdc::new(self);
                items.clone().try_for_each(|item| ledger.push(item))?;
                ledger.finish(name.clone())?
            }
            Append::DeadLetters => {
                let mut letters = DeadLetters::new(self);
                for item in items {
                    if let Some(why) = item.rejection() {
                        letters.push(item, item.ts(table), why)?;
                    }
                }
                letters.finish()?
            }
        };
        Ok(Some(block))
    }
}

/// Writes a document as one text of a JSON column.
type AsText = fn(Doc<'_>, &mut Vec<u8>) -> Result<(), BsonError>;

/// A JSON column that is too wide for its own form.
fn as_text<'e, R>(
    rows: impl IntoIterator<Item = (R, Doc<'e>)>,
    write: impl Fn(&R) -> AsText,
    malformed: impl Fn(&R) -> Error,
) -> Result<JsonText> {
    let mut column = JsonText::default();
    for (row, document) in rows {
        let pushed = column.push_with(document, write(&row));
        pushed.map_err(|error| malformed(&row).with_source(error))?;
    }
    Ok(column)
}

fn block(
    table: TableName,
    columns: &'static [table::Column],
    data: &[&dyn native::Column],
    rows: u64,
) -> Result<Block> {
    let named: Vec<(&str, &dyn native::Column)> =
        columns.iter().map(|(name, _)| *name).zip(data.iter().copied()).collect();
    Ok(Block { table, columns, rows, bytes: native::encode(&named)?.into() })
}

/// Names the event by its time alone: its values stay out of messages.
fn malformed(event: &ChangeEvent) -> Error {
    let time = event.cluster_time();
    Error::new(
        ErrorKind::Refused,
        format!("cannot read the event at cluster time {}.{}", time.seconds, time.increment),
    )
}
