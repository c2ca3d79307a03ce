//! A real engine, a topic's partitions as lanes, and checkpoints in memory: entries in, rows out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::{Bson, Document, doc};
use tailwater_clickhouse::{Connection, Endpoint, Mappings, Tables, ToRows, Watched, schema};
use tailwater_core::config::Secrets;
use tailwater_core::event::ChangeEvent;
use tailwater_core::mapping::Mapping;
use tailwater_core::names::CurrentNames;
use tailwater_core::position::{Checkpoint, Epoch, Intent, LaneId, Position, Seq, SeqRange};
use tailwater_core::rows::{Content, Entry, Layout, RecordsFrom};
use tailwater_core::table::TableName;
use tailwater_core::{Error, Result};
use tailwater_pipeline::vitals::Vitals;
use tailwater_pipeline::write_ahead::{CheckpointStore, WriteAhead};
use tailwater_pipeline::{Batch, Delivery as _, Part};
use tailwater_testkit::clickhouse::ClickHouse;
use tailwater_testkit::servers::Engine;
use tokio::sync::OnceCell;

use crate::binary;

/// The checkpoints, as they would be stored.
type Stored = Arc<Mutex<BTreeMap<LaneId, Checkpoint>>>;

/// A delivery's view of them.
pub(crate) struct Store(BTreeMap<LaneId, Checkpoint>, Stored);

impl CheckpointStore for Store {
    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<Option<Checkpoint>>> {
        Ok(lanes.iter().map(|lane| self.0.get(lane).cloned()).collect())
    }

    async fn save(&mut self, changes: Vec<(LaneId, Checkpoint)>) -> Result<()> {
        let mut stored = self.1.lock().unwrap();
        for (lane, checkpoint) in changes {
            stored.insert(lane.clone(), checkpoint.clone());
            self.0.insert(lane, checkpoint);
        }
        Ok(())
    }
}

/// What a process has of the delivery.
pub(crate) type Life = WriteAhead<Store, Tables>;

/// Half of it is waited for requests of an earlier life.
const INSERT_DEADLINE: Duration = Duration::from_secs(4);

pub(crate) const EPOCH: Epoch = Epoch::new([5; 16]);

/// Everything that a test needs.
pub(crate) struct Stage {
    pub(crate) clickhouse: ClickHouse,
    url: String,
    layout: Layout,
    pub(crate) to_rows: ToRows,
    facts: OnceCell<schema::Facts>,
    stored: Stored,
    _engine: Engine,
    _home: tempfile::TempDir,
}

impl Stage {
    /// Starts an engine. `None`: there is none here, skip.
    pub(crate) async fn start() -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let engine = Engine::start(binary(), &home.path().join("state")).await.unwrap()?;
        let url = format!("http://{}", engine.address());
        let layout = Layout {
            records: TableName::new("record_raw"),
            records_from: RecordsFrom::Inline,
            raw_cdc: Some(TableName::new("raw_cdc")),
            dead_letters: TableName::new("tailwater_dead_letters"),
            current: Some(CurrentNames::default()),
        };
        Some(Self {
            clickhouse: ClickHouse::new(&url, "default"),
            to_rows: ToRows::new(layout.clone()),
            url,
            layout,
            facts: OnceCell::new(),
            stored: Stored::default(),
            _engine: engine,
            _home: home,
        })
    }

    /// From here on there is this mapping, and those before it are kept.
    pub(crate) fn map(&mut self, current: Option<&str>, earlier: &[&str]) {
        let read = |text: &str| Arc::new(Mapping::read("m.yaml", text, &NoSecrets).unwrap());
        let mappings = Mappings::new(current.map(read));
        let mappings = earlier.iter().fold(mappings, |all, text| all.keeping(read(text)));
        self.to_rows = ToRows::new(self.layout.clone()).with_mappings(mappings);
    }

    fn connection(&self) -> Connection {
        Connection::new(Endpoint::parse(&self.url).unwrap()).unwrap()
    }

    pub(crate) async fn prepare(&self, layout: &Layout) -> Result<schema::Facts> {
        let wanted = schema::Wanted {
            pipeline: "test".to_owned(),
            window: 100,
            new_window: 100,
            ttl_days: None,
        };
        schema::prepare(&self.connection(), layout, &wanted).await
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The tables, as the lanes of topics named `t.<db>.<coll>` write to them.
    pub(crate) async fn tables(&self) -> Tables {
        let prepare = || async { self.prepare(&self.layout).await.unwrap() };
        let facts = *self.facts.get_or_init(prepare).await;
        let topic_of = |of: &tailwater_core::rows::Namespace| Some(topic(&of.coll));
        let watched = Watched::Topics(Arc::new(topic_of));
        Tables::new(self.connection(), "test".to_owned(), self.layout.clone(), watched, facts)
    }

    /// A new life: what is stored is all it knows.
    pub(crate) async fn life(&self) -> Life {
        let tables = self.tables().await;
        let store = Store(self.stored.lock().unwrap().clone(), Arc::clone(&self.stored));
        WriteAhead::new(store, tables, INSERT_DEADLINE, Vitals::default())
    }

    /// Puts a checkpoint in place.
    pub(crate) fn store(&self, lane: &LaneId, next: u64, pending: Option<Intent>) {
        let next = position(next);
        let checkpoint = Checkpoint { epoch: EPOCH, next, pending, renumbered: false };
        self.stored.lock().unwrap().insert(lane.clone(), checkpoint);
    }

    /// Where a lane goes on.
    pub(crate) fn next(&self, lane: &LaneId) -> u64 {
        self.stored.lock().unwrap()[lane].next.seq.0
    }

    /// What a lane would declare for some entries.
    pub(crate) fn intent(&self, lane: &LaneId, next: u64, entries: Vec<Entry>) -> Intent {
        let part = self.to_rows.encode(part(lane, next, entries)).unwrap();
        let plan = tailwater_pipeline::write_ahead::Planned::plan(&part.body).clone();
        let declared_at = tailwater_pipeline::clock::now();
        Intent { range: part.range.unwrap(), plan, declared_at, foreign: false }
    }

    /// Delivers some entries of a lane by a life that goes on at its checkpoint, and saves.
    pub(crate) async fn deliver(&self, lane: &LaneId, entries: Vec<Entry>) -> Result<()> {
        let mut life = self.life().await;
        life.claim(std::slice::from_ref(lane)).await?;
        self.deliver_by(&mut life, lane, entries).await
    }

    /// The same by a life that has claimed the lane.
    pub(crate) async fn deliver_by(
        &self,
        life: &mut Life,
        lane: &LaneId,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let part = self.to_rows.encode(part(lane, self.next(lane), entries))?;
        life.deliver(Batch { parts: vec![part] }).await?;
        life.settle().await
    }

    /// Delivers an entry of each of some lanes in one batch, and saves.
    pub(crate) async fn deliver_together(
        &self,
        life: &mut Life,
        of: Vec<(LaneId, Entry)>,
    ) -> Result<()> {
        let parts = of.into_iter().map(|(lane, entry)| {
            let part = part(&lane, self.next(&lane), vec![entry]);
            self.to_rows.encode(part).unwrap()
        });
        life.deliver(Batch { parts: parts.collect() }).await?;
        life.settle().await
    }

    /// Dies in the middle of some entries, and finishes them.
    pub(crate) async fn recover(&self, lane: &LaneId, entries: Vec<Entry>) -> Result<()> {
        let mut life = self.life().await;
        let pending = life.claim(std::slice::from_ref(lane)).await?.remove(0).pending.unwrap();
        let part = part(lane, self.next(lane), entries);
        life.recover(self.to_rows.encode_declared(part, &pending.plan)?).await
    }

    /// Drops all tables, and forgets all lanes.
    pub(crate) async fn forget(&mut self) {
        self.facts = OnceCell::new();
        let names = "SELECT name FROM system.tables WHERE database = 'default' ORDER BY engine = 'View' DESC";
        for row in self.ask(names).await {
            self.execute(&format!("DROP TABLE `{}` SYNC", row[0].as_str().unwrap())).await;
        }
        self.stored.lock().unwrap().clear();
    }

    /// Merges all parts of the current-state tables: of each document the newest row alone stays.
    pub(crate) async fn merge(&self) {
        let names = "SELECT name FROM system.tables WHERE engine = 'ReplacingMergeTree' AND name LIKE 'd__%'";
        for row in self.ask(names).await {
            self.execute(&format!("OPTIMIZE TABLE `{}` FINAL", row[0].as_str().unwrap())).await;
        }
    }

    /// Runs a statement.
    pub(crate) async fn execute(&self, sql: &str) {
        let client = clickhouse::Client::default().with_url(&self.url);
        client.query(sql).execute().await.unwrap();
    }

    /// Asks for rows, each as an array.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<serde_json::Value> {
        self.clickhouse.compact(sql).await.unwrap()
    }

    /// The numbers that a table has of a lane, in order, each as often as it is there.
    pub(crate) async fn numbers(&self, table: &str) -> Vec<u64> {
        let sql = format!("SELECT _offset FROM {table} ORDER BY _offset");
        let rows: Vec<[u64; 1]> = self.clickhouse.compact(&sql).await.unwrap();
        rows.into_iter().map(|[offset]| offset).collect()
    }
}

fn position(seq: u64) -> Position {
    Position { seq: Seq(seq), cursor: Vec::new().into() }
}

fn part(lane: &LaneId, next: u64, entries: Vec<Entry>) -> Part<Vec<Entry>> {
    let last = entries.last().unwrap().seq;
    Part {
        lane: lane.clone(),
        epoch: EPOCH,
        range: Some(SeqRange { first: Seq(next), last }),
        next: position(last.0 + 1),
        body: entries,
        held: Vec::new(),
    }
}

/// The files here name none.
struct NoSecrets;

impl Secrets for NoSecrets {
    fn variable(&self, name: &str) -> std::result::Result<String, String> {
        Err(name.to_owned())
    }

    fn file(&self, path: &str) -> std::result::Result<String, String> {
        Err(path.to_owned())
    }
}

/// The topic of a collection of `d`.
pub(crate) fn topic(coll: &str) -> String {
    format!("t.d.{coll}")
}

pub(crate) const WALL: i64 = 1_700_000_000_000;

/// An event of a collection of `d`, the `time`th of all.
pub(crate) fn event(coll: &str, op: &str, time: u32, fields: Document) -> ChangeEvent {
    let mut event = doc! {
        "_id": { "_data": "8265F1A2B3000000072B022C0100296E5A1004" },
        "operationType": op,
        "clusterTime": Bson::Timestamp(bson::Timestamp { time: 1_700_000_000, increment: time }),
        "wallTime": bson::DateTime::from_millis(WALL + i64::from(time)),
        "ns": { "db": "d", "coll": coll },
    };
    event.extend(fields);
    ChangeEvent::index(event.to_vec().unwrap().into()).unwrap()
}

/// An insert.
pub(crate) fn insert(coll: &str, time: u32, document: Document) -> ChangeEvent {
    let key = doc! { "_id": document.get("_id").unwrap() };
    event(coll, "insert", time, doc! { "documentKey": key, "fullDocument": document })
}

pub(crate) fn entry(seq: u64, event: ChangeEvent) -> Entry {
    Entry { seq: Seq(seq), content: Content::Event(event) }
}

/// An error with its cause.
pub(crate) fn whole(error: &Error) -> String {
    let cause = std::error::Error::source(error).map_or(String::new(), ToString::to_string);
    format!("{error}: {cause}")
}
