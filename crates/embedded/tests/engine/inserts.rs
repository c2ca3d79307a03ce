//! Inserts: bytes as they are, one block, tokens, broken bodies.

use std::io::Read as _;

use crate::host::{Engine, present, shared, wait_until};
use crate::http::Ask;

/// RowBinary of one String column.
fn strings<'a>(rows: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for row in rows {
        let mut length = row.len();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(row);
    }
    out
}

fn awkward() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (0..=255).collect();
    let mut rows = vec![
        b"\n\n".to_vec(),
        b"a\n\n;DROP TABLE t;\n\nb".to_vec(),
        b"'; \\' \0 `".to_vec(),
        Vec::new(),
        all.clone(),
        all.repeat(5000),
    ];
    rows.push(b"\n".repeat(100_000));
    rows
}

#[test]
fn any_bytes_come_back_as_they_were() {
    let Some(db) = shared() else { return };
    db.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY tuple()");
    let data = strings(awkward().iter().map(Vec::as_slice));
    db.insert("INSERT INTO t FORMAT RowBinary", data.clone()).send().ok();
    assert!(db.post("SELECT s FROM t FORMAT RowBinary").send().body == data);

    // Query and data in one body.
    db.sql("CREATE TABLE u (s String) ENGINE = MergeTree ORDER BY tuple()");
    let mut body = b"INSERT INTO u FORMAT RowBinary\n".to_vec();
    body.extend_from_slice(&data);
    db.post(body).send().ok();
    assert!(db.post("SELECT s FROM u FORMAT RowBinary").send().body == data);
}

/// The first byte of a Native block is its number of columns: 10 is a line break, 32 a blank.
#[test]
fn a_block_that_begins_like_white_space_is_taken_whole() {
    let Some(db) = shared() else { return };
    for columns in [10, 13, 32] {
        let list: Vec<String> = (0..columns).map(|n| format!("c{n} UInt8")).collect();
        let table = format!("t{columns}");
        db.sql(&format!("CREATE TABLE {table} ({}) ENGINE = Memory", list.join(", ")));
        let values: Vec<String> = (0..columns).map(|n| format!("{n}::UInt8 AS c{n}")).collect();
        let block = db.post(format!("SELECT {} FORMAT Native", values.join(", "))).send().body;
        assert_eq!(block[0], columns);
        db.insert(&format!("INSERT INTO {table} FORMAT Native"), block.clone()).send().ok();
        db.insert(&format!("INSERT INTO {table} FORMAT Native "), block).send().ok();
        assert_eq!(db.sql(&format!("SELECT count(), sum(c9) FROM {table}")), "2\t18\n");
    }
}

#[test]
fn inserts_take_every_form() {
    let Some(db) = shared() else { return };
    db.sql("CREATE TABLE t (a Int64, s String DEFAULT 'd') ENGINE = MergeTree ORDER BY a");
    db.sql("INSERT INTO t VALUES (1, 'a;b'), (2, concat('x', 'y'));");
    db.sql("INSERT INTO t (a) FORMAT CSV\n3\n4\n");
    db.insert("INSERT INTO t (a) SETTINGS max_threads = 1 FORMAT TSV", "5\n").send().ok();
    db.insert("INSERT INTO t VALUES", "(6, 'v')").send().ok();
    db.sql("INSERT INTO t SELECT number + 7, 'n' FROM numbers(2)");
    db.insert("INSERT INTO t SELECT {x:Int64}, 'p'", "").with("param_x", "9").send().ok();
    assert_eq!(
        db.sql("SELECT groupArray((a, s)) FROM (SELECT * FROM t ORDER BY a)"),
        "[(1,'a;b'),(2,'xy'),(3,'d'),(4,'d'),(5,'d'),(6,'v'),(7,'n'),(8,'n'),(9,'p')]\n"
    );
    let refused =
        db.sql_refusal("INSERT INTO t SELECT * FROM input('a Int64, s String') FORMAT CSV\n1,a");
    assert_eq!(refused, (48, 501));
}

#[test]
fn one_native_block_is_one_part_of_each_partition() {
    let Some(db) = shared() else { return };
    db.sql("CREATE TABLE t (a UInt64, p UInt8) ENGINE = MergeTree ORDER BY a PARTITION BY p");
    db.sql("SYSTEM STOP MERGES t");
    // One block of 900 000 rows and 8 MB: many pieces of the body.
    let block = db
        .post("SELECT number AS a, toUInt8(number % 2) AS p FROM numbers(900000) FORMAT Native")
        .with("max_block_size", "1000000")
        .with("output_format_native_use_flattened_dynamic_and_json_serialization", "1")
        .with("max_threads", "1")
        .send()
        .body;
    db.insert("INSERT INTO t FORMAT Native", block).send().ok();
    assert_eq!(
        db.sql("SELECT partition, count(), sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 't' AND active GROUP BY partition ORDER BY partition"),
        "0\t1\t450000\n1\t1\t450000\n"
    );
}

const TOKEN_TABLES: [&str; 3] = [
    "CREATE TABLE t (a UInt64, p UInt8, j JSON) ENGINE = MergeTree ORDER BY a PARTITION BY p SETTINGS non_replicated_deduplication_window = 100",
    "CREATE TABLE v (p UInt8, n UInt64) ENGINE = MergeTree ORDER BY p SETTINGS non_replicated_deduplication_window = 100",
    "CREATE MATERIALIZED VIEW m TO v AS SELECT p, count() AS n FROM t GROUP BY p",
];

fn insert_with_token(engine: &Engine, block: &[u8], token: &str) {
    Ask::post(engine.address, block)
        .with("query", "INSERT INTO t FORMAT Native")
        .with("async_insert", "0")
        .with("insert_deduplication_token", token)
        .with("deduplicate_blocks_in_dependent_materialized_views", "1")
        .send()
        .ok();
}

#[test]
fn a_token_adds_its_block_once_also_to_views_and_after_a_kill() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    for table in TOKEN_TABLES {
        engine.sql(table).ok();
    }
    let block = engine
        .sql("SELECT number AS a, toUInt8(number % 2) AS p, '{\"x\":{\"y\":[1,\"s\"]}}'::JSON AS j FROM numbers(1000) FORMAT Native SETTINGS output_format_native_use_flattened_dynamic_and_json_serialization = 1")
        .body;
    let counts =
        |engine: &Engine| engine.sql("SELECT (SELECT count() FROM t), (SELECT sum(n) FROM v)").ok();
    insert_with_token(&engine, &block, "one");
    insert_with_token(&engine, &block, "one");
    assert_eq!(counts(&engine), "1000\t1000\n");
    engine.kill();

    let engine = Engine::start(folder.path());
    insert_with_token(&engine, &block, "one");
    assert_eq!(counts(&engine), "1000\t1000\n");
    insert_with_token(&engine, &block, "two");
    assert_eq!(counts(&engine), "2000\t2000\n");
}

#[test]
fn a_body_that_breaks_off_inserts_nothing() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    engine.sql("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY tuple()").ok();
    let insert = |rows: usize| {
        Ask::post(engine.address, b"row\n".repeat(rows))
            .with("query", "INSERT INTO t FORMAT TSV")
            .with("async_insert", "0")
    };
    // What did arrive is whole rows each time, so that only the missing end can tell.
    for (rows, missing) in [(2, 1), (1 << 20, 1), (1 << 20, 1 << 19)] {
        let mut stream = insert(rows).open(4 * missing);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // The server closes too; its answer, if any, is no success.
        let mut answer = String::new();
        if stream.read_to_string(&mut answer).is_ok() {
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        wait_until("the request's thread ended", || !engine.threads().contains("request"));
        assert_eq!(engine.sql("SELECT count() FROM t").ok(), "0\n");
    }
    insert(3).send().ok();
    assert_eq!(engine.sql("SELECT count() FROM t").ok(), "3\n");
}

#[test]
fn a_refusal_is_heard_before_a_large_body_ends() {
    let Some(db) = shared() else { return };
    let refused = db.insert("INSERT INTO nosuch FORMAT TSV", b"1\n".repeat(20 << 20)).send();
    assert_eq!(refused.refusal(), (60, 404));
}

#[test]
fn selects_run_beside_inserts() {
    let Some(db) = shared() else { return };
    db.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            scope.spawn(move || {
                for block in 0..10_u64 {
                    let rows: String = (0..1000)
                        .map(|n| format!("{}\n", writer << 32 | block << 16 | n))
                        .collect();
                    db.insert("INSERT INTO t FORMAT TSV", rows).send().ok();
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(move || {
                for _ in 0..20 {
                    let rows: u64 = db.sql("SELECT count() FROM t").trim().parse().unwrap();
                    assert_eq!(rows % 1000, 0, "a select saw a part of a block");
                }
            });
        }
    });
    assert_eq!(db.sql("SELECT count(), uniqExact(a) FROM t"), "40000\t40000\n");
}
