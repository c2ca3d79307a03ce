//! Queries: settings and parameters of their own, codes, packing, long results, early ends.

use crate::host::{shared, wait_until};

impl crate::host::Database {
    /// Code and status of a statement that must be refused.
    #[track_caller]
    pub(crate) fn sql_refusal(&self, sql: &str) -> (i32, u16) {
        self.post(sql).send().refusal()
    }
}

#[test]
fn formats_come_from_the_query_the_url_or_a_header() {
    let Some(db) = shared() else { return };
    assert_eq!(db.sql("SELECT 1 AS x"), "1\n");
    assert_eq!(db.sql("SELECT 1 AS x FORMAT JSONEachRow"), "{\"x\":1}\n");
    assert_eq!(
        db.post("SELECT 1 AS x;").with("default_format", "CSVWithNames").send().ok(),
        "\"x\"\n1\n"
    );
    let answer =
        db.post("SHOW DATABASES LIKE 'system'").header("X-ClickHouse-Format", "JSONEachRow").send();
    assert_eq!(answer.header("X-ClickHouse-Format"), Some("JSONEachRow"));
    assert_eq!(answer.header("Content-Type"), Some("application/x-ndjson; charset=UTF-8"));
    assert_eq!(answer.ok(), "{\"name\":\"system\"}\n");
    // Texts that a hasty reading would cut or bend.
    for (sql, answer) in [
        ("SELECT 1 AS format, format b", "1\t1\n"),
        ("SELECT 1 AS a$b, a$b -- ; FORMAT JSON", "1\t1\n"),
        ("SELECT $h$it's; FORMAT JSON$h$; /* FORMAT JSON */", "it\\'s; FORMAT JSON\n"),
        ("WITH 'FORMAT JSON' AS x SELECT x FORMAT TSV SETTINGS max_threads = 1", "FORMAT JSON\n"),
        ("(SELECT 1) UNION ALL (SELECT 1)", "1\n1\n"),
        ("EXPLAIN SYNTAX SELECT 1 FORMAT TSV", "SELECT 1\nFROM system.one\n"),
    ] {
        assert_eq!(db.sql(sql), answer, "{sql}");
    }
    // A result of several blocks is one document.
    let json = db.sql("SELECT number FROM numbers(200000) FORMAT JSON");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"], 200_000);
}

#[test]
fn requests_never_share_settings_parameters_or_databases() {
    let Some(db) = shared() else { return };
    std::thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                for round in 0..20 {
                    let value = format!("{worker}-{round} \"'\\\t");
                    let answer = db
                        .post("SELECT {x:String}, getSetting('log_comment'), currentDatabase() FORMAT JSONCompactEachRow")
                        .with("param_x", &value.replace('\\', "\\\\").replace('\t', "\\t"))
                        .with("log_comment", &value)
                        .send()
                        .ok();
                    let row: Vec<String> = serde_json::from_str(&answer).unwrap();
                    assert_eq!(row, [value.clone(), value, db.name.clone()]);
                }
            });
        }
    });
}

#[test]
fn log_comment_names_a_running_query_and_a_running_insert() {
    let Some(db) = shared() else { return };
    db.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    let select = db.post("SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1");
    let insert = db.insert("INSERT INTO t FORMAT TSV", b"1\n".repeat(1 << 20));
    for (comment, ask, missing) in [("range-1", select, 0), ("range-2", insert, 1)] {
        let running = ask.with("log_comment", comment).open(missing);
        let count = format!(
            "SELECT count() FROM system.processes WHERE Settings['log_comment'] = '{comment}'"
        );
        wait_until("the query shows", || db.sql(&count) == "1\n");
        // A client that leaves ends its query.
        drop(running);
        wait_until("the query is gone", || db.sql(&count) == "0\n");
    }
    assert_eq!(db.sql("SELECT count() FROM t"), "0\n");
}

#[test]
fn the_summary_counts_rows() {
    let Some(db) = shared() else { return };
    let summary = |answer: &crate::http::Answer| -> std::collections::BTreeMap<String, String> {
        serde_json::from_str(answer.header("X-ClickHouse-Summary").unwrap()).unwrap()
    };
    // The JDBC driver takes a result for empty when this says so.
    let select = summary(&db.post("SELECT number FROM numbers(7)").send());
    assert_eq!((select["result_rows"].as_str(), select["read_rows"].as_str()), ("7", "7"));
    db.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    let insert = summary(&db.insert("INSERT INTO t FORMAT TSV", "1\n2\n3\n").send());
    assert_eq!(insert["written_rows"], "3");
}

#[test]
fn a_get_changes_nothing() {
    let Some(db) = shared() else { return };
    assert_eq!(db.get("SELECT 1").send().ok(), "1\n");
    for sql in
        ["CREATE TABLE t (a Int8) ENGINE = Memory", "DROP DATABASE system", "KILL QUERY WHERE 0"]
    {
        assert_eq!(db.get(sql).send().refusal(), (164, 500), "{sql}");
    }
    db.sql("CREATE TABLE t (a Int8) ENGINE = Memory");
    assert_eq!(db.get("INSERT INTO t VALUES (1)").send().refusal(), (164, 500));
    assert_eq!(
        db.get("INSERT INTO t VALUES (1)").with("readonly", "0").send().refusal(),
        (164, 500)
    );
}

#[test]
fn refusals_have_the_code_and_status_of_a_clickhouse_server() {
    let Some(db) = shared() else { return };
    for (sql, refusal) in [
        ("SELECT * FROM nosuch", (60, 404)),
        ("SELECT nosuch", (47, 404)),
        ("SELEC 1", (62, 400)),
        ("", (62, 400)),
        ("SELECT 1; SELECT 2", (62, 400)),
        ("SELECT 1 FORMAT NoSuch", (73, 404)),
        ("INSERT INTO nosuch VALUES (1)", (60, 404)),
        ("SELECT 1 INTO OUTFILE 'x'", (358, 500)),
        (
            "SELECT count() FROM numbers(10000000) GROUP BY number SETTINGS max_memory_usage = 1000000",
            (241, 500),
        ),
    ] {
        assert_eq!(db.sql_refusal(sql), refusal, "{sql}");
    }
    assert_eq!(db.post("SELECT 1").with("nosuch", "1").send().refusal(), (115, 404));
    assert_eq!(db.post("SELECT 1").with("database", "nosuch").send().refusal(), (81, 404));
    db.sql("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a");
    assert_eq!(db.insert("INSERT INTO t FORMAT TSV", "x\n").send().refusal(), (27, 400));
    let cut = db.insert("INSERT INTO t FORMAT Native", b"\x01\x01\x01a\x04Int8".to_vec()).send();
    assert_eq!(cut.refusal(), (33, 500));
    assert_eq!(db.sql("SELECT count() FROM t"), "0\n");
}

#[test]
fn an_exception_amid_the_data_is_seen() {
    let Some(db) = shared() else { return };
    for compress in ["0", "1"] {
        let answer = db
            .post("SELECT throwIf(number = 5000000), number FROM numbers(9000000)")
            .with("compress", compress)
            .send();
        assert_eq!(answer.status, 200);
        assert!(!answer.whole, "the body must not come to its end");
        let body = if compress == "1" { unpack(&answer.body) } else { answer.body.clone() };
        let tag = answer.header("X-ClickHouse-Exception-Tag").unwrap();
        let text = String::from_utf8(body).unwrap();
        let (_, exception) = text.split_once(&format!("\r\n__exception__\r\n{tag}\r\n")).unwrap();
        assert!(exception.starts_with("Code: 395. DB::Exception: "), "{exception}");
        assert!(exception.ends_with(&format!(" {tag}\r\n__exception__\r\n")), "{exception}");
    }
    let waited = db
        .post("SELECT throwIf(number = 5000000), number FROM numbers(9000000)")
        .with("wait_end_of_query", "1")
        .send();
    assert_eq!(waited.refusal(), (395, 500));
}

/// Unpacks ClickHouse's blocks without the code under test.
fn unpack(mut blocks: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !blocks.is_empty() {
        assert_eq!(blocks[16], 0x82);
        let size = |at: usize| u32::from_le_bytes(blocks[at..at + 4].try_into().unwrap()) as usize;
        let (packed, plain) = (size(17), size(21));
        let data = lz4_flex::block::decompress(&blocks[25..16 + packed], plain).unwrap();
        out.extend_from_slice(&data);
        blocks = &blocks[16 + packed..];
    }
    out
}

#[test]
fn packing_works_both_ways() {
    let Some(db) = shared() else { return };
    let select = "SELECT number FROM numbers(300000) FORMAT RowBinary";
    let plain = db.post(select).send().body;
    let blocks = db.post(select).with("compress", "1").send().body;
    assert!(blocks.len() < plain.len());
    assert!(unpack(&blocks) == plain);
    let gzip = db
        .post(select)
        .with("enable_http_compression", "1")
        .header("Accept-Encoding", "br, gzip")
        .send();
    assert_eq!(gzip.header("Content-Encoding"), Some("gzip"));
    let mut back = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip.body.as_slice()), &mut back)
        .unwrap();
    assert!(back == plain);
    let unasked = db.post(select).header("Accept-Encoding", "gzip").send();
    assert_eq!(unasked.header("Content-Encoding"), None);

    db.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    let insert = "INSERT INTO t FORMAT RowBinary";
    db.insert(insert, blocks.clone()).with("decompress", "1").send().ok();
    db.insert(insert, gzip.body).header("Content-Encoding", "gzip").send().ok();
    let zstd = zstd::bulk::compress(&plain, 1).unwrap();
    db.insert(insert, zstd).header("Content-Encoding", "zstd").send().ok();
    assert_eq!(
        db.sql("SELECT count(), sum(a) FROM t"),
        format!("900000\t{}\n", 3_u64 * 300_000 * 299_999 / 2)
    );

    let mut broken = blocks;
    let last = broken.len() - 1;
    broken[last] ^= 1;
    assert_eq!(db.insert(insert, broken).with("decompress", "1").send().refusal(), (271, 500));
    assert_eq!(db.sql("SELECT count() FROM t"), "900000\n", "a refused body adds nothing");
}

#[test]
fn a_long_result_does_not_stand_in_memory() {
    let Some(db) = shared() else { return };
    db.sql("SELECT number FROM numbers(1000000)");
    let before = db.engine.peak_kib();
    let bytes = db
        .post("SELECT number, repeat('x', 90) FROM numbers(5000000) FORMAT TSV")
        .send()
        .body
        .len();
    assert!(bytes > 450_000_000, "{bytes}");
    let grown = db.engine.peak_kib() - before;
    assert!(grown < 200 << 10, "grew by {grown} KiB for {bytes} bytes");
}
