//! The section `topics`: what topics are called, and what those are like that are made.

use std::sync::Arc;
use std::time::Duration;

use super::{
    DEFAULT_DEAD_LETTER, DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_NORMALIZED, DEFAULT_PARTITIONS,
    DEFAULT_REPLICATION_FACTOR, DEFAULT_RETENTION, Topics,
};
use crate::config::section::{At, Reader, Section};
use crate::config::tree::Place;
use crate::scope::{self, Scope, is_pattern};
use crate::topics::{DEFAULT_RAW, TopicNaming, is_subscribed, why_no_topic};

/// What other sections say that topics depend on.
pub(super) struct Around<'a> {
    pub(super) pipeline: &'a str,
    /// What is watched, where anything is and that is sound.
    pub(super) scopes: Option<&'a [Scope]>,
    /// The naming of the connector, where that is asked for.
    pub(super) connector: Option<TopicNaming>,
    /// Whether topics of collections are read.
    pub(super) reads: bool,
    /// They are read, and nothing is watched that would name them.
    pub(super) must_name_what_to_read: bool,
}

/// A hundred years.
const LONGEST_RETENTION_HOURS: u64 = 876_000;
const MOST_PARTITIONS: u64 = 100_000;
const MOST_REPLICAS: u64 = 100;
/// librdkafka's bound for one message.
const LARGEST_MESSAGE: u64 = 1_000_000_000;

/// Where names stand, or would.
struct Places {
    raw: Place,
    read: Place,
    /// In the order of [`own`].
    own: [Place; 3],
}

/// The topics that are not of collections.
fn own(topics: &mut Topics) -> [(&'static str, &mut Arc<str>); 3] {
    [
        ("normalized", &mut topics.normalized),
        ("dead_letter", &mut topics.dead_letter),
        ("checkpoints", &mut topics.checkpoints),
    ]
}

pub(super) fn read(
    section: Option<Section<'_>>,
    at_kafka: &Place,
    around: &Around<'_>,
    reader: &Reader<'_>,
) -> Topics {
    let mut topics = Topics {
        raw: around.connector.clone().unwrap_or_default(),
        read: None,
        normalized: DEFAULT_NORMALIZED.into(),
        dead_letter: DEFAULT_DEAD_LETTER.into(),
        checkpoints: format!("{}.checkpoints", around.pipeline).into(),
        partitions: DEFAULT_PARTITIONS,
        replication_factor: DEFAULT_REPLICATION_FACTOR,
        retention: DEFAULT_RETENTION,
        max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
    };
    let at = section.as_ref().map_or(at_kafka, |section| &section.place).clone();
    let own = [at.clone(), at.clone(), at.clone()];
    let mut places = Places { raw: at.clone(), read: at, own };
    match section {
        Some(section) => read_section(section, &mut topics, &mut places, around, reader),
        None if around.must_name_what_to_read => {
            let what = "neither `mongodb` nor `topics` names topics to read";
            let mend = "add `topics: { read: [events.mongo.ingest.files] }`";
            reader.complain(at_kafka, what, mend);
        }
        None => {}
    }
    check_own(&mut topics, &places, reader);
    if let Some(scopes) = around.scopes {
        check_alike(&topics.raw, scopes, &places.raw, reader);
    }
    check_apart(&mut topics, &places, around, reader);
    topics
}

fn read_section(
    mut section: Section<'_>,
    topics: &mut Topics,
    places: &mut Places,
    around: &Around<'_>,
    reader: &Reader<'_>,
) {
    if let Some((_, node)) = section.given("raw") {
        places.raw = node.place.clone();
    }
    read_naming(&mut section, &mut topics.raw, &places.raw, around, reader);
    if let Some(At { place, value }) = read_subscription(&mut section, reader) {
        places.read = place;
        topics.read = Some(value);
    }
    for ((name, topic), place) in own(topics).into_iter().zip(&mut places.own) {
        if let Some(at) = section.text(name) {
            if let Some(name) = checked(&at, reader) {
                *topic = name;
            }
            *place = at.place;
        }
    }
    if let Some(at) = section.number("partitions", 1..=MOST_PARTITIONS) {
        topics.partitions = u32::try_from(at.value).unwrap_or(u32::MAX);
    }
    if let Some(at) = section.number("replication_factor", 1..=MOST_REPLICAS) {
        topics.replication_factor = u16::try_from(at.value).unwrap_or(u16::MAX);
    }
    if let Some(at) = section.number("retention_hours", 1..=LONGEST_RETENTION_HOURS) {
        topics.retention = Duration::from_secs(at.value * 3600);
    }
    if let Some(at) = section.number("max_message_bytes", 1024..=LARGEST_MESSAGE) {
        topics.max_message_bytes = u32::try_from(at.value).unwrap_or(u32::MAX);
    }
    if around.must_name_what_to_read && section.is_absent("read") {
        section.lacks("read", "read: [events.mongo.ingest.files]");
    }
    section.end();
}

/// The name of a topic, if it is one.
fn checked(at: &At<String>, reader: &Reader<'_>) -> Option<Arc<str>> {
    match why_no_topic(&at.value) {
        None => Some(at.value.as_str().into()),
        Some(why) => {
            reader.complain(&at.place, why, "choose another name");
            None
        }
    }
}

fn read_naming(
    section: &mut Section<'_>,
    naming: &mut TopicNaming,
    at: &Place,
    around: &Around<'_>,
    reader: &Reader<'_>,
) {
    if around.connector.is_some() {
        for name in ["raw", "map"] {
            if let Some((key, node)) = section.given(name) {
                reader.hide(node);
                let what = format!("`compat: mongo-kafka` names topics, and so does `{name}`");
                let mend = "write `topic.prefix`, `topic.namespace.map` … in `connector` instead";
                reader.complain(&key.place, what, mend);
            }
        }
        return;
    }
    let template = section.text("raw").map_or_else(|| DEFAULT_RAW.to_owned(), |at| at.value);
    let map = read_map(section, reader);
    match TopicNaming::of_template(&template) {
        Ok(sound) => {
            if let Some(scopes) = around.scopes {
                check_template(&template, scopes, &map, at, reader);
            }
            *naming = sound.with_map(map);
        }
        Err(why) => reader.complain(at, why, format!("write for example \"{DEFAULT_RAW}\"")),
    }
}

type Map = Vec<((String, String), Arc<str>)>;

fn read_map(section: &mut Section<'_>, reader: &Reader<'_>) -> Map {
    let Some(entries) = section.section("map") else { return Map::new() };
    let mut map = Map::new();
    for (key, node) in entries.free_entries() {
        let namespace = match Scope::collection(&key.name) {
            Ok(Scope::Collection { db, coll } | Scope::Pattern { db, coll }) => Some((db, coll)),
            Ok(_) => None,
            Err(error) => {
                reader.complain(&key.place, error.to_string(), error.hint());
                None
            }
        };
        let topic = reader.text(&key.name, node);
        let topic = topic.map(|value| At { place: node.place.clone(), value });
        let topic = topic.and_then(|at| checked(&at, reader));
        map.extend(namespace.zip(topic));
    }
    map
}

/// A template must not make collections share a topic by accident; `map` does it on purpose.
fn check_template(template: &str, scopes: &[Scope], map: &Map, place: &Place, reader: &Reader<'_>) {
    let by_template = |scope: &&Scope| {
        !map.iter().any(|((db, coll), _)| match scope {
            Scope::Collection { db: d, coll: c } => {
                scope::matches(db, d) && scope::matches(coll, c)
            }
            Scope::Pattern { db: d, coll: c } => {
                (db == "*" || db == d) && (coll == "*" || coll == c)
            }
            Scope::Database(d) => (db == "*" || db == d) && coll == "*",
            Scope::Deployment => db == "*" && coll == "*",
        })
    };
    let named: Vec<&Scope> = scopes.iter().filter(by_template).collect();
    let one = |scope: &Scope| matches!(scope, Scope::Collection { .. });
    let mut databases: Vec<Option<&str>> = named
        .iter()
        .map(|scope| match scope {
            Scope::Pattern { db, .. } if is_pattern(db) => None,
            Scope::Collection { db, .. } | Scope::Pattern { db, .. } | Scope::Database(db) => {
                Some(db.as_str())
            }
            Scope::Deployment => None,
        })
        .collect();
    databases.dedup();
    let lacks = |variable: &str| !template.contains(variable);
    let many = named.len() > 1 || named.iter().any(|scope| !one(scope));
    let mend = "add it, or let them share a topic by `map`: `{ \"*.*\": events.all }`";
    if many && lacks("{coll}") {
        reader.complain(place, "collections would share topics: `raw` has no `{coll}`", mend);
    }
    if (databases.len() > 1 || databases.contains(&None)) && lacks("{db}") {
        let what = "collections of several databases would share topics: `raw` has no `{db}`";
        reader.complain(place, what, mend);
    }
}

fn read_subscription(section: &mut Section<'_>, reader: &Reader<'_>) -> Option<At<Vec<String>>> {
    let texts = section.texts("read")?;
    let mut all = Vec::new();
    for at in texts.value {
        if at.value.starts_with('^') {
            if let Err(error) = regex_lite::Regex::new(&at.value) {
                let what = format!("this is no regex: {error}");
                reader.complain(&at.place, what, "write for example '^events[.]mongo[.].*$'");
            }
        } else if let Some(why) = why_no_topic(&at.value) {
            let mend = "name a topic, or write a regex that begins with `^`";
            reader.complain(&at.place, why, mend);
        }
        all.push(at.value);
    }
    Some(At { place: texts.place, value: all })
}

/// Kafka keeps no two topics that differ in `.` and `_` alone.
fn are_alike(one: &str, other: &str) -> bool {
    one.replace('.', "_") == other.replace('.', "_")
}

fn check_own(topics: &mut Topics, places: &Places, reader: &Reader<'_>) {
    let own = own(topics);
    for (at, (name, topic)) in own.iter().enumerate() {
        for (other, _) in own[..at].iter().filter(|(_, same)| are_alike(topic, same)) {
            let what = format!("`{other}` and `{name}` would share the topic `{topic}`");
            reader.complain(&places.own[at], what, "choose another name for one of them");
        }
    }
}

fn check_alike(raw: &TopicNaming, scopes: &[Scope], place: &Place, reader: &Reader<'_>) {
    let mut seen: Vec<(String, Arc<str>)> = Vec::new();
    for scope in scopes {
        let Scope::Collection { db, coll } = scope else { continue };
        let Some(topic) = raw.topic(db, coll) else { continue };
        let mut others = seen.iter().filter(|(_, other)| *other != topic);
        if let Some((namespace, other)) = others.find(|(_, other)| are_alike(other, &topic)) {
            let what = format!(
                "Kafka cannot have `{topic}`, of `{db}.{coll}`, beside `{other}`, of `{namespace}`"
            );
            reader.complain(place, what, "give one of them another name by `map`");
        }
        seen.push((format!("{db}.{coll}"), topic));
    }
}

/// What is not of collections must be neither read nor written as if it were.
fn check_apart(topics: &mut Topics, places: &Places, around: &Around<'_>, reader: &Reader<'_>) {
    let written = around.scopes.map(|scopes| topics.raw.subscription(scopes)).unwrap_or_default();
    let read = topics.read.clone().unwrap_or_default();
    for (name, topic) in own(topics) {
        if is_subscribed(&read, topic) {
            let what = format!("`read` takes in `{topic}`, which is no topic of collections");
            let mend = format!("let it take in less, or give `{name}` another name");
            reader.complain(&places.read, what, mend);
        }
        let may_be_read = around.reads && read.is_empty() && is_subscribed(&written, topic);
        if may_be_read || written.iter().any(|entry| **entry == **topic) {
            let what = format!("a topic of collections may be called `{topic}` too");
            let mend = format!("begin their names with a word, or give `{name}` another name");
            reader.complain(&places.raw, what, mend);
        }
    }
}
