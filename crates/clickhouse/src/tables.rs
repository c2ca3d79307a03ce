//! Tables: writes the rows of a declared Range, and reads back which of them are there.
//!
//! Rows of the event table carry their identity and go in under a deduplication token. Rows of the
//! current state carry a version and go in without one: a token would only stand in the way of
//! writing them again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Deserialize;
use tailwater_core::gap::Gap;
use tailwater_core::position::{Epoch, LaneId, Millis, Seq};
use tailwater_core::rows::{Block, Ending, Identity, Layout, Namespace, Rejection, Rows, Stretch};
use tailwater_core::scope::Scope;
use tailwater_core::sql::literal;
use tailwater_core::table::{self, RowsOf, TableName};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::clock;
use tailwater_pipeline::write_ahead::{self, Declared, Planned, ReadBack, Round, Target};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::Connection;
use crate::schema::{self, Facts};

/// The rows of one part.
#[derive(Debug)]
pub struct PartRows(pub Rows);

impl Planned for PartRows {
    fn plan(&self) -> &tailwater_core::position::Plan {
        &self.0.plan
    }
}

/// The tables of one run.
#[derive(Debug)]
pub struct Tables {
    connection: Connection,
    pipeline: String,
    layout: Layout,
    scopes: Vec<Scope>,
    facts: Facts,
    /// The current-state tables that are known to be there, and whose they are.
    made: Mutex<HashMap<TableName, Namespace>>,
}

/// Settings of every insert, whatever the user's profile says.
const PINNED: [(&str, &str); 8] = [
    // The answer must come after the write, and the token must count.
    ("async_insert", "0"),
    ("wait_for_async_insert", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // A batch may reach over many months when a backlog is read.
    ("max_partitions_per_insert_block", "0"),
    // A key with a dot is one key; text that looks like a date stays text.
    ("json_type_escape_dots_in_keys", "1"),
    ("input_format_try_infer_dates", "0"),
    ("input_format_try_infer_datetimes", "0"),
    // In JSON that travels as text, `[true, 1]` is no array of numbers.
    ("input_format_json_read_bools_as_numbers", "0"),
];

const MILLIS_OF_A_DAY: i64 = 86_400_000;
/// A pause between two looks at the server's running queries.
const QUIESCE_PAUSE: Duration = Duration::from_millis(50);

impl Tables {
    /// Tables behind a connection, already prepared.
    pub fn new(
        connection: Connection,
        pipeline: String,
        layout: Layout,
        scopes: Vec<Scope>,
        facts: Facts,
    ) -> Self {
        Self { connection, pipeline, layout, scopes, facts, made: Mutex::default() }
    }

    /// Where the rows go.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Names a Range to the server, in `system.processes` and in tokens.
    fn name(&self, declared: Declared<'_>) -> String {
        let Declared { lane, epoch, intent, .. } = declared;
        format!("{}/{epoch}/{lane}/{}", self.pipeline, intent.range)
    }

    async fn insert(&self, block: &Block, range: &str, token: Option<&str>) -> Result<()> {
        let sql = table::insert(self.connection.database(), &block.table, block.columns);
        let mut settings = PINNED.to_vec();
        settings.push(("log_comment", range));
        match token {
            Some(token) => {
                settings
                    .extend([("insert_deduplicate", "1"), ("insert_deduplication_token", token)]);
            }
            None => settings.push(("insert_deduplicate", "0")),
        }
        let what = format!("cannot insert {} rows into `{}`", block.rows, block.table);
        self.connection.insert(&sql, &settings, &block.bytes, &what).await
    }
}

/// What a round adds to a token: nothing at first, then `~1`, `~2` and so on.
fn of_round(round: Round) -> String {
    if round == 0 { String::new() } else { format!("~{round}") }
}

/// An event that has a row, or a dead letter.
#[derive(Debug, Deserialize)]
struct Found {
    _offset: u64,
    identity: u64,
}

impl Found {
    const fn identity(&self) -> Identity {
        Identity(self.identity)
    }
}

impl Target for Tables {
    type Body = PartRows;

    async fn check_new(&self, lane: &LaneId, epoch: Epoch) -> Result<()> {
        let records = &self.layout.records;
        let sql = table::another_epoch(self.connection.database(), records, lane, epoch);
        let what = format!("cannot look for earlier rows of `{lane}`");
        let another = self.connection.text(&sql, &what).await?;
        if another.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::WrongHistory,
            format!(
                "`{records}` holds rows of `{lane}` that another state folder wrote (epoch {another}); \
                 a new one could not tell which changes are there"
            ),
        )
        .with_hint(
            "restore that state folder (`--state`), or write to another database, or drop the table",
        ))
    }

    async fn upsert(&self, declared: Declared<'_>, body: &PartRows) -> Result<()> {
        let mut smaller;
        let (mut stretches, mut most) = (&body.0.stretches, body.0.len());
        loop {
            match self.upsert_in_order(declared, stretches).await {
                // A version tells which row counts, so those that went before may go again.
                Err(error) if error.kind() == ErrorKind::TooLarge && most > 1 => {
                    most = most.div_ceil(2);
                    warn!(stream = %declared.lane, most, "writing the current state in smaller blocks");
                    smaller = body.0.smaller_stretches(&self.layout, most)?;
                    stretches = &smaller;
                }
                written => return written,
            }
        }
    }

    async fn append(
        &self,
        declared: Declared<'_>,
        body: &PartRows,
        block: write_ahead::Block<'_>,
    ) -> Result<()> {
        let rebuilt;
        let (blocks, suffix) = match block {
            write_ahead::Block::Whole => (&body.0.append, String::new()),
            write_ahead::Block::Missing(rows, round) => {
                rebuilt = body.0.only(&self.layout, rows)?;
                (&rebuilt, of_round(round))
            }
            write_ahead::Block::Cut(rows, path, round) => {
                rebuilt = body.0.only(&self.layout, rows)?;
                (&rebuilt, format!(".{path}{}", of_round(round)))
            }
        };
        for block in blocks {
            self.insert_once(declared, block, &suffix).await?;
        }
        Ok(())
    }

    async fn reject(
        &self,
        declared: Declared<'_>,
        body: &PartRows,
        seq: Seq,
        refusal: &Error,
        round: Round,
    ) -> Result<()> {
        let cause = std::error::Error::source(refusal).map_or(String::new(), ToString::to_string);
        warn!(stream = %declared.lane, %seq, "rejected: see the dead letters");
        let why = Rejection { reason: "refused", error: cause };
        let block = body.0.dead_letter(&self.layout, seq, &why)?;
        self.insert_once(declared, &block, &format!("!{seq}{}", of_round(round))).await
    }

    async fn quiesce(&self, declared: Declared<'_>) -> Result<()> {
        self.until_quiet(&self.name(declared)).await
    }

    async fn read_back(&self, declared: Declared<'_>, body: &PartRows) -> Result<ReadBack> {
        let Declared { lane, epoch, intent, .. } = declared;
        let wanted = body.0.identities()?;
        let range = RowsOf {
            epoch: &epoch.to_string(),
            topic: lane.topic(),
            partition: lane.partition(),
            offsets: match declared.renumbered {
                false => Some((intent.range.first.0, intent.range.last.0)),
                true => None,
            },
            ts: (intent.plan.ts_min.0, intent.plan.ts_max.0),
        };
        let rows = self.found(&self.layout.records, declared, &range).await?;
        let letters = self.found(&self.layout.dead_letters, declared, &range).await?;
        // Without its number an event is known too, but two may be alike.
        let name = |seq: u64, identity: Identity| match declared.renumbered {
            true => (0, identity),
            false => (seq, identity),
        };
        let named = |row: &Found| name(row._offset, row.identity());
        let there: HashSet<_> = rows.iter().chain(&letters).map(named).collect();
        let dead: HashSet<_> = letters.iter().map(named).collect();
        let seqs = |keep: &dyn Fn(&(u64, Identity)) -> bool| -> BTreeSet<Seq> {
            let kept = wanted.iter().filter(|(seq, identity)| keep(&name(seq.0, *identity)));
            kept.map(|(seq, _)| *seq).collect()
        };
        let mut missing = seqs(&|event| !there.contains(event));
        if let Some(days) = self.facts.ttl_days {
            // Whatever is sent of these may go again before it is seen.
            let oldest = Millis(clock::now().0 - i64::from(days) * MILLIS_OF_A_DAY);
            let expired = body.0.older_than(oldest);
            missing.retain(|seq| !expired.contains(seq));
        }
        let dead = seqs(&|event| dead.contains(event));
        let own: HashMap<u64, Identity> = wanted.iter().map(|(seq, it)| (seq.0, *it)).collect();
        let is_own = |row: &Found| own.get(&row._offset) == Some(&row.identity());
        let numbers = intent.range.first.0..=intent.range.last.0;
        let mut at_own = rows.iter().chain(&letters).filter(|row| numbers.contains(&row._offset));
        let of_others = at_own.any(|row| !is_own(row));
        info!(range = %intent.range, stream = %lane, missing = missing.len(), "read back");
        let views = schema::views(&self.connection, &self.layout.records).await?;
        let views_can_be_filled = views.unfillable.is_empty();
        Ok(ReadBack { missing, dead, of_others, views: views.names, views_can_be_filled })
    }

    async fn has_ahead(&self, declared: Declared<'_>, body: &PartRows) -> Result<bool> {
        let Declared { lane, epoch, .. } = declared;
        let (version, own) = body.0.newest();
        let mut rows = 0;
        for table in [&self.layout.records, &self.layout.dead_letters] {
            let database = self.connection.database();
            let sql = table::count_from(database, table, (lane, epoch), version);
            let what = format!("cannot look for newer rows of `{lane}`");
            let count = self.connection.text(&sql, &what).await?;
            rows += count.parse::<u64>().map_err(|error| {
                Error::new(ErrorKind::Unreachable, format!("{what}: not a number"))
                    .with_source(error)
            })?;
        }
        Ok(rows > own)
    }

    async fn record_gap(&self, gap: &Gap) -> Result<()> {
        let sql = table::record_gap(self.connection.database(), gap, clock::now());
        self.connection.execute(&sql, "cannot write a gap record").await
    }

    async fn greatest(&self, lane: &LaneId, epoch: Epoch, first: Seq) -> Result<Option<Seq>> {
        let mut greatest = None;
        for table in [&self.layout.records, &self.layout.dead_letters] {
            let sql =
                table::greatest_offset(self.connection.database(), table, (lane, epoch), first);
            let what = format!("cannot find the last row of `{lane}`");
            let offset = self.connection.text(&sql, &what).await?;
            if !offset.is_empty() {
                let offset = offset.parse().map_err(|error| {
                    Error::new(ErrorKind::Unreachable, format!("{what}: not a number"))
                        .with_source(error)
                })?;
                greatest = greatest.max(Some(Seq(offset)));
            }
        }
        Ok(greatest)
    }
}

impl Tables {
    /// The current-state table of a collection, made when it is missing.
    ///
    /// # Errors
    /// Those of making it; `Unsuitable` when another collection has the same table.
    pub async fn current(&self, namespace: &Namespace) -> Result<TableName> {
        let Some(names) = &self.layout.current else {
            return Err(Error::new(ErrorKind::Bug, "there are no current-state tables"));
        };
        let table = names.table(&namespace.db, &namespace.coll);
        let mut made = self.made.lock().await;
        let taken = [&table, &table.view()].into_iter().find_map(|name| made.get(name));
        match taken {
            Some(owner) if owner == namespace => return Ok(table),
            Some(owner) => {
                let Namespace { db, coll } = namespace;
                return Err(Error::new(
                    ErrorKind::Unsuitable,
                    format!(
                        "`{db}.{coll}` and `{}.{}` would share the table `{table}`",
                        owner.db, owner.coll
                    ),
                )
                .with_hint("watch them in two runs with two ClickHouse databases"));
            }
            None => {}
        }
        schema::prepare_current(&self.connection, &table, namespace).await?;
        made.insert(table.clone(), namespace.clone());
        made.insert(table.view(), namespace.clone());
        Ok(table)
    }

    async fn upsert_in_order(&self, declared: Declared<'_>, stretches: &[Stretch]) -> Result<()> {
        let range = self.name(declared);
        for stretch in stretches {
            try_join_all(stretch.upsert.iter().map(async |(namespace, block)| {
                self.current(namespace).await?;
                self.insert(block, &range, None).await
            }))
            .await?;
            for ending in &stretch.endings {
                self.end(declared, ending).await?;
            }
        }
        Ok(())
    }

    /// Ends the older rows of a collection that was dropped or renamed; under a new name they live
    /// on. Only what this stream watches is touched: of anything else it does not know how far the
    /// rows are.
    async fn end(&self, declared: Declared<'_>, ending: &Ending) -> Result<()> {
        let scope = self.scopes.iter().find(|scope| scope.entry() == declared.lane.topic());
        let watched = |it: &Namespace| scope.is_some_and(|scope| scope.covers(&it.db, &it.coll));
        let comment = format!("{}/end", self.name(declared));
        if let Some(to) = ending.renamed_to.as_ref().filter(|to| watched(to)) {
            let new = self.current(to).await?;
            // What the new name held before ends first; on equal versions the later row counts, so
            // it ends just below.
            self.end_all(&new, ending.version - 1, &comment).await?;
            if watched(&ending.of) {
                let old = self.current(&ending.of).await?;
                self.copy(&old, &new, ending.version, &comment).await?;
            }
        }
        if watched(&ending.of) {
            let old = self.current(&ending.of).await?;
            self.end_all(&old, ending.version, &comment).await?;
        }
        Ok(())
    }

    async fn end_all(&self, table: &TableName, version: u128, comment: &str) -> Result<()> {
        self.until_quiet(comment).await?;
        let sql = table::end_all(self.connection.database(), table, version);
        let what = format!("cannot end the rows of `{table}`");
        self.connection.work_through(&sql, comment, &what).await
    }

    /// Copies a collection to its new name, unless that was done before: newer rows under the old
    /// name may have taken the place of those that were copied, and older ones come to light.
    async fn copy(
        &self,
        old: &TableName,
        new: &TableName,
        version: u128,
        comment: &str,
    ) -> Result<()> {
        self.until_quiet(comment).await?;
        let database = self.connection.database();
        let what = format!("cannot copy `{old}` to `{new}`");
        let sql = table::was_copied(database, old, version);
        if self.connection.text(&sql, &what).await? != "0" {
            return Ok(());
        }
        let sql = table::copy_all(database, old, new, version);
        self.connection.work_through(&sql, comment, &what).await?;
        self.connection.execute(&table::note_copy(database, old, version), &what).await
    }

    /// Waits until the server runs no statement of this name any more.
    async fn until_quiet(&self, name: &str) -> Result<()> {
        let sql = format!(
            "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {}",
            literal(name)
        );
        let mut waited = false;
        while self.connection.text(&sql, "cannot read ClickHouse's running queries").await? != "0" {
            if !waited {
                info!(name, "waiting for an earlier write to end");
                waited = true;
            }
            tokio::time::sleep(QUIESCE_PAUSE).await;
        }
        Ok(())
    }

    /// The events of a Range that one table has.
    async fn found(
        &self,
        table: &TableName,
        declared: Declared<'_>,
        range: &RowsOf<'_>,
    ) -> Result<Vec<Found>> {
        let sql = table::read_back(self.connection.database(), table, range);
        let what = format!("cannot read back {} of `{}`", declared.intent.range, declared.lane);
        self.connection.rows(&sql, &what).await
    }

    /// Inserts rows that must come once, unless their declaration is too old.
    async fn insert_once(&self, declared: Declared<'_>, block: &Block, suffix: &str) -> Result<()> {
        let range = self.name(declared);
        let token = format!("{range}/{}/-{suffix}", block.table);
        // Right before sending: a process that was stopped since must not wake up and send.
        if clock::now() > declared.deadline {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("the declaration of {range} is too old to send its block"),
            ));
        }
        self.insert(block, &range, Some(&token)).await
    }
}
