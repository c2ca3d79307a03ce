//! A seeded workload: several writers, bursts and pauses, every kind of write.
//!
//! Each writer's sequence of intentions depends on the seed alone; how the writers interleave, and
//! what a killed server did with the last write, does not matter: the truth is the change stream.

mod ddl;
pub(crate) mod documents;
mod writer;

use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;

use anyhow::Context as _;
use bson::{Bson, Document};
use mongodb::{Client, Collection};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use ddl::Changer;
use writer::Writer;

pub use ddl::Ddl;

/// What to write.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// The collections, `db.coll`; they must be empty or missing.
    pub namespaces: Vec<String>,
    /// How many writers work side by side.
    pub writers: u64,
    /// How many documents they share: fewer mean more changes of the same one.
    pub documents: usize,
    /// Each writer ends after so many writes; `None`: only when stopped.
    pub writes: Option<u64>,
    /// The longest pause between two bursts, in milliseconds; 0: none.
    pub max_pause_ms: u64,
    /// Whether each write has to be allowed: see [`Workload::allow`].
    pub paced: bool,
    /// What happens to the collections as a whole meanwhile.
    pub ddl: Option<Ddl>,
}

impl Plan {
    /// Four writers over 300 documents, until stopped.
    pub fn new(seed: u64, namespaces: Vec<String>) -> Self {
        let (writers, documents, max_pause_ms) = (4, 300, 60);
        let (writes, paced, ddl) = (None, false, None);
        Self { seed, namespaces, writers, documents, writes, max_pause_ms, paced, ddl }
    }
}

/// What was written, as far as the writers know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Acknowledged single writes that changed something.
    pub writes: u64,
    /// Committed transactions.
    pub committed: u64,
    /// Transactions that were aborted on purpose or by a conflict.
    pub aborted: u64,
    /// Changes of whole collections and databases.
    pub ddl: u64,
    /// Writes without an answer: the server was away.
    pub unknown: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.ddl += other.ddl;
        self.unknown += other.unknown;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes, committed, aborted, ddl, unknown } = self;
        write!(
            f,
            "{writes} writes, {committed} transactions, {aborted} aborted, {ddl} DDL, \
             {unknown} unknown"
        )
    }
}

/// Whether writers may go on.
#[derive(Debug, Clone)]
struct Leave {
    stop: CancellationToken,
    allowed: Option<Arc<Semaphore>>,
}

impl Leave {
    /// Waits until so many writes more are allowed; false: none ever will be.
    async fn is_given(&self, writes: u32) -> bool {
        let given = async {
            match &self.allowed {
                Some(allowed) => allowed.acquire_many(writes).await.map(SemaphorePermit::forget),
                None => Ok(()),
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            given = given => given.is_ok(),
        }
    }
}

/// Running writers.
#[derive(Debug)]
pub struct Workload {
    leave: Leave,
    writers: JoinSet<anyhow::Result<Tally>>,
}

impl Workload {
    /// Starts the writers.
    ///
    /// # Errors
    ///
    /// When a name is no `db.coll`.
    pub fn start(client: &Client, plan: &Plan) -> anyhow::Result<Self> {
        let mut collections: Vec<Collection<Document>> = Vec::new();
        for namespace in &plan.namespaces {
            let (database, name) = namespace.split_once('.').context("a namespace is `db.coll`")?;
            collections.push(client.database(database).collection(name));
        }
        let ids: Vec<Bson> = documents::ids(&mut StdRng::seed_from_u64(plan.seed), plan.documents);
        let allowed = plan.paced.then(|| Arc::new(Semaphore::new(0)));
        let leave = Leave { stop: CancellationToken::new(), allowed };
        let mut writers = JoinSet::new();
        for number in 1..=plan.writers {
            let writer = Writer {
                client: client.clone(),
                collections: collections.clone(),
                ids: ids.clone(),
                random: StdRng::seed_from_u64(plan.seed.wrapping_mul(1000).wrapping_add(number)),
                max_pause_ms: plan.max_pause_ms,
                tally: Tally::default(),
            };
            writers.spawn(writer.run(plan.writes.unwrap_or(u64::MAX), leave.clone()));
        }
        if let Some(ddl) = plan.ddl.clone() {
            let names = plan.namespaces.clone();
            let changer = Changer::new(client.clone(), names, ddl, plan.seed);
            writers.spawn(changer.run(leave.clone()));
        }
        Ok(Self { leave, writers })
    }

    /// Allows so many writes more, where the plan says that each has to be.
    pub fn allow(&self, writes: usize) {
        if let Some(allowed) = &self.leave.allowed {
            allowed.add_permits(writes);
        }
    }

    /// Asks the writers to end after their current write, and waits for them.
    ///
    /// # Errors
    ///
    /// When a writer met an answer that no workload should get.
    pub async fn stop(self) -> anyhow::Result<Tally> {
        self.leave.stop.cancel();
        self.finished().await
    }

    /// Waits until each writer has done its writes.
    ///
    /// # Errors
    ///
    /// As [`Workload::stop`].
    pub async fn finished(mut self) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        while let Some(ended) = self.writers.join_next().await {
            tally += ended??;
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Mongod;
    use crate::truth::Truth;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_distinct_and_repeat_with_the_seed() {
        let ids = |seed| documents::ids(&mut StdRng::seed_from_u64(seed), 500);
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        let texts: BTreeSet<String> = ids(1).iter().map(crate::contract::canonical_json).collect();
        assert_eq!(texts.len(), 500);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_kind_of_change_reaches_the_stream_under_a_key_of_its_own() {
        let Some(mongod) = Mongod::start().await.unwrap() else { return };
        let client = mongod.client().await.unwrap();
        let mut truth = Truth::start(&client).await.unwrap();
        let mut plan = Plan::new(7, vec!["d.one".into(), "d.two".into()]);
        plan.writes = Some(400);
        plan.max_pause_ms = 0;
        let tally = Workload::start(&client, &plan).unwrap().finished().await.unwrap();
        assert!(tally.writes > 500 && tally.committed > 20, "{tally}");
        assert_eq!(tally.unknown, 0);

        let events = truth.up_to_now().await.unwrap();
        let operations: BTreeSet<&str> =
            events.iter().map(|event| event.operation.as_str()).collect();
        assert_eq!(
            operations.into_iter().collect::<Vec<_>>(),
            ["create", "delete", "insert", "replace", "update"]
        );
        let keys: BTreeSet<&str> = events.iter().map(|event| event.key.as_str()).collect();
        assert_eq!(keys.len(), events.len(), "each event has a key of its own");
        let in_transaction =
            |event: &&crate::truth::Event| event.document.contains_key("txnNumber");
        assert!(events.iter().filter(in_transaction).count() > 50);
        let deep = events.iter().filter(|event| event.version & 0xffff > 3).count();
        assert!(deep > 5, "several operations in one transaction");
    }
}
