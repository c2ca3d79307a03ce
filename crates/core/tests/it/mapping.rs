//! The mapping: the guide's file as it is written, what is hidden, and what is told of a wrong file;
//! the operators against MongoDB's documented meaning (`operators.rs`), and whatever may come
//! (`whatever_comes.rs`).

mod operators;
mod whatever_comes;

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use tailwater_core::config::Secrets;
use tailwater_core::event::ChangeEvent;
use tailwater_core::mapping::{Fields, Mapped, Mapping, Normalized, Outcome};
use tailwater_core::{ErrorKind, ejson};

use crate::sample::{self, Sample};

/// A host with one variable.
struct Host;

impl Secrets for Host {
    fn variable(&self, name: &str) -> Result<String, String> {
        match name {
            "PII_KEY" => Ok("Jefe".to_owned()),
            _ => Err(format!("the environment variable `{name}` is not set")),
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("cannot read `{path}`: no such file"))
    }
}

/// As the guide has it, letter by letter.
const GUIDE: &str = r#"mappings:
  - match: { ns.db: ingest, ns.coll: files }
    event_type_override:
      when: "$eq(fullDocument.status, 'arrived')"
      value: "file_arrived"
      else: "file_event"
    tags:   [consumer_id, file_type, status]
    attrs:
      - size_bytes
      - expected_count
      - checksum
"#;

fn read(text: &str) -> Mapping {
    Mapping::read("mapping.yaml", text, &Host).unwrap_or_else(|error| panic!("{error}"))
}

/// A mapping of one entry for everything, with these lines in it.
fn entry(lines: &str) -> Mapping {
    read(&with_entry(lines))
}

fn with_entry(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("mappings:\n  - match: {{ ns.db: \"*\" }}\n{lines}")
}

const WALL: i64 = 1_754_700_000_123;

fn event_of(db: &str, coll: &str, op: &str, fields: Document) -> ChangeEvent {
    let mut event = doc! {
        "_id": { "_data": "8265F1A2B3000000072B022C0100296E5A1004" },
        "operationType": op,
        "clusterTime": Bson::Timestamp(bson::Timestamp { time: 1_754_700_000, increment: 7 }),
        "wallTime": bson::DateTime::from_millis(WALL),
        "ns": { "db": db, "coll": coll },
    };
    event.extend(fields);
    ChangeEvent::index(event.to_vec().unwrap().into()).unwrap()
}

fn event(op: &str, fields: Document) -> ChangeEvent {
    event_of("ingest", "files", op, fields)
}

fn insert(document: Document) -> ChangeEvent {
    event("insert", doc! { "documentKey": { "_id": 1 }, "fullDocument": document })
}

fn date(millis: i64) -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(millis))
}

fn decoded(fields: &Fields) -> Document {
    fields.document().validate().unwrap();
    Document::from_reader(fields.document().as_bytes()).unwrap()
}

fn normalized(mapping: &Mapping, event: &ChangeEvent) -> Normalized {
    match mapping.apply(event).unwrap().outcome {
        Outcome::Normalized(normalized) => normalized,
        other => panic!("{other:?}"),
    }
}

fn json(fields: &Fields) -> String {
    let mut out = Vec::new();
    ejson::relaxed(fields.document(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_guides_file_makes_the_guides_events() {
    let mapping = read(GUIDE);
    assert!(mapping.warnings().is_empty());
    let document = doc! {
        "_id": 1, "consumer_id": "c-7", "file_type": "csv", "status": "arrived", "size_bytes": 1_i64 << 40,
        "expected_count": 12, "checksum": Bson::Null, "path": "/in/1",
    };
    let mut moved = document.clone();
    moved.insert("status", "moved");
    let key = doc! { "_id": 1 };
    let tags = r#"{"consumer_id":"c-7","file_type":"csv","status":"arrived"}"#;
    let moved_tags = r#"{"consumer_id":"c-7","file_type":"csv","status":"moved"}"#;
    let attrs = r#"{"size_bytes":{"$numberLong":"1099511627776"},"expected_count":12}"#;
    let cases = [
        ("insert", doc! { "fullDocument": document.clone() }, "file_arrived", tags, attrs),
        ("replace", doc! { "fullDocument": document.clone() }, "file_arrived", tags, attrs),
        (
            "update",
            doc! { "fullDocument": moved, "updateDescription": { "updatedFields": { "status": "moved" } } },
            "file_event",
            moved_tags,
            attrs,
        ),
        ("update", doc! { "fullDocument": Bson::Null }, "file_event", "{}", "{}"),
        ("delete", doc! { "fullDocumentBeforeChange": document }, "file_event", tags, attrs),
        ("delete", doc! {}, "file_event", "{}", "{}"),
    ];
    for (op, mut fields, event_type, tags, attrs) in cases {
        fields.insert("documentKey", key.clone());
        let event = event(op, fields);
        let Mapped { event: same, outcome } = mapping.apply(&event).unwrap();
        assert_eq!(same.bytes(), event.bytes(), "nothing is hidden");
        let Outcome::Normalized(normalized) = outcome else { panic!("{outcome:?}") };
        assert_eq!(normalized.ts.0, WALL);
        assert_eq!(normalized.event_type, event_type, "{op}");
        assert_eq!(json(&normalized.tags), tags, "{op}");
        assert_eq!(json(&normalized.attrs), attrs, "{op}");
        assert!(!normalized.keep_raw);
    }
}

#[test]
fn what_concerns_no_document_or_matches_nothing_stays_as_it_is() {
    let unmapped = |rule: &str, event: &ChangeEvent| {
        let text = format!("defaults: {{ unmapped: {rule} }}\n{GUIDE}");
        read(&text).apply(event).unwrap().outcome
    };
    let other = event_of("ingest", "jobs", "insert", doc! { "documentKey": { "_id": 1 } });
    assert_eq!(read(GUIDE).apply(&other).unwrap().outcome, Outcome::Unmapped);
    assert_eq!(unmapped("keep", &other), Outcome::Unmapped);
    assert_eq!(unmapped("drop", &other), Outcome::Dropped);
    let Outcome::Rejected(rejection) = unmapped("reject", &other) else { panic!() };
    assert_eq!(rejection.reason, "unmapped");
    assert_eq!(rejection.error, "no entry of the mapping matches `ingest.jobs`");
    for coll in ["files", "jobs"] {
        let drop = event_of("ingest", coll, "drop", doc! {});
        assert_eq!(unmapped("reject", &drop), Outcome::Unmapped);
    }
}

#[test]
fn the_first_entry_that_matches_counts() {
    let mapping = read(
        r#"
mappings:
  - { match: { ns.db: a, ns.coll: b }, tags: { n: "1" } }
  - { match: { ns.db: a, ns.coll: "b*" }, tags: { n: "2" } }
  - { match: { ns.coll: "/^c[0-9]+$/" }, tags: { n: "3" } }
  - { match: { ns.coll: /^D/i }, tags: { n: "4" } }
  - { match: { ns.db: "?" }, tags: { n: "5" } }
  - { match: { ns.db: "a*" }, tags: { n: "6" } }
"#,
    );
    for (db, coll, number) in [
        ("a", "b", Some(1)),
        ("a", "bb", Some(2)),
        ("zz", "c12", Some(3)),
        ("a", "c12x", Some(5)),
        ("zz", "dx", Some(4)),
        ("z", "b", Some(5)),
        ("ab", "b", Some(6)),
        ("zz", "b", None),
    ] {
        let event = event_of(db, coll, "insert", doc! { "documentKey": { "_id": 1 } });
        let found = match mapping.apply(&event).unwrap().outcome {
            Outcome::Normalized(normalized) => decoded(&normalized.tags).get_i32("n").ok(),
            _ => None,
        };
        assert_eq!(found, number, "{db}.{coll}");
    }
}

#[test]
fn outputs_are_named_and_nested_as_they_are_written() {
    let mapping = entry(
        "event_type_override: { when: \"$exists(kind)\", value: \"$concat('file_', kind)\" }
tags: [meta.region, { zone: meta.zone }, \"`a.b`\"]
attrs:
  - meta.size
  - latency_sec: \"$secondsDiff(fullDocument.arrived_at, fullDocument.sent_at)\"
  - gone.deeper
computed:
  - is_large: \"$gt(fullDocument.meta.size, 10)\"
ts: fullDocument.arrived_at
raw: true",
    );
    let document = doc! {
        "meta": { "region": "eu", "zone": 3, "size": 11_i64 }, "a.b": "dot", "kind": "csv",
        "arrived_at": date(1_700_000_002_500), "sent_at": date(1_700_000_001_000),
    };
    let found = normalized(&mapping, &insert(document));
    assert_eq!(decoded(&found.tags), doc! { "meta": { "region": "eu" }, "zone": 3, "a.b": "dot" });
    let attrs = doc! { "meta": { "size": 11_i64 }, "latency_sec": 1.5, "is_large": true };
    assert_eq!(decoded(&found.attrs), attrs);
    assert_eq!(
        (found.event_type.as_str(), found.ts.0, found.keep_raw),
        ("file_csv", 1_700_000_002_500, true)
    );
    // `else` is missing, and the time is none, or none that a column holds.
    for arrived in [Bson::Int32(7), date(i64::MAX), Bson::Null] {
        let found = normalized(&mapping, &insert(doc! { "arrived_at": arrived.clone() }));
        assert_eq!((found.event_type.as_str(), found.ts.0), ("insert", WALL), "{arrived}");
    }
    let rejected = mapping.apply(&insert(doc! { "kind": 7 })).unwrap().outcome;
    let Outcome::Rejected(rejection) = rejected else { panic!("{rejected:?}") };
    let error = "cannot map an event of `ingest.files`: `event_type_override`: `$concat` takes strings, not int";
    assert_eq!(rejection.error, error);
}

#[test]
fn a_delete_without_a_pre_image_is_told_by_its_key() {
    let mapping = entry("tags: [region, status]\nattrs: [key: _id]");
    let key = doc! { "region": "eu", "_id": 7 };
    let delete = event("delete", doc! { "documentKey": key.clone() });
    let found = normalized(&mapping, &delete);
    assert_eq!(
        (decoded(&found.tags), decoded(&found.attrs)),
        (doc! { "region": "eu" }, doc! { "key": 7 })
    );
    let before = doc! { "_id": 7, "region": "eu", "status": "done" };
    let delete =
        event("delete", doc! { "documentKey": key.clone(), "fullDocumentBeforeChange": before });
    let found = normalized(&mapping, &delete);
    assert_eq!(decoded(&found.tags), doc! { "region": "eu", "status": "done" });
    // The key is for deletes alone.
    let update = event("update", doc! { "documentKey": key, "fullDocument": Bson::Null });
    assert!(normalized(&mapping, &update).tags.document().is_empty());
}

/// RFC 4231, test case 2.
const PSEUDONYM: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
const VALUE: &str = "what do ya want for nothing?";

#[test]
fn what_is_dropped_or_personal_is_nowhere() {
    let lines = "tags: [email]\nattrs: [customer, emails, n]\ndrops: [blob, customer.ssn]\npii: [email, emails, customer.name, customer.home, n]";
    let keyed = format!("defaults: {{ hash_key: {{ env: PII_KEY }} }}\n{}", with_entry(lines));
    let mapping = read(&keyed);
    assert!(mapping.warnings().is_empty());
    let image = |email: &str| {
        doc! {
            "_id": 1, "email": email, "emails": [email, [email], Bson::Null], "blob": "secret-blob", "n": Bson::Null,
            "customer": { "name": email, "ssn": "secret-ssn", "age": 7 },
        }
    };
    let hidden = doc! {
        "_id": 1, "email": PSEUDONYM, "emails": [PSEUDONYM, [PSEUDONYM], Bson::Null], "n": Bson::Null,
        "customer": { "name": PSEUDONYM, "age": 7 },
    };
    let event = event(
        "update",
        doc! {
            "documentKey": { "_id": 1 }, "fullDocument": image(VALUE), "fullDocumentBeforeChange": image(VALUE),
            "updateDescription": {
                "updatedFields": {
                    "email": VALUE, "emails.1": VALUE, "customer.name": VALUE, "customer.ssn": "secret-ssn",
                    "customer": { "name": VALUE, "ssn": "secret-ssn" }, "customer.home.street": VALUE, "x": 1,
                },
                "removedFields": ["blob", "y", "email"],
            },
        },
    );
    let Mapped { event: redacted, outcome } = mapping.apply(&event).unwrap();
    let Outcome::Normalized(normalized) = outcome else { panic!("{outcome:?}") };
    assert_eq!(decoded(&normalized.tags), doc! { "email": PSEUDONYM });
    assert_eq!(
        decoded(&normalized.attrs),
        doc! { "customer": { "name": PSEUDONYM, "age": 7 }, "emails": [PSEUDONYM, [PSEUDONYM], Bson::Null] }
    );
    redacted.document().unwrap().validate().unwrap();
    let whole = Document::from_reader(redacted.bytes().as_ref()).unwrap();
    assert_eq!(whole.get_document("fullDocument").unwrap(), &hidden);
    assert_eq!(whole.get_document("fullDocumentBeforeChange").unwrap(), &hidden);
    assert_eq!(
        whole.get_document("updateDescription").unwrap(),
        &doc! {
            "updatedFields": {
                "email": PSEUDONYM, "emails.1": PSEUDONYM, "customer.name": PSEUDONYM,
                "customer": { "name": PSEUDONYM }, "x": 1,
            },
            "removedFields": ["y", "email"],
        }
    );
    assert_eq!(redacted.full_document().unwrap().as_bytes(), hidden.to_vec().unwrap());
    assert_eq!((redacted.version(), redacted.token()), (event.version(), event.token()));

    // Plain hashes, with a warning.
    let mapping = entry(lines);
    assert_eq!(mapping.warnings().len(), 1);
    let found = mapping.apply(&insert(doc! { "email": "abc", "n": 5 })).unwrap();
    let Outcome::Normalized(found) = found.outcome else { panic!() };
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(decoded(&found.tags), doc! { "email": abc });
    // Dropped.
    let mapping = read(&format!("defaults: {{ hash_pii: false }}\n{}", with_entry(lines)));
    assert!(mapping.warnings().is_empty());
    let Mapped { event, outcome } = mapping.apply(&insert(image(VALUE))).unwrap();
    let Outcome::Normalized(found) = outcome else { panic!() };
    assert_eq!(
        (decoded(&found.tags), decoded(&found.attrs)),
        (doc! {}, doc! { "customer": { "age": 7 } })
    );
    let left = doc! { "_id": 1, "customer": { "age": 7 } };
    assert_eq!(event.full_document().unwrap().as_bytes(), left.to_vec().unwrap());
}

#[test]
fn what_is_personal_stays_hidden_in_a_dead_letter() {
    let mapping = entry("attrs: [x: \"$add(email, 1)\"]\npii: [email]");
    let Mapped { event, outcome } = mapping.apply(&insert(doc! { "email": VALUE })).unwrap();
    let Outcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
    assert!(rejection.error.ends_with("attr `x`: `$add` takes numbers and dates, not string"));
    let bytes = event.bytes();
    assert!(!bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()));
}

#[test]
fn the_hash_tells_contents_and_nothing_else() {
    let hash = |text: &str| read(text).hash().to_owned();
    let guide = hash(GUIDE);
    assert_eq!(guide.len(), 16);
    assert!(guide.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    let other_layout = r#"
# another layout of the same
defaults:
mappings:
- attrs: [size_bytes, expected_count, checksum]   # keys in another order
  tags:
    - consumer_id
    - file_type
    - status
  event_type_override: { else: file_event, value: 'file_arrived', when: "$eq(fullDocument.status, 'arrived')" }
  match:
    ns.coll: files
    ns.db: ingest
"#;
    assert_eq!(hash(other_layout), guide);
    for (old, new) in [
        ("checksum", "check"),
        ("'arrived'", "'gone'"),
        ("file_event", "file_other"),
        ("[consumer_id, file_type,", "[file_type, consumer_id,"),
        ("mappings:", "defaults: { unmapped: drop }\nmappings:"),
        ("mappings:", "defaults: { hash_key: a }\nmappings:"),
    ] {
        assert_ne!(hash(&GUIDE.replace(old, new)), guide, "{new}");
    }
    let keyed = |key: &str| hash(&format!("defaults: {{ hash_key: {key} }}\n{GUIDE}"));
    assert_ne!(keyed("a"), keyed("b"));
    assert_eq!(keyed("Jefe"), keyed("{ env: PII_KEY }"), "the key counts, not where it is from");
}

fn sole(field: &str) -> String {
    with_entry(&format!("attrs: [ x: '{}' ]", field.replace('\'', "''")))
}

#[test]
fn each_mistake_is_told_with_line_and_caret() {
    let deep = format!("{}1{}", "$not(".repeat(80), ")".repeat(80));
    let cases = [
        ("nothing", String::new()),
        ("no list", "mappings: { match: { ns.db: a } }".to_owned()),
        (
            "unknown keys",
            GUIDE
                .replace("tags:", "tag:")
                .replace("ns.coll", "ns.col")
                .replace("else:", "otherwise:"),
        ),
        ("no match", "mappings:\n  - tags: [a]\n".to_owned()),
        ("an empty match", "mappings:\n  - match: {}\n".to_owned()),
        (
            "a bad regular expression",
            "mappings:\n  - match: { ns.db: \"/(/\", ns.coll: /a/x }\n".to_owned(),
        ),
        (
            "bad defaults",
            format!(
                "defaults: {{ hash_pii: maybe, unmapped: keeep, hash_key: hunter2, max_label_cardinality: 0 }}\n{GUIDE}"
            ),
        ),
        ("an unknown operator", GUIDE.replace("$eq(", "$equal(")),
        ("an operator without its dollar", sole("concat(a, b)")),
        ("a planned operator", sole("$substr(a, 1, 2)")),
        ("a dollar before a path", sole("$eq($fullDocument.status, 'a')")),
        ("a misspelt root", sole("$eq(fullDocment.status, 'a')")),
        ("too few arguments", sole("$eq(a)")),
        ("too many arguments", sole("$secondsDiff(a, b, c)")),
        ("a wrong type", sole("$concat(a, 1)")),
        ("a wrong type of a call", sole("$add(a, $concat(b, 'c'))")),
        ("no array", sole("$in(a, 'b')")),
        ("no path", sole("$exists('a')")),
        ("no literal", sole("$literal(a)")),
        ("division by zero", sole("$divide(1, $subtract(2, 2))")),
        ("a text without end", sole("$eq(a, 'b)")),
        ("a call without end", sole("$eq(a, 'b'")),
        ("something behind it", sole("$eq(a, 'b') or")),
        ("no number", sole("$eq(a, 12abc)")),
        ("an empty argument", sole("$eq(a, )")),
        ("an empty name", sole("$eq(a..b, 1)")),
        ("a path in an array", sole("$in(a, [b])")),
        ("nested too deep", sole(&deep)),
        ("an expression without a name", with_entry("tags: [\"$toLower(a)\"]")),
        ("a number for a name", with_entry("tags: [1]")),
        ("twice", with_entry("tags: [a, b, a]\nattrs: [m.x, m, n, n.y]")),
        (
            "dropped, and used",
            with_entry(
                "drops: [a.b]\ntags: [a.b.c]\nattrs: [x: \"$size(fullDocument.a.b)\", y: a]",
            ),
        ),
        ("hidden ids", with_entry("drops: [_id]\npii: [fullDocument.a, ..]")),
        ("half an override", with_entry("event_type_override: { vlaue: a }")),
        ("a computed name", with_entry("computed: [a]")),
        ("not YAML", "mappings: [ hunter2\n".to_owned()),
    ];
    let all: BTreeMap<usize, String> = cases
        .iter()
        .enumerate()
        .map(|(index, (name, text))| {
            let error = Mapping::read("mapping.yaml", text, &Host)
                .map(|_| ())
                .expect_err(&format!("{name} is refused"));
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_string().contains("hunter2"), "{error}");
            (index, format!("## {name}\n{error}\n"))
        })
        .collect();
    insta::assert_snapshot!(all.into_values().collect::<Vec<_>>().join("\n"));
}

#[test]
fn attrs_without_a_list_are_without_the_tags() {
    let found = normalized(
        &entry("tags: [a, x: b]"),
        &insert(doc! { "_id": 1, "a": 1, "b": 2, "c": {}, "d": 4 }),
    );
    assert_eq!(decoded(&found.attrs), doc! { "b": 2, "d": 4 });
    let found = normalized(&entry("attrs: []"), &insert(doc! { "a": 1 }));
    assert!(found.attrs.document().is_empty());
}

#[test]
fn of_equal_names_the_last_wins() {
    let number = |number| Sample::Scalar(Bson::Int32(number));
    let below = |name: &str, value| Sample::Document(vec![(name.to_owned(), number(value))]);
    let image = sample::bytes(&[
        ("a".to_owned(), below("b", 1)),
        ("x".to_owned(), number(1)),
        ("a".to_owned(), below("c", 2)),
        ("x".to_owned(), number(2)),
    ]);
    let event = with_images("insert", &[image, vec![5, 0, 0, 0, 0]]);
    let found =
        normalized(&entry("tags: [a.b, a.c, x]"), &ChangeEvent::index(event.into()).unwrap());
    assert_eq!(decoded(&found.tags), doc! { "a": { "c": 2 }, "x": 2 });
}

#[test]
fn the_file_in_the_documentation_is_one() {
    let page = include_str!("../../../../docs/mapping.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    assert_eq!(rest.split_once("```").unwrap().0, GUIDE);
    // Every operator has its place there; an unknown one brings the list of all.
    let error = Mapping::read("mapping.yaml", &sole("$nothingLikeIt(1)"), &Host).unwrap_err();
    let error = error.to_string();
    let (_, names) = error.split_once("known: ").unwrap();
    for name in names.split([',', ' ', '\n']).filter(|name| name.starts_with('$')) {
        assert!(
            page.contains(&format!("`{name}(")) || page.contains(&format!("`{name}`")),
            "{name}"
        );
    }
}

/// An event with these images, as bytes: the `bson` crate cannot hold equal names.
fn with_images(op: &str, [document, before]: &[Vec<u8>; 2]) -> Vec<u8> {
    let event = event(op, doc! { "documentKey": { "_id": 1 } });
    let mut body = event.bytes()[4..event.bytes().len() - 1].to_vec();
    for (name, image) in [("fullDocument", document), ("fullDocumentBeforeChange", before)] {
        body.push(3);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(image);
    }
    let length = i32::try_from(body.len() + 5).unwrap();
    [&length.to_le_bytes()[..], &body, &[0]].concat()
}
