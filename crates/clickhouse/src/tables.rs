//! Tables: writes the rows of a declared Range, and reads back which of them are there.
//!
//! Rows of the event table carry their identity and go in under a deduplication token. Rows of the
//! current state carry a version and go in without one: a token would only stand in the way of
//! writing them again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Deserialize;
use tailwater_core::position::{LaneId, Seq};
use tailwater_core::rows::{Block, Layout, Rows};
use tailwater_core::sql::literal;
use tailwater_core::table::{self, RowsOf};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::clock;
use tailwater_pipeline::write_ahead::{self, Declared, Missing, Planned, Target};
use tracing::info;

use crate::Connection;

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
    /// Blocks whose tokens the event table remembers; 0 when they are counted in another way.
    window: u64,
}

/// Settings of every insert, whatever the user's profile says.
const PINNED: [(&str, &str); 7] = [
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
];

/// A pause between two looks at the server's running queries.
const QUIESCE_PAUSE: Duration = Duration::from_millis(50);

impl Tables {
    /// Tables behind a connection, already prepared.
    pub fn new(connection: Connection, pipeline: String, layout: Layout, window: u64) -> Self {
        Self { connection, pipeline, layout, window }
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

#[derive(Debug, Deserialize)]
struct Offset {
    _offset: u64,
}

impl Target for Tables {
    type Body = PartRows;

    async fn check_new(&self, lane: &LaneId) -> Result<()> {
        let table = &self.layout.records;
        let sql = format!(
            "SELECT _epoch FROM {}.{} WHERE _topic = {} AND _partition = {} LIMIT 1",
            tailwater_core::sql::identifier(self.connection.database()),
            tailwater_core::sql::identifier(table.as_str()),
            literal(lane.topic()),
            lane.partition(),
        );
        let what = format!("cannot look for earlier rows of `{lane}`");
        let epoch = self.connection.text(&sql, &what).await?;
        if epoch.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::WrongHistory,
            format!(
                "`{table}` holds rows of `{lane}` that another state folder wrote (epoch {epoch}); \
                 a new one could not tell which changes are there"
            ),
        )
        .with_hint(
            "restore that state folder (`--state`), or write to another database, or drop the table",
        ))
    }

    async fn upsert(&self, declared: Declared<'_>, body: &PartRows) -> Result<()> {
        let range = self.name(declared);
        try_join_all(body.0.upsert.iter().map(|block| self.insert(block, &range, None))).await?;
        Ok(())
    }

    async fn append(
        &self,
        declared: Declared<'_>,
        body: &PartRows,
        block: write_ahead::Block<'_>,
    ) -> Result<()> {
        let range = self.name(declared);
        let rebuilt;
        let (blocks, suffix) = match block {
            write_ahead::Block::Whole => (&body.0.append, String::new()),
            write_ahead::Block::Missing(rows, repair) => {
                rebuilt = body.0.only(&self.layout, rows)?;
                (&rebuilt, format!("~{repair}"))
            }
        };
        for block in blocks {
            let token = format!("{range}/{}/-{suffix}", block.table);
            if clock::now() > declared.deadline {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("the declaration of {range} is too old to send its block"),
                ));
            }
            self.insert(block, &range, Some(&token)).await?;
        }
        Ok(())
    }

    async fn quiesce(&self, declared: Declared<'_>) -> Result<()> {
        let range = self.name(declared);
        let sql = format!(
            "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {}",
            literal(&range)
        );
        let mut waited = false;
        while self.connection.text(&sql, "cannot read ClickHouse's running queries").await? != "0" {
            if !waited {
                info!(range, "waiting for an earlier write of this range to end");
                waited = true;
            }
            tokio::time::sleep(QUIESCE_PAUSE).await;
        }
        Ok(())
    }

    async fn missing(&self, declared: Declared<'_>, body: &PartRows) -> Result<Option<Missing>> {
        let Declared { lane, epoch, intent, .. } = declared;
        let mut rows: BTreeSet<Seq> = body.0.seqs().collect();
        let expected = rows.len();
        if rows.is_empty() {
            return Ok(None);
        }
        let range = RowsOf {
            epoch: &epoch.to_string(),
            topic: lane.topic(),
            partition: lane.partition(),
            offsets: (intent.range.first.0, intent.range.last.0),
            ts: (intent.plan.ts_min.0, intent.plan.ts_max.0),
        };
        let sql = table::read_back(self.connection.database(), &self.layout.records, &range);
        let what = format!("cannot read back {} of `{lane}`", intent.range);
        let there: Vec<Offset> = self.connection.rows(&sql, &what).await?;
        for offset in &there {
            rows.remove(&Seq(offset._offset));
        }
        info!(range = %intent.range, stream = %lane, missing = rows.len(), "read back");
        if rows.is_empty() {
            return Ok(None);
        }
        let token_holds = rows.len() == expected || self.remembers(&range).await?;
        Ok(Some(Missing { rows, token_holds }))
    }
}

impl Tables {
    /// Whether the server surely still knows the tokens of the blocks in which these rows came: it
    /// forgets the oldest, and numbers its blocks.
    async fn remembers(&self, range: &RowsOf<'_>) -> Result<bool> {
        let sql = table::blocks_since(self.connection.database(), &self.layout.records, range);
        let what = format!("cannot count the blocks of `{}`", self.layout.records);
        let blocks: u64 = self.connection.text(&sql, &what).await?.parse().unwrap_or(u64::MAX);
        Ok(blocks < self.window)
    }
}
