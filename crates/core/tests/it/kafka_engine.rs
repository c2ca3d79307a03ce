//! The Kafka engine instead of the sink: its statements, what it cannot read, and its rows, which the
//! real engine makes of messages like the sink makes them of events.

use std::fmt::Write as _;

use bson::{Bson, doc};
use serde_json::Value as Json;
use tailwater_core::event::ChangeEvent;
use tailwater_core::kafka_engine::{self, KafkaEngine};
use tailwater_core::mapping::{Mapping, Outcome};
use tailwater_core::message::header;
use tailwater_core::normalized::NormalizedEvent;
use tailwater_core::position::{Epoch, LaneId, Millis, Seq};
use tailwater_core::producing::Style;
use tailwater_core::record::Message;
use tailwater_core::rows::{Append, Content, Entry, Layout, RecordsFrom, Rows};
use tailwater_core::table::{RECORD_COLUMNS, TableName};

use crate::config::{Host, read};
use crate::engine::{Engine, agree, arbitrary_rows, engine};
use crate::producing::{event, insert, messages, producing};
use crate::sample::{self, Fields, without_repeats};

const NORMALIZED: &str = r#"
version: 1
pipeline: ingest
mongodb: { uri: mongodb://db, collections: [ingest.files] }
kafka:
  bootstrap_servers: [ "b-1.example:9096", "b-2.example:9096" ]
  sasl: { mechanism: SCRAM-SHA-512, username: tail'water, password: { file: /run/secrets/ch } }
  tls: { ca: /etc/ca.pem }
  properties: { fetch.min.bytes: 5, linger.ms: 5 }
normalizer: { mapping: mapping.yaml, output: topic }
clickhouse: { url: "http://ch:8123", database: events }
"#;

const RAW: &str = r#"
version: 1
mongodb: { uri: mongodb://db, collections: [ingest.files, ingest.jobs] }
kafka: { bootstrap_servers: "localhost:9092" }
clickhouse: { embedded: true, tables: { records: rows }, batch: { max_rows: 100, max_wait_ms: 20 } }
"#;

fn made(config: &str, database: &str) -> KafkaEngine {
    let dead_letters = TableName::new("tailwater_dead_letters");
    KafkaEngine::of(&read(config).unwrap(), database, &dead_letters).unwrap()
}

fn told(made: &KafkaEngine) -> String {
    let mut all = String::new();
    for object in &made.objects {
        writeln!(all, "{} `{}`\n{};\n", object.kind, object.name, object.create.shown()).unwrap();
    }
    for note in &made.notes {
        writeln!(all, "note: {note}").unwrap();
    }
    all
}

#[test]
fn the_normalized_topic_is_read_with_the_guides_settings() {
    let made = made(NORMALIZED, "events");
    insta::assert_snapshot!(told(&made));
    assert_eq!(
        (made.topics.as_slice(), &*made.group),
        (&["events.normalized.record".to_owned()][..], "ingest.clickhouse")
    );
}

#[test]
fn raw_topics_are_read_by_name() {
    let made = made(RAW, "default");
    insta::assert_snapshot!(told(&made));
    assert_eq!(made.topics, ["events.mongo.ingest.files", "events.mongo.ingest.jobs"]);
}

#[test]
fn the_password_is_sent_and_not_shown() {
    let made = made(NORMALIZED, "events");
    assert!(made.objects[0].create.sql().contains("kafka_sasl_password = 'hunter2'"));
    for shown in [format!("{made:?}"), told(&made)] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let names: Vec<_> = made.objects.iter().map(|object| object.name.clone()).collect();
    assert_eq!(names, kafka_engine::names(&TableName::new("record_raw")));
}

#[test]
fn another_statement_has_another_comment() {
    let comments = |config: &str| {
        made(config, "x").objects.into_iter().map(|object| object.comment).collect::<Vec<_>>()
    };
    let (one, other) = (comments(RAW), comments(&RAW.replace("max_rows: 100", "max_rows: 200")));
    assert_ne!(one[0], other[0]);
    assert_eq!(one[1..], other[1..]);
    let mine = kafka_engine::comment_of("tailwater");
    assert!(one.iter().all(|comment| comment.starts_with(&mine)), "{one:?}");
}

#[test]
fn what_the_engine_cannot_read_is_told() {
    for (from, to, expected) in [
        ("kafka: {", "kafka: { format: bson,", "not in `format: json`"),
        ("kafka: {", "kafka: { publish: full_document,", "without their change events"),
        ("kafka: {", "kafka: { compat: mongo-kafka,", "have no headers"),
        ("kafka: {", "kafka: { topics: { read: ['^a'] },", "by a regex"),
        ("ingest.jobs", "'ingest.j*'", "not known by name"),
        ("version: 1", "version: 1\nnormalizer: { mapping: mapping.yaml }", "in the sink"),
        ("kafka: {", "kafka: { sasl: { mechanism: OAUTHBEARER, token: x },", "has no TLS"),
        ("kafka: {", "kafka: { security_protocol: SSL,", "has no TLS"),
    ] {
        let config = RAW.replace(from, to).replace(
            "embedded: true, tables: { records: rows }",
            "embedded: true, tables: { records: rows, current: null }",
        );
        let config = read(&config).unwrap_or_else(|error| panic!("{to}: {error}"));
        let error = KafkaEngine::of(&config, "d", &TableName::new("l")).unwrap_err();
        assert!(error.to_string().contains(expected), "{to}: {error}");
    }
    // A server's client has what the embedded engine's lacks, but for tokens.
    let by = |mechanism: &str| {
        NORMALIZED.replace(
            "SCRAM-SHA-512, username: tail'water, password: { file: /run/secrets/ch }",
            mechanism,
        )
    };
    let config = read(&by("OAUTHBEARER, token: x")).unwrap();
    let error = KafkaEngine::of(&config, "d", &TableName::new("l")).unwrap_err();
    assert!(error.to_string().contains("a token of OAUTHBEARER"), "{error}");
}

/// The table from which a feed reads in tests, with the virtual columns of the Kafka engine.
fn source(engine: &Engine, name: &str, messages: &[(u64, Message)]) {
    engine.query(
        &format!(
            "CREATE TABLE {name} (value String, _key String, _topic LowCardinality(String), \
             _partition UInt64, _offset UInt64, _timestamp_ms Nullable(DateTime64(3)), \
             `_headers.name` Array(String), `_headers.value` Array(String)) ENGINE = Memory"
        ),
        "Null",
    );
    let hex = |bytes: &[u8]| format!("unhex('{}')", hex::encode(bytes));
    for (offset, message) in messages {
        let headers = message.headers.iter();
        let (names, values): (Vec<_>, Vec<_>) =
            headers.map(|(name, value)| (hex(name.as_bytes()), hex(value))).unzip();
        engine.query(
            &format!(
                "INSERT INTO {name} SELECT {}, {}, 'topic', 3, {offset}, \
                 fromUnixTimestamp64Milli(toInt64({})), [{}]::Array(String), [{}]::Array(String)",
                hex(message.value.as_deref().unwrap_or_default()),
                hex(message.key.as_deref().unwrap_or_default()),
                message.timestamp.0,
                names.join(", "),
                values.join(", "),
            ),
            "Null",
        );
    }
}

/// The select of a feed, over another table.
fn feed(config: &str, from: &str) -> String {
    let made = made(config, "default");
    let feed = made.objects.last().unwrap().create.shown();
    let (_, select) = feed.split_once(" AS\n").unwrap();
    let (select, _) = select.rsplit_once("\nCOMMENT ").unwrap();
    let source = format!("`default`.`{}`", made.objects[0].name);
    assert!(select.contains(&source), "{select}");
    select.replace(&source, from)
}

fn json(engine: &Engine, select: &str) -> Vec<Json> {
    let lines = String::from_utf8(engine.query(select, "JSONEachRow")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the feed makes of messages.
fn of_feed(engine: &Engine, config: &str, name: &str, messages: &[(u64, Message)]) -> Vec<Json> {
    source(engine, name, messages);
    let select = feed(config, name);
    // As in the Null table: the types of columns are those of rows.
    let columns: Vec<_> = RECORD_COLUMNS
        .iter()
        .map(|(name, kind)| format!("CAST({name}, '{}') AS {name}", kind.replace('\'', "\\'")))
        .collect();
    json(
        engine,
        &format!(
            "SELECT {}, reason, error, JSONAllPathsWithTypes(attrs) AS types FROM ({select}) ORDER BY _offset \
             SETTINGS output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 1",
            columns.join(", "),
        ),
    )
}

/// What the sink makes of events.
fn of_sink(engine: &Engine, entries: Vec<Entry>) -> Vec<Json> {
    let layout = Layout {
        records: TableName::new("r"),
        records_from: RecordsFrom::Inline,
        raw_cdc: None,
        dead_letters: TableName::new("l"),
        current: None,
    };
    let lane = LaneId::partition_of("topic", 3);
    let rows = Rows::encode(&layout, None, lane, Epoch::new([0; 16]), entries).unwrap();
    let block = rows
        .append
        .iter()
        .find(|block| layout.table(block.table.as_str()) == Some(Append::Records))
        .unwrap();
    let file = tempfile::Builder::new().suffix(".native").tempfile().unwrap();
    std::fs::write(file.path(), &block.bytes).unwrap();
    let columns: Vec<_> =
        RECORD_COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    json(
        engine,
        &format!(
            "SELECT *, JSONAllPathsWithTypes(attrs) AS types FROM file('{}', 'Native', '{}') ORDER BY _offset \
             SETTINGS output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 1",
            file.path().display(),
            columns.join(", ").replace('\'', "\\'"),
        ),
    )
}

/// Equal, but for nulls in an array, which the engine's own parser may take for empty arrays or objects.
fn alike(sink: &Json, feed: &Json) -> bool {
    match (sink, feed) {
        (Json::Null, Json::Array(items)) => items.is_empty(),
        (Json::Null, Json::Object(fields)) => fields.is_empty(),
        (Json::Array(sink), Json::Array(feed)) => {
            sink.len() == feed.len() && sink.iter().zip(feed).all(|(sink, feed)| alike(sink, feed))
        }
        (Json::Object(sink), Json::Object(feed)) => {
            let same = |(name, value)| feed.get(name).is_some_and(|found| alike(value, found));
            sink.len() == feed.len() && sink.iter().all(same)
        }
        (sink, feed) => agree(sink, feed),
    }
}

/// Rows are equal but for what differs by rule.
fn assert_rows(feed: &[Json], sink: &[Json], differ: &[&str]) {
    assert_eq!(feed.len(), sink.len());
    for (feed, sink) in feed.iter().zip(sink) {
        assert_eq!((&feed["reason"], &feed["error"]), (&Json::from(""), &Json::from("")), "{feed}");
        for (name, _) in RECORD_COLUMNS.iter().filter(|(name, _)| !differ.contains(name)) {
            assert!(
                alike(&sink[*name], &feed[*name]),
                "{name}\nsink {}\nfeed {}",
                sink[name],
                feed[name]
            );
        }
        // Arrays are laid out otherwise where they come as text.
        let scalars = |row: &Json| {
            let types = row["types"].as_object().unwrap().clone();
            types
                .into_iter()
                .filter(|(_, kind)| !kind.as_str().unwrap().contains("Array"))
                .collect::<Vec<_>>()
        };
        assert_eq!(scalars(sink), scalars(feed), "{}", feed["attrs"]);
    }
}

fn at(offset: usize, content: Content) -> Entry {
    Entry { seq: Seq(offset as u64), content }
}

/// Normalized events with arbitrary values.
fn normalized(fields: &Fields, number: u32) -> (ChangeEvent, NormalizedEvent) {
    let image =
        bson::Document::from_reader(sample::bytes(&without_repeats(fields)).as_slice()).unwrap();
    let event = event(
        "insert",
        doc! { "fullDocument": { "_id": number, "x": image }, "documentKey": { "_id": number } },
    );
    let mapping = "mappings: [{ match: { ns.db: d }, tags: [x], attrs: [{ y: x }, x], raw: true }]";
    let mapping = Mapping::read("m", mapping, &Host).unwrap();
    let Outcome::Normalized(it) = mapping.apply(&event).unwrap().outcome else { panic!() };
    let normalized = NormalizedEvent::of(&event, Some(&it), mapping.hash()).unwrap();
    (event, normalized)
}

#[test]
fn rows_of_the_normalized_topic_are_those_of_the_sink() {
    let Some(engine) = engine() else { return };
    let mut messages = Vec::new();
    let mut entries = Vec::new();
    for (offset, fields) in arbitrary_rows(5, 150).iter().enumerate() {
        let (event, normalized) = normalized(fields, offset as u32);
        messages.push((offset as u64, normalized.message(&"topic".into(), &event, None).unwrap()));
        entries.push(at(offset, Content::Normalized(Box::new(normalized))));
    }
    let mut feed = of_feed(&engine, NORMALIZED, "normalized_in", &messages);
    let mut sink = of_sink(&engine, entries);
    feed.iter_mut().chain(&mut sink).for_each(|row| row["_epoch"] = Json::Null);
    assert_rows(&feed, &sink, &[]);
}

/// A message of the normalized topic as another program writes it.
fn foreign(value: &str) -> Message {
    Message {
        topic: "topic".into(),
        route: tailwater_core::record::Route::Every,
        key: None,
        value: Some(value.to_owned().into()),
        headers: Vec::new(),
        timestamp: Millis(1_234),
    }
}

/// What the guide's own consumer writes, and others.
#[test]
fn what_other_programs_write_is_read_as_by_the_sink() {
    let Some(engine) = engine() else { return };
    let lines = [
        r#"{"ts": {"$timestamp": {"t": 1700000000, "i": 3}}, "source": "mongo", "ns": {"db": "ingest", "coll": "files"}, "event_type": "file_arrived", "idempotency_key": "mongo:{'$oid': '65'}:insert:{}", "tags": {"consumer_id": "c1", "file_type": null, "status": "arrived"}, "attrs": {"size_bytes": {"$numberLong": "123456"}, "checksum": "\u00e9"}}"#,
        r#"{"ts":"2023-11-14T23:13:20.5+01:00","ns":{"db":"d"},"op":"x","attrs":{"o":{"$oid":"65f0c0de65f0c0de65f0c0de"},"d":{"$date":"2023-11-14T22:13:20Z"},"e":{"$date":"2023-11-14T22:13:20.500Z"},"n":[{"$numberDecimal":"1.50"},{"$numberDouble":"NaN"}],"f":{"$numberDouble":"2.0"},"q":"\"{\"$numberLong\":\"5\"}"}}"#,
        r#"{"ts":"2023-11-14T22:13:20.123456","ns":{"db":"d","coll":"c"},"op":"x","tags":null}"#,
        r#"{"ts":{"$date":5},"ns":{"db":"d"},"op":"x","version":18446744073709551}"#,
        r#"{"ts":{"$date":{"$numberLong":"-5"}},"ns":{"db":"d"},"op":"x","version":"340282366920938463463374607431768211455"}"#,
        r#"{"ts":{"$date":"2023-11-14T22:13:20Z"},"ns":{"db":"d"},"event_type":"x","superseded":true}"#,
        r#"{"ts":1700000000,"ns":{"db":"d"},"event_type":"x","op":"y","raw":"{}","mapping":"m","doc_id":"i","attrs":{"a":{"$oid":"x"},"b.c":{"$date":5}}}"#,
        r#"{"ts":1700000000.25,"ns":{"db":"d"},"event_type":"x"}"#,
        r#"{"ts":1700000000123,"ns":{"db":"d"},"event_type":"x"}"#,
        r#"{"ts":-5,"ns":{"db":"d"},"event_type":"x"}"#,
        r#"{"ns":{"db":"d"},"event_type":"x"}"#,
    ];
    let messages: Vec<_> = (0..).zip(lines.map(foreign)).collect();
    let entries = lines.iter().enumerate().map(|(offset, line)| {
        let event = NormalizedEvent::read_json(line.as_bytes(), Some(Millis(1_234))).unwrap();
        at(offset, Content::Normalized(Box::new(event)))
    });
    let sink = of_sink(&engine, entries.collect());
    assert_rows(&of_feed(&engine, NORMALIZED, "foreign_in", &messages), &sink, &["_epoch"]);
}

#[test]
fn what_is_no_normalized_event_is_told_and_fails_nothing() {
    let Some(engine) = engine() else { return };
    let cases = [
        ("secret", "not_json"),
        ("[]", "not_json"),
        ("5", "not_json"),
        ("", "not_json"),
        ("{\"a\":}", "not_json"),
        (r#"{"a":1}{"b":2}"#, "not_json"),
        ("{}", "not_normalized"),
        (r#"{"ts":0,"event_type":"e"}"#, "no_namespace"),
        (r#"{"ts":0,"event_type":"e","ns":{"coll":"c"}}"#, "no_namespace"),
        (r#"{"ts":"secret","event_type":"e","ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"ts":{"secret":1},"event_type":"e","ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":1,"ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","op":{"secret":1},"ns":{"db":"d"}}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"tags":[]}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"attrs":"secret"}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"version":"x"}"#, "not_normalized"),
        (r#"{"ts":0,"event_type":"e","ns":{"db":"d"},"version":-1}"#, "not_normalized"),
    ];
    let messages: Vec<_> = (0..).zip(cases.map(|(line, _)| foreign(line))).collect();
    let found = of_feed(&engine, NORMALIZED, "wrong_in", &messages);
    for ((line, reason), row) in cases.iter().zip(&found) {
        assert_eq!(row["reason"], *reason, "{line}: {row}");
        assert!(!row["error"].as_str().unwrap().contains("secret"), "{row}");
        assert_eq!((&row["op"], &row["ts"]), (&"".into(), &"1970-01-01 00:00:01.234".into()));
    }
    assert_eq!(found.len(), cases.len());
    let deep = format!(
        r#"{{"ts":0,"op":"e","ns":{{"db":"d"}},"attrs":{}1{}}}"#,
        r#"{"a.":"#.repeat(2000),
        "}".repeat(2000)
    );
    let twice = r#"{"ts":0,"op":"e","ns":{"db":"d"},"attrs":{"a":1,"a":2,"b.c":1,"b.c":2}}"#;
    let messages = [(0, foreign(&deep)), (1, foreign(twice))];
    let found = of_feed(&engine, NORMALIZED, "hard_in", &messages);
    assert_eq!(found[0]["reason"], "not_json");
    assert_eq!(found[1]["attrs"], serde_json::json!({ "a": 1, "b%2Ec": 1 }));
}

/// Whether the feed writes it as the sink does: not years beyond four digits, nor the scope of code,
/// which the message has as relaxed JSON.
fn is_told_alike(value: &Bson) -> bool {
    let four_digits = -62_167_219_200_000..253_402_300_800_000;
    match value {
        Bson::DateTime(date) => four_digits.contains(&date.timestamp_millis()),
        Bson::JavaScriptCodeWithScope(_) => false,
        _ => true,
    }
}

#[test]
fn rows_of_raw_topics_are_those_of_the_sink() {
    let Some(engine) = engine() else { return };
    let producing = producing(Style::default());
    let mut sent = Vec::new();
    let mut entries = Vec::new();
    let mut push = |event: ChangeEvent| {
        for message in messages(&producing, &event) {
            sent.push((sent.len() as u64, message));
        }
        entries.push(at(sent.len() - 1, Content::Event(event)));
    };
    for (number, fields) in arbitrary_rows(6, 150).iter().enumerate() {
        let image = bson::Document::from_reader(sample::bytes(&without_repeats(fields)).as_slice())
            .unwrap();
        let mut image: bson::Document =
            image.into_iter().filter(|(_, it)| is_told_alike(it)).collect();
        image.insert("_id", number as i64);
        let key = doc! { "_id": number as i64 };
        let (op, image) = match number % 4 {
            0 => ("delete", doc! { "fullDocumentBeforeChange": image }),
            1 => (
                "update",
                doc! { "fullDocument": image, "updateDescription": { "updatedFields": {} } },
            ),
            _ => ("insert", doc! { "fullDocument": image }),
        };
        let mut fields = image;
        fields.insert("documentKey", key);
        push(event(op, fields));
    }
    let doubles = doc! { "_id": 1, "a": 5.0, "b": -0.0, "c": 1e16, "d": 2.5, "e": -3e300, "f": 5 };
    push(event("replace", doc! { "fullDocument": doubles, "documentKey": { "_id": 1 } }));
    push(event("update", doc! { "fullDocument": null, "documentKey": { "_id": 1 } }));
    push(
        event("update", doc! { "fullDocument": null, "documentKey": { "_id": 1 } }).not_looked_up(),
    );
    push(event("delete", doc! { "documentKey": { "_id": 1 } }));
    push(event("drop", doc! {}));
    push(event("dropDatabase", doc! { "ns": { "db": "d" } }));
    let ids = [
        Bson::Int32(-5),
        Bson::Int64(i64::MIN),
        Bson::Double(5.0),
        Bson::Boolean(true),
        Bson::Null,
        Bson::DateTime(bson::DateTime::from_millis(5)),
        Bson::ObjectId([7; 12].into()),
        Bson::Document(doc! { "b": 1, "_data": "x" }),
        Bson::Array(vec![Bson::Int32(1)]),
    ];
    let texts = [
        "plain",
        "5",
        "-0",
        "07",
        "9223372036854775808",
        "null",
        "True",
        "é\"\\",
        "{x",
        "[",
        "\"",
        "",
        "65f0c0de65f0c0de65f0c0de",
        "65F0c0de65f0c0de65f0c0de",
    ];
    let ids = ids.into_iter().chain(texts.map(|text| Bson::String(text.to_owned())));
    for id in ids {
        push(event(
            "insert",
            doc! { "fullDocument": { "_id": &id }, "documentKey": { "_id": &id } },
        ));
    }
    push(event(
        "insert",
        doc! { "fullDocument": { "_id": 1 }, "documentKey": { "shard": "x", "_id": 1 } },
    ));

    let feed = of_feed(&engine, RAW, "raw_in", &sent);
    let sink = of_sink(&engine, entries);
    // What JSON does not carry is told, each.
    let in_json = |row: &&Json| {
        let message = &sent[row["_offset"].as_u64().unwrap() as usize].1;
        message.headers.iter().any(|(name, value)| name == header::FORMAT && &value[..] == b"json")
    };
    let (told, read): (Vec<&Json>, Vec<&Json>) = feed.iter().partition(|row| !in_json(row));
    assert!(told.iter().all(|row| row["reason"] == "unknown_format"), "{told:?}");
    let read: Vec<Json> = read.into_iter().cloned().collect();
    let sink: Vec<Json> = sink.iter().filter(in_json).cloned().collect();
    assert!(read.len() > 60, "{}", read.len());
    assert_rows(&read, &sink, &["_epoch", "raw"]);
    assert!(
        read.iter().all(|row| row["raw"].as_str().unwrap().starts_with("{\"_id\":{\"_data\":"))
    );
}

#[test]
fn what_only_the_sink_reads_of_raw_topics_is_told() {
    let Some(engine) = engine() else { return };
    let message = || messages(&producing(Style::default()), &insert()).remove(0);
    let with = |name: &'static str, value: &'static str| {
        let mut message = message();
        message.headers.retain(|(header, _)| header != name);
        message.headers.push((name.into(), value.into()));
        message
    };
    let mut bare = message();
    bare.headers.clear();
    let mut broken = message();
    broken.value = Some("{\"secret\":}".into());
    let cases = [
        (bare, "bad_header"),
        (with(header::VERSION, "secret"), "bad_header"),
        (with(header::TS, ""), "bad_header"),
        (with(header::CHUNK, "0/2"), "chunk"),
        (with(header::FORMAT, "bson"), "unknown_format"),
        (with(header::VALUE, "document"), "unknown_format"),
        (broken, "not_json"),
        (with(header::ROW, "0"), "no row at all"),
    ];
    let sent: Vec<_> = (0..).zip(cases.iter().map(|(message, _)| message.clone())).collect();
    let found = of_feed(&engine, RAW, "raw_wrong_in", &sent);
    let reasons: Vec<_> = found.iter().map(|row| row["reason"].as_str().unwrap()).collect();
    let expected: Vec<_> = cases[..7].iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, expected);
    assert!(found.iter().all(|row| !row["error"].as_str().unwrap().contains("secret")));
}
