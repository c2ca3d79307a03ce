//! Tables: writes the rows of a declared Range, and reads back which of them are there.
//!
//! Rows of the event table carry their identity and go in under a deduplication token. Rows of the
//! current state carry a version and go in without one: a token would only stand in the way of
//! writing them again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tailwater_core::gap::{Gap, GapRecord};
use tailwater_core::position::{Epoch, LaneId, Millis, Plan, Seq};
use tailwater_core::rows::{Append, Block, Layout, Namespace, Rejection, Rows, Stretch};
use tailwater_core::sql::literal;
use tailwater_core::table::{self, TableName};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::clock;
use tailwater_pipeline::write_ahead::{self, Declared, Planned, ReadBack, Round, Target};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::look::Look;
use crate::schema::{self, Facts};
use crate::{Connection, Watched};

/// The rows of one part.
#[derive(Debug)]
pub struct PartRows(pub Rows);

impl Planned for PartRows {
    fn plan(&self) -> &Plan {
        &self.0.plan
    }

    fn events(&self) -> u64 {
        self.0.len() as u64
    }

    fn rejected(&self) -> u64 {
        self.0.rejections().count() as u64
    }

    fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    fn rejection(&self) -> Option<String> {
        let Rejection { reason, error } = self.0.rejections().next()?;
        Some(format!("{reason}: {error}"))
    }

    fn newest(&self) -> Millis {
        self.0.newest_time().unwrap_or(Millis(0))
    }
}

/// The tables of one run.
#[derive(Debug)]
pub struct Tables {
    pub(crate) connection: Connection,
    pipeline: String,
    layout: Layout,
    pub(crate) watched: Watched,
    facts: Facts,
    /// The current-state tables that are known to be there, and whose they are.
    made: Mutex<HashMap<TableName, Namespace>>,
}

/// Settings of every insert, whatever the user's profile says.
pub(crate) const PINNED: [(&str, &str); 8] = [
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

/// The Ranges whose rows go in one insert of the current state are all named in its comment, which travels
/// in an address: so many at most.
const PARTS_AT_ONCE: usize = 16;
/// Larger inserts are better made side by side than as one.
const BYTES_AT_ONCE: usize = 4 << 20;
/// What stands between their names.
const BETWEEN_NAMES: &str = "\n";
const MILLIS_OF_A_DAY: i64 = 86_400_000;
/// A pause between two looks at the server's running queries.
const QUIESCE_PAUSE: Duration = Duration::from_millis(50);

impl Tables {
    /// Tables behind a connection, already prepared.
    pub fn new(
        connection: Connection,
        pipeline: String,
        layout: Layout,
        watched: Watched,
        facts: Facts,
    ) -> Self {
        Self { connection, pipeline, layout, watched, facts, made: Mutex::default() }
    }

    /// Where the rows go.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The tables whose rows must come once.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (Append, &TableName)> {
        Append::ALL.into_iter().filter_map(|table| Some((table, self.layout.name(table)?)))
    }

    fn table(&self, name: &str) -> Result<Append> {
        self.layout.table(name).ok_or_else(|| {
            Error::new(ErrorKind::Bug, format!("`{name}` is no table that rows are appended to"))
        })
    }

    /// Names a Range to the server, in `system.processes` and in tokens.
    pub(crate) fn name(&self, declared: Declared<'_>) -> String {
        let Declared { lane, epoch, intent, .. } = declared;
        format!("{}/{epoch}/{lane}/{}", self.pipeline, intent.range)
    }

    /// Inserts blocks of one table. `names`: of the Ranges that they are of.
    async fn insert(&self, blocks: &[&Block], names: &str, token: Option<&str>) -> Result<()> {
        let Some(block) = blocks.first() else { return Ok(()) };
        let sql = table::insert(self.connection.database(), &block.table, block.columns);
        let mut settings = PINNED.to_vec();
        settings.push(("log_comment", names));
        match token {
            Some(token) => {
                settings
                    .extend([("insert_deduplicate", "1"), ("insert_deduplication_token", token)]);
            }
            None => settings.push(("insert_deduplicate", "0")),
        }
        let rows: u64 = blocks.iter().map(|block| block.rows).sum();
        let what = format!("cannot insert {rows} rows into `{}`", block.table);
        let bytes: Vec<Bytes> = blocks.iter().map(|block| block.bytes.clone()).collect();
        self.connection.insert(&sql, &settings, bytes, &what).await
    }
}

/// Runs of parts of which each may be written at once: small ones, in which no collection ends.
fn joinable<'p, 'd>(
    parts: &'p [(Declared<'d>, &'d PartRows)],
) -> Vec<&'p [(Declared<'d>, &'d PartRows)]> {
    let mut bytes = 0;
    let mut count = 0;
    parts
        .chunk_by(|(_, before), (_, next)| {
            let ends = |body: &PartRows| body.0.stretches.iter().any(|it| !it.endings.is_empty());
            (bytes, count) = (bytes + bytes_of(before), count + 1);
            let joined = !ends(before)
                && !ends(next)
                && bytes + bytes_of(next) <= BYTES_AT_ONCE
                && count < PARTS_AT_ONCE;
            if !joined {
                (bytes, count) = (0, 0);
            }
            joined
        })
        .collect()
}

/// What goes in one insert, and the names of the Ranges that it is of.
#[derive(Default)]
struct Joined<'p> {
    blocks: Vec<&'p Block>,
    names: Vec<String>,
}

/// The bytes of a part's current state.
fn bytes_of(body: &PartRows) -> usize {
    let blocks = body.0.stretches.iter().flat_map(|stretch| &stretch.upsert);
    blocks.map(|(_, block)| block.bytes.len()).sum()
}

/// What a round adds to a token: nothing at first, then `~1`, `~2` and so on.
fn of_round(round: Round) -> String {
    if round == 0 { String::new() } else { format!("~{round}") }
}

/// Why an event is a dead letter that the event table refused.
const REFUSED: &str = "refused";
/// The same of the table of change events as they are. The event table may well have it.
pub(crate) const REFUSED_RAW_CDC: &str = "refused_raw_cdc";

impl Target for Tables {
    type Body = PartRows;

    async fn check_new(&self, lane: &LaneId, epoch: Epoch) -> Result<()> {
        // A topic that was made anew has another id, and its events are others.
        if lane.is_partition() {
            return Ok(());
        }
        for table in [Append::Records, Append::RawCdc] {
            let Some(table) = self.layout.name(table) else { continue };
            let sql = table::another_epoch(self.connection.database(), table, lane, epoch);
            let what = format!("cannot look for earlier rows of `{lane}`");
            let another = self.connection.text(&sql, &what).await?;
            if !another.is_empty() {
                return Err(Error::new(
                    ErrorKind::WrongHistory,
                    format!(
                        "`{table}` holds rows of `{lane}` that another state folder wrote (epoch \
                         {another}); a new one could not tell which changes are there"
                    ),
                )
                .with_hint(
                    "restore that state folder (`--state`), or write to another database, or drop \
                     the table",
                ));
            }
        }
        Ok(())
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
                    smaller = body.0.smaller_stretches(most)?;
                    stretches = &smaller;
                }
                written => return written,
            }
        }
    }

    async fn upsert_all(&self, parts: &[(Declared<'_>, &PartRows)]) -> Vec<Result<()>> {
        let written = join_all(joinable(parts).into_iter().map(|parts| self.upsert_joined(parts)));
        written.await.into_iter().flatten().collect()
    }

    async fn append(
        &self,
        declared: Declared<'_>,
        body: &PartRows,
        table: &str,
        block: write_ahead::Block<'_>,
    ) -> Result<()> {
        let table = self.table(table)?;
        let rebuilt;
        let (block, suffix) = match block {
            write_ahead::Block::Whole => (body.0.block(table), String::new()),
            write_ahead::Block::Missing(rows, round) => {
                rebuilt = body.0.only(table, rows)?;
                (rebuilt.as_ref(), of_round(round))
            }
            write_ahead::Block::Cut(rows, path, round) => {
                rebuilt = body.0.only(table, rows)?;
                (rebuilt.as_ref(), format!(".{path}{}", of_round(round)))
            }
        };
        match block {
            Some(block) => self.insert_once(declared, block, &suffix).await,
            None => Ok(()),
        }
    }

    async fn reject(
        &self,
        declared: Declared<'_>,
        body: &PartRows,
        table: &str,
        seq: Seq,
        refusal: &Error,
        round: Round,
    ) -> Result<()> {
        let of = self.table(table)?;
        let cause = std::error::Error::source(refusal).map_or(String::new(), ToString::to_string);
        let (reason, by) = match of {
            Append::Records => (REFUSED, String::new()),
            Append::RawCdc => (REFUSED_RAW_CDC, format!("/{table}")),
            Append::DeadLetters => {
                let what = format!("`{table}` refuses the dead letter of event {seq}");
                return Err(Error::new(ErrorKind::Unsuitable, what)
                    .with_source(cause)
                    .with_hint("mend the table or its views; the event is read again"));
            }
        };
        warn!(stream = %declared.lane, %seq, table, "rejected: see the dead letters");
        let block = body.0.dead_letter(of, seq, &Rejection { reason, error: cause })?;
        self.insert_once(declared, &block, &format!("!{seq}{by}{}", of_round(round))).await
    }

    async fn quiesce(&self, declared: Declared<'_>) -> Result<()> {
        self.until_quiet(&self.name(declared)).await
    }

    async fn read_back(
        &self,
        declared: Declared<'_>,
        body: &PartRows,
        table: &str,
    ) -> Result<ReadBack> {
        let Declared { lane, intent, .. } = declared;
        let of = self.table(table)?;
        let look = Look::at(self, declared, &body.0).await?;
        let wanted = body.0.identities(of)?;
        let mut missing = look.seqs(&wanted, |it| !look.has(of, it));
        if let Some(days) = self.facts.ttl_days(of) {
            // Whatever is sent of these may go again before it is seen.
            let oldest = Millis(clock::now().0 - i64::from(days) * MILLIS_OF_A_DAY);
            let expired = body.0.older_than(of, oldest);
            missing.retain(|seq| !expired.contains(seq));
        }
        let dead = look.seqs(&wanted, |it| look.has_letter_instead(of, it));
        let of_others = look.has_others(&body.0)?;
        info!(range = %intent.range, stream = %lane, table, missing = missing.len(), "read back");
        let views = schema::views(&self.connection, &TableName::new(table)).await?;
        let views_can_be_filled = views.unfillable.is_empty();
        Ok(ReadBack { missing, dead, of_others, views: views.names, views_can_be_filled })
    }

    async fn has_ahead(&self, declared: Declared<'_>, body: &PartRows) -> Result<bool> {
        let Declared { lane, epoch, .. } = declared;
        let (version, own) = body.0.newest();
        let mut rows = 0;
        // A dead letter takes the place of a row, so that all together are as many as planned.
        for (_, table) in self.tables() {
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
        self.keep_gap(&GapRecord::of(gap, clock::now())).await
    }

    async fn greatest(&self, lane: &LaneId, epoch: Epoch, first: Seq) -> Result<Option<Seq>> {
        let mut greatest = None;
        for (_, table) in self.tables() {
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
    /// Writes down a gap that somebody else has found. To tell it twice is to tell it once.
    ///
    /// # Errors
    /// Those of the insert.
    pub async fn keep_gap(&self, gap: &GapRecord) -> Result<()> {
        let sql = table::record_gap(self.connection.database(), gap);
        self.connection.execute(&sql, "cannot write a gap record").await
    }

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

    /// Writes the current state of parts that may be joined: a table's rows in one insert, since it makes
    /// files for each.
    async fn upsert_joined(&self, parts: &[(Declared<'_>, &PartRows)]) -> Vec<Result<()>> {
        let by_itself =
            || join_all(parts.iter().map(|(declared, body)| self.upsert(*declared, body)));
        if parts.len() < 2 {
            return by_itself().await;
        }
        let mut tables: BTreeMap<(&TableName, &Namespace), Joined<'_>> = BTreeMap::new();
        for (declared, body) in parts {
            let name = self.name(*declared);
            for (namespace, block) in body.0.stretches.iter().flat_map(|it| &it.upsert) {
                let joined = tables.entry((&block.table, namespace)).or_default();
                joined.blocks.push(block);
                if joined.names.last() != Some(&name) {
                    joined.names.push(name.clone());
                }
            }
        }
        let written = join_all(tables.into_iter().map(async |((_, namespace), joined)| {
            self.current(namespace).await?;
            self.insert(&joined.blocks, &joined.names.join(BETWEEN_NAMES), None).await
        }));
        match written.await.into_iter().collect::<Result<()>>() {
            Ok(()) => parts.iter().map(|_| Ok(())).collect(),
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let again = |_| {
                    Err(Error::new(error.kind(), error.to_string())
                        .with_source(cause.clone().unwrap_or_default()))
                };
                parts.iter().map(again).collect()
            }
            // One of them may be to blame, or all together: a version tells which row counts.
            Err(error) => {
                warn!(%error, parts = parts.len(), "writing the current state of each lane by itself");
                by_itself().await
            }
        }
    }

    async fn upsert_in_order(&self, declared: Declared<'_>, stretches: &[Stretch]) -> Result<()> {
        let range = self.name(declared);
        for stretch in stretches {
            try_join_all(stretch.upsert.iter().map(async |(namespace, block)| {
                self.current(namespace).await?;
                self.insert(&[block], &range, None).await
            }))
            .await?;
            for ending in &stretch.endings {
                self.end(declared, ending).await?;
            }
        }
        Ok(())
    }

    /// Waits until the server runs no statement of this name any more.
    pub(crate) async fn until_quiet(&self, name: &str) -> Result<()> {
        let sql = format!(
            "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {name} \
             OR has(splitByString({}, Settings['log_comment']), {name})",
            literal(BETWEEN_NAMES),
            name = literal(name)
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

    /// Inserts rows that must come once, unless their declaration is too old.
    async fn insert_once(&self, declared: Declared<'_>, block: &Block, suffix: &str) -> Result<()> {
        let range = self.name(declared);
        let mapping = declared.intent.plan.mapping.as_deref().unwrap_or("-");
        let token = format!("{range}/{}/{mapping}{suffix}", block.table);
        // Right before sending: a process that was stopped since must not wake up and send.
        if clock::now() > declared.deadline {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("the declaration of {range} is too old to send its block"),
            ));
        }
        self.insert(&[block], &range, Some(&token)).await
    }
}
