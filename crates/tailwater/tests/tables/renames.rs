//! Ends of collections, each lane in its own time.
//!
//! The truth takes the events in the order in which they happened. The lanes take them in the order of
//! their partition, and lane against lane in any. Every document has an `_id` of its own, as long as
//! collections live under other names: see `docs/columns.md`.

use std::collections::BTreeMap;

use bson::doc;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tailwater_core::event::ChangeEvent;
use tailwater_core::position::LaneId;
use tailwater_core::rows::Namespace;
use tailwater_pipeline::Delivery as _;

use crate::stage::{Life, Stage, entry, event, insert, topic};

/// What is in the collections, and the events that made it so, by lane.
struct World {
    partitions: i64,
    time: u32,
    collections: BTreeMap<String, BTreeMap<i64, i32>>,
    lanes: BTreeMap<LaneId, Vec<ChangeEvent>>,
    next_id: i64,
    /// Whether the tables are merged now and then.
    merges: bool,
}

impl World {
    fn new(partitions: i64) -> Self {
        let (collections, lanes) = (BTreeMap::new(), BTreeMap::new());
        Self { partitions, time: 0, collections, lanes, next_id: 0, merges: true }
    }

    fn now(&mut self) -> u32 {
        self.time += 1;
        self.time
    }

    fn put(&mut self, coll: &str, partition: i64, event: ChangeEvent) {
        let lane = LaneId::partition_of(&topic(coll), u32::try_from(partition).unwrap());
        self.lanes.entry(lane).or_default().push(event);
    }

    /// Puts a marker into all partitions of the topics of some collections.
    fn mark(&mut self, colls: &[&str], event: &ChangeEvent) {
        for coll in colls {
            for partition in 0..self.partitions {
                let copy = event.clone();
                self.put(coll, partition, if partition == 0 { copy } else { copy.unlisted() });
            }
        }
    }

    /// Inserts a document, or replaces it.
    fn write(&mut self, coll: &str, id: i64) {
        let time = self.now();
        let n = i32::try_from(time).unwrap();
        self.collections.entry(coll.to_owned()).or_default().insert(id, n);
        self.put(coll, id % self.partitions, insert(coll, time, doc! { "_id": id, "n": n }));
    }

    fn insert(&mut self, coll: &str) -> i64 {
        self.next_id += 1;
        self.write(coll, self.next_id);
        self.next_id
    }

    fn delete(&mut self, coll: &str, id: i64) {
        let time = self.now();
        self.collections.get_mut(coll).unwrap().remove(&id);
        let delete = event(coll, "delete", time, doc! { "documentKey": { "_id": id } });
        self.put(coll, id % self.partitions, delete);
    }

    fn drop(&mut self, coll: &str) {
        let time = self.now();
        self.collections.remove(coll);
        self.mark(&[coll], &event(coll, "drop", time, doc! {}));
    }

    /// Renames, over what is there.
    fn rename(&mut self, from: &str, to: &str) {
        let time = self.now();
        let documents = self.collections.remove(from).unwrap_or_default();
        self.collections.insert(to.to_owned(), documents);
        let fields = doc! { "to": { "db": "d", "coll": to } };
        self.mark(&[from, to], &event(from, "rename", time, fields));
    }

    /// Lets the lanes take their events, in an order that `choose` makes: of some lanes that have
    /// events left it names one.
    async fn run(&self, stage: &Stage, mut choose: impl FnMut(&[(&LaneId, usize)]) -> usize) {
        let mut taken: BTreeMap<&LaneId, usize> = self.lanes.keys().map(|lane| (lane, 0)).collect();
        self.lanes.keys().for_each(|lane| stage.store(lane, 0, None));
        let mut life = self.claim(stage).await;
        let mut parts = 0;
        loop {
            let left: Vec<(&LaneId, usize)> = (taken.iter())
                .filter(|(lane, taken)| self.lanes[**lane].len() > **taken)
                .map(|(lane, taken)| (*lane, *taken))
                .collect();
            if left.is_empty() {
                return;
            }
            let (lane, at) = left[choose(&left)];
            let until = self.lanes[lane].len().min(at + at % 3 + 1);
            taken.insert(lane, until);
            let events = &self.lanes[lane][at..until];
            let numbers = at as u64..;
            let entries = || {
                numbers
                    .clone()
                    .zip(events)
                    .map(|(seq, it)| entry(seq, it.clone()))
                    .collect::<Vec<_>>()
            };
            let intent = stage.intent(lane, at as u64, entries());
            stage.deliver_by(&mut life, lane, entries()).await.unwrap();
            parts += 1;
            if self.merges && parts % 3 == 0 {
                stage.merge().await;
            }
            // It dies before this is saved: everything once more.
            if at % 4 == 1 {
                stage.store(lane, at as u64, Some(intent));
                stage.recover(lane, entries()).await.unwrap();
                life = self.claim(stage).await;
            }
        }
    }

    async fn claim(&self, stage: &Stage) -> Life {
        let mut life = stage.life().await;
        let lanes: Vec<LaneId> = self.lanes.keys().cloned().collect();
        life.claim(&lanes).await.unwrap();
        life
    }

    /// Compares the current state with the truth.
    async fn judge(&self, stage: &Stage, what: &str) {
        let names =
            "SELECT name FROM system.tables WHERE name LIKE 'd__%' AND name LIKE '%_current'";
        let tables = stage.ask(names).await;
        let mut found = BTreeMap::new();
        for name in tables.iter().map(|row| row[0].as_str().unwrap()) {
            let rows =
                format!("SELECT toInt64(_id), doc.n::Int32, _partition FROM {name} ORDER BY 1");
            let coll = name.strip_prefix("d__").unwrap().strip_suffix("_current").unwrap();
            found.insert(coll.to_owned(), stage.ask(&rows).await);
        }
        for (coll, documents) in &self.collections {
            let wanted: Vec<_> =
                (documents.iter()).map(|(id, n)| json!([id, n, id % self.partitions])).collect();
            let rows = found.remove(coll).unwrap_or_default();
            assert_eq!(rows, wanted, "{coll}, {what}");
        }
        let ghosts: Vec<_> = found.iter().filter(|(_, rows)| !rows.is_empty()).collect();
        assert!(ghosts.is_empty(), "{ghosts:?}, {what}");
    }
}

/// Whole lanes one behind the other, in this order of collections.
fn in_order(colls: &str) -> impl FnMut(&[(&LaneId, usize)]) -> usize + use<> {
    let topics: Vec<String> = colls.chars().map(|coll| topic(&coll.to_string())).collect();
    move |left| {
        let rank = |lane: &LaneId| topics.iter().position(|topic| topic == lane.topic()).unwrap();
        (0..left.len()).min_by_key(|at| rank(left[*at].0)).unwrap()
    }
}

async fn in_these_orders(orders: &[&str], script: impl Fn(&mut World)) {
    let Some(mut stage) = Stage::start().await else { return };
    for order in orders {
        let mut world = World::new(2);
        script(&mut world);
        world.run(&stage, in_order(order)).await;
        world.judge(&stage, order).await;
        stage.forget().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_ends_what_each_lane_had_and_nothing_newer() {
    in_these_orders(&["a"], |world| {
        for _ in 0..5 {
            world.insert("a");
        }
        world.drop("a");
        world.write("a", 2);
        world.insert("a");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_hands_over_what_each_lane_had() {
    in_these_orders(&["ab", "ba"], |world| {
        for _ in 0..4 {
            world.insert("b");
        }
        let ids = [0; 5].map(|_| world.insert("a"));
        world.delete("a", ids[1]);
        world.rename("a", "b");
        world.write("b", ids[0]);
        world.delete("b", ids[2]);
        world.insert("a");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_over_late_follows_where_the_collection_went() {
    in_these_orders(&["abc", "bca", "cab", "cba"], |world| {
        let ids = [0; 6].map(|_| world.insert("a"));
        world.rename("a", "b");
        world.write("b", ids[0]);
        world.write("b", ids[3]);
        world.delete("b", ids[1]);
        world.rename("b", "c");
        world.write("c", ids[0]);
        world.delete("c", ids[2]);
        world.insert("b");
        // Another one takes its place, and is gone.
        world.insert("a");
        world.rename("a", "b");
        world.insert("b");
        world.drop("b");
        world.insert("b");
    })
    .await;
}

/// What `$out` does: each run replaces the collection of the run before.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_replaced_again_and_again_is_the_last_one() {
    in_these_orders(&["acb", "bac", "cba"], |world| {
        for from in ["a", "c", "a", "c"] {
            world.insert(from);
            world.insert(from);
            world.rename(from, "b");
        }
        world.insert("b");
    })
    .await;
}

/// The lanes side by side, step by step as it happened: then an `_id` may come again.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_in_step_may_use_an_id_again() {
    let Some(stage) = Stage::start().await else { return };
    let mut world = World::new(2);
    for round in 0..3 {
        for id in 0..4 {
            world.write("a", id);
            world.write("b", id + 2);
        }
        world.delete("a", round);
        world.rename("b", "c");
        world.rename("a", "b");
        world.write("b", 1);
    }
    let events = world.lanes.clone();
    let version = |lane: &LaneId, at: usize| events[lane][at].version();
    world
        .run(&stage, |left| {
            (0..left.len()).min_by_key(|at| version(left[*at].0, left[*at].1)).unwrap()
        })
        .await;
    world.judge(&stage, "in step").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_in_whatever_order_the_lanes_agree_in_the_end() {
    let Some(mut stage) = Stage::start().await else { return };
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(2);
        let colls = ["a", "b", "c"];
        for _ in 0..18 {
            let coll = colls[random.random_range(0..3)];
            let ids: Vec<i64> =
                world.collections.get(coll).into_iter().flatten().map(|it| *it.0).collect();
            match random.random_range(0..10) {
                0 => world.drop(coll),
                1..=3 => {
                    let to = colls[random.random_range(0..3)];
                    if to != coll {
                        world.rename(coll, to);
                    }
                }
                4 | 5 if !ids.is_empty() => {
                    world.write(coll, ids[random.random_range(0..ids.len())])
                }
                6 if !ids.is_empty() => world.delete(coll, ids[random.random_range(0..ids.len())]),
                _ => {
                    world.insert(coll);
                }
            }
        }
        world.run(&stage, |left| random.random_range(0..left.len())).await;
        world.judge(&stage, &format!("seed {seed}")).await;
        stage.forget().await;
    }
}

/// Newer rows of the old name may take the place of those that were copied, and older ones come to
/// light, as merges go.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_is_applied_again_changes_nothing() {
    let Some(stage) = Stage::start().await else { return };
    let mut world = World { merges: false, ..World::new(1) };
    let of = Namespace { db: "d".to_owned(), coll: "a".to_owned() };
    stage.tables().await.current(&of).await.unwrap();
    stage.execute("SYSTEM STOP MERGES d__a").await;
    let id = world.insert("a");
    world.write("a", id);
    let rename = world.lanes.values().next().unwrap().len();
    world.rename("a", "b");
    world.run(&stage, in_order("ab")).await;
    world.judge(&stage, "at first").await;
    let lane = LaneId::partition_of(&topic("a"), 0);
    // Of the document the oldest row alone is left.
    for sql in [
        "CREATE TABLE kept ENGINE = Memory AS SELECT * FROM d__a",
        "TRUNCATE TABLE d__a",
        "INSERT INTO d__a SELECT * FROM kept WHERE _id != '1'",
        "INSERT INTO d__a SELECT * FROM kept WHERE _id = '1' ORDER BY _version LIMIT 1",
    ] {
        stage.execute(sql).await;
    }
    let entries = || vec![entry(rename as u64, world.lanes[&lane][rename].clone())];
    let intent = stage.intent(&lane, rename as u64, entries());
    stage.store(&lane, rename as u64, Some(intent));
    stage.recover(&lane, entries()).await.unwrap();
    let state = "SELECT toInt64(_id), doc.n::Int32 FROM d__b_current";
    assert_eq!(stage.ask(state).await, [json!([1, 2])]);
}

/// A producer that puts a drop into one partition alone ends the rows of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_one_lane_alone_sees_is_told_for_all() {
    let Some(stage) = Stage::start().await else { return };
    let mut world = World::new(3);
    for _ in 0..6 {
        world.insert("a");
    }
    let time = world.now();
    world.collections.remove("a");
    world.put("a", 1, event("a", "drop", time, doc! {}).in_one_lane());
    world.write("a", 1);
    world.run(&stage, in_order("a")).await;
    // The lane of partition 2 came behind it, and with events that are older.
    let sql = "SELECT toInt64(_id) FROM d__a_current WHERE _partition < 2 ORDER BY 1";
    assert_eq!(stage.ask(sql).await, [json!([1])]);
}
