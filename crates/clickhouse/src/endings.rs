//! Endings: collections that were dropped or renamed, in their current-state tables.
//!
//! A lane touches only what it tells of: of anything else it does not know how far the rows are. A
//! stream tells of the collections that it watches. A topic's partition tells of its own rows in the
//! collections of its topic:
//!
//! ```text
//!   rename a -> b, version v     lane of a's topic: note, copy its rows of a to b at v, end them in a
//!                                lane of b's topic: note, end its rows of b that are older than v
//! ```
//!
//! The two come in any order. On equal `_id`s the newer version counts, so what was copied at v
//! stays. What is copied late, behind a later end of b, follows that end: see `table::ends`.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use tailwater_core::position::LaneId;
use tailwater_core::rows::{Ending, Namespace};
use tailwater_core::scope::Scope;
use tailwater_core::table::{self, TableName};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::write_ahead::Declared;

use crate::Tables;

/// Of which collections the lanes of a run tell.
#[derive(Clone)]
pub enum Watched {
    /// Each lane is a stream, and tells of what it watches.
    Streams(Vec<Scope>),
    /// Each lane is a partition, and tells of the collections whose events are in its topic.
    Topics(TopicOf),
}

/// Names the topic of a collection; `None` where none is known. What a topic has of such a collection
/// is taken for all there is, and what is renamed to it lives on nowhere.
pub type TopicOf = Arc<dyn Fn(&Namespace) -> Option<String> + Send + Sync>;

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Streams(scopes) => f.debug_tuple("Streams").field(scopes).finish(),
            Self::Topics(_) => f.write_str("Topics"),
        }
    }
}

impl Watched {
    /// Whether a lane tells of the collection that an event of it is of.
    fn tells(&self, lane: &LaneId, of: &Namespace) -> bool {
        match self {
            Self::Streams(_) => self.takes(lane, of),
            Self::Topics(topic_of) => topic_of(of).is_none_or(|topic| topic == lane.topic()),
        }
    }

    /// Whether a lane tells of the collection that an event renames another to.
    fn takes(&self, lane: &LaneId, to: &Namespace) -> bool {
        match self {
            Self::Streams(scopes) => {
                let scope = scopes.iter().find(|scope| scope.entry() == lane.topic());
                scope.is_some_and(|scope| scope.covers(&to.db, &to.coll))
            }
            Self::Topics(topic_of) => topic_of(to).is_some_and(|topic| topic == lane.topic()),
        }
    }

    /// Whether some lane tells of the collection, to which a lane may hand over what it has.
    fn follows(&self, lane: &LaneId, to: &Namespace) -> bool {
        match self {
            Self::Streams(_) => self.takes(lane, to),
            Self::Topics(topic_of) => topic_of(to).is_some(),
        }
    }
}

/// The place of an end: by which lane it is applied, and to whose rows.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    lane: &'a LaneId,
    partition: Option<u32>,
    /// What the statements are called.
    comment: &'a str,
}

/// A noted end.
#[derive(Debug, Deserialize)]
struct Noted {
    version: String,
    renamed_to: String,
}

impl Tables {
    /// Ends the older rows of a collection that was dropped or renamed; under a new name they live
    /// on.
    pub(crate) async fn end(&self, declared: Declared<'_>, ending: &Ending) -> Result<()> {
        let Ending { of, renamed_to, version, partition } = ending;
        let Declared { lane, .. } = declared;
        let comment = format!("{}/end", self.name(declared));
        let place = Place { lane, partition: *partition, comment: &comment };
        let to = renamed_to.as_ref().filter(|to| self.watched.follows(lane, to));
        if let Some(to) = to.filter(|to| self.watched.takes(lane, to)) {
            let new = self.current(to).await?;
            // What the new name held before ends first; on equal versions the later row counts, so
            // it ends just below.
            self.note_end(place, &new, version - 1, None).await?;
            self.end_all(place, &new, version - 1).await?;
        }
        if self.watched.tells(lane, of) {
            let old = self.current(of).await?;
            self.note_end(place, &old, *version, to).await?;
            if let Some(to) = to {
                self.copy(place, &old, to, *version).await?;
            }
            self.end_all(place, &old, *version).await?;
        }
        Ok(())
    }

    async fn end_all(&self, place: Place<'_>, table: &TableName, version: u128) -> Result<()> {
        self.until_quiet(place.comment).await?;
        let database = self.connection.database();
        let sql = table::end_all(database, table, version, place.partition);
        let what = format!("cannot end the rows of `{table}`");
        self.connection.work_through(&sql, place.comment, &what).await
    }

    /// Notes an end for lanes of other topics. A stream has none beside it.
    async fn note_end(
        &self,
        place: Place<'_>,
        table: &TableName,
        version: u128,
        renamed_to: Option<&Namespace>,
    ) -> Result<()> {
        if !place.lane.is_partition() {
            return Ok(());
        }
        let database = self.connection.database();
        let sql = table::note_end(database, table, version, place.partition, renamed_to);
        self.connection.execute(&sql, &format!("cannot note the end of `{table}`")).await
    }

    /// Copies a collection to its new name, unless that was done before: newer rows under the old
    /// name may have taken the place of those that were copied, and older ones come to light.
    async fn copy(
        &self,
        place: Place<'_>,
        old: &TableName,
        to: &Namespace,
        version: u128,
    ) -> Result<()> {
        let Place { lane, partition, comment } = place;
        self.until_quiet(comment).await?;
        let database = self.connection.database();
        let new = self.current(to).await?;
        let what = format!("cannot copy `{old}` to `{new}`");
        let sql = table::was_copied(database, old, version, partition);
        if self.connection.text(&sql, &what).await? != "0" {
            return Ok(());
        }
        let sql = table::copy_all(database, old, &new, version, partition);
        self.connection.work_through(&sql, comment, &what).await?;
        if lane.is_partition() {
            self.follow(place, new, version).await?;
        }
        let sql = table::note_copy(database, old, version, partition);
        self.connection.execute(&sql, &what).await
    }

    /// Takes rows that were copied to a table at `version` through the ends that lanes of its own topic
    /// have passed already.
    async fn follow(
        &self,
        place: Place<'_>,
        mut table: TableName,
        mut version: u128,
    ) -> Result<()> {
        let database = self.connection.database();
        loop {
            let sql = table::first_end_behind(database, &table, version, place.partition);
            let what = format!("cannot read where `{table}` ended");
            let Some(noted) = self.connection.rows::<Noted>(&sql, &what).await?.pop() else {
                return Ok(());
            };
            version = noted.version.parse().map_err(|error| {
                Error::new(ErrorKind::Unreachable, format!("{what}: not a number"))
                    .with_source(error)
            })?;
            // The note is one of ours: a database's name has no dot.
            let to = noted.renamed_to.split_once('.');
            let to = to.map(|(db, coll)| Namespace { db: db.to_owned(), coll: coll.to_owned() });
            let mut next = None;
            if let Some(to) = &to {
                let new = self.current(to).await?;
                let sql = table::copy_all(database, &table, &new, version, place.partition);
                self.until_quiet(place.comment).await?;
                let what = format!("cannot copy `{table}` to `{new}`");
                self.connection.work_through(&sql, place.comment, &what).await?;
                next = Some(new);
            }
            self.end_all(place, &table, version).await?;
            match next {
                Some(new) => table = new,
                None => return Ok(()),
            }
        }
    }
}
