//! Look: which events of a Range the append tables have, as one read-back of all of them sees it.

use std::collections::{BTreeSet, HashSet};

use serde::Deserialize;
use tailwater_core::Result;
use tailwater_core::position::{Seq, SeqRange};
use tailwater_core::rows::{Append, Identity, Rows};
use tailwater_core::table::{self, RowsOf};
use tailwater_pipeline::write_ahead::Declared;

use crate::Tables;
use crate::tables::REFUSED_RAW_CDC;

/// What the tables have.
#[derive(Debug)]
pub(crate) struct Look {
    /// Numbers prove nothing: events are known without theirs.
    renumbered: bool,
    range: SeqRange,
    /// Everything that was found.
    found: Vec<Found>,
    records: HashSet<Name>,
    /// Dead letters in the place of rows of the event table.
    letters: HashSet<Name>,
    raw_cdc: HashSet<Name>,
    /// Dead letters in the place of rows of `raw_cdc`.
    letters_of_raw_cdc: HashSet<Name>,
}

/// A row. Without its number an event is known too, but two may be alike.
type Name = (u64, Identity);

#[derive(Debug, Deserialize)]
struct Found {
    _offset: u64,
    identity: u64,
    reason: Option<String>,
}

impl Look {
    /// Reads back a Range.
    ///
    /// The rows of another mapping may be of another time, and that of an event table's row does not
    /// count: an event that has a row, or a dead letter, whatever made it so, has its place.
    pub(crate) async fn at(tables: &Tables, declared: Declared<'_>, rows: &Rows) -> Result<Self> {
        let Declared { lane, epoch, intent, renumbered, .. } = declared;
        let range = intent.range;
        let epoch = epoch.to_string();
        // What is pending is finished by the mapping that declared it. Behind a checkpoint that is
        // older than the table another one may have been at work.
        let by_others = intent.foreign || renumbered;
        let mapping = rows.plan.mapping.as_deref().unwrap_or_default();
        let rows_of = RowsOf {
            epoch: &epoch,
            topic: lane.topic(),
            partition: lane.partition(),
            offsets: (range.first.0, range.last.0),
            versions: renumbered.then(|| rows.versions()),
            ts: (rows.plan.ts_min.0, rows.plan.ts_max.0),
            mapping: by_others.then_some(mapping),
        };
        let mut look = Self {
            renumbered,
            range,
            found: Vec::new(),
            records: HashSet::new(),
            letters: HashSet::new(),
            raw_cdc: HashSet::new(),
            letters_of_raw_cdc: HashSet::new(),
        };
        for (of, table) in tables.tables() {
            let database = tables.connection.database();
            let sql = table::read_back(database, (of, table), &rows_of);
            let what = format!("cannot read back {range} of `{lane}`");
            let found: Vec<Found> = tables.connection.rows(&sql, &what).await?;
            for row in &found {
                let raw_cdc = row.reason.as_deref() == Some(REFUSED_RAW_CDC);
                let names = match of {
                    Append::Records => &mut look.records,
                    Append::RawCdc => &mut look.raw_cdc,
                    Append::DeadLetters if raw_cdc => &mut look.letters_of_raw_cdc,
                    Append::DeadLetters => &mut look.letters,
                };
                names.insert(name(renumbered, row._offset, Identity(row.identity)));
            }
            look.found.extend(found);
        }
        Ok(look)
    }

    /// Those of some events for which something is true.
    pub(crate) fn seqs(
        &self,
        events: &[(Seq, Identity)],
        is_true: impl Fn(&Name) -> bool,
    ) -> BTreeSet<Seq> {
        let named = |(seq, identity): &(Seq, Identity)| name(self.renumbered, seq.0, *identity);
        events.iter().filter(|event| is_true(&named(event))).map(|(seq, _)| *seq).collect()
    }

    /// Whether an event has its row in a table, or a dead letter in its place. A dead letter that is
    /// planned needs none where the event table has a row, which an earlier mapping made.
    pub(crate) fn has(&self, table: Append, event: &Name) -> bool {
        match table {
            Append::Records | Append::DeadLetters => {
                self.records.contains(event) || self.letters.contains(event)
            }
            Append::RawCdc => {
                self.raw_cdc.contains(event) || self.letters_of_raw_cdc.contains(event)
            }
        }
    }

    /// Whether an event has a dead letter in the place of its row in a table.
    pub(crate) fn has_letter_instead(&self, table: Append, event: &Name) -> bool {
        match table {
            Append::Records => self.letters.contains(event),
            Append::RawCdc => self.letters_of_raw_cdc.contains(event),
            Append::DeadLetters => false,
        }
    }

    /// Whether rows of other events stand at the numbers of the Range.
    pub(crate) fn has_others(&self, rows: &Rows) -> Result<bool> {
        let own = rows.all_identities()?;
        let numbers = self.range.first.0..=self.range.last.0;
        Ok(self.found.iter().filter(|row| numbers.contains(&row._offset)).any(|row| {
            match own.get(&Seq(row._offset)) {
                // What is left out now may have had a row once.
                Some(None) => false,
                Some(Some(identity)) => identity.0 != row.identity,
                None => true,
            }
        }))
    }
}

const fn name(renumbered: bool, seq: u64, identity: Identity) -> Name {
    match renumbered {
        true => (0, identity),
        false => (seq, identity),
    }
}
