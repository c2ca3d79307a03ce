//! Topics: what the topics of collections are called, and how who reads them finds them.
//!
//! Pure. Every namespace has a legal name, whatever its characters. Two collections may share a
//! topic only where their config says so, or where eight hex digits of a hash are the same.

use std::sync::Arc;

use twox_hash::XxHash64;

use crate::connector::{TopicNames, TopicSettings};
use crate::scope;

/// What the topics of collections are called where nothing is configured.
pub const DEFAULT_RAW: &str = "events.mongo.{db}.{coll}";
/// Kafka's bound.
const LONGEST: usize = 249;
/// A dot and eight hex digits.
const HASH_LEN: usize = 9;

/// Names the topics of collections.
#[derive(Debug, Clone)]
pub struct TopicNaming {
    /// Namespaces or patterns of them, and their topics; the first that matches counts.
    map: Vec<((String, String), Arc<str>)>,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Template(Vec<Part>),
    Connector(TopicNames),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Db,
    Coll,
}

impl Default for TopicNaming {
    fn default() -> Self {
        let text = |text: &str| Part::Text(text.to_owned());
        let parts = vec![text("events.mongo."), Part::Db, text("."), Part::Coll];
        Self { map: Vec::new(), rule: Rule::Template(parts) }
    }
}

impl TopicNaming {
    /// The names that a template gives.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn of_template(template: &str) -> Result<Self, String> {
        Ok(Self { map: Vec::new(), rule: Rule::Template(parts(template)?) })
    }

    /// The names that the MongoDB Kafka source connector gives.
    ///
    /// # Errors
    /// A sentence that says what is wrong with its settings.
    pub fn of_connector(settings: &TopicSettings) -> Result<Self, String> {
        Ok(Self { map: Vec::new(), rule: Rule::Connector(TopicNames::new(settings)?) })
    }

    /// The same, with topics for namespaces `db.coll`, in which `*` and `?` stand for any text and
    /// any character; the first that matches counts.
    #[must_use]
    pub fn with_map(mut self, map: Vec<((String, String), Arc<str>)>) -> Self {
        self.map = map;
        self
    }

    /// The topic of a namespace, whose collection is empty for events of a database. `None` where
    /// there is no database either, and where the connector publishes nothing.
    pub fn topic(&self, db: &str, coll: &str) -> Option<Arc<str>> {
        if db.is_empty() {
            return None;
        }
        let named = |((d, c), _): &&(_, _)| scope::matches(d, db) && scope::matches(c, coll);
        if let Some((_, topic)) = self.map.iter().find(named) {
            return Some(Arc::clone(topic));
        }
        let name = match &self.rule {
            Rule::Template(parts) => fill(parts, db, coll),
            Rule::Connector(names) => names.topic(db, coll)?,
        };
        Some(legal(&name, db, coll))
    }
}

/// Reads a template.
fn parts(template: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        let variable = [("{db}", Part::Db), ("{coll}", Part::Coll)]
            .into_iter()
            .find(|(name, _)| rest.starts_with(name));
        if let Some((name, part)) = variable {
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(part);
            rest = &rest[name.len()..];
            continue;
        }
        if matches!(c, '{' | '}') {
            return Err("the template knows `{db}` and `{coll}` only".to_owned());
        }
        if !is_legal(c) {
            return Err(format!("no topic may have `{c}` in its name"));
        }
        text.push(c);
        rest = &rest[c.len_utf8()..];
    }
    parts.push(Part::Text(text));
    parts.retain(|part| *part != Part::Text(String::new()));
    if parts.is_empty() {
        return Err("the template is empty".to_owned());
    }
    Ok(parts)
}

/// A template with its variables' values. Without a collection, a separator goes too.
fn fill(parts: &[Part], db: &str, coll: &str) -> String {
    let mut name = String::new();
    let mut leading = false;
    for part in parts {
        match part {
            Part::Text(text) if leading => {
                name.push_str(text.trim_start_matches(is_separator));
                leading = false;
            }
            Part::Text(text) => name.push_str(text),
            Part::Db => name.push_str(db),
            Part::Coll if coll.is_empty() => {
                name.truncate(name.trim_end_matches(is_separator).len());
                leading = name.is_empty();
            }
            Part::Coll => name.push_str(coll),
        }
    }
    // A template of the collection alone.
    if name.is_empty() { db.to_owned() } else { name }
}

const fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-')
}

/// Whether a topic's name may have a character.
pub(crate) const fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || is_separator(c)
}

/// The name, if Kafka takes it; else one that it takes, told from others by a hash.
fn legal(name: &str, db: &str, coll: &str) -> Arc<str> {
    if name.len() <= LONGEST && name.chars().all(is_legal) && !matches!(name, "" | "." | "..") {
        return name.into();
    }
    let mut plain: String = name.chars().map(|c| if is_legal(c) { c } else { '_' }).collect();
    plain.truncate(LONGEST - HASH_LEN);
    let hash = XxHash64::oneshot(0, format!("{db}.{coll}").as_bytes()) as u32;
    format!("{plain}.{hash:08x}").into()
}
