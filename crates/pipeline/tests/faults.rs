//! The real loop and the real write-ahead over scripted ends: whatever fails, and wherever the
//! process dies, every event ends up written exactly once.
//!
//! The server has two tables, each a list of rows in two table partitions, and the tokens of each
//! partition's blocks, kept in two steps as ClickHouse does: first the token, then the rows. A "crash"
//! is an error that ends the run; the next run finds what was stored.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tailwater_core::gap::Gap;
use tailwater_core::position::{Checkpoint, Epoch, LaneId, Millis, Plan, Position, Seq, SeqRange};
use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::write_ahead::{
    Block, CheckpointStore, Declared, Planned, ReadBack, Round, Target, WriteAhead,
};
use tailwater_pipeline::{Batch, BatchLimits, Part, Read, Source, Transform};
use tailwater_pipeline::{worker, write_ahead};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The tables. The second does not have every event.
const TABLES: [&str; 2] = ["rows", "ledger"];

fn is_in(table: &str, event: u64) -> bool {
    table == TABLES[0] || event % 7 != 3
}

/// Events are numbered by themselves; the lane numbers those that its stream yields.
const EVENTS: u64 = 24;
const PARTITIONS: u64 = 2;
const REQUEST_LIFE: Duration = Duration::from_secs(30);

/// What happens to one request to the server.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Nothing arrives, and the client sees an error.
    Lost,
    /// Everything is written, and the answer is lost.
    AckLost,
    /// The server dies between the token and the rows of the first partition.
    TokenWithoutRows,
    /// The server dies between the two partitions.
    OnePartition,
    /// The client gives up; the server finishes while the client looks.
    Slow,
    /// The client gives up; a proxy delivers the request much later.
    Held,
    /// The process dies before the request leaves.
    CrashBefore,
    /// The process dies while the request is served.
    CrashAfter,
}

/// What happens to one save of the checkpoint.
#[derive(Debug, Clone, Copy)]
enum SaveFault {
    None,
    CrashBefore,
    CrashAfter,
}

/// An event in a table, or a dead letter in the place of its row there, and the number under which it
/// came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    table: &'static str,
    seq: Seq,
    event: u64,
}

#[derive(Debug, Default)]
struct World {
    rows: Vec<Row>,
    tokens: BTreeSet<(String, u64)>,
    running: Vec<(String, Vec<Row>)>,
    /// With the moment at which whoever holds them gives up.
    held: Vec<(String, Vec<Row>, Instant)>,
    dead: Vec<Row>,
    dead_tokens: BTreeSet<(&'static str, u64, Round)>,
    /// Rows that the server refuses, and every block with them: by table and event.
    poison: BTreeSet<(&'static str, u64)>,
    /// A view refuses them, after the table has taken the block.
    poison_is_in_a_view: bool,
    checkpoint: Option<Checkpoint>,
    /// Requests of this life; a runaway loop must not look like a slow test.
    requests: usize,
    /// All checkpoints that were ever saved.
    history: Vec<Checkpoint>,
    faults: VecDeque<Fault>,
    save_faults: VecDeque<SaveFault>,
    /// The server has no memory for more rows at once.
    most_rows: usize,
    /// The stream leaves these out until the process dies for the first time.
    left_out: BTreeSet<u64>,
    left_out_at_first: BTreeSet<u64>,
    /// Blocks that were sent without a stored declaration that covers them.
    undeclared: usize,
}

impl World {
    fn apply(&mut self, token: &str, rows: &[Row]) {
        for partition in 0..PARTITIONS {
            self.apply_partition(token, rows, partition);
        }
    }

    fn apply_partition(&mut self, token: &str, rows: &[Row], partition: u64) {
        let mut rows = rows.iter().filter(|row| row.event % PARTITIONS == partition).peekable();
        if rows.peek().is_some() && self.tokens.insert((token.to_owned(), partition)) {
            self.rows.extend(rows);
        }
    }

    fn has(&self, event: u64) -> bool {
        TABLES.iter().filter(|table| is_in(table, event)).all(|table| {
            let mut rows = self.rows.iter().chain(&self.dead);
            rows.any(|row| row.table == *table && row.event == event)
        })
    }

    /// A request that outlives the checkpoint, the stream or the table that it was made for is
    /// beyond any promise: none is left.
    fn forget_requests(&mut self) {
        self.held.clear();
        self.running.clear();
    }

    fn deliver_held(&mut self) {
        for (token, rows, until) in std::mem::take(&mut self.held) {
            if Instant::now() < until {
                self.apply(&token, &rows);
            }
        }
    }
}

type Shared = Arc<Mutex<World>>;

fn crash() -> Error {
    Error::new(ErrorKind::Storage, "the process dies here")
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unreachable, "the answer is lost")
}

struct Events {
    seq: Seq,
    /// The event that comes next.
    next: u64,
    left_out: BTreeSet<u64>,
    announced: bool,
    cuts: VecDeque<u64>,
    stop: CancellationToken,
}

impl Events {
    fn ahead(&self) -> impl Iterator<Item = u64> {
        (self.next..EVENTS).filter(|event| !self.left_out.contains(event))
    }

    fn part(&mut self, count: u64) -> Part<Vec<u64>> {
        let first = self.seq;
        let body: Vec<u64> = self.ahead().take(usize::try_from(count).unwrap()).collect();
        let range = SeqRange::starting_at(first, body.len() as u64);
        self.next = body.last().map_or(self.next, |last| last + 1);
        self.seq = range.map_or(first, |range| range.last.plus(1));
        let cursor = Bytes::copy_from_slice(&self.next.to_be_bytes());
        Part {
            lane: lane(),
            epoch: Epoch::new([1; 16]),
            range,
            next: Position { seq: self.seq, cursor },
            body,
            held: Vec::new(),
        }
    }
}

fn lane() -> LaneId {
    LaneId::stream("a.b")
}

impl Source for Events {
    type Body = Vec<u64>;

    async fn read(&mut self, _limits: &BatchLimits) -> Result<Read<Vec<u64>>> {
        if !self.announced {
            self.announced = true;
            return Ok(Read::Assigned(vec![lane()]));
        }
        if self.ahead().next().is_none() {
            self.stop.cancel();
            return Ok(Read::Batch(Batch { parts: Vec::new() }));
        }
        let count = self.cuts.pop_front().unwrap_or(5);
        Ok(Read::Batch(Batch { parts: vec![self.part(count)] }))
    }

    async fn seek(&mut self, _lane: &LaneId, _epoch: Epoch, position: &Position) -> Result<()> {
        self.seq = position.seq;
        self.next = u64::from_be_bytes(position.cursor[..].try_into().unwrap());
        Ok(())
    }

    async fn read_exactly(&mut self, _lane: &LaneId, range: SeqRange) -> Result<Part<Vec<u64>>> {
        Ok(self.part(range.count()))
    }
}

#[derive(Debug)]
struct Body {
    rows: Vec<Row>,
    plan: Plan,
}

impl Body {
    fn rows(&self, table: &str) -> impl Iterator<Item = Row> {
        self.rows.iter().filter(move |row| row.table == table).copied()
    }
}

impl Planned for Body {
    fn plan(&self) -> &Plan {
        &self.plan
    }
}

struct ToBody;

impl Transform for ToBody {
    type In = Vec<u64>;
    type Out = Body;

    fn apply(&self, mut part: Part<Vec<u64>>) -> Result<Part<Body>> {
        let events = std::mem::take(&mut part.body);
        let digest = events.iter().fold(7, |sum: u64, row| sum.wrapping_mul(31).wrapping_add(*row));
        let first = part.range.map_or(part.next.seq, |range| range.first);
        let numbered = (0..).map(|at| first.plus(at)).zip(events);
        let rows: Vec<Row> = numbered
            .flat_map(|(seq, event)| TABLES.map(|table| Row { table, seq, event }))
            .filter(|row| is_in(row.table, row.event))
            .collect();
        let mut counts = BTreeMap::new();
        for row in &rows {
            *counts.entry(row.table.to_owned()).or_default() += 1;
        }
        let (ts_min, ts_max) = (Millis(0), Millis(0));
        let plan = Plan { ts_min, ts_max, rows: counts, digest, mapping: None };
        Ok(part.with_body(Body { rows, plan }))
    }
}

struct Server(Shared);

impl Target for Server {
    type Body = Body;
    async fn check_new(&self, _lane: &LaneId, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    async fn upsert(&self, _declared: Declared<'_>, _body: &Body) -> Result<()> {
        Ok(())
    }

    async fn append(
        &self,
        declared: Declared<'_>,
        body: &Body,
        table: &str,
        block: Block<'_>,
    ) -> Result<()> {
        let range = declared.intent.range;
        let of = |seqs: &BTreeSet<Seq>| -> Vec<Row> {
            body.rows(table).filter(|row| seqs.contains(&row.seq)).collect()
        };
        let (token, rows) = match block {
            Block::Whole => (format!("{table}/{range}~0"), body.rows(table).collect()),
            Block::Missing(rows, round) => (format!("{table}/{range}~{round}"), of(rows)),
            Block::Cut(rows, path, round) => (format!("{table}/{range}.{path}~{round}"), of(rows)),
        };
        let mut world = self.0.lock().unwrap();
        world.requests += 1;
        assert!(world.requests < 2000, "it never ends");
        let stored = world.checkpoint.as_ref().and_then(|at| at.pending.clone());
        if stored.is_none_or(|intent| intent.range != declared.intent.range) {
            world.undeclared += 1;
        }
        if rows.iter().any(|row| world.poison.contains(&(row.table, row.event))) {
            if world.poison_is_in_a_view {
                world.apply(&token, &rows);
            }
            return Err(Error::new(ErrorKind::Refused, "the server refuses the block"));
        }
        if rows.len() > world.most_rows {
            return Err(Error::new(ErrorKind::TooLarge, "the server has no memory for the block"));
        }
        let fault = world.faults.pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => {
                world.apply(&token, &rows);
                world.deliver_held();
                Ok(())
            }
            Fault::Lost => Err(unreachable()),
            Fault::AckLost => {
                world.apply(&token, &rows);
                Err(unreachable())
            }
            Fault::TokenWithoutRows => {
                world.tokens.insert((token, rows[0].event % PARTITIONS));
                Err(unreachable())
            }
            Fault::OnePartition => {
                world.apply_partition(&token, &rows, 0);
                Err(unreachable())
            }
            Fault::Slow => {
                world.running.push((token, rows));
                Err(unreachable())
            }
            Fault::Held => {
                world.held.push((
                    token,
                    rows,
                    Instant::now() + REQUEST_LIFE - Duration::from_millis(1),
                ));
                Err(unreachable())
            }
            Fault::CrashBefore => Err(crash()),
            Fault::CrashAfter => {
                world.apply(&token, &rows);
                Err(crash())
            }
        }
    }

    async fn quiesce(&self, _declared: Declared<'_>) -> Result<()> {
        let mut world = self.0.lock().unwrap();
        for (token, rows) in std::mem::take(&mut world.running) {
            world.apply(&token, &rows);
        }
        Ok(())
    }

    async fn reject(
        &self,
        _declared: Declared<'_>,
        body: &Body,
        table: &str,
        seq: Seq,
        _refusal: &Error,
        round: Round,
    ) -> Result<()> {
        let mut world = self.0.lock().unwrap();
        world.requests += 1;
        assert!(world.requests < 2000, "it never ends");
        let fault = world.faults.pop_front().unwrap_or(Fault::None);
        if matches!(fault, Fault::CrashBefore) {
            return Err(crash());
        }
        if matches!(fault, Fault::Lost) {
            return Err(unreachable());
        }
        let letter = body.rows(table).find(|row| row.seq == seq).unwrap();
        let new = world.dead_tokens.insert((letter.table, seq.0, round));
        if new && !matches!(fault, Fault::TokenWithoutRows) {
            world.dead.push(letter);
        }
        match fault {
            Fault::None => Ok(()),
            Fault::CrashAfter => Err(crash()),
            _ => Err(unreachable()),
        }
    }

    async fn read_back(
        &self,
        declared: Declared<'_>,
        body: &Body,
        table: &str,
    ) -> Result<ReadBack> {
        let world = self.0.lock().unwrap();
        let own = declared.intent.range;
        let own = own.first..=own.last;
        let looked_at = |rows: &[Row]| -> Vec<Row> {
            let is_near = |row: &&Row| declared.renumbered || own.contains(&row.seq);
            rows.iter().filter(is_near).copied().collect()
        };
        let (rows, dead) = (looked_at(&world.rows), looked_at(&world.dead));
        let is_in = |rows: &[Row], row: &Row| {
            let same = |it: &Row| {
                let known = declared.renumbered || it.seq == row.seq;
                it.table == row.table && it.event == row.event && known
            };
            rows.iter().any(same)
        };
        let missing = body.rows(table).filter(|row| !is_in(&rows, row) && !is_in(&dead, row));
        let strange = |row: &Row| own.contains(&row.seq) && !body.rows.contains(row);
        let of_others = rows.iter().chain(&dead).any(strange);
        Ok(ReadBack {
            missing: missing.map(|row| row.seq).collect(),
            dead: body.rows(table).filter(|row| is_in(&dead, row)).map(|row| row.seq).collect(),
            of_others,
            views: Vec::new(),
            views_can_be_filled: true,
        })
    }

    async fn has_ahead(&self, _declared: Declared<'_>, body: &Body) -> Result<bool> {
        let world = self.0.lock().unwrap();
        let newest = body.rows.iter().map(|row| row.event).max().unwrap();
        Ok(world.rows.iter().chain(&world.dead).any(|row| row.event > newest))
    }

    async fn record_gap(&self, _gap: &Gap) -> Result<()> {
        Ok(())
    }

    async fn greatest(&self, _lane: &LaneId, _epoch: Epoch, first: Seq) -> Result<Option<Seq>> {
        let world = self.0.lock().unwrap();
        let numbers = world.rows.iter().chain(&world.dead).map(|row| row.seq);
        Ok(numbers.filter(|seq| *seq >= first).max())
    }
}

struct Store(Shared, Option<Checkpoint>);

impl CheckpointStore for Store {
    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<Option<Checkpoint>>> {
        Ok(vec![self.1.clone(); lanes.len()])
    }

    async fn save(&mut self, changes: Vec<(LaneId, Checkpoint)>) -> Result<()> {
        let mut world = self.0.lock().unwrap();
        let fault = world.save_faults.pop_front().unwrap_or(SaveFault::None);
        if matches!(fault, SaveFault::CrashBefore) {
            return Err(crash());
        }
        for (_, checkpoint) in changes {
            let before = world.checkpoint.as_ref().map(|at| at.next.seq);
            assert!(before.is_none_or(|seq| seq <= checkpoint.next.seq), "progress went back");
            let passed = u64::from_be_bytes(checkpoint.next.cursor[..].try_into().unwrap());
            let mut passed = (0..passed).filter(|event| !world.left_out_at_first.contains(event));
            assert!(passed.all(|event| world.has(event)), "progress without rows");
            world.history.push(checkpoint.clone());
            world.checkpoint = Some(checkpoint);
        }
        match fault {
            SaveFault::CrashAfter => Err(crash()),
            SaveFault::None | SaveFault::CrashBefore => Ok(()),
        }
    }
}

/// Runs, restarting after every crash, until all events are delivered. With a restart somebody may
/// put an older state folder in place, `restores` saves back, or mend what made the server refuse.
async fn run_to_the_end(world: &Shared, cuts: &[u64], restores: &[usize], heal: bool) {
    let mut restores = restores.iter();
    loop {
        let stop = CancellationToken::new();
        let source = Events {
            seq: Seq::ZERO,
            next: 0,
            left_out: world.lock().unwrap().left_out.clone(),
            announced: false,
            cuts: cuts.to_vec().into(),
            stop: stop.clone(),
        };
        let stored = world.lock().unwrap().checkpoint.clone();
        let mut store = Store(Arc::clone(world), stored);
        let cursor = Bytes::copy_from_slice(&0_u64.to_be_bytes());
        let origin = Position { seq: Seq::ZERO, cursor };
        if store.1.is_none() {
            match write_ahead::begin_missing(&mut store, [lane()], &origin).await {
                Ok(()) => store.1 = world.lock().unwrap().checkpoint.clone(),
                Err(_) => continue,
            }
        }
        let delivery = WriteAhead::new(
            store,
            Server(Arc::clone(world)),
            Duration::from_secs(60),
            Vitals::default(),
        );
        let run =
            worker::run(source, Arc::new(ToBody), delivery, BatchLimits::default(), stop).await;
        // A crashed process's requests end with the server's own work on them.
        match run {
            Ok(()) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Storage, "{error}"),
        }
        {
            let mut world = world.lock().unwrap();
            if !world.left_out.is_empty() {
                world.left_out.clear();
                world.forget_requests();
            }
        }
        if heal {
            let mut world = world.lock().unwrap();
            world.poison.clear();
            world.forget_requests();
        }
        if let Some(back) = restores.next().filter(|back| **back > 0) {
            let mut world = world.lock().unwrap();
            let older =
                world.history.len().checked_sub(back + 1).map(|at| world.history[at].clone());
            if let Some(older) = older {
                world.checkpoint = Some(older);
                world.forget_requests();
            }
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Lost),
        1 => Just(Fault::AckLost),
        1 => Just(Fault::TokenWithoutRows),
        1 => Just(Fault::OnePartition),
        1 => Just(Fault::Slow),
        1 => Just(Fault::Held),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
    ]
}

fn save_fault() -> impl Strategy<Value = SaveFault> {
    prop_oneof![
        4 => Just(SaveFault::None),
        1 => Just(SaveFault::CrashBefore),
        1 => Just(SaveFault::CrashAfter),
    ]
}

proptest! {
    #[test]
    fn every_event_is_written_once_whatever_fails(
        faults in proptest::collection::vec(fault(), 0..12),
        save_faults in proptest::collection::vec(save_fault(), 0..12),
        cuts in proptest::collection::vec(1_u64..9, 0..8),
        restores in proptest::collection::vec(0_usize..6, 0..4),
        poison in proptest::collection::btree_set(
            (proptest::sample::select(TABLES.to_vec()), 0..EVENTS),
            0..4,
        ),
        heal in any::<bool>(),
        in_a_view in any::<bool>(),
        left_out in proptest::collection::btree_set(0..EVENTS, 0..4),
        most_rows in prop_oneof![4 => Just(usize::MAX), 1 => 1_usize..6],
    ) {
        let world = Shared::default();
        {
            let mut world = world.lock().unwrap();
            world.faults = faults.into();
            world.save_faults = save_faults.into();
            world.poison.clone_from(&poison);
            world.poison_is_in_a_view = in_a_view;
            world.left_out.clone_from(&left_out);
            world.left_out_at_first = left_out;
            world.most_rows = most_rows;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run_to_the_end(&world, &cuts, &restores, heal));
        let _time = runtime.enter();
        let mut world = world.lock().unwrap();
        world.deliver_held();
        for table in TABLES {
            let placed = world.rows.iter().chain(&world.dead).filter(|row| row.table == table);
            let mut placed: Vec<u64> = placed.map(|row| row.event).collect();
            placed.sort_unstable();
            // What was left out at first comes where the stream had not passed it yet.
            let wanted = |event: &u64| {
                let is_free = world.left_out_at_first.contains(event);
                is_in(table, *event) && (!is_free || placed.contains(event))
            };
            let wanted: Vec<u64> = (0..EVENTS).filter(wanted).collect();
            prop_assert_eq!(&placed, &wanted, "{}", table);
        }
        prop_assert!(world.dead.iter().all(|row| poison.contains(&(row.table, row.event))));
        prop_assert_eq!(world.undeclared, 0);
        let checkpoint = world.checkpoint.as_ref().unwrap();
        let end = u64::from_be_bytes(checkpoint.next.cursor[..].try_into().unwrap());
        prop_assert!((end..EVENTS).all(|event| world.left_out_at_first.contains(&event)));
        prop_assert!(checkpoint.pending.is_none());
    }
}
