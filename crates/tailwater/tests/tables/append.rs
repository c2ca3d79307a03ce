//! Rows that must come once, in three tables.

use bson::doc;
use serde_json::json;
use tailwater_core::ErrorKind;
use tailwater_core::position::{Epoch, LaneId, Millis};
use tailwater_core::rows::{Content, Entry, Layout, Rejected, Rejection};
use tailwater_core::table::TableName;
use tailwater_pipeline::Delivery as _;
use tailwater_pipeline::write_ahead::Target as _;

use crate::stage::{Stage, WALL, entry, event, insert, topic, whole};

fn lane() -> LaneId {
    LaneId::partition_of(&topic("c"), 1)
}

fn unreadable(seq: u64) -> Entry {
    let why = Rejection { reason: "unreadable", error: "no JSON".to_owned() };
    let rejected = Rejected { why, ts: Millis(WALL), bytes: b"\xff".to_vec().into() };
    Entry { seq: tailwater_core::position::Seq(seq), content: Content::Rejected(rejected) }
}

/// Offsets with holes: events, and two that are none.
fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..6)
        .map(|n| {
            entry(100 + 3 * u64::from(n), insert("c", n + 1, doc! { "_id": i64::from(n), "n": 1 }))
        })
        .collect();
    entries.insert(2, unreadable(104));
    entries.push(unreadable(120));
    entries
}

const EVENTS: [u64; 6] = [100, 103, 106, 109, 112, 115];
const LETTERS: [u64; 2] = [104, 120];

async fn expect_all_once(stage: &Stage, what: &str) {
    assert_eq!(stage.numbers("record_raw").await, EVENTS, "{what}");
    assert_eq!(stage.numbers("raw_cdc").await, EVENTS, "{what}");
    assert_eq!(stage.numbers("tailwater_dead_letters").await, LETTERS, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_gets_what_it_lacks_and_nothing_twice() {
    let Some(stage) = Stage::start().await else { return };
    let lane = lane();
    stage.store(&lane, 95, None);
    let intent = stage.intent(&lane, 95, entries());
    stage.deliver(&lane, entries()).await.unwrap();
    expect_all_once(&stage, "written").await;
    assert_eq!(stage.next(&lane), 121);
    // Rows are gone, and their tokens are not.
    for (what, lost) in [
        ("nothing is gone", vec![]),
        ("one table is empty", vec![("raw_cdc", "true")]),
        ("two are", vec![("record_raw", "true"), ("tailwater_dead_letters", "true")]),
        (
            "each lacks others",
            vec![
                ("record_raw", "_offset = 103"),
                ("raw_cdc", "_offset IN (100, 115)"),
                ("tailwater_dead_letters", "_offset = 120"),
            ],
        ),
    ] {
        for (table, rows) in lost {
            stage.execute(&format!("DELETE FROM {table} WHERE {rows}")).await;
        }
        stage.store(&lane, 95, Some(intent.clone()));
        stage.recover(&lane, entries()).await.unwrap();
        expect_all_once(&stage, what).await;
    }
    let places = "SELECT DISTINCT _epoch, _topic, _partition FROM raw_cdc";
    assert_eq!(stage.ask(places).await, [json!(["05".repeat(16), "t.d.c", 1])]);
    let current = "SELECT count(), any(_partition) FROM d__c_current";
    assert_eq!(stage.ask(current).await, [json!([6, 1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_one_table_refuses_is_a_dead_letter_for_that_table_alone() {
    let Some(stage) = Stage::start().await else { return };
    let lane = lane();
    stage.store(&lane, 95, None);
    let intent = stage.intent(&lane, 95, entries());
    stage.tables().await;
    let refuse = |table: &str, id: u32| {
        format!("ALTER TABLE {table} ADD CONSTRAINT no{id} CHECK doc_id != '{id}'")
    };
    for (table, id) in [("raw_cdc", 3), ("record_raw", 5), ("raw_cdc", 0), ("record_raw", 0)] {
        stage.execute(&refuse(table, id)).await;
    }
    stage.deliver(&lane, entries()).await.unwrap();
    for round in ["at first", "again"] {
        assert_eq!(stage.numbers("record_raw").await, [103, 106, 109, 112], "{round}");
        assert_eq!(stage.numbers("raw_cdc").await, [103, 106, 112, 115], "{round}");
        let letters = "SELECT _offset, reason FROM tailwater_dead_letters ORDER BY ALL";
        let expected = [
            json!([100, "refused"]),
            json!([100, "refused_raw_cdc"]),
            json!([104, "unreadable"]),
            json!([109, "refused_raw_cdc"]),
            json!([115, "refused"]),
            json!([120, "unreadable"]),
        ];
        assert_eq!(stage.ask(letters).await, expected, "{round}");
        stage.store(&lane, 95, Some(intent.clone()));
        stage.recover(&lane, entries()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_are_refused_stop_the_lane() {
    let Some(stage) = Stage::start().await else { return };
    stage.store(&lane(), 95, None);
    stage.tables().await;
    let refuse = "ALTER TABLE tailwater_dead_letters ADD CONSTRAINT no CHECK _offset != 120";
    stage.execute(refuse).await;
    let error = stage.deliver(&lane(), entries()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    assert!(error.to_string().contains("refuses the dead letter of event 120"), "{error}");
    stage.execute("ALTER TABLE tailwater_dead_letters DROP CONSTRAINT no").await;
    stage.recover(&lane(), entries()).await.unwrap();
    expect_all_once(&stage, "mended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_dead_letters_stop_the_lane_before_anything_is_written() {
    let Some(stage) = Stage::start().await else { return };
    stage.store(&lane(), 0, None);
    let many = || (0..200).map(unreadable).collect::<Vec<_>>();
    let error = stage.deliver(&lane(), many()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    let said = whole(&error);
    assert!(said.contains("200 of 200 events of `t.d.c-1`"), "{said}");
    assert!(said.contains("unreadable: no JSON"), "{said}");
    assert_eq!(stage.numbers("tailwater_dead_letters").await, [0_u64; 0]);
    assert_eq!(stage.next(&lane()), 0);
    stage.deliver(&lane(), many().split_off(100)).await.unwrap();
    assert_eq!(stage.numbers("tailwater_dead_letters").await.len(), 100);
}

/// Two mappings that agree on nothing.
const EARLIER: &str = r#"
mappings:
  - match: { ns.db: d }
    tags: [n]
    attrs: []
    ts: "fullDocument.earlier"
"#;
const LATER: &str = r#"
mappings:
  - match: { ns.db: d }
    tags: [n]
    attrs: [{ size: "$size(list)" }]
    ts: "fullDocument.later"
"#;

/// The second mapping rejects the second.
fn mapped_entries() -> Vec<Entry> {
    let document = |n: i64| {
        let mut document = doc! {
            "_id": n,
            "n": n,
            "earlier": bson::DateTime::from_millis(1_000_000_000_000 + n),
            "later": bson::DateTime::from_millis(1_300_000_000_000 + n),
        };
        if n == 2 {
            document.insert("list", 2);
        } else {
            document.insert("list", [n]);
        }
        document
    };
    (1..=3).map(|n| entry(n, insert("c", n as u32, document(n as i64)))).collect()
}

const MAPPED: &str = "SELECT _offset, toUnixTimestamp64Milli(ts) FROM record_raw ORDER BY _offset";

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_finished_with_the_mapping_that_declared_it() {
    let Some(mut stage) = Stage::start().await else { return };
    let lane = lane();
    stage.map(Some(EARLIER), &[]);
    stage.tables().await;
    stage.store(&lane, 1, Some(stage.intent(&lane, 1, mapped_entries())));
    stage.map(Some(LATER), &[EARLIER]);
    stage.recover(&lane, mapped_entries()).await.unwrap();
    let rows = (1..=3).map(|n| json!([n, 1_000_000_000_000_i64 + n])).collect::<Vec<_>>();
    assert_eq!(stage.ask(MAPPED).await, rows);
    assert_eq!(stage.numbers("tailwater_dead_letters").await, [0_u64; 0]);
}

/// What is there stays as it is, and the rest is of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_whose_mapping_is_gone_is_finished_with_the_new_one() {
    let Some(mut stage) = Stage::start().await else { return };
    let lane = lane();
    stage.map(Some(EARLIER), &[]);
    stage.store(&lane, 1, None);
    stage.deliver(&lane, mapped_entries()).await.unwrap();
    stage.execute("DELETE FROM record_raw WHERE _offset = 3").await;
    stage.store(&lane, 1, Some(stage.intent(&lane, 1, mapped_entries())));
    stage.map(Some(LATER), &[]);
    stage.recover(&lane, mapped_entries()).await.unwrap();
    assert_eq!(stage.numbers("record_raw").await, [1, 2, 3]);
    assert_eq!(stage.ask(MAPPED).await[2], json!([3, 1_300_000_000_003_i64]));
    assert_eq!(stage.numbers("tailwater_dead_letters").await, [0_u64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_old_checkpoint_another_mapping_repeats_nothing() {
    let Some(mut stage) = Stage::start().await else { return };
    let lane = lane();
    stage.map(Some(EARLIER), &[]);
    stage.store(&lane, 1, None);
    stage.deliver(&lane, mapped_entries()).await.unwrap();
    let rows = stage.ask(MAPPED).await;
    assert_eq!(rows.len(), 3);
    // Rows of other times, and a dead letter: each event has its place already, but for one.
    stage.map(Some(LATER), &[]);
    stage.execute("DELETE FROM record_raw WHERE _offset = 3").await;
    stage.store(&lane, 1, None);
    stage.deliver(&lane, mapped_entries()).await.unwrap();
    assert_eq!(stage.numbers("record_raw").await, [1, 2, 3]);
    assert_eq!(stage.numbers("raw_cdc").await, [1, 2, 3]);
    assert_eq!(stage.numbers("tailwater_dead_letters").await, [0_u64; 0]);
    assert_eq!(stage.ask(MAPPED).await[2], json!([3, 1_300_000_000_003_i64]));
    // The other way round: what is a dead letter gets no row from a mapping that would take it.
    stage.execute("DELETE FROM record_raw WHERE _offset = 2").await;
    for mapping in [LATER, EARLIER] {
        stage.map(Some(mapping), &[]);
        stage.store(&lane, 1, None);
        stage.deliver(&lane, mapped_entries()).await.unwrap();
        assert_eq!(stage.numbers("record_raw").await, [1, 3]);
        assert_eq!(stage.numbers("tailwater_dead_letters").await, [2]);
    }
}

/// A table makes files for each insert: what lanes have for the current state of one collection is one.
#[tokio::test(flavor = "multi_thread")]
async fn what_lanes_have_for_one_current_state_comes_in_one_insert() {
    let Some(stage) = Stage::start().await else { return };
    let lanes = [0, 1, 2].map(|partition| LaneId::partition_of(&topic("c"), partition));
    lanes.iter().for_each(|lane| stage.store(lane, 0, None));
    let mut life = stage.life().await;
    life.claim(&lanes).await.unwrap();
    let inserts = async || {
        let made = "SELECT max(max_block_number) FROM system.parts WHERE table = 'd__c'";
        let [[made]]: [[u64; 1]; 1] =
            stage.clickhouse.compact(made).await.unwrap().try_into().unwrap();
        made
    };
    let mut before = None;
    // The first ones behind a claim are proven, each by itself.
    for seq in [0, 1, 2] {
        let each = lanes.iter().zip(0..).map(|(lane, number)| {
            let id = 10 * i64::try_from(seq).unwrap() + number;
            let time = u32::try_from(id).unwrap() + 1;
            (lane.clone(), entry(seq, insert("c", time, doc! { "_id": id })))
        });
        stage.deliver_together(&mut life, each.collect()).await.unwrap();
        let made = inserts().await;
        assert!(before.is_none_or(|before| made == before + 1), "{before:?}, then {made}");
        before = Some(made);
    }
    let current = "SELECT count(), uniqExact(_partition) FROM d__c_current";
    assert_eq!(stage.ask(current).await, [json!([9, 3])]);
    assert_eq!(stage.numbers("record_raw").await, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

/// Both would be `a___b`.
#[tokio::test(flavor = "multi_thread")]
async fn two_collections_that_would_share_a_table_are_refused_in_one_batch_too() {
    let Some(stage) = Stage::start().await else { return };
    let lanes = [0, 1].map(|partition| LaneId::partition_of(&topic("c"), partition));
    lanes.iter().for_each(|lane| stage.store(lane, 0, None));
    let mut life = stage.life().await;
    life.claim(&lanes).await.unwrap();
    let of = |(db, coll): (&str, &str), time: u32| {
        let id = doc! { "_id": i64::from(time) };
        let fields =
            doc! { "ns": { "db": db, "coll": coll }, "documentKey": &id, "fullDocument": &id };
        event("c", "insert", time, fields)
    };
    let (one, other) = (("a", "_b"), ("a_", "b"));
    for (seq, second) in [(0, one), (1, one), (2, other)] {
        let time = 10 * u32::try_from(seq).unwrap() + 1;
        let batch = vec![
            (lanes[0].clone(), entry(seq, of(one, time))),
            (lanes[1].clone(), entry(seq, of(second, time + 1))),
        ];
        let written = stage.deliver_together(&mut life, batch).await;
        assert_eq!(written.is_err(), second == other, "{written:?}");
        if let Err(error) = written {
            assert!(whole(&error).contains("would share the table `a___b`"), "{error}");
        }
    }
    let rows = "SELECT count() FROM `a___b_current` WHERE _id = '22'";
    assert_eq!(stage.ask(rows).await, [json!([0])]);
}

/// Producers that may repeat themselves are welcome: each record is a row.
#[tokio::test(flavor = "multi_thread")]
async fn equal_events_at_other_offsets_are_rows_of_their_own() {
    let Some(stage) = Stage::start().await else { return };
    let lane = lane();
    let twice = || [1, 2, 7].map(|seq| entry(seq, insert("c", 1, doc! { "_id": 1 }))).to_vec();
    stage.store(&lane, 0, None);
    stage.deliver(&lane, twice()).await.unwrap();
    // Behind an old checkpoint too, where one of them is gone.
    stage.execute("DELETE FROM record_raw WHERE _offset = 2").await;
    stage.store(&lane, 0, None);
    stage.deliver(&lane, twice()).await.unwrap();
    assert_eq!(stage.numbers("record_raw").await, [1, 2, 7]);
    assert_eq!(stage.numbers("raw_cdc").await, [1, 2, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_a_new_lane_and_a_stream_is_not() {
    let Some(stage) = Stage::start().await else { return };
    stage.store(&lane(), 0, None);
    let drop = entry(0, event("c", "drop", 1, doc! {}));
    stage.deliver(&lane(), vec![drop]).await.unwrap();
    let tables = stage.tables().await;
    let another = Epoch::new([6; 16]);
    tables.check_new(&lane(), another).await.unwrap();
    let stream = LaneId::stream(&topic("c"));
    stage.execute("INSERT INTO raw_cdc (_topic, _epoch) VALUES ('t.d.c', 'x')").await;
    let error = tables.check_new(&stream, another).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongHistory);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_give_exactly_once_are_refused() {
    let Some(stage) = Stage::start().await else { return };
    stage.prepare(stage.layout()).await.unwrap();
    let same = Layout { raw_cdc: Some(TableName::new("record_raw")), ..stage.layout().clone() };
    let error = stage.prepare(&same).await.unwrap_err();
    assert!(error.to_string().contains("`record_raw` is to hold rows of two kinds"), "{error}");
    let no_window = "ALTER TABLE raw_cdc MODIFY SETTING non_replicated_deduplication_window = 0";
    stage.execute(no_window).await;
    let error = stage.prepare(stage.layout()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    assert!(error.to_string().contains("`raw_cdc` has no deduplication window"), "{error}");
    // The statement that is said mends it.
    stage.execute(error.hint().strip_prefix("run: ").unwrap()).await;
    stage.execute("ALTER TABLE raw_cdc DROP COLUMN version").await;
    let error = stage.prepare(stage.layout()).await.unwrap_err();
    assert!(error.to_string().contains("no column `version`"), "{error}");
    stage.execute(error.hint().strip_prefix("run: ").unwrap()).await;
    stage.prepare(stage.layout()).await.unwrap();
}
