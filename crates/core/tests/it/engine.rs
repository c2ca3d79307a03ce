//! Blocks through the real engine: what it reads is what was put, and it lays the same values out
//! in the same bytes.

#![expect(unsafe_code, reason = "the engine is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};

use bson::{Bson, doc};
use libloading::{Library, Symbol};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value as Json, json};
use tailwater_core::bson::{Doc, Value};
use tailwater_core::json_column::Dates;
use tailwater_core::native::{self, Column, Numbers};

use crate::json_column::column_of;
use crate::sample::{self, Fields, Sample, without_repeats};

/// The one engine of this process. Never unloaded: its threads run until the process ends.
pub(crate) struct Engine {
    library: Library,
    connection: *mut *mut c_void,
}

// SAFETY: the connection is only used behind the mutex.
unsafe impl Send for Engine {}

/// Locks the engine; `None` when there is none on this machine, which is an error in CI.
pub(crate) fn engine() -> Option<MutexGuard<'static, Engine>> {
    static ENGINE: OnceLock<Option<Mutex<Engine>>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let found = library();
        assert!(found.is_some() || std::env::var_os("CI").is_none(), "libchdb.so is not installed");
        found.map(|path| Mutex::new(Engine::open(&path)))
    });
    if engine.is_none() {
        #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
        {
            eprintln!("SKIPPED: no libchdb.so; run `cargo xtask setup`");
        }
    }
    engine.as_ref().map(|engine| engine.lock().unwrap())
}

fn library() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = variable("TAILWATER_LIBCHDB") {
        return Some(named);
    }
    let cache = variable("TAILWATER_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tailwater")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/tailwater")))?;
    std::fs::read_dir(cache)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("libchdb.so")))
        .find(|path| path.is_file())
}

impl Engine {
    fn open(path: &std::path::Path) -> Self {
        type SetHandlers = unsafe extern "C" fn(c_int);
        type Connect = unsafe extern "C" fn(c_int, *const *const c_char) -> *mut *mut c_void;
        // SAFETY: the functions have these types in chdb.h of 26.7, and nothing else runs here
        // that the library's initialization could disturb.
        unsafe {
            let library = Library::new(path).unwrap();
            let set: Symbol<'_, SetHandlers> =
                library.get(b"chdb_set_signal_handlers_enabled").unwrap();
            set(0);
            let connect: Symbol<'_, Connect> = library.get(b"chdb_connect").unwrap();
            let name = c"clickhouse".as_ptr();
            let connection = connect(1, &raw const name);
            assert!(!connection.is_null() && !(*connection).is_null(), "the engine does not open");
            Self { library, connection }
        }
    }

    pub(crate) fn query(&self, sql: &str, format: &str) -> Vec<u8> {
        type Query = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut c_void;
        type Text = unsafe extern "C" fn(*mut c_void) -> *const c_char;
        type Length = unsafe extern "C" fn(*mut c_void) -> usize;
        type Destroy = unsafe extern "C" fn(*mut c_void);
        let (statement, format) = (CString::new(sql).unwrap(), CString::new(format).unwrap());
        // SAFETY: the functions have these types in chdb.h of 26.7; the result lives until it is
        // destroyed, after its bytes have been copied.
        unsafe {
            let get = |name: &[u8]| self.library.get::<Text>(name).unwrap();
            let query: Symbol<'_, Query> = self.library.get(b"chdb_query").unwrap();
            let length: Symbol<'_, Length> = self.library.get(b"chdb_result_length").unwrap();
            let destroy: Symbol<'_, Destroy> =
                self.library.get(b"chdb_destroy_query_result").unwrap();
            let result = query(*self.connection, statement.as_ptr(), format.as_ptr());
            let error = get(b"chdb_result_error")(result);
            if !error.is_null() {
                panic!("{sql}: {}", CStr::from_ptr(error).to_string_lossy());
            }
            let length = length(result);
            let bytes = match get(b"chdb_result_buffer")(result) {
                buffer if buffer.is_null() => Vec::new(),
                buffer => std::slice::from_raw_parts(buffer.cast::<u8>(), length).to_vec(),
            };
            destroy(result);
            bytes
        }
    }

    pub(crate) fn rows(&self, from: &str) -> Vec<Json> {
        let sql = format!(
            "SELECT j FROM {from} ORDER BY i SETTINGS output_format_json_quote_64bit_integers = 0"
        );
        let lines = self.query(&sql, "JSONEachRow");
        let lines = String::from_utf8(lines).unwrap();
        lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["j"].take()).collect()
    }
}

/// A block with a number and a JSON column, as a file that the engine reads.
fn block_file(rows: &[Fields], dates: Dates) -> (Vec<u8>, tempfile::NamedTempFile) {
    let column = column_of(rows, dates);
    let mut numbers = Numbers::<u64>::default();
    (0..rows.len() as u64).for_each(|row| numbers.push(row));
    let block = native::encode(&[("i", &numbers as &dyn Column), ("j", &column)]).unwrap();
    let file = tempfile::Builder::new().suffix(".native").tempfile().unwrap();
    std::fs::write(file.path(), &block).unwrap();
    (block, file)
}

fn source(file: &tempfile::NamedTempFile) -> String {
    format!("file('{}', 'Native', 'i UInt64, j JSON')", file.path().display())
}

/// The JSON that the contract asks for; `None` where a path stays empty.
fn expected(value: &Sample, dates: Dates) -> Option<Json> {
    match value {
        Sample::Document(fields) => {
            let fields = expected_fields(fields, dates);
            (!fields.is_empty()).then_some(Json::Object(fields))
        }
        Sample::Array(items) => Some(Json::Array(
            items
                .iter()
                .map(|item| match item {
                    Sample::Document(fields) => Json::Object(expected_fields(fields, dates)),
                    item => expected(item, dates).unwrap_or(Json::Null),
                })
                .collect(),
        )),
        Sample::Scalar(scalar) => expected_scalar(scalar, dates),
    }
}

fn expected_fields(fields: &[(String, Sample)], dates: Dates) -> Map<String, Json> {
    let name = |key: &str| key.replace('.', "%2E");
    fields.iter().filter_map(|(key, value)| Some((name(key), expected(value, dates)?))).collect()
}

fn expected_scalar(scalar: &Bson, dates: Dates) -> Option<Json> {
    Some(match scalar {
        Bson::Null | Bson::Undefined => return None,
        Bson::Int32(number) => json!(number),
        Bson::Int64(number) => json!(number),
        Bson::Double(double) if double.is_nan() => json!("NaN"),
        Bson::Double(double) if double.is_infinite() => {
            json!(if *double > 0.0 { "Infinity" } else { "-Infinity" })
        }
        Bson::Double(double) => json!(double),
        Bson::Boolean(value) => json!(value),
        Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => json!(text),
        Bson::DateTime(date) => {
            let ms = date.timestamp_millis();
            let Ok(at) = jiff::Timestamp::from_millisecond(ms) else {
                return Some(json!("beyond"));
            };
            let year = at.to_zoned(jiff::tz::TimeZone::UTC).year();
            if dates == Dates::DateTime64 && (1900..=2299).contains(&year) {
                json!(format!("{at:.3}").replace('T', " ").trim_end_matches('Z'))
            } else if year < 0 {
                json!("beyond")
            } else {
                json!(format!("{at:.3}"))
            }
        }
        Bson::ObjectId(id) => json!(id.to_hex()),
        Bson::Decimal128(decimal) => json!(decimal.to_string()),
        Bson::Binary(binary) if u8::from(binary.subtype) == 4 => {
            json!(bson::Uuid::from_bytes(binary.bytes.as_slice().try_into().unwrap()).to_string())
        }
        Bson::Binary(binary) => {
            use base64::Engine as _;
            json!(base64::prelude::BASE64_STANDARD.encode(&binary.bytes))
        }
        other => {
            let bytes = doc! { "v": other }.to_vec().unwrap();
            let mut text = Vec::new();
            let value: Value<'_> = Doc::new(&bytes).unwrap().get("v").unwrap().unwrap();
            tailwater_core::ejson::canonical_value(&value, &mut text).unwrap();
            json!(String::from_utf8(text).unwrap())
        }
    })
}

/// Equal, but for what the engine's JSON text does not tell: 1.0 from 1, and dates that the
/// oracle cannot write.
pub(crate) fn agree(expected: &Json, found: &Json) -> bool {
    match (expected, found) {
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|found| agree(value, found)))
        }
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b))
        }
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Json::String(a), Json::String(b)) => a == b || a == "beyond" && b.ends_with('Z'),
        (a, b) => a == b,
    }
}

pub(crate) fn arbitrary_rows(seed: u8, count: usize) -> Vec<Fields> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| sample::fields().new_tree(&mut runner).unwrap().current()).collect()
}

pub(crate) fn assert_rows(found: &[Json], rows: &[Fields], dates: Dates, what: &str) {
    assert_eq!(found.len(), rows.len(), "{what}");
    for (found, row) in found.iter().zip(rows) {
        let expected = Json::Object(expected_fields(&without_repeats(row), dates));
        assert!(agree(&expected, found), "{what}\nexpected {expected}\nfound    {found}");
    }
}

#[test]
fn the_engine_reads_what_was_put_and_lays_it_out_alike() {
    let Some(engine) = engine() else { return };
    for seed in 0..24 {
        for dates in [Dates::Text, Dates::DateTime64] {
            let rows = arbitrary_rows(seed, 12);
            let (block, file) = block_file(&rows, dates);
            let source = source(&file);
            assert_rows(&engine.rows(&source), &rows, dates, &format!("seed {seed}, {dates:?}"));
            let again = engine.query(
                &format!(
                    "SELECT i, j FROM {source} SETTINGS \
                     output_format_native_use_flattened_dynamic_and_json_serialization = 1"
                ),
                "Native",
            );
            assert!(again == block, "seed {seed}, {dates:?}: the engine lays it out otherwise");
        }
    }
}

#[test]
fn merges_keep_mixed_types_and_thousands_of_paths() {
    let Some(engine) = engine() else { return };
    engine.query("CREATE TABLE merged (i UInt64, j JSON) ENGINE = MergeTree ORDER BY i", "Null");
    let scalar = |n: i32| Sample::Scalar(Bson::Int32(n));
    let mut rows = arbitrary_rows(77, 160);
    for part in 0..3 {
        // More paths than a JSON column keeps apart (1024).
        rows.push((0..2_000).map(|n| (format!("p{}", n + part * 500), scalar(n))).collect());
    }
    for (part, rows) in rows.chunks(20).enumerate() {
        let (_, file) = block_file(rows, Dates::DateTime64);
        let source = source(&file);
        engine
            .query(&format!("INSERT INTO merged SELECT i + {part} * 20, j FROM {source}"), "Null");
    }
    engine.query("OPTIMIZE TABLE merged FINAL", "Null");
    let parts = "SELECT count() FROM system.parts WHERE active AND table = 'merged'";
    assert_eq!(engine.query(parts, "TSV"), b"1\n");
    assert_rows(&engine.rows("merged"), &rows, Dates::DateTime64, "merged");
}

/// Values at which a type, a range or a name ends, each in one path over time.
fn borders() -> Vec<Fields> {
    let scalar = |value: Bson| Sample::Scalar(value);
    let date = |ms| scalar(Bson::DateTime(bson::DateTime::from_millis(ms)));
    let one = |key: &str, value: Sample| Sample::Document(vec![(key.to_owned(), value)]);
    let list = |items: &[Sample]| Sample::Array(items.to_vec());
    let (first, last) = (-2_208_988_800_000, 10_413_791_999_999);
    let values = vec![
        scalar(Bson::Int32(1)),
        scalar(Bson::String("1".to_owned())),
        scalar(Bson::Int64(i64::MIN)),
        scalar(Bson::Int64(i64::MAX)),
        scalar(Bson::Double(i64::MAX as f64)),
        date(first),
        date(first - 1),
        date(last),
        date(last + 1),
        list(&[date(first), date(last), scalar(Bson::Null)]),
        list(&[date(first), date(first - 1)]),
        list(&[list(&[date(last)]), list(&[]), list(&[date(first), scalar(Bson::Null)])]),
        list(&[list(&[list(&[one("at", list(&[date(last)]))])]), scalar(Bson::Int32(1))]),
        list(&[
            scalar(Bson::Int64(i64::MAX)),
            scalar(Bson::Double(0.5)),
            scalar(Bson::Boolean(true)),
        ]),
        list(&[one("b", scalar(Bson::Int32(1))), one("b", date(last)), one("c", list(&[]))]),
        list(&[one("b", list(&[one("b", date(first))])), scalar(Bson::Null)]),
        one("b", one("c", scalar(Bson::Int64(i64::MIN)))),
        one("", one("", scalar(Bson::Int32(1)))),
        one("a.b", one("%2E", one(".", scalar(Bson::Int32(1))))),
        one("a%2Eb", one("%2E", scalar(Bson::String("x".to_owned())))),
        one("%", one("%2", one("%252E", scalar(Bson::Boolean(false))))),
    ];
    let names = ["a", "", ".", "a.b", "%2E", "%252E", "a."];
    // Each value alone in its row, and all names beside one another.
    let alone = values.iter().map(|value| vec![("a".to_owned(), value.clone())]);
    let beside = values.iter().map(|value| {
        let kept = names.iter().filter(|name| **name != "%2E");
        kept.map(|name| ((*name).to_owned(), value.clone())).collect()
    });
    let own = vec![("%2E".to_owned(), scalar(Bson::Int32(1)))];
    alone.chain(beside).chain([own]).collect()
}

#[test]
fn a_path_that_holds_everything_over_time_survives_merges() {
    let Some(engine) = engine() else { return };
    engine.query("CREATE TABLE borders (i UInt64, j JSON) ENGINE = MergeTree ORDER BY i", "Null");
    let rows = borders();
    // A part for each row, then two halves that are merged with all of them.
    let parts: Vec<&[Fields]> = rows.chunks(1).chain(rows.chunks(rows.len() / 2 + 1)).collect();
    let mut start = 0;
    for rows in &parts {
        let (_, file) = block_file(rows, Dates::DateTime64);
        let source = source(&file);
        engine.query(&format!("INSERT INTO borders SELECT i + {start}, j FROM {source}"), "Null");
        start += rows.len();
    }
    let all: Vec<Fields> = parts.concat();
    assert_rows(&engine.rows("borders"), &all, Dates::DateTime64, "before");
    engine.query("OPTIMIZE TABLE borders FINAL", "Null");
    let active = "SELECT count() FROM system.parts WHERE active AND table = 'borders'";
    assert_eq!(engine.query(active, "TSV"), b"1\n");
    assert_rows(&engine.rows("borders"), &all, Dates::DateTime64, "merged");
    engine.query("DROP TABLE borders SYNC", "Null");
}
