//! How long one core works on a 700-byte change event, from the server's bytes to Native blocks.
//!
//! Run by `cargo xtask bench micro`; what it says and how far to trust it: `docs/benchmarks.md`.
//! It counts the time that the thread had a core, so a shared machine disturbs it less; and
//! every figure is also given as a ratio to a baseline of the same run, the `bson` crate's decoding
//! of the same events and `serde_json`'s writing of them, since the caches are shared too.

#![expect(clippy::unwrap_used, reason = "what fails here ends the benchmark")]

use std::hint::black_box;
use std::process::ExitCode;

use bson::{Bson, DateTime, Document, Timestamp, doc, oid::ObjectId};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tailwater_core::bson::Doc;
use tailwater_core::config::Secrets;
use tailwater_core::ejson;
use tailwater_core::event::ChangeEvent;
use tailwater_core::json_column::{Dates, JsonColumn};
use tailwater_core::mapping::Mapping;
use tailwater_core::names::CurrentNames;
use tailwater_core::native;
use tailwater_core::position::{Epoch, LaneId, Seq};
use tailwater_core::rows::{Entry, Layout, RecordsFrom, Rows};
use tailwater_core::table::TableName;

/// The product's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of one part.
const EVENTS: u32 = 20_000;
/// Repetitions of each measurement; the steps take turns, so that noise meets all of them.
const RUNS: usize = 15;
/// When even the least of all runs is above this, in microseconds, the benchmark fails.
const CLAIM: f64 = 5.0;

fn main() -> ExitCode {
    let replies: Vec<Bytes> = (0..EVENTS).map(|number| event(number).into()).collect();
    let size = replies.iter().map(Bytes::len).sum::<usize>() / replies.len();
    let events: Vec<ChangeEvent> = replies.iter().map(index).collect();
    let rows = encode(events.clone());
    let blocks: Vec<&Bytes> = rows
        .append
        .iter()
        .chain(rows.stretches.iter().flat_map(|all| &all.upsert).map(|(_, block)| block))
        .map(|b| &b.bytes)
        .collect();

    let (guide, hiding) = (mapping(""), mapping("drops: [schema.fields]\n    pii: [producer]"));

    let mut steps: Vec<Step<'_>> = vec![
        Step::new("bson crate decode + serde_json (baseline)", || {
            for reply in &replies {
                let document = Document::from_reader(&reply[..]).unwrap();
                black_box(
                    serde_json::to_vec(&Bson::from(document).into_canonical_extjson()).unwrap(),
                );
            }
        }),
        Step::new("whole: index + rows of both tables, encoded", || {
            black_box(encode(replies.iter().map(index).collect()));
        }),
        Step::new("  index", || {
            for reply in &replies {
                black_box(index(reply));
            }
        }),
        Step::new("  rows of both tables, encoded", || {
            black_box(encode(events.clone()));
        }),
        Step::new("    raw: canonical Extended JSON", || {
            let mut out = Vec::new();
            for event in &events {
                ejson::canonical(event.document().unwrap(), &mut out).unwrap();
            }
            black_box(out);
        }),
        Step::new("    attrs: JSON column of the scalars", || {
            let mut column = JsonColumn::new(Dates::Text);
            for image in images(&events) {
                column.begin_row();
                column.scalars(image).unwrap();
                column.end_row();
            }
            black_box(native::encode(&[("attrs", &column)]).unwrap());
        }),
        Step::new("    doc: JSON column of everything", || {
            let mut column = JsonColumn::new(Dates::DateTime64);
            for image in images(&events) {
                column.push(image).unwrap();
            }
            black_box(native::encode(&[("doc", &column)]).unwrap());
        }),
        Step::new("mapping: the guide's entry", || {
            for event in &events {
                black_box(guide.apply(event).unwrap());
            }
        }),
        Step::new("mapping: with a drop and a pseudonym", || {
            for event in &events {
                black_box(hiding.apply(event).unwrap());
            }
        }),
        Step::new("LZ4 of the blocks, for a server elsewhere", || {
            for block in &blocks {
                for piece in block.chunks(1 << 20) {
                    black_box(lz4_flex::block::compress(piece));
                }
            }
        }),
    ];
    for _ in 0..RUNS {
        for step in &mut steps {
            step.run();
        }
    }

    let sent = blocks.iter().map(|block| block.len()).sum::<usize>() / replies.len();
    say(&format!("{EVENTS} events of {size} bytes, {sent} bytes sent for each; {RUNS} runs"));
    say(&format!(
        "{:44} {:>9} {:>17} {:>9}",
        "us of one core for an event", "median", "least to most", "baseline"
    ));
    let baseline = steps[0].median();
    for step in &steps {
        let (least, most) = step.spread();
        let (median, ratio) = (step.median(), step.median() / baseline);
        say(&format!("{:44} {median:>9.2} {least:>8.2} {most:>8.2} {ratio:>8.2}x", step.name));
    }
    // Noise only adds, so the least of many runs is what the work itself takes.
    let (whole, _) = steps[1].spread();
    let verdict = if whole < CLAIM { "holds" } else { "does NOT hold" };
    say(&format!("below {CLAIM} us for an event, at the least: {verdict} ({whole:.2})"));
    if whole < CLAIM { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One thing that is measured over all events.
struct Step<'a> {
    name: &'static str,
    work: Box<dyn FnMut() + 'a>,
    seconds: Vec<f64>,
}

impl<'a> Step<'a> {
    fn new(name: &'static str, work: impl FnMut() + 'a) -> Self {
        Self { name, work: Box::new(work), seconds: Vec::new() }
    }

    fn run(&mut self) {
        let started = core_seconds();
        (self.work)();
        self.seconds.push(core_seconds() - started);
        self.seconds.sort_by(f64::total_cmp);
    }

    fn median(&self) -> f64 {
        per_event(self.seconds[self.seconds.len() / 2])
    }

    fn spread(&self) -> (f64, f64) {
        (per_event(self.seconds[0]), per_event(self.seconds[self.seconds.len() - 1]))
    }
}

/// How long this thread has had a core.
fn core_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn per_event(seconds: f64) -> f64 {
    seconds * 1e6 / f64::from(EVENTS)
}

fn index(reply: &Bytes) -> ChangeEvent {
    ChangeEvent::index(reply.clone()).unwrap()
}

fn mapping(more: &str) -> Mapping {
    let text = format!(
        "mappings:
  - match: {{ ns.db: ingest, ns.coll: files }}
    event_type_override:
      when: \"$eq(fullDocument.status, 'arrived')\"
      value: file_arrived
      else: file_event
    tags: [producer, status]
    attrs: [size_bytes, attempts, checksum]
    {more}
"
    );
    Mapping::read("mapping.yaml", &text, &NoSecrets).unwrap()
}

/// The files here name none.
struct NoSecrets;

impl Secrets for NoSecrets {
    fn variable(&self, name: &str) -> Result<String, String> {
        Err(name.to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}

fn images(events: &[ChangeEvent]) -> impl Iterator<Item = Doc<'_>> {
    events.iter().filter_map(ChangeEvent::full_document)
}

fn encode(events: Vec<ChangeEvent>) -> Rows {
    let layout = Layout {
        records: TableName::new("record_raw"),
        records_from: RecordsFrom::Inline,
        raw_cdc: None,
        dead_letters: TableName::new("tailwater_dead_letters"),
        current: Some(CurrentNames::default()),
    };
    let lane = LaneId::stream("ingest.files");
    let entries = Entry::dense(Seq(1), events);
    Rows::encode(&layout, None, lane, Epoch::new([7; 16]), entries).unwrap()
}

/// An insert, or an update with its document looked up, as a mongod sends it.
fn event(number: u32) -> Vec<u8> {
    let seconds = 1_760_000_000 + number / 1000;
    let increment = number % 1000 + 1;
    let mut id = [0x65; 12];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let token = format!(
        "82{seconds:08X}{increment:08X}2B022C0100296E5A1004AABBCCDDEEFF00112233445566778899\
         46645F69640064{}0004",
        hex::encode_upper(id)
    );
    let at = DateTime::from_millis(i64::from(seconds) * 1000 + i64::from(increment));
    let key = doc! { "_id": ObjectId::from_bytes(id) };
    let update = number % 2 == 1;
    let status = ["arrived", "validated", "loaded", "failed"][number as usize % 4];
    let region = ["eu-west-1", "us-east-1"][number as usize / 2 % 2];
    let attempts = i32::try_from(number % 5).unwrap();
    let mut event = doc! {
        "_id": { "_data": token },
        "operationType": if update { "update" } else { "insert" },
        "clusterTime": Timestamp { time: seconds, increment },
        "wallTime": at,
    };
    let mut document = doc! {
        "_id": ObjectId::from_bytes(id),
        "path": format!("s3://bucket-{}/incoming/{number:010}.parquet", number % 7),
        "status": status,
        "size_bytes": i64::from(number) * 4096,
        "latency_sec": f64::from(number) / 7.0,
        "attempts": attempts,
        "created_at": at,
        "producer": format!("loader-{:02}.eu-west-1.compute.internal", number % 50),
        "schema": { "name": "files.v3", "fields": 41, "strict": true },
    };
    if !update {
        document.extend(doc! {
            "tags": ["ingest", "parquet"],
            "owner": { "team": "data-platform", "region": region, "on_call": true },
            "checksum": format!("sha256:{:032x}", u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C)),
        });
    }
    event.insert("fullDocument", document);
    event.insert("ns", doc! { "db": "ingest", "coll": "files" });
    event.insert("documentKey", key);
    if update {
        event.insert(
            "updateDescription",
            doc! {
                "updatedFields": { "status": "validated", "attempts": attempts },
                "removedFields": [],
                "truncatedArrays": [],
            },
        );
    }
    event.to_vec().unwrap()
}

#[expect(clippy::print_stdout, reason = "a program that shows figures")]
fn say(line: &str) {
    println!("{line}");
}
