//! What a worker does with its source, without a delivery.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::Timestamp;
use tailwater_core::Error;
use tailwater_core::event::ChangeEvent;
use tailwater_core::position::{Epoch, LaneId, Position, SeqRange};
use tailwater_core::scope::Scope;
use tailwater_core::watch::Watch;
use tailwater_mongodb::bookmark::{Bookmark, Operations, Place};
use tailwater_mongodb::{Server, Start, Streams};
use tailwater_pipeline::budget::Budget;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::{BatchLimits, Read, Source as _};
use tailwater_testkit::servers::Mongod;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Streams that read from a position on.
pub(crate) struct Watcher {
    pub(crate) streams: Streams,
    pub(crate) lanes: Vec<LaneId>,
    pub(crate) vitals: Vitals,
    /// Where each lane goes on behind what was read.
    pub(crate) next: BTreeMap<LaneId, Position>,
}

pub(crate) async fn connect(mongod: &Mongod, streams: usize) -> Server {
    Server::connect(&mongod.uri(), streams, DEADLINE).await.unwrap()
}

/// Behind everything that has happened.
pub(crate) async fn now(mongod: &Mongod) -> Position {
    connect(mongod, 1).await.origin(Start::Now).await.unwrap()
}

/// The position, changed.
pub(crate) fn moved(position: &Position, change: impl FnOnce(&mut Bookmark)) -> Position {
    let mut bookmark = Bookmark::decode(&position.cursor).unwrap();
    change(&mut bookmark);
    Position { seq: position.seq, cursor: bookmark.encode() }
}

pub(crate) fn time(position: &Position) -> Timestamp {
    match Bookmark::decode(&position.cursor).unwrap().place {
        Place::At(time) => time,
        Place::After(_) => panic!("a token"),
    }
}

pub(crate) fn listed(kinds: &[&str]) -> Operations {
    Some(kinds.iter().map(|kind| (*kind).to_owned()).collect())
}

pub(crate) fn tokens(events: &[ChangeEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8_lossy(event.token_data()).into_owned()).collect()
}

impl Watcher {
    /// Streams over `scopes`, all from `at` on.
    pub(crate) async fn start(
        mongod: &Mongod,
        scopes: Vec<Scope>,
        watch: Watch,
        at: &Position,
    ) -> Self {
        let server = connect(mongod, scopes.len()).await;
        let budget = Budget::new(1 << 28);
        let vitals = Vitals::default();
        let mut streams = Streams::new(server, scopes, watch, budget, vitals.clone());
        let Read::Assigned(lanes) = streams.read(&BatchLimits::default()).await.unwrap() else {
            panic!("a batch before its lane");
        };
        for lane in &lanes {
            streams.seek(lane, Epoch::new([1; 16]), at).await.unwrap();
        }
        let next = lanes.iter().map(|lane| (lane.clone(), at.clone())).collect();
        Self { streams, lanes, vitals, next }
    }

    /// The next `count` events, or more that came with them, or what stopped the streams.
    pub(crate) async fn read(&mut self, count: usize) -> Result<Vec<ChangeEvent>, Error> {
        let mut events = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        while events.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} events", events.len());
            let Read::Batch(batch) = self.streams.read(&BatchLimits::default()).await? else {
                panic!("lanes came twice");
            };
            for part in batch.parts {
                self.next.insert(part.lane, part.next);
                events.extend(part.body);
            }
        }
        Ok(events)
    }

    /// All events up to what stops the streams.
    pub(crate) async fn read_to_the_end(&mut self) -> (Vec<ChangeEvent>, Error) {
        let mut events = Vec::new();
        loop {
            match self.read(1).await {
                Ok(more) => events.extend(more),
                Err(error) => return (events, error),
            }
        }
    }

    /// The Range of the only lane that begins at `from`, exactly.
    pub(crate) async fn read_exactly(&mut self, from: &Position, count: usize) -> Vec<ChangeEvent> {
        let lane = self.lanes[0].clone();
        let range = SeqRange::starting_at(from.seq, count as u64).unwrap();
        let part = self.streams.read_exactly(&lane, range).await.unwrap();
        self.next.insert(lane, part.next);
        part.body
    }
}
