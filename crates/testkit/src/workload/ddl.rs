//! What happens to collections as a whole while documents are written: they are made, indexed,
//! changed, dropped, renamed, and their databases dropped.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::writer::{Outcome, judge};
use super::{Leave, Tally};

/// What may happen to whole collections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ddl {
    /// Sets of collections, `db.coll`, of which each may be renamed to each other of its set, with
    /// or without an end of what was there. Names of which nobody writes documents may be in it.
    pub renames: Vec<Vec<String>>,
    /// Databases that may be dropped.
    pub dropped_databases: Vec<String>,
    /// The longest pause between two, in milliseconds.
    pub max_pause_ms: u64,
}

/// As so many writes counts what happens to a collection: all of its documents follow.
const AS_WRITES: u32 = 40;

pub(super) struct Changer {
    pub(super) client: Client,
    pub(super) collections: Vec<String>,
    pub(super) ddl: Ddl,
    pub(super) random: StdRng,
}

impl Changer {
    pub(super) fn new(client: Client, collections: Vec<String>, ddl: Ddl, seed: u64) -> Self {
        Self { client, collections, ddl, random: StdRng::seed_from_u64(seed) }
    }

    pub(super) async fn run(mut self, leave: Leave) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        loop {
            let pause = Duration::from_millis(self.random.random_range(0..=self.ddl.max_pause_ms));
            tokio::time::sleep(pause).await;
            if !leave.is_given(AS_WRITES).await {
                return Ok(tally);
            }
            let (database, command) = self.command();
            match judge(self.client.database(&database).run_command(command).await)? {
                Outcome::Done => tally.ddl += 1,
                Outcome::Nothing => {}
                Outcome::Unknown => tally.unknown += 1,
            }
        }
    }

    /// A command, and the database that takes it.
    fn command(&mut self) -> (String, Document) {
        let random = &mut self.random;
        let names = self.ddl.renames.iter().flatten().chain(&self.collections);
        let names: Vec<&String> = names.collect();
        let name = *names.choose(random).expect("a plan has collections");
        let (database, collection) = name.split_once('.').expect("it is `db.coll`");
        let key = *["n", "status", "size_bytes"].choose(random).expect("it is not empty");
        let choice = random.random_range(0..100);
        let command = match choice {
            0..12 => doc! { "create": collection },
            12..24 => {
                let index = doc! { "key": { key: 1 }, "name": key };
                doc! { "createIndexes": collection, "indexes": [index] }
            }
            24..34 => doc! { "dropIndexes": collection, "index": key },
            34..44 => {
                let enabled: bool = random.random();
                let images = doc! { "enabled": enabled };
                doc! { "collMod": collection, "changeStreamPreAndPostImages": images }
            }
            44..68 => doc! { "drop": collection },
            68..94 if !self.ddl.renames.is_empty() => {
                let set = self.ddl.renames.choose(random).expect("it is not empty");
                let mut of_set = || set.choose(random).expect("a set has names").clone();
                let (from, to) = (of_set(), of_set());
                let rename = doc! {
                    "renameCollection": from,
                    "to": to,
                    "dropTarget": random.random_bool(0.7),
                };
                return ("admin".into(), rename);
            }
            _ => match self.ddl.dropped_databases.choose(random) {
                Some(database) => return (database.clone(), doc! { "dropDatabase": 1 }),
                None => doc! { "create": collection },
            },
        };
        (database.to_owned(), command)
    }
}
