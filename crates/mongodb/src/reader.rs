//! Reader: one change stream, opened, read and reopened for ever.
//!
//! It hands on the server's replies in order and never skips one. It ends only with an error that
//! an operator must mend.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use bytes::Bytes;
use futures_util::StreamExt as _;
use mongodb::raw_batch_cursor::RawBatchCursor;
use tailwater_core::bson::{Doc, Value};
use tailwater_core::event::ChangeEvent;
use tailwater_core::position::LaneId;
use tailwater_core::scope::{self, Scope};
use tailwater_core::watch::{BeforeChange, Watch};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::budget::{Budget, Share};
use tailwater_pipeline::retry::Backoff;
use tailwater_pipeline::vitals::Vitals;
use tracing::{info, warn};

use crate::Server;
use crate::bookmark::Bookmark;
use crate::classify::{Phase, classify};

/// How long the server holds a getMore open while nothing happens.
const MAX_AWAIT: Duration = Duration::from_secs(1);
/// A getMore that is not answered by now sits on a dead connection.
const SILENCE: Duration = Duration::from_secs(30);
/// What an event takes in memory besides itself, once it is encoded: its document again as bytes
/// and as columns, and the whole event as text.
const ENCODED_FACTOR: usize = 4;

/// One reply of the server.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The events, in order.
    pub(crate) events: Vec<ChangeEvent>,
    /// Where the stream goes on behind this reply.
    pub(crate) after: Bookmark,
    /// The share of the memory budget that the reply holds.
    pub(crate) share: Share,
}

/// An open or reopenable change stream.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) server: Server,
    pub(crate) lane: LaneId,
    pub(crate) scope: Scope,
    pub(crate) watch: Arc<Watch>,
    pub(crate) budget: Budget,
    pub(crate) vitals: Vitals,
    at: Bookmark,
    cursor: Option<Cursor>,
    backoff: Backoff,
}

struct Cursor(RawBatchCursor);

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cursor")
    }
}

impl Reader {
    pub(crate) fn new(
        server: Server,
        lane: LaneId,
        scope: Scope,
        watch: Arc<Watch>,
        at: Bookmark,
        budget: Budget,
        vitals: Vitals,
    ) -> Self {
        Self {
            server,
            lane,
            scope,
            watch,
            budget,
            vitals,
            at,
            cursor: None,
            backoff: Backoff::new(),
        }
    }

    /// The next reply, however long the server is away.
    ///
    /// # Cancel safety
    /// Dropping the future may lose a reply; seek again before reading on.
    pub(crate) async fn next(&mut self) -> Result<Reply> {
        loop {
            let error = match self.try_next().await {
                Ok(Some(reply)) => {
                    if self.backoff.attempts() > 0 {
                        info!(stream = %self.lane, "reading again");
                        self.backoff = Backoff::new();
                    }
                    return Ok(reply);
                }
                Ok(None) => continue,
                Err(error) => error,
            };
            self.cursor = None;
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            self.vitals.read_failed(&self.lane);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(stream = %self.lane, %error, cause, "read failed, trying again");
            self.backoff.pause().await;
        }
    }

    /// One reply; `None` when the server closed the cursor, as it does behind an `invalidate`.
    async fn try_next(&mut self) -> Result<Option<Reply>> {
        let cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => open(&self.server, &self.lane, &self.scope, &self.watch, &self.at).await?,
        };
        let cursor = &mut self.cursor.insert(cursor).0;
        let next = tokio::time::timeout(SILENCE, cursor.next()).await.map_err(|_| {
            let what = format!("no answer to the change stream of `{}`", self.lane);
            Error::new(ErrorKind::Unreachable, what)
        })?;
        let Some(batch) = next else {
            self.cursor = None;
            return Ok(None);
        };
        let batch = batch.map_err(|error| {
            classify(
                &error,
                Phase::Read,
                &format!("cannot read the change stream of `{}`", self.lane),
            )
        })?;
        let bytes = batch.as_raw_document().as_bytes();
        let share = self.budget.take(bytes.len().saturating_mul(ENCODED_FACTOR)).await;
        let (events, token) = unpack(Bytes::copy_from_slice(bytes))?;
        if let Some(token) = token {
            self.at = Bookmark::After(token);
        }
        self.vitals.heard(&self.lane, events.len() as u64);
        Ok(Some(Reply { events, after: self.at.clone(), share }))
    }
}

/// Opens the change stream of a scope at a bookmark.
async fn open(
    server: &Server,
    lane: &LaneId,
    scope: &Scope,
    watch: &Watch,
    at: &Bookmark,
) -> Result<Cursor> {
    let mut options =
        doc! { "fullDocument": watch.full_document.as_str(), "showExpandedEvents": true };
    if watch.before_change != BeforeChange::Off {
        options.insert("fullDocumentBeforeChange", watch.before_change.as_str());
    }
    at.apply(&mut options)?;
    if *scope == Scope::Deployment {
        options.insert("allChangesForCluster", true);
    }
    let mut pipeline = vec![doc! { "$changeStream": options }];
    pipeline.extend(filter(scope));
    let database = |name: &str| server.client.database(name);
    let cursor = match scope {
        Scope::Collection { db, coll } => {
            let collection = database(db).collection::<Document>(coll);
            collection.aggregate(pipeline).max_await_time(MAX_AWAIT).batch().await
        }
        Scope::Pattern { db, .. } if !scope::is_pattern(db) => {
            database(db).aggregate(pipeline).max_await_time(MAX_AWAIT).batch().await
        }
        Scope::Database(db) => {
            database(db).aggregate(pipeline).max_await_time(MAX_AWAIT).batch().await
        }
        Scope::Pattern { .. } | Scope::Deployment => {
            database("admin").aggregate(pipeline).max_await_time(MAX_AWAIT).batch().await
        }
    };
    cursor.map(Cursor).map_err(|error| {
        classify(&error, Phase::Open, &format!("cannot open the change stream of `{lane}`"))
    })
}

/// The `$match` of a pattern: its collections, what is renamed into them, and what ends databases
/// and streams. Only namespace and kind are matched: the server runs the pipeline again when it
/// resumes, and must find the token's own event.
fn filter(scope: &Scope) -> Option<Document> {
    let Scope::Pattern { db, coll } = scope else { return None };
    let regex = |pattern: &str| bson::Regex {
        pattern: scope::to_regex(pattern).try_into().expect("a name holds no zero byte"),
        options: bson::raw::cstr!("").to_owned(),
    };
    Some(doc! { "$match": { "$or": [
        { "ns.db": regex(db), "ns.coll": regex(coll) },
        { "to.db": regex(db), "to.coll": regex(coll) },
        { "ns.db": regex(db), "operationType": "dropDatabase" },
        { "operationType": "invalidate" },
    ] } })
}

/// Takes a reply apart: its events, and the token behind them.
fn unpack(reply: Bytes) -> Result<(Vec<ChangeEvent>, Option<RawDocumentBuf>)> {
    let malformed = |error| {
        Error::new(ErrorKind::Unreachable, "MongoDB sent a reply that is not BSON")
            .with_source(error)
    };
    let mut events = Vec::new();
    let mut post_batch_token = None;
    for element in Doc::new(&reply).map_err(malformed)?.elements() {
        let element = element.map_err(malformed)?;
        let (b"cursor", Value::Document(cursor)) = (element.key, element.value) else { continue };
        for element in cursor.elements() {
            let element = element.map_err(malformed)?;
            match (element.key, element.value) {
                (b"firstBatch" | b"nextBatch", Value::Array(batch)) => {
                    for element in batch.elements() {
                        if let Value::Document(event) = element.map_err(malformed)?.value {
                            let event = reply.slice_ref(event.as_bytes());
                            events.push(ChangeEvent::index(event)?);
                        }
                    }
                }
                (b"postBatchResumeToken", Value::Document(token)) => {
                    post_batch_token = Some(token.as_bytes());
                }
                _ => {}
            }
        }
    }
    // The last event's own token, not the post-batch token, goes with events: it is the one that
    // closes an invalidated stream.
    let token = events.last().map(ChangeEvent::token).or(post_batch_token);
    let token = token.map(|bytes| RawDocumentBuf::from_bytes(bytes.to_vec())).transpose();
    let token = token.map_err(|error| {
        Error::new(ErrorKind::Unreachable, "MongoDB sent a resume token that is not BSON")
            .with_source(error)
    })?;
    Ok((events, token))
}
