//! The section `connector`: the settings of the MongoDB Kafka source connector that say what its
//! messages look like, by its own names, so that they can be pasted. All others are refused by name.

use super::Compat;
use crate::config::problem::nearest;
use crate::config::section::{At, Reader, Section};
use crate::config::tree::{self, Node, Place, Value};
use crate::connector::{Formatter, Messages, Output, TopicSettings};
use crate::topics::{TopicNaming, is_legal};

/// What the section says.
pub(super) struct Read {
    pub(super) compat: Compat,
    pub(super) naming: TopicNaming,
    /// Where it says that values are documents alone.
    pub(super) full_document_only: Option<Place>,
    /// Where it says that values lose types.
    pub(super) simplified: Option<Place>,
}

pub(super) const TOMBSTONES: &str = "publish.full.document.only.tombstone.on.delete";

const FORMATTERS: [(&str, Formatter); 3] = [
    ("DefaultJson", Formatter::Default),
    ("ExtendedJson", Formatter::Extended),
    ("SimplifiedJson", Formatter::Simplified),
];

/// Where other settings of the connector have their like; what begins with one of these is known.
const ELSEWHERE: [(&str, &str); 23] = [
    ("connection.", "write `uri` in `mongodb`"),
    ("database", "write `databases` or `collections` in `mongodb`"),
    ("collection", "write `collections` in `mongodb`"),
    ("pipeline", "there are no pipelines: write `operations` and `exclude_fields` in `mongodb`"),
    (
        "change.stream.full.document.before.change",
        "write `full_document_before_change` in `mongodb`",
    ),
    ("change.stream.full.document", "write `full_document` in `mongodb`"),
    (
        "change.stream.show.expanded.events",
        "remove it: `operations` in `mongodb` says what to read",
    ),
    ("startup.mode.copy", "copying what is in a collection already is not built yet"),
    ("startup.mode", "say it at the first start: `tailwater run --start`"),
    ("copy.existing", "copying what is in a collection already is not built yet"),
    ("output.schema.", "values with a schema are not built: `output.format.value` is json or bson"),
    ("topic.mapper", "remove it: the connector's own rules name topics"),
    ("topic.creation.", "write `partitions`, `replication_factor` … in `topics`"),
    ("poll.", "write `batch` in `clickhouse`"),
    ("batch.size", "remove it: batches are as large as there is room"),
    ("offset.", "remove it: positions are kept in `topics.checkpoints`"),
    ("heartbeat.", "remove it: positions move on without"),
    ("errors.", "remove it: nothing is left out in silence"),
    ("mongo.errors.", "remove it: nothing is left out in silence"),
    ("server.api.", "remove it: nothing here is like it"),
    ("sasl.", "write `sasl` in `kafka`"),
    ("ssl.", "write `tls` in `kafka`"),
    ("security.protocol", "write it in `kafka`, as `security_protocol`"),
];

/// Settings of Kafka Connect itself.
const OF_CONNECT: [&str; 11] = [
    "name",
    "connector.class",
    "tasks.max",
    "key.converter",
    "value.converter",
    "header.converter",
    "config.action.reload",
    "transforms",
    "predicates",
    "bootstrap.servers",
    "exactly.once.support",
];

pub(super) fn read(section: Option<Section<'_>>, reader: &Reader<'_>) -> Read {
    let mut messages = Messages::default();
    let mut topics = TopicSettings::default();
    let (mut full_document_only, mut simplified) = (None, None);
    if let Some(mut section) = section {
        let formatter = read_formatter(&mut section, reader);
        let kind = formatter.as_ref().map(|at| at.value).unwrap_or_default();
        let outputs = [("json", Output::Json(kind)), ("bson", Output::Bson)];
        let output = |at: Option<At<Output>>| at.map_or(Output::Json(kind), |at| at.value);
        messages.key = output(section.choice("output.format.key", &outputs));
        messages.value = output(section.choice("output.format.value", &outputs));
        if messages.value == Output::Json(Formatter::Simplified) {
            simplified = formatter.map(|at| at.place);
        }
        if let Some(at) = flag(&mut section, "publish.full.document.only", reader) {
            messages.full_document_only = at.value;
            full_document_only = at.value.then_some(at.place);
        }
        if let Some(at) = flag(&mut section, TOMBSTONES, reader) {
            messages.tombstones = at.value;
        }
        if let Some(at) = flag(&mut section, "change.stream.document.key.as.key", reader) {
            messages.token_as_key = !at.value;
        }
        for (name, setting) in [
            ("topic.prefix", &mut topics.prefix),
            ("topic.suffix", &mut topics.suffix),
            ("topic.separator", &mut topics.separator),
        ] {
            if let Some((_, node)) = section.given(name)
                && let Some(text) = plain(name, node, reader)
            {
                if let Some(c) = text.trim().chars().find(|c| !is_legal(*c)) {
                    let what = format!("no topic may have `{c}` in its name");
                    reader.complain(&node.place, what, "remove it");
                }
                *setting = text;
            }
        }
        topics.namespace_map = read_map(&mut section, reader);
        refuse_others(&mut section, reader);
    }
    let naming = TopicNaming::of_connector(&topics).unwrap_or_default();
    let compat = Compat::MongoKafka { messages, topics };
    Read { compat, naming, full_document_only, simplified }
}

/// `output.json.formatter`: the name of a class, with or without its package.
fn read_formatter(section: &mut Section<'_>, reader: &Reader<'_>) -> Option<At<Formatter>> {
    let At { place, value } = section.text("output.json.formatter")?;
    let class = value.rsplit('.').next().unwrap_or_default();
    let package = value.strip_suffix(class).unwrap_or_default();
    let known = FORMATTERS.into_iter().find(|(name, _)| *name == class);
    match known.filter(|_| ["", PACKAGE].contains(&package)) {
        Some((_, value)) => Some(At { place, value }),
        None => {
            let names = FORMATTERS.into_iter().map(|(name, _)| name);
            reader.unknown(&place, "formatter", class, names);
            None
        }
    }
}

const PACKAGE: &str = "com.mongodb.kafka.connect.source.json.formatter.";

/// `true` or `false`, also in quotes, as Kafka Connect's files have it.
fn flag(section: &mut Section<'_>, name: &'static str, reader: &Reader<'_>) -> Option<At<bool>> {
    let (key, node) = section.given(name)?;
    let value = match &node.value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) => text.to_ascii_lowercase().parse().ok(),
        _ => None,
    };
    if value.is_none() {
        let what = format!("`{name}` is neither true nor false");
        reader.complain(&node.place, what, "write `true`, or leave it out");
    }
    value.map(|value| At { place: key.place.clone(), value })
}

/// A text, which may be empty.
fn plain(name: &str, node: &Node, reader: &Reader<'_>) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => reader.text(name, node),
    }
}

/// `topic.namespace.map`: a section, or its JSON in a text.
fn read_map(section: &mut Section<'_>, reader: &Reader<'_>) -> Vec<(String, String)> {
    const NAME: &str = "topic.namespace.map";
    let Some((_, node)) = section.given(NAME) else { return Vec::new() };
    let outer = &node.place;
    let complain = |place: &Place, what: String| {
        let mend = "write `{ db.coll: topic }`, `{ /regex: topic }` or `{ '*': topic }`";
        reader.complain(place, what, mend);
    };
    let parsed = match &node.value {
        Value::Text(text) if text.is_empty() => return Vec::new(),
        // JSON is YAML.
        Value::Text(text) => tree::parse(text).ok(),
        _ => None,
    };
    let Node { value: Value::Section(entries), .. } = parsed.as_ref().unwrap_or(node) else {
        complain(outer, format!("`{NAME}` is no section of namespaces and topics"));
        return Vec::new();
    };
    let mut map: Vec<(String, String)> = Vec::new();
    for (key, node) in entries {
        // What stands in a text has no place of its own.
        let place = if parsed.is_some() { outer } else { &node.place };
        let Value::Text(template) = &node.value else {
            complain(place, format!("`{NAME}` gives `{}` no text for a topic", key.name));
            continue;
        };
        let pair = (key.name.clone(), template.clone());
        let alone = TopicSettings { namespace_map: vec![pair.clone()], ..TopicSettings::default() };
        if let Err(why) = TopicNaming::of_connector(&alone) {
            complain(place, why);
        } else if let Some(c) = template.chars().find(|c| !is_legal(*c) && !"{}".contains(*c)) {
            complain(place, format!("no topic may have `{c}` in its name"));
        } else {
            map.push(pair);
        }
    }
    map
}

/// Tells what is left over, by name where it is a setting of the connector.
fn refuse_others(section: &mut Section<'_>, reader: &Reader<'_>) {
    let known = section.known().to_vec();
    for (key, node) in section.free_entries() {
        let name = key.name.as_str();
        if known.contains(&name) {
            continue;
        }
        reader.hide(node);
        let of_connect = |other: &str| {
            name.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let elsewhere = ELSEWHERE.into_iter().find(|(start, _)| name.starts_with(start));
        let misspelt = nearest(name, known.iter().copied());
        let (what, mend) = if OF_CONNECT.into_iter().any(of_connect) {
            let what = format!("{} is a setting of Kafka Connect", reader.shown(key, node));
            (what, "remove it: there is no Kafka Connect here".to_owned())
        } else if let (Some(near), None) = (misspelt, elsewhere) {
            let what = format!("unknown setting {}", reader.shown(key, node));
            (what, format!("did you mean `{near}`?"))
        } else if let Some((_, mend)) = elsewhere {
            let what = format!("the setting {} cannot be had here", reader.shown(key, node));
            (what, mend.to_owned())
        } else {
            let what = format!("unknown setting {}", reader.shown(key, node));
            let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            (what, format!("known: {}", known.join(", ")))
        };
        reader.complain(&key.place, what, mend);
    }
}
