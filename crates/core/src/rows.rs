//! Rows: change events as blocks of the event table and of the current-state tables.
//!
//! ```text
//!   event ─┬─▶ record_raw            every event but `invalidate`, once
//!          └─▶ <db>__<coll>          the newest image, or a tombstone; may come again
//! ```
//!
//! The values are a contract (`docs/columns.md`). The same events always make the same plan.

mod current;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;

use bytes::Bytes;
use twox_hash::XxHash64;

use crate::bson::{BsonError, Doc};
use crate::event::ChangeEvent;
use crate::json_column::text::JsonText;
use crate::names::CurrentNames;
use crate::native::{self, DateTime64, Numbers, Strings};
use crate::position::{Epoch, LaneId, Millis, Plan, Seq};
use crate::table::{self, TableName};
use crate::{Error, ErrorKind, Result, doc_id, ejson};

use self::current::Current;
use self::records::Records;

/// A database and a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    /// The database.
    pub db: String,
    /// The collection.
    pub coll: String,
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
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The event table.
    pub records: TableName,
    /// The table of events that ClickHouse refused.
    pub dead_letters: TableName,
    /// What the current-state tables are called; `None`: there are none.
    pub current: Option<CurrentNames>,
}

/// Why an event has no row in the event table.
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

/// A run of events up to the next `rename`, which must find the rows before it and none behind it:
/// of one document the newest row alone stays in a block, and sooner or later in the table.
#[derive(Debug)]
pub struct Stretch {
    /// Rows of the current state, by namespace; their version tells which one counts.
    pub upsert: Vec<(Namespace, Block)>,
    /// Ends of whole collections, to be applied behind those rows, in order.
    pub endings: Vec<Ending>,
}

#[derive(Debug)]
struct Origin {
    lane: LaneId,
    epoch: Epoch,
    first: Seq,
    events: Vec<ChangeEvent>,
}

impl Rows {
    /// Encodes the events of one lane, the first of which has the number `first`.
    ///
    /// # Errors
    /// `Refused` when an event's document is not BSON.
    pub fn encode(
        layout: &Layout,
        lane: LaneId,
        epoch: Epoch,
        first: Seq,
        events: Vec<ChangeEvent>,
    ) -> Result<Self> {
        let origin = Origin { lane, epoch, first, events };
        let append = origin.append(layout, |_| true)?;
        let plan = origin.plan(&append);
        let stretches = match &layout.current {
            Some(names) => origin.stretches(names, usize::MAX)?,
            None => Vec::new(),
        };
        Ok(Self { plan, append, stretches, origin })
    }

    /// Encodes once more just the event table's rows of these events.
    ///
    /// # Errors
    /// As `encode`.
    pub fn only(&self, layout: &Layout, seqs: &BTreeSet<Seq>) -> Result<Vec<Block>> {
        self.origin.append(layout, |seq| seqs.contains(&seq))
    }

    /// How many events the part holds.
    pub fn len(&self) -> usize {
        self.origin.events.len()
    }

    /// Whether the part holds no event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encodes once more the current state, in blocks of at most so many events.
    ///
    /// # Errors
    /// As `encode`.
    pub fn smaller_stretches(&self, layout: &Layout, most: usize) -> Result<Vec<Stretch>> {
        layout.current.as_ref().map_or(Ok(Vec::new()), |names| self.origin.stretches(names, most))
    }

    /// The dead letter of one event.
    ///
    /// # Errors
    /// As `encode`; a bug when the part has no such event.
    pub fn dead_letter(&self, layout: &Layout, seq: Seq, why: &Rejection) -> Result<Block> {
        let found = self.origin.numbered().find(|(number, _)| *number == seq);
        let Some((_, event)) = found else {
            return Err(Error::new(ErrorKind::Bug, format!("event {seq} is not in its range")));
        };
        self.origin.dead_letter(layout, seq, event, why)
    }

    /// What they hold in memory, the events included.
    pub fn bytes(&self) -> usize {
        let events = &self.origin.events;
        let upsert = self.stretches.iter().flat_map(|stretch| &stretch.upsert);
        let blocks = self.append.iter().chain(upsert.map(|(_, block)| block));
        size_of::<ChangeEvent>() * events.len()
            + self.origin.bytes()
            + blocks.map(|block| block.bytes.len()).sum::<usize>()
    }

    /// The events whose rows are older than that, and so may be gone from a table with a TTL.
    pub fn older_than(&self, time: Millis) -> BTreeSet<Seq> {
        let old = self.origin.numbered().filter(|(_, event)| event.ts() < time);
        old.map(|(seq, _)| seq).collect()
    }

    /// The greatest version among the rows, and how many have it.
    pub fn newest(&self) -> (u128, u64) {
        let versions =
            || self.origin.events.iter().filter(|e| has_row(e)).map(ChangeEvent::version);
        let newest = versions().max().unwrap_or(0);
        (newest, versions().filter(|version| *version == newest).count() as u64)
    }

    /// The events that have a row when the part is there as a whole: number and identity.
    ///
    /// # Errors
    /// As `encode`.
    pub fn identities(&self) -> Result<Vec<(Seq, Identity)>> {
        let mut scratch = Vec::new();
        let rows = self.origin.numbered().filter(|(_, event)| has_row(event));
        rows.map(|(seq, event)| {
            scratch.clear();
            if let Some(key) = event.document_key() {
                doc_id::write(key, &mut scratch)
                    .map_err(|error| malformed(event).with_source(error))?;
            }
            Ok((seq, Identity::of(event, &scratch)))
        })
        .collect()
    }
}

/// By what a row's event is known, whatever number it has: XXH64 of its namespace, document, kind
/// and version, as `table::IDENTITY` has it in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u64);

impl Identity {
    fn of(event: &ChangeEvent, doc_id: &[u8]) -> Self {
        let mut hash = XxHash64::with_seed(0);
        for part in [event.db(), event.coll(), doc_id, event.operation_type()] {
            hash.write(part);
            hash.write_u8(0);
        }
        hash.write(event.version().to_string().as_bytes());
        Self(hash.finish())
    }
}

fn has_row(event: &ChangeEvent) -> bool {
    event.has_row()
}

impl Origin {
    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.bytes().len()).sum()
    }

    fn numbered(&self) -> impl Iterator<Item = (Seq, &ChangeEvent)> {
        (0..).map(|index| self.first.plus(index)).zip(&self.events)
    }

    fn plan(&self, append: &[Block]) -> Plan {
        let mut digest = XxHash64::with_seed(0);
        // Not the tokens: another version of the server may write the same ones differently.
        for event in &self.events {
            let key = event.document_key().map_or(&[][..], |key| key.as_bytes());
            for part in [event.db(), event.coll(), event.operation_type(), key] {
                digest.write(part);
                digest.write_u8(0);
            }
            digest.write_u128(event.version());
        }
        let times = || self.events.iter().filter(|event| has_row(event)).map(ChangeEvent::ts);
        Plan {
            ts_min: times().min().unwrap_or(Millis(0)),
            ts_max: times().max().unwrap_or(Millis(0)),
            rows: append.iter().map(|block| (block.table.to_string(), block.rows)).collect(),
            digest: digest.finish(),
        }
    }

    fn append(&self, layout: &Layout, keep: impl Fn(Seq) -> bool) -> Result<Vec<Block>> {
        let kept = || self.numbered().filter(|(seq, event)| has_row(event) && keep(*seq));
        let mut records = Records::new(self);
        for (seq, event) in kept() {
            records.push(seq, event)?;
        }
        if records.rows == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![records.finish(layout, kept().map(|(_, event)| event))?])
    }

    fn dead_letter(
        &self,
        layout: &Layout,
        seq: Seq,
        event: &ChangeEvent,
        why: &Rejection,
    ) -> Result<Block> {
        let malformed = |error| malformed(event).with_source(error);
        let string = |bytes: &[u8]| {
            let mut column = Strings::default();
            column.push(bytes);
            column
        };
        let mut ts = Numbers::default();
        ts.push(DateTime64(event.ts().0));
        let mut doc_id = Strings::default();
        doc_id
            .push_with(|out| event.document_key().map_or(Ok(()), |key| doc_id::write(key, out)))
            .map_err(malformed)?;
        let mut version = Numbers::default();
        version.push(event.version());
        let mut text = Strings::default();
        text.push_with(|out| ejson::canonical(event.document()?, out)).map_err(malformed)?;
        let mut partition = Numbers::default();
        partition.push(self.lane.partition());
        let mut offset = Numbers::default();
        offset.push(seq.0);
        let columns: [&dyn native::Column; 14] = [
            &ts,
            &string(why.reason.as_bytes()),
            &string(why.error.as_bytes()),
            &string(event.db()),
            &string(event.coll()),
            &doc_id,
            &string(event.operation_type()),
            &version,
            &text,
            &string(self.lane.topic().as_bytes()),
            &partition,
            &offset,
            &string(self.epoch.to_string().as_bytes()),
            &string(b""),
        ];
        block(layout.dead_letters.clone(), table::DEAD_LETTER_COLUMNS, &columns, 1)
    }

    fn stretches(&self, names: &CurrentNames, most: usize) -> Result<Vec<Stretch>> {
        let stretches = self.events.split_inclusive(|event| event.operation_type() == b"rename");
        stretches
            .flat_map(|events| events.chunks(most))
            .map(|events| {
                Ok(Stretch { upsert: self.upsert(names, events)?, endings: endings(events)? })
            })
            .collect()
    }

    fn upsert(
        &self,
        names: &CurrentNames,
        events: &[ChangeEvent],
    ) -> Result<Vec<(Namespace, Block)>> {
        let mut tables: BTreeMap<(&[u8], &[u8]), Current> = BTreeMap::new();
        let current = || events.iter().filter(|event| event.tells_state());
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
}

/// `dropDatabase` ends nothing: the server drops each collection before it.
fn endings(events: &[ChangeEvent]) -> Result<Vec<Ending>> {
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
        endings.push(Ending { of, renamed_to, version: event.version() });
    }
    Ok(endings)
}

/// A JSON column that is too wide for its own form.
fn as_text<'e>(
    images: impl IntoIterator<Item = (&'e ChangeEvent, Option<Doc<'e>>)>,
    write: impl Fn(Doc<'_>, &mut Vec<u8>) -> Result<(), BsonError>,
) -> Result<JsonText> {
    let mut column = JsonText::default();
    for (event, image) in images {
        let image = image.unwrap_or(Doc::EMPTY);
        column.push_with(image, &write).map_err(|error| malformed(event).with_source(error))?;
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

fn namespace(db: &[u8], coll: &[u8]) -> Result<Namespace> {
    let text = |name: &[u8]| {
        std::str::from_utf8(name).map(str::to_owned).map_err(|error| {
            Error::new(ErrorKind::Refused, "a namespace is not UTF-8").with_source(error)
        })
    };
    Ok(Namespace { db: text(db)?, coll: text(coll)? })
}

/// Names the event by its time alone: its values stay out of messages.
fn malformed(event: &ChangeEvent) -> Error {
    let time = event.cluster_time();
    Error::new(
        ErrorKind::Refused,
        format!("cannot read the event at cluster time {}.{}", time.seconds, time.increment),
    )
}
