//! Streams: the change streams of a run as one source.
//!
//! A reader task per stream sends replies into one bounded channel; `read` gathers them into a
//! part per lane until a limit is reached. A seek ends the lane's reader; the next `read` starts a
//! new one from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::Timestamp;
use tailwater_core::event::ChangeEvent;
use tailwater_core::exclude::Exclusions;
use tailwater_core::position::{Epoch, LaneId, Position, Seq, SeqRange};
use tailwater_core::scope::Scope;
use tailwater_core::watch::Watch;
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::budget::Budget;
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::{Batch, BatchLimits, Part, Read, Source};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::info;

use crate::Server;
use crate::bookmark::{Bookmark, Place};
use crate::reader::{Reader, Reply};
use crate::reply;
use crate::request::Request;

/// The events of one part, in order.
pub type Events = Vec<ChangeEvent>;

/// Where a stream begins that has no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind everything that has happened.
    Now,
    /// At the oldest event that the oplog holds.
    Oldest,
    /// At a time, in seconds since 1970.
    At(u32),
}

/// A quiet stream moves its position at least this often, so that it does not fall off the oplog.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Replies that wait in the channel. The budget bounds their bytes; this bounds tiny ones.
const CHANNEL: usize = 64;

/// The change streams of one run.
#[derive(Debug)]
pub struct Streams {
    server: Server,
    budget: Budget,
    vitals: Vitals,
    lanes: Vec<Lane>,
    announced: bool,
    /// What a lane said that must stop; it waits for what came before it.
    failed: Option<Error>,
    sender: mpsc::Sender<Heard>,
    inbox: mpsc::Receiver<Heard>,
}

#[derive(Debug)]
struct Lane {
    id: LaneId,
    request: Request,
    epoch: Epoch,
    seq: Seq,
    at: Bookmark,
    /// Ends the reader of an earlier seek, and marks what it had sent as stale.
    generation: u64,
    reader: Option<AbortHandle>,
    heartbeat_due: Instant,
}

/// What a reader sends.
#[derive(Debug)]
struct Heard {
    lane: usize,
    generation: u64,
    reply: Result<Reply>,
}

impl Streams {
    /// One stream for each scope; `watch` says what they ask of the server.
    pub fn new(
        server: Server,
        scopes: Vec<Scope>,
        watch: Watch,
        budget: Budget,
        vitals: Vitals,
    ) -> Self {
        let (sender, inbox) = mpsc::channel(CHANNEL);
        let exclusions = Arc::new(Exclusions::new(&watch.exclude_fields));
        let all: Arc<[Scope]> = scopes.clone().into();
        let beginning = Bookmark {
            place: Place::At(Timestamp { time: 0, increment: 0 }),
            operations: None,
            reading: None,
            replica_set: None,
        };
        let lanes = scopes.into_iter().map(|scope| Lane {
            id: LaneId::stream(&scope.entry()),
            request: Request::new(scope, &all, &watch, &exclusions),
            epoch: Epoch::new([0; 16]),
            seq: Seq::ZERO,
            at: beginning.clone(),
            generation: 0,
            reader: None,
            heartbeat_due: Instant::now() + HEARTBEAT,
        });
        let lanes: Vec<Lane> = lanes.collect();
        for lane in &lanes {
            vitals.expect(&lane.id);
        }
        Self { server, failed: None, budget, vitals, lanes, announced: false, sender, inbox }
    }

    fn lane(&self, id: &LaneId) -> Result<usize> {
        let found = self.lanes.iter().position(|lane| lane.id == *id);
        found.ok_or_else(|| {
            Error::new(ErrorKind::Bug, format!("`{id}` is not a stream of this run"))
        })
    }

    /// A reader from where a lane is.
    fn reader(&self, lane: &Lane, request: Request, budget: Budget, vitals: Vitals) -> Reader {
        let (id, at) = (lane.id.clone(), lane.at.clone());
        Reader::new(self.server.clone(), id, request, at, budget, vitals)
    }

    /// A heartbeat of each lane that lists other kinds from now on. Its next Range must not be
    /// declared behind a bookmark that says otherwise, or it is read again as what it is not.
    fn relist(&mut self) -> Vec<Part<Events>> {
        let changed = |lane: &&mut Lane| lane.at.reading != lane.request.operations;
        let lanes = self.lanes.iter_mut().filter(changed);
        let parts = lanes.map(|lane| {
            lane.at.reading.clone_from(&lane.request.operations);
            lane.part(None, Vec::new())
        });
        parts.collect()
    }

    /// Starts a reader for every lane that has none.
    fn start_readers(&mut self) {
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            if lane.reader.is_some() {
                continue;
            }
            let request = lane.request.clone();
            let mut reader = self.reader(lane, request, self.budget.clone(), self.vitals.clone());
            let (generation, sender) = (lane.generation, self.sender.clone());
            let task = tokio::spawn(async move {
                loop {
                    let reply = reader.next().await;
                    let last = reply.is_err();
                    let closed =
                        sender.send(Heard { lane: index, generation, reply }).await.is_err();
                    if last || closed {
                        return;
                    }
                }
            });
            self.lanes[index].reader = Some(task.abort_handle());
        }
    }

    /// The next reply that is not stale.
    async fn hear(&mut self) -> Result<(usize, Reply)> {
        loop {
            let heard = self.inbox.recv().await;
            let Some(Heard { lane, generation, reply }) = heard else {
                return Err(Error::new(ErrorKind::Bug, "the streams' channel closed"));
            };
            if self.lanes[lane].generation == generation {
                return Ok((lane, reply?));
            }
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            if let Some(reader) = lane.reader.take() {
                reader.abort();
            }
        }
    }
}

impl Source for Streams {
    type Body = Events;

    async fn read(&mut self, limits: &BatchLimits) -> Result<Read<Events>> {
        if !self.announced {
            self.announced = true;
            return Ok(Read::Assigned(self.lanes.iter().map(|lane| lane.id.clone()).collect()));
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let relisted = self.relist();
        if !relisted.is_empty() {
            return Ok(Read::Batch(Batch { parts: relisted }));
        }
        self.start_readers();
        let mut parts: Vec<Option<Part<Events>>> = self.lanes.iter().map(|_| None).collect();
        let mut bytes = 0;
        // The events that came first wait no longer than that: the clock runs from the call.
        let called = tokio::time::Instant::now();
        let mut busy = 0;
        loop {
            let wait = if busy == 0 { limits.idle() } else { limits.patience(busy) };
            let Ok(heard) = tokio::time::timeout_at(called + wait, self.hear()).await else {
                break;
            };
            let (index, reply) = match heard {
                Ok(heard) => heard,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            };
            let lane = &mut self.lanes[index];
            lane.at = reply.after;
            let Some(range) = SeqRange::starting_at(lane.seq, reply.events.len() as u64) else {
                continue;
            };
            lane.seq = lane.seq.plus(range.count());
            bytes += reply.events.iter().map(|event| event.bytes().len()).sum::<usize>();
            busy += usize::from(parts[index].is_none());
            let part = parts[index].get_or_insert_with(|| lane.part(Some(range), Vec::new()));
            part.range = part.range.map(|sofar| SeqRange { first: sofar.first, last: range.last });
            part.body.extend(reply.events);
            part.held.extend(reply.shares);
            if part.body.len() >= limits.max_rows || bytes >= limits.max_bytes {
                break;
            }
        }
        let now = Instant::now();
        for (lane, part) in self.lanes.iter_mut().zip(&mut parts) {
            if let Some(part) = part {
                part.next = lane.position();
            } else if now >= lane.heartbeat_due {
                *part = Some(lane.part(None, Vec::new()));
            } else {
                continue;
            }
            lane.heartbeat_due = now + HEARTBEAT;
        }
        Ok(Read::Batch(Batch { parts: parts.into_iter().flatten().collect() }))
    }

    async fn seek(&mut self, lane: &LaneId, epoch: Epoch, position: &Position) -> Result<()> {
        let index = self.lane(lane)?;
        let lane = &mut self.lanes[index];
        lane.epoch = epoch;
        lane.seq = position.seq;
        lane.at = Bookmark::decode(&position.cursor)?;
        lane.generation += 1;
        if let Some(reader) = lane.reader.take() {
            reader.abort();
        }
        Ok(())
    }

    async fn read_exactly(&mut self, lane: &LaneId, range: SeqRange) -> Result<Part<Events>> {
        let index = self.lane(lane)?;
        // The Range is read again as it was read first, whatever is listed now.
        let (lane, reading) = (&self.lanes[index], self.lanes[index].at.reading.clone());
        let request = lane.request.listing(reading.clone());
        // The part is alone in the process now, and must fit whatever the looked-up documents have
        // grown to: a shared budget could wait for what only this part gives back. What lies behind
        // the Range will be read, and counted, again.
        let mut reader = self.reader(lane, request, Budget::new(usize::MAX), Vitals::default());
        if lane.seq != range.first {
            let what = format!("`{}` is at {}, cannot read {range}", lane.id, lane.seq);
            return Err(Error::new(ErrorKind::Bug, what));
        }
        let mut part = lane.part(Some(range), Vec::new());
        let mut replica_set = lane.at.replica_set;
        let mut waits = false;
        while (part.body.len() as u64) < range.count() {
            let reply = reader.next().await?;
            // One server answers all: the lanes that wait for their turn do not wait for it.
            for lane in &self.lanes {
                self.vitals.heard(&lane.id, 0);
            }
            if reply.events.is_empty() && !std::mem::replace(&mut waits, true) {
                let read = part.body.len();
                info!(stream = %lane.id, %range, read, "waiting for the rest of the pending range");
            }
            part.body.extend(reply.events);
            part.held.extend(reply.shares);
            replica_set = reply.after.replica_set;
        }
        part.body.truncate(usize::try_from(range.count()).unwrap_or(usize::MAX));
        let lane = &mut self.lanes[index];
        let token = part.body.last().map(ChangeEvent::token).unwrap_or_default();
        let place = Place::After(reply::token(token)?);
        lane.at = Bookmark { place, operations: reading.clone(), reading, replica_set };
        lane.seq = range.last.plus(1);
        self.vitals.heard(&lane.id, range.count());
        part.next = lane.position();
        Ok(part)
    }
}

impl Lane {
    fn position(&self) -> Position {
        Position { seq: self.seq, cursor: self.at.encode() }
    }

    fn part(&self, range: Option<SeqRange>, body: Events) -> Part<Events> {
        Part {
            lane: self.id.clone(),
            epoch: self.epoch,
            range,
            next: self.position(),
            body,
            held: Vec::new(),
        }
    }
}
