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
    /// The naming of the connector, and where it is asked for.
    pub(super) connector: Option<At<TopicNaming>>,
    /// Whether topics of collections are read.
    pub(super) reads: bool,
    /// They are read, and nothing is watched that would name them.
    pub(super) must_name_what_to_read: bool,
}

/// A hundred years.
const LONGEST_RETENTION_HOURS: u64 = 876_000;
const MOST_PARTITIONS: u64 = 100_000;
/// librdkafka's bound for one message.
const LARGEST_MESSAGE: u64 = 1_000_000_000;

type Named = (&'static str, Place, Arc<str>);

pub(super) fn read(
    section: Option<Section<'_>>,
    at_kafka: &Place,
    around: Around<'_>,
    reader: &Reader<'_>,
) -> Topics {
    let checkpoints = format!("{}.checkpoints", around.pipeline);
    let mut topics = Topics {
        raw: TopicNaming::default(),
        read: None,
        normalized: DEFAULT_NORMALIZED.into(),
        dead_letter: DEFAULT_DEAD_LETTER.into(),
        checkpoints: checkpoints.into(),
        partitions: DEFAULT_PARTITIONS,
        replication_factor: DEFAULT_REPLICATION_FACTOR,
        retention: DEFAULT_RETENTION,
        max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
    };
    let at = section.as_ref().map_or(at_kafka, |section| &section.place).clone();
    let mut at_raw = at.clone();
    let mut at_read = None;
    let mut own = [&topics.normalized, &topics.dead_letter, &topics.checkpoints]
        .map(|name| (at.clone(), Arc::clone(name)));
    if let Some(mut section) = section {
        if let Some((_, node)) = section.given("raw") {
            at_raw = node.place.clone();
        }
        topics.raw = read_naming(&mut section, &at_raw, &around, reader);
        if let Some(At { place, value }) = read_subscription(&mut section, reader) {
            at_read = Some(place);
            topics.read = Some(value);
        }
        for (name, (place, topic)) in OWN.into_iter().zip(&mut own) {
            if let Some(given) = section.text(name) {
                if let Some(name) = checked(&given, reader) {
                    *topic = name;
                }
                *place = given.place;
            }
        }
        if let Some(at) = section.number("partitions", 1..=MOST_PARTITIONS) {
            topics.partitions = u32::try_from(at.value).unwrap_or(u32::MAX);
        }
        if let Some(at) = section.number("replication_factor", 1..=u64::from(i16::MAX as u16)) {
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
    } else if let Some(At { value, .. }) = &around.connector {
        topics.raw = value.clone();
    }
    if around.must_name_what_to_read && at == *at_kafka {
        let what = "neither `mongodb` nor `topics` names topics to read";
        reader.complain(&at, what, "add `topics: { read: [events.mongo.ingest.files] }`");
    }
    let named = own.clone().into_iter().zip(OWN).map(|((place, topic), name)| (name, place, topic));
    let named: Vec<Named> = named.collect();
    check_own(&named, reader);
    if let Some(scopes) = around.scopes {
        check_raw(&topics.raw, scopes, &at_raw, reader);
    }
    let written = around.scopes.map(|scopes| topics.raw.subscription(scopes));
    match (&topics.read, at_read, written) {
        (Some(read), Some(place), _) => {
            for (name, _, topic) in named.iter().filter(|(_, _, topic)| is_subscribed(read, topic))
            {
                let what = format!("`read` takes in `{topic}`, which is no topic of collections");
                let mend = format!("let it take in less, or give `{name}` another name");
                reader.complain(&place, what, mend);
            }
        }
        (_, _, Some(written)) if around.reads => {
            let taken = |(_, _, topic): &&Named| is_subscribed(&written, topic);
            for (name, _, topic) in named.iter().filter(taken) {
                let what = format!("a topic of collections may be called `{topic}` too");
                let mend = format!("begin their names with a word, or give `{name}` another name");
                reader.complain(&at_raw, what, mend);
            }
        }
        _ => {}
    }
    let [normalized, dead_letter, checkpoints] = own.map(|(_, topic)| topic);
    Topics { normalized, dead_letter, checkpoints, ..topics }
}

/// The topics that are not of collections.
const OWN: [&str; 3] = ["normalized", "dead_letter", "checkpoints"];

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
    at: &Place,
    around: &Around<'_>,
    reader: &Reader<'_>,
) -> TopicNaming {
    if let Some(At { value, .. }) = &around.connector {
        for name in ["raw", "map"] {
            if let Some((key, node)) = section.given(name) {
                reader.hide(node);
                let what = format!("`compat: mongo-kafka` names topics, and so does `{name}`");
                let mend = "write `topic.prefix`, `topic.namespace.map` … in `connector` instead";
                reader.complain(&key.place, what, mend);
            }
        }
        return value.clone();
    }
    let template = section.text("raw").map_or_else(|| DEFAULT_RAW.to_owned(), |at| at.value);
    let map = read_map(section, reader);
    match TopicNaming::of_template(&template) {
        Ok(naming) => {
            if let Some(scopes) = around.scopes {
                check_template(&template, scopes, &map, at, reader);
            }
            naming.with_map(map)
        }
        Err(why) => {
            reader.complain(at, why, format!("write for example \"{DEFAULT_RAW}\""));
            TopicNaming::default()
        }
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

fn check_own(own: &[Named], reader: &Reader<'_>) {
    for (at, (name, place, topic)) in own.iter().enumerate() {
        for (other, _, _) in own[..at].iter().filter(|(_, _, same)| are_alike(topic, same)) {
            let what = format!("`{other}` and `{name}` would share the topic `{topic}`");
            reader.complain(place, what, "choose another name for one of them");
        }
    }
}

fn check_raw(raw: &TopicNaming, scopes: &[Scope], place: &Place, reader: &Reader<'_>) {
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
