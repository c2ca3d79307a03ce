//! Topics: what the topics of collections are called, and how who reads them finds them.
//!
//! Pure. Every namespace has a legal name, whatever its characters. Two collections may share a
//! topic only where their config says so, or where eight hex digits of a hash are the same.

use std::sync::Arc;

use regex_lite::Regex;
use twox_hash::XxHash64;

use crate::connector::{TopicNames, TopicSettings};
use crate::scope::{self, Scope};

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
        let named = |(d, c): &(String, String)| scope::matches(d, db) && scope::matches(c, coll);
        if let Some((_, topic)) = self.map.iter().find(|(namespace, _)| named(namespace)) {
            return Some(Arc::clone(topic));
        }
        let name = match &self.rule {
            Rule::Template(parts) => fill(parts, db, coll),
            Rule::Connector(names) => names.topic(db, coll)?,
        };
        Some(legal(&name, db, coll))
    }

    /// The collection whose topic has this name, where the name tells.
    pub fn collection(&self, topic: &str) -> Option<(String, String)> {
        let mut mapped = self.map.iter().filter(|(_, name)| **name == *topic);
        if let Some(((db, coll), _)) = mapped.next() {
            let is_one = ![db, coll].into_iter().any(|name| scope::is_pattern(name));
            return (is_one && mapped.next().is_none()).then(|| (db.clone(), coll.clone()));
        }
        let Rule::Template(parts) = &self.rule else { return None };
        let (db, coll) = read_back(parts, topic)?;
        // Other characters than those in the name it may have been.
        (self.topic(&db, &coll)? == topic.into()).then_some((db, coll))
    }

    /// What to subscribe to for all topics of some collections: names, and regexes that begin with
    /// `^`, of the few signs that every implementation reads alike.
    ///
    /// A regex may match topics of other collections too, which who reads must tell by what is in
    /// them. Topics of databases are regexes, since nobody misses those that are not there.
    pub fn subscription(&self, scopes: &[Scope]) -> Vec<String> {
        let mut all = Vec::new();
        for scope in scopes {
            let (db, coll) = match scope {
                Scope::Collection { db, coll } => {
                    all.extend(self.topic(db, coll).map(|topic| topic.to_string()));
                    all.extend(self.topic(db, "").map(|topic| regex(&topic)));
                    continue;
                }
                Scope::Pattern { db, coll } => (db.as_str(), coll.as_str()),
                Scope::Database(db) => (db.as_str(), "*"),
                Scope::Deployment => ("*", "*"),
            };
            let meets = |(db, coll): &(String, String)| {
                let mapped = Scope::Pattern { db: db.clone(), coll: coll.clone() };
                scope::check_overlaps(&[scope.clone(), mapped]).is_err()
            };
            let mapped = self.map.iter().filter(|(namespace, _)| meets(namespace));
            all.extend(mapped.map(|(_, topic)| topic.to_string()));
            for coll in [coll, ""] {
                let names = match &self.rule {
                    Rule::Template(parts) => vec![fill(parts, db, coll)],
                    Rule::Connector(names) => names.globs(db, coll),
                };
                all.extend(names.iter().map(|name| regex(name)));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Whether a topic is among those that are subscribed to.
pub fn is_subscribed(subscription: &[String], topic: &str) -> bool {
    subscription.iter().any(|entry| match entry.starts_with('^') {
        true => Regex::new(entry).is_ok_and(|regex| regex.is_match(topic)),
        false => entry == topic,
    })
}

/// The name that an entry of a subscription is, or `false` and the beginning that all names have that
/// it matches; nothing where that cannot be told.
pub fn covering(entry: &str) -> (String, bool) {
    let Some(regex) = entry.strip_prefix('^') else { return (entry.to_owned(), true) };
    // Ours may be two forms in parentheses, which begin alike.
    let grouped = regex.strip_prefix('(').and_then(|inner| inner.strip_suffix(")$"));
    let forms: Vec<(String, bool)> = match grouped {
        Some(inner) => inner.split('|').map(beginning).collect(),
        None if regex.contains('|') => return (String::new(), false),
        None => vec![beginning(regex)],
    };
    let mut forms = forms.into_iter();
    let Some(first) = forms.next() else { return (String::new(), false) };
    forms.fold((first.0, first.1 && grouped.is_none()), |(start, _), (other, _)| {
        let same = start.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
        (start.chars().take(same).collect(), false)
    })
}

/// The literal text at the beginning of a regex, and whether that is all of it.
fn beginning(regex: &str) -> (String, bool) {
    let mut name = String::new();
    let mut rest = regex;
    loop {
        let (sign, behind) = match rest.chars().next() {
            None => return (name, false),
            Some('$') if rest == "$" => return (name, true),
            Some('[') if rest.starts_with("[.]") => ('.', &rest[3..]),
            Some('\\') if rest[1..].starts_with(['.', '-']) => {
                (if rest.starts_with("\\.") { '.' } else { '-' }, &rest[2..])
            }
            Some(c) if c != '.' && is_legal(c) => (c, &rest[1..]),
            Some(_) => return (name, false),
        };
        // What may be absent, or come again, is no beginning.
        if behind.starts_with(['?', '*', '+', '{']) {
            return (name, false);
        }
        name.push(sign);
        rest = behind;
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

/// The database and the collection that a template was filled with, as far as only one pair can be:
/// no database has a dot in its name.
fn read_back(parts: &[Part], name: &str) -> Option<(String, String)> {
    let (mut db, mut coll) = (None, None);
    let mut rest = name;
    for (number, part) in parts.iter().enumerate() {
        let found = match part {
            Part::Text(text) => {
                rest = rest.strip_prefix(text.as_str())?;
                continue;
            }
            Part::Db => &mut db,
            Part::Coll => &mut coll,
        };
        let end = match parts.get(number + 1) {
            None => rest.len(),
            Some(Part::Text(text)) => {
                let (first, last) = (rest.find(text.as_str())?, rest.rfind(text.as_str())?);
                match part {
                    _ if first == last => first,
                    Part::Db if text.contains('.') => first,
                    // The last part is the end of the name.
                    Part::Coll if number + 2 == parts.len() => last,
                    _ => return None,
                }
            }
            Some(_) => return None,
        };
        let value = &rest[..end];
        if found.replace(value).is_some_and(|before| before != value) {
            return None;
        }
        rest = &rest[end..];
    }
    let both = (db?.to_owned(), coll?.to_owned());
    (rest.is_empty() && !both.0.contains('.')).then_some(both)
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

/// Any character of a topic's name.
const ANY: &str = "[a-zA-Z0-9._-]";
const HEX: &str = "[0-9a-f]";

/// The regex of all topics whose names match a glob before they are made legal.
fn regex(glob: &str) -> String {
    let signs: Vec<char> = glob.chars().collect();
    let body = |signs: &[char]| -> String { signs.iter().map(|sign| one(*sign)).collect() };
    let hash = format!("[.]{}", HEX.repeat(HASH_LEN - 1));
    let cut = |signs: &[char]| body(&signs[..signs.len().min(LONGEST - HASH_LEN)]);
    let wildcard = |c: &char| matches!(c, '*' | '?');
    let first = signs.iter().position(|c| *c == '*');
    match first {
        // Whatever is behind it, a hash too, is matched by it.
        Some(first) if first + 1 == signs.len() => format!("^{}{ANY}*$", cut(&signs[..first])),
        // In a long name the rest of the glob is cut away.
        Some(first) => {
            format!("^({}({hash})?|{}{ANY}*{hash})$", body(&signs), cut(&signs[..first]))
        }
        None if signs.len() > LONGEST => format!("^{}{hash}$", cut(&signs)),
        None if signs.iter().any(|c| !wildcard(c) && !is_legal(*c)) => {
            format!("^{}{hash}$", body(&signs))
        }
        None if signs.iter().any(wildcard) => format!("^{}({hash})?$", body(&signs)),
        None => format!("^{}$", body(&signs)),
    }
}

/// The regex of a sign of a glob.
fn one(sign: char) -> String {
    match sign {
        '*' => format!("{ANY}*"),
        '?' => ANY.to_owned(),
        '.' => "[.]".to_owned(),
        c if is_legal(c) => c.to_string(),
        _ => "_".to_owned(),
    }
}

/// Why a text is no name of a topic, or none of those that a pipeline may use.
pub(crate) fn why_no_topic(name: &str) -> Option<String> {
    if let Some(c) = name.chars().find(|c| !is_legal(*c)) {
        return Some(format!("no topic may have `{c}` in its name"));
    }
    if name.len() > LONGEST {
        return Some(format!("no topic may have a name of more than {LONGEST} characters"));
    }
    match name {
        "" | "." | ".." => Some("this is no name of a topic".to_owned()),
        _ if name.starts_with("__") => {
            Some("names with `__` before them are Kafka's own".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scope::is_pattern;

    fn template(template: &str) -> TopicNaming {
        TopicNaming::of_template(template).unwrap()
    }

    fn mapped(naming: TopicNaming, map: &[(&str, &str, &str)]) -> TopicNaming {
        let entry = |(db, coll, topic): &(&str, &str, &str)| {
            (((*db).to_owned(), (*coll).to_owned()), Arc::from(*topic))
        };
        naming.with_map(map.iter().map(entry).collect())
    }

    fn connector(settings: &TopicSettings) -> TopicNaming {
        TopicNaming::of_connector(settings).unwrap()
    }

    /// One of each way to name topics.
    fn namings() -> Vec<TopicNaming> {
        let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let map = [("d.a", "one"), ("e", "two"), ("/d[.]b.*", "x{sep}{coll}{sep_coll_sep}{db}")];
        let settings = TopicSettings {
            prefix: "p".to_owned(),
            suffix: "s".to_owned(),
            separator: "-".to_owned(),
            namespace_map: map.iter().map(pair).collect(),
        };
        let mut to_one = settings.clone();
        to_one.namespace_map.push(("*".to_owned(), "rest".to_owned()));
        vec![
            TopicNaming::default(),
            template("{coll}.{db}"),
            template("x_{coll}"),
            template("{coll}"),
            template("{db}-{coll}-{db}-y"),
            mapped(
                TopicNaming::default(),
                &[("d", "a", "one"), ("d", "b*", "two"), ("*", "?", "x")],
            ),
            connector(&TopicSettings::default()),
            connector(&settings),
            connector(&to_one),
        ]
    }

    #[test]
    fn a_subscription_is_covered_by_a_name_or_a_beginning() {
        for (entry, name, is_name) in [
            ("events.mongo.d.c", "events.mongo.d.c", true),
            ("^events[.]mongo[.]d$", "events.mongo.d", true),
            ("^events[.]mongo[.].*$", "events.mongo.", false),
            (r"^events\.a-b\.", "events.a-b.", false),
            ("^ab?c$", "a", false),
            ("^ab{2}$", "a", false),
            ("^a.c$", "a", false),
            ("^a|b$", "", false),
            ("^(ab1|ab2|abc)$", "ab", false),
            ("^(ab)$", "ab", false),
            ("^[ab]c$", "", false),
            ("^(a(b|c)|d)$", "", false),
            ("^", "", false),
        ] {
            assert_eq!(covering(entry), (name.to_owned(), is_name), "{entry}");
        }
        let glob = TopicNaming::default().subscription(&[Scope::collection("d.a*z").unwrap()]);
        let starts: Vec<_> = glob.iter().map(|entry| covering(entry)).collect();
        let start = |start: &str, is_name| (start.to_owned(), is_name);
        assert_eq!(
            starts,
            [start("events.mongo.d.a", false), start("events.mongo.d", true)],
            "{glob:?}"
        );
    }

    #[test]
    fn a_template_is_filled_once_and_without_a_collection_loses_a_separator() {
        let topic = |of: &str, db, coll| template(of).topic(db, coll).unwrap().to_string();
        assert_eq!(TopicNaming::default().topic("d", "a.b").as_deref(), Some("events.mongo.d.a.b"));
        assert_eq!(TopicNaming::default().topic("", ""), None);
        for (of, with, without) in [
            (DEFAULT_RAW, "events.mongo.d.c", "events.mongo.d"),
            ("{db}-{coll}-x", "d-c-x", "d-x"),
            ("x_{coll}", "x_c", "x"),
            ("{coll}.x", "c.x", "x"),
            ("{coll}.{db}", "c.d", "d"),
            ("{coll}", "c", "d"),
            ("all", "all", "all"),
        ] {
            assert_eq!(topic(of, "d", "c"), with, "{of}");
            assert_eq!(topic(of, "d", ""), without, "{of}");
        }
    }

    #[test]
    fn what_kafka_does_not_take_is_told_by_a_hash() {
        let topic = |db, coll: &str| TopicNaming::default().topic(db, coll).unwrap().to_string();
        assert_eq!(topic("d", "é b"), "events.mongo.d.__b.3210ed8d");
        assert_ne!(topic("d", "é b"), topic("d", "è b"));
        let long = topic("d", &"c".repeat(300));
        assert_eq!((long.len(), &long[..20]), (249, "events.mongo.d.ccccc"));
        assert_ne!(long, topic("d", &"c".repeat(301)));
        assert!(template("{coll}").topic("d", "..").unwrap().starts_with("..."));
    }

    #[test]
    fn the_first_of_the_map_counts() {
        let map = [("d", "a", "one"), ("d", "a*", "two"), ("*", "*", "rest")];
        let naming = mapped(TopicNaming::default(), &map);
        let topic = |db, coll| naming.topic(db, coll).unwrap().to_string();
        assert_eq!([topic("d", "a"), topic("d", "ab"), topic("d", "")], ["one", "two", "rest"]);
    }

    #[test]
    fn a_template_has_legal_characters_alone() {
        for wrong in ["", "{db}/{coll}", "{database}", "{coll", "x}", "é.{coll}", "{db} {coll}"] {
            assert!(TopicNaming::of_template(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_subscribes_to_names_where_there_are_names() {
        let of =
            |naming: &TopicNaming, entry| naming.subscription(&[Scope::collection(entry).unwrap()]);
        let usual = TopicNaming::default();
        assert_eq!(of(&usual, "d.a"), ["^events[.]mongo[.]d$", "events.mongo.d.a"]);
        assert_eq!(
            of(&usual, "d.a*"),
            ["^events[.]mongo[.]d$", "^events[.]mongo[.]d[.]a[a-zA-Z0-9._-]*$"]
        );
        let map = mapped(usual.clone(), &[("d", "a1", "one"), ("e", "a1", "two"), ("d", "b", "x")]);
        assert!(of(&map, "d.a*").contains(&"one".to_owned()));
        assert!(!of(&map, "d.a*").contains(&"two".to_owned()));
        assert!(!of(&map, "d.a*").contains(&"x".to_owned()));
        let database = usual.subscription(&[Scope::Database("d".to_owned())]);
        assert!(is_subscribed(&database, "events.mongo.d.x"));
        for other in ["events.mongo.e.x", "events.mongo.dx", "other.events.mongo.d.x"] {
            assert!(!is_subscribed(&database, other), "{other}");
        }
        let all = usual.subscription(&[Scope::Deployment]);
        assert!(is_subscribed(&all, "events.mongo.e.x"));
        assert!(!is_subscribed(&all, "events.normalized.record"));
    }

    /// A pattern, and a name that it matches.
    fn pattern() -> impl Strategy<Value = (String, String)> {
        let literal = "[ab.é_ ]".prop_map(|text: String| (text.clone(), text));
        let any = "[ab.é\u{1F600}]{0,4}".prop_map(|text: String| ("*".to_owned(), text));
        let long = "[ab.é]{240,260}".prop_map(|text: String| ("*".to_owned(), text));
        let one = "[ab.é\u{1F600}]".prop_map(|text: String| ("?".to_owned(), text));
        let sign = prop_oneof![6 => literal, 2 => any, 1 => long, 2 => one];
        proptest::collection::vec(sign, 1..6).prop_map(|signs| signs.into_iter().unzip())
    }

    fn database() -> impl Strategy<Value = (String, String)> {
        let name = "[deé]{1,3}".prop_map(|name: String| (name.clone(), name));
        let some = "[deé]{1,3}".prop_map(|name: String| ("*".to_owned(), name));
        prop_oneof![name, some]
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_kafka_takes(db in ".{1,70}", coll in ".{0,300}") {
            for naming in namings() {
                if let Some(topic) = naming.topic(&db, &coll) {
                    let why = why_no_topic(&topic);
                    prop_assert!(why.is_none() || topic.starts_with("__"), "{topic} {why:?}");
                }
            }
        }

        #[test]
        fn two_collections_have_two_topics(
            one in ("[ab_é]{1,2}", "[ab._é]{1,3}|a{230,240}"),
            other in ("[ab_é]{1,2}", "[ab._é]{1,3}|a{230,240}"),
        ) {
            for naming in [TopicNaming::default(), template("{coll}.{db}")] {
                let same = naming.topic(&one.0, &one.1) == naming.topic(&other.0, &other.1);
                prop_assert_eq!(same, one == other);
            }
        }

        #[test]
        fn who_subscribes_gets_every_topic(
            (db_pattern, db) in database(),
            (coll_pattern, coll) in pattern(),
        ) {
            let mut scopes = vec![
                Scope::Collection { db: db.clone(), coll: coll.clone() },
                Scope::Database(db.clone()),
                Scope::Deployment,
            ];
            if is_pattern(&db_pattern) || is_pattern(&coll_pattern) {
                scopes.push(Scope::Pattern { db: db_pattern, coll: coll_pattern });
            }
            for naming in namings() {
                for scope in &scopes {
                    prop_assert!(scope.covers(&db, &coll));
                    let subscription = naming.subscription(std::slice::from_ref(scope));
                    for coll in [coll.as_str(), ""] {
                        let Some(topic) = naming.topic(&db, coll) else { continue };
                        prop_assert!(
                            is_subscribed(&subscription, &topic),
                            "{scope:?} {topic} {subscription:?} {naming:?}"
                        );
                    }
                    for entry in subscription {
                        // What POSIX, RE2 and Java read alike.
                        let plain = |c: char| c.is_ascii_alphanumeric() || "^$.[]_-*?()|".contains(c);
                        prop_assert!(entry.chars().all(plain), "{entry}");
                        prop_assert!(!entry.contains("(?"), "{entry}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_name_of_a_topic_tells_its_collection_where_only_one_can_have_it() {
        let one = |db: &str, coll: &str| Some((db.to_owned(), coll.to_owned()));
        let default = TopicNaming::default();
        for (naming, topic, expected) in [
            (&default, "events.mongo.ingest.files", one("ingest", "files")),
            (&default, "events.mongo.ingest.files.2024", one("ingest", "files.2024")),
            (&default, "events.mongo.ingest", None),
            (&default, "others.ingest.files", None),
            (&template("{db}.{coll}-cdc"), "ingest.a-cdc-cdc", one("ingest", "a-cdc")),
            (&template("{coll}.of.{db}"), "files.of.ingest", one("ingest", "files")),
            (&template("{coll}.of.{db}"), "files.of.of.ingest", None),
            (&template("{db}_{coll}"), "a_b", one("a", "b")),
            (&template("{db}_{coll}"), "a_b_c", None),
            (&template("{db}{coll}"), "ab", None),
            (&template("{coll}"), "files", None),
            (&template("{db}.{coll}.{db}"), "a.b.a", one("a", "b")),
            (&template("{db}.{coll}.{db}"), "a.b.c", None),
            (&mapped(default.clone(), &[("a", "b", "shared")]), "shared", one("a", "b")),
            (&mapped(default.clone(), &[("a", "*", "shared")]), "shared", None),
            (
                &mapped(default.clone(), &[("a", "b", "shared"), ("a", "c", "shared")]),
                "shared",
                None,
            ),
            // Its topic is another one.
            (&mapped(default.clone(), &[("a", "b", "other")]), "events.mongo.a.b", None),
        ] {
            assert_eq!(naming.collection(topic), expected, "{topic}");
        }
    }

    proptest! {
        #[test]
        fn what_a_topic_is_called_after_is_read_back(db in "[a-z_-]{1,9}", coll in "[a-z._-]{1,9}") {
            let naming = TopicNaming::default();
            let topic = naming.topic(&db, &coll).unwrap();
            prop_assert_eq!(naming.collection(&topic), Some((db, coll)));
        }
    }
}
