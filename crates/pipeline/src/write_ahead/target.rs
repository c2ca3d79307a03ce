//! Target: where rows go that carry their identity, as write-ahead sees it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tailwater_core::gap::Gap;
use tailwater_core::position::{Epoch, Intent, LaneId, Millis, Plan, Seq};
use tailwater_core::{Error, Result};

/// A Range that may be written: it is declared, durably.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// The lane.
    pub lane: &'a LaneId,
    /// The life of the lane's numbering.
    pub epoch: Epoch,
    /// What was declared.
    pub intent: &'a Intent,
    /// The moment after which no block of this declaration is sent any more.
    pub deadline: Millis,
    /// Its events may have rows under other numbers than their own.
    pub renumbered: bool,
}

/// A body that knows what it is going to write.
pub trait Planned: Send + Sync + 'static {
    /// What the Range writes. Its tables are those that rows are appended to.
    fn plan(&self) -> &Plan;

    /// How many events the Range holds: fewer than numbers where those have holes.
    fn events(&self) -> u64 {
        self.plan().rows.values().copied().max().unwrap_or(0)
    }

    /// How many of them are dead letters from the start.
    fn rejected(&self) -> u64 {
        0
    }

    /// How many of them are left out by rule.
    fn dropped(&self) -> u64 {
        0
    }

    /// What was said of the first dead letter.
    fn rejection(&self) -> Option<String> {
        None
    }

    /// When the newest of them happened.
    fn newest(&self) -> Millis {
        self.plan().ts_max
    }
}

/// A block of a Range in one table. Its token T names the Range and the table; what a recovery sends
/// in its rounds goes under T in round 0, under `T~n` in round n.
#[derive(Debug, Clone, Copy)]
pub enum Block<'a> {
    /// The table's rows of the Range as a whole, under T.
    Whole,
    /// What a read-back found missing.
    Missing(&'a BTreeSet<Seq>, Round),
    /// Those of the missing rows that lie in one cut of a refused block, under the cut's own token.
    Cut(&'a BTreeSet<Seq>, &'a str, Round),
}

/// The number of a try within a recovery, from 0 on.
pub type Round = u32;

/// What a read-back of one table saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// The events that have neither their row nor a dead letter in its place.
    pub missing: BTreeSet<Seq>,
    /// The events that have a dead letter in the place of their row.
    pub dead: BTreeSet<Seq>,
    /// At the numbers of the Range there are rows of other events, in whatever table.
    pub of_others: bool,
    /// The views on the table. One that failed the first time is filled by the whole block.
    pub views: Vec<String>,
    /// All of them drop a block that comes twice.
    pub views_can_be_filled: bool,
}

/// Where rows go that carry their identity.
///
/// `table` is one of those of the body's plan. Each has tokens of its own and is read back by itself.
pub trait Target: Send + Sync {
    /// The rows of one part.
    type Body: Planned;
    /// Checks that a lane without a checkpoint has no rows of an earlier life.
    fn check_new(&self, lane: &LaneId, epoch: Epoch) -> impl Future<Output = Result<()>> + Send;

    /// Writes the rows that may come twice, since a version tells which one counts.
    fn upsert(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Does that for several parts, in as few blocks as is wise. Gives the answer of each, in their order.
    fn upsert_all(
        &self,
        parts: &[(Declared<'_>, &Self::Body)],
    ) -> impl Future<Output = Vec<Result<()>>> + Send {
        join_all(parts.iter().map(|(declared, body)| self.upsert(*declared, body)))
    }

    /// Appends rows that must come once to one table.
    fn append(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
        table: &str,
        block: Block<'_>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Waits until no write of the Range runs on the server any more.
    fn quiesce(&self, declared: Declared<'_>) -> impl Future<Output = Result<()>> + Send;

    /// Puts one event, of which one table refused the row, into the dead letters, under a token of
    /// its own.
    fn reject(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
        table: &str,
        seq: Seq,
        refusal: &Error,
        round: Round,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Reads back what of the Range is in one table.
    fn read_back(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
        table: &str,
    ) -> impl Future<Output = Result<ReadBack>> + Send;

    /// Whether the lane has rows of events behind this part.
    fn has_ahead(
        &self,
        declared: Declared<'_>,
        body: &Self::Body,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Writes down what is missing. To tell it twice is to tell it once.
    fn record_gap(&self, gap: &Gap) -> impl Future<Output = Result<()>> + Send;

    /// The greatest event of a lane's life, from `first` on, that has a row or a dead letter.
    fn greatest(
        &self,
        lane: &LaneId,
        epoch: Epoch,
        first: Seq,
    ) -> impl Future<Output = Result<Option<Seq>>> + Send;
}
