//! Request: what one change stream asks of the server, and how its events are then read.
//!
//! The server runs the pipeline again when it resumes, and must find the event of the token. So the
//! pipeline matches nothing but namespaces and kinds of events; a stream that lists other kinds than
//! before is repaired (`repair.rs`).

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use bytes::Bytes;
use futures_util::StreamExt as _;
use mongodb::error::Result as DriverResult;
use mongodb::options::AggregateOptions;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tailwater_core::bson::Doc;
use tailwater_core::event::ChangeEvent;
use tailwater_core::exclude::Exclusions;
use tailwater_core::scope::{self, Scope};
use tailwater_core::watch::{BeforeChange, FullDocument, Watch};
use tailwater_core::{Error, ErrorKind, Result};

use crate::Server;
use crate::bookmark::{Operations, Place};

/// How long the server holds a getMore open while nothing happens.
const MAX_AWAIT: Duration = Duration::from_secs(1);

/// Kinds that are always read. `drop` and `rename` end collections: a current state that did not
/// hear of it would show what is gone. `invalidate` ends a stream, and must be gone behind.
const ALWAYS: [&str; 3] = ["drop", "rename", "invalidate"];

/// What one change stream asks of the server.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    scope: Scope,
    /// What all streams of the run watch.
    scopes: Arc<[Scope]>,
    /// The kinds that are listed.
    pub(crate) operations: Operations,
    full_document: FullDocument,
    before_change: BeforeChange,
    exclusions: Arc<Exclusions>,
}

/// An open change stream.
pub(crate) struct Cursor(RawBatchCursor);

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cursor")
    }
}

impl Cursor {
    /// The server's next answer; `None` when it has closed the stream.
    pub(crate) async fn next(&mut self) -> Option<DriverResult<RawBatch>> {
        self.0.next().await
    }
}

/// As many as in the first answer of any cursor.
const FEW: u32 = 100;

/// How many events the server may put into one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As many as it likes.
    Full,
    /// Few: over a slow line a full answer takes longer than a dead connection is waited for.
    Few,
    /// One: what comes before a place that cannot be passed is read up to there.
    OneByOne,
}

impl Request {
    pub(crate) fn new(
        scope: Scope,
        scopes: &Arc<[Scope]>,
        watch: &Watch,
        exclusions: &Arc<Exclusions>,
    ) -> Self {
        Self {
            scope,
            scopes: Arc::clone(scopes),
            operations: watch.operations.clone(),
            full_document: watch.full_document,
            before_change: watch.before_change,
            exclusions: Arc::clone(exclusions),
        }
    }

    /// The same, listing other kinds of events.
    pub(crate) fn listing(&self, operations: Operations) -> Self {
        Self { operations, ..self.clone() }
    }

    /// The entry that is watched.
    pub(crate) fn entry(&self) -> String {
        self.scope.entry()
    }

    /// Opens the change stream at a place.
    pub(crate) async fn open(
        &self,
        server: &Server,
        place: &Place,
        pace: Pace,
    ) -> Result<DriverResult<Cursor>> {
        let pipeline = self.pipeline(place, server.splits)?;
        let batch_size = match pace {
            Pace::Full => None,
            Pace::Few => Some(FEW),
            Pace::OneByOne => Some(1),
        };
        let options = AggregateOptions::builder().max_await_time(MAX_AWAIT).batch_size(batch_size);
        let options = options.build();
        let database = match &self.scope {
            Scope::Collection { db, coll } => {
                let collection = server.client.database(db).collection::<Document>(coll);
                let cursor = collection.aggregate(pipeline).with_options(options).batch().await;
                return Ok(cursor.map(Cursor));
            }
            Scope::Pattern { db, .. } if scope::is_pattern(db) => "admin",
            Scope::Database(db) | Scope::Pattern { db, .. } => db,
            Scope::Deployment => "admin",
        };
        let database = server.client.database(database);
        let cursor = database.aggregate(pipeline).with_options(options).batch().await;
        Ok(cursor.map(Cursor))
    }

    fn pipeline(&self, place: &Place, splits: bool) -> Result<Vec<Document>> {
        let mut options =
            doc! { "fullDocument": self.full_document.as_str(), "showExpandedEvents": true };
        if self.before_change != BeforeChange::Off {
            options.insert("fullDocumentBeforeChange", self.before_change.as_str());
        }
        options.extend(place.options()?);
        let everywhere = match &self.scope {
            Scope::Deployment => true,
            Scope::Pattern { db, .. } => scope::is_pattern(db),
            Scope::Collection { .. } | Scope::Database(_) => false,
        };
        if everywhere {
            options.insert("allChangesForCluster", true);
        }
        let mut pipeline = vec![doc! { "$changeStream": options }];
        pipeline.extend(self.kinds());
        pipeline.extend(self.namespaces());
        if splits {
            // It must be the last.
            pipeline.push(doc! { "$changeStreamSplitLargeEvent": {} });
        }
        Ok(pipeline)
    }

    /// The `$match` of the listed kinds.
    fn kinds(&self) -> Option<Document> {
        let listed = self.operations.as_ref()?;
        let always = ALWAYS.into_iter().filter(|kind| !listed.contains(*kind));
        let kinds: Vec<&str> = listed.iter().map(String::as_str).chain(always).collect();
        Some(doc! { "$match": { "operationType": { "$in": kinds } } })
    }

    /// The `$match` of a pattern: its collections, what is renamed into them, and what ends
    /// databases and streams.
    fn namespaces(&self) -> Option<Document> {
        let Scope::Pattern { db, coll } = &self.scope else { return None };
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

    /// Whether an event that ends or makes a collection of this stream, but happened to another one
    /// or to the database, comes in another stream of the run too, and has its row there.
    fn is_told_elsewhere(&self, event: &ChangeEvent) -> bool {
        let name = |bytes| str::from_utf8(bytes).unwrap_or_default();
        let (db, coll) = (name(event.db()), name(event.coll()));
        if coll.is_empty() {
            let hears =
                |scope: &&Scope| matches!(scope, Scope::Pattern { .. }) && scope.reaches(db);
            let first = self.scopes.iter().filter(hears).min_by_key(|scope| scope.entry());
            return first.is_some_and(|first| *first != self.scope);
        }
        !self.scope.covers(db, coll) && self.scopes.iter().any(|other| other.covers(db, coll))
    }

    /// Reads one event: without what is excluded, marked as it was asked for.
    ///
    /// # Errors
    /// `Refused` when the bytes are no change event.
    pub(crate) fn read(&self, mut bytes: Bytes) -> Result<ChangeEvent> {
        if !self.exclusions.is_empty() {
            let malformed = |error| {
                Error::new(ErrorKind::Refused, "cannot take fields out of a change event")
                    .with_source(error)
            };
            let event = Doc::new(&bytes).map_err(malformed)?;
            if let Some(rest) = self.exclusions.apply(event).map_err(malformed)? {
                bytes = rest.into();
            }
        }
        let mut event = ChangeEvent::index(bytes)?;
        let kind = str::from_utf8(event.operation_type()).unwrap_or_default();
        let unlisted = self.operations.as_ref().is_some_and(|listed| !listed.contains(kind));
        if unlisted || self.is_told_elsewhere(&event) {
            event = event.unlisted();
        }
        Ok(match self.full_document {
            FullDocument::UpdateLookup => event,
            _ => event.not_looked_up(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::Timestamp;

    fn request(scope: Scope, operations: &[&str]) -> Request {
        let listed = operations.iter().map(|kind| (*kind).to_owned()).collect();
        let operations = (!operations.is_empty()).then_some(listed);
        let watch = Watch { operations, ..Watch::default() };
        Request::new(scope.clone(), &Arc::from([scope]), &watch, &Arc::default())
    }

    fn stages(request: &Request, splits: bool) -> Vec<Document> {
        request.pipeline(&Place::At(Timestamp { time: 1, increment: 1 }), splits).unwrap()
    }

    #[test]
    fn without_options_the_stream_has_one_stage() {
        let stages = stages(&request(Scope::Database("d".into()), &[]), false);
        let time = Timestamp { time: 1, increment: 1 };
        assert_eq!(
            stages,
            [doc! { "$changeStream": { "fullDocument": "updateLookup", "showExpandedEvents": true,
            "startAtOperationTime": time } }]
        );
    }

    #[test]
    fn what_ends_collections_and_streams_is_always_read() {
        let stages = stages(&request(Scope::Database("d".into()), &["insert", "drop"]), true);
        assert_eq!(
            stages[1],
            doc! { "$match": { "operationType": { "$in": ["drop", "insert", "rename", "invalidate"] } } }
        );
        assert_eq!(stages[2], doc! { "$changeStreamSplitLargeEvent": {} });
    }

    #[test]
    fn what_two_streams_hear_has_one_row() {
        let scopes: Arc<[Scope]> = ["d.one", "d.two", "d.a*", "d.b*"]
            .map(|entry| Scope::collection(entry).unwrap())
            .into();
        let rows = |kind: &str, coll: &str, to: &str| {
            let mut ns = doc! { "db": "d" };
            if !coll.is_empty() {
                ns.insert("coll", coll);
            }
            let event = doc! {
                "_id": { "_data": "826B03E054000000052B022C0100296E04" }, "operationType": kind,
                "ns": ns, "to": { "db": "d", "coll": to },
            };
            let event = Bytes::from(event.to_vec().unwrap());
            let listed = scopes.iter().filter(|scope| {
                let watch = Watch::default();
                let request = Request::new((*scope).clone(), &scopes, &watch, &Arc::default());
                request.read(event.clone()).unwrap().has_row()
            });
            listed.map(Scope::entry).collect::<Vec<_>>()
        };
        assert_eq!(rows("rename", "one", "two"), ["d.one"]);
        assert_eq!(rows("rename", "a1", "two"), ["d.a*"]);
        // The server tells it to the one stream that it concerns.
        assert_eq!(rows("rename", "else", "two").len(), 4);
        assert_eq!(rows("dropDatabase", "", ""), ["d.a*"]);
    }

    #[test]
    fn what_is_not_listed_has_no_row() {
        let request = request(Scope::Database("d".into()), &["insert"]);
        for (kind, row) in [("insert", true), ("drop", false), ("invalidate", false)] {
            let event = doc! {
                "_id": { "_data": "826B03E054000000052B022C0100296E04" }, "operationType": kind,
            };
            let event = request.read(event.to_vec().unwrap().into()).unwrap();
            assert_eq!(event.has_row(), row, "{kind}");
        }
    }
}
