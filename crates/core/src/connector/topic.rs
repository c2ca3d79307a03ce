//! Topic names by the connector's rules, of `topic.prefix`, `topic.suffix`, `topic.separator` and
//! `topic.namespace.map`.

use regex_lite::Regex;

use crate::scope;

/// The settings as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// `topic.prefix`; empty is none.
    pub prefix: String,
    /// `topic.suffix`; empty is none.
    pub suffix: String,
    /// `topic.separator`.
    pub separator: String,
    /// The pairs of `topic.namespace.map`, in their order.
    pub namespace_map: Vec<(String, String)>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            suffix: String::new(),
            separator: ".".to_owned(),
            namespace_map: Vec::new(),
        }
    }
}

/// Names the topic of a namespace.
#[derive(Debug, Clone)]
pub struct TopicNames {
    prefix: String,
    suffix: String,
    separator: String,
    simple: Vec<(String, String)>,
    patterns: Vec<(Regex, Vec<Part>)>,
    any: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Db,
    Sep,
    Coll,
    SepColl,
    CollSep,
    SepCollSep,
}

impl TopicNames {
    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with the namespace map.
    pub fn new(settings: &TopicSettings) -> Result<Self, String> {
        // Kafka Connect trims all of its settings.
        let trimmed = [&settings.prefix, &settings.suffix, &settings.separator].map(|s| s.trim());
        let [prefix, suffix, separator] = trimmed;
        let mut names = Self {
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}{separator}") },
            suffix: if suffix.is_empty() { String::new() } else { format!("{separator}{suffix}") },
            separator: separator.to_owned(),
            simple: Vec::new(),
            patterns: Vec::new(),
            any: None,
        };
        for (pattern, template) in &settings.namespace_map {
            let unused = template.is_empty();
            if pattern == "*" {
                names.any = (!unused).then(|| template.clone());
            } else if let Some(pattern) = pattern.strip_prefix('/') {
                let (regex, parts) = (full_match(pattern)?, parts(template)?);
                if !unused {
                    names.patterns.push((regex, parts));
                }
            } else if pattern.contains('/') {
                return Err(format!("`{pattern}` has a `/` that does not begin a regex"));
            } else {
                names.simple.retain(|(known, _)| known != pattern);
                if !unused {
                    names.simple.push((pattern.clone(), template.clone()));
                }
            }
        }
        Ok(names)
    }

    /// The topic of a namespace, whose collection is empty for events of a database; `None` for
    /// events that the connector leaves out, since they have no topic.
    pub fn topic(&self, db: &str, coll: &str) -> Option<String> {
        if db.is_empty() {
            return None;
        }
        let name = format!("{}{}{}", self.prefix, self.undecorated(db, coll), self.suffix);
        Some(name).filter(|name| !name.is_empty())
    }

    /// What the topics of the namespaces that match two globs may be called, as globs; some of them
    /// for no namespace.
    pub(crate) fn globs(&self, db: &str, coll: &str) -> Vec<String> {
        let joined = |db: &str| match coll.is_empty() {
            true => db.to_owned(),
            false => format!("{db}{}{coll}", self.separator),
        };
        let mut all = vec![self.any.clone().unwrap_or_else(|| joined(db))];
        for (known, template) in &self.simple {
            match known.split_once('.') {
                Some((d, c)) if scope::matches(db, d) && scope::matches(coll, c) => {
                    all.push(template.clone());
                }
                None if scope::matches(db, known) => all.push(joined(template)),
                _ => {}
            }
        }
        for (_, parts) in &self.patterns {
            all.push(parts.iter().map(|part| self.expand(part, db, coll)).collect());
        }
        let decorated = all.iter().map(|name| format!("{}{name}{}", self.prefix, self.suffix));
        decorated.filter(|name| !name.is_empty()).collect()
    }

    fn undecorated(&self, db: &str, coll: &str) -> String {
        let namespace = if coll.is_empty() { db.to_owned() } else { format!("{db}.{coll}") };
        let simple = |pattern: &str| {
            self.simple.iter().find(|(known, _)| known == pattern).map(|(_, template)| template)
        };
        let joined = |db: &str| match coll.is_empty() {
            true => db.to_owned(),
            false => format!("{db}{}{coll}", self.separator),
        };
        if let Some(template) = simple(&namespace) {
            return template.clone();
        }
        if let Some(template) = simple(db) {
            return joined(template);
        }
        if let Some((_, parts)) = self.patterns.iter().find(|(regex, _)| regex.is_match(&namespace))
        {
            return parts.iter().map(|part| self.expand(part, db, coll)).collect();
        }
        self.any.clone().unwrap_or_else(|| joined(db))
    }

    fn expand(&self, part: &Part, db: &str, coll: &str) -> String {
        let sep = &self.separator;
        match part {
            Part::Text(text) => text.clone(),
            Part::Db => db.to_owned(),
            Part::Sep => sep.clone(),
            Part::Coll => coll.to_owned(),
            Part::SepColl | Part::CollSep | Part::SepCollSep if coll.is_empty() => String::new(),
            Part::SepColl => format!("{sep}{coll}"),
            Part::CollSep => format!("{coll}{sep}"),
            Part::SepCollSep => format!("{sep}{coll}{sep}"),
        }
    }
}

/// The connector's regexes are Java's: those that mean something else here, or nothing, are refused.
fn full_match(pattern: &str) -> Result<Regex, String> {
    // Possessive quantifiers, intersections, and what only looks like a POSIX class.
    for other in ["++", "*+", "?+", "}+", "&&", "[:"] {
        if pattern.contains(other) {
            return Err(format!("cannot use the regex `{pattern}`: `{other}` is not supported"));
        }
    }
    // Compiled alone first, so that no parenthesis of its own closes the group.
    Regex::new(pattern)
        .and_then(|_| Regex::new(&format!("^(?:{pattern})$")))
        .map_err(|error| format!("cannot use the regex `{pattern}`: {error}"))
}

fn parts(template: &str) -> Result<Vec<Part>, String> {
    let wrong = || format!("the braces of `{template}` do not match");
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, variable)) = rest.split_once('{') {
        let (name, after) = variable.split_once('}').ok_or_else(wrong)?;
        if text.contains('}') || name.contains('{') {
            return Err(wrong());
        }
        parts.push(Part::Text(text.to_owned()));
        parts.push(match name {
            "db" => Part::Db,
            "sep" => Part::Sep,
            "coll" => Part::Coll,
            "sep_coll" => Part::SepColl,
            "coll_sep" => Part::CollSep,
            "sep_coll_sep" => Part::SepCollSep,
            _ => return Err(format!("`{{{name}}}` in `{template}` is no variable")),
        });
        rest = after;
    }
    if rest.contains('}') {
        return Err(wrong());
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}
