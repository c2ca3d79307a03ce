//! What a run is told to watch, and which changes each of its streams must bring. The judge's own
//! reading of the contract.

use crate::truth::Event;

/// What a run watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// `db.coll`, each a stream; the name may end with `*`.
    Collections(Vec<String>),
    /// Databases, each a stream.
    Databases(Vec<String>),
    /// Everything, as one stream.
    Deployment,
}

/// One of the streams of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The configured entry, which is the rows' `_topic`.
    pub topic: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Collection,
    Pattern { database: String, prefix: String },
    Database,
    Deployment,
}

impl Watch {
    /// Its flags of `tailwater run`.
    pub fn flags(&self) -> Vec<String> {
        match self {
            Self::Collections(names) => vec!["--collections".into(), names.join(",")],
            Self::Databases(names) => vec!["--databases".into(), names.join(",")],
            Self::Deployment => vec!["--deployment".into()],
        }
    }

    /// Its streams.
    pub fn streams(&self) -> Vec<Stream> {
        match self {
            Self::Collections(names) => names.iter().map(|name| Stream::of_entry(name)).collect(),
            Self::Databases(names) => {
                let stream = |name: &String| Stream { topic: name.clone(), kind: Kind::Database };
                names.iter().map(stream).collect()
            }
            Self::Deployment => {
                vec![Stream { topic: "deployment".into(), kind: Kind::Deployment }]
            }
        }
    }

    /// The stream that brings a change: the one that watches its collection, else the first, by
    /// name, that hears of it.
    pub fn stream_of(&self, event: &Event) -> Option<Stream> {
        let streams = self.streams();
        let owner = streams.iter().find(|stream| stream.covers(&event.database, &event.collection));
        let hearing = streams.iter().filter(|stream| stream.hears(event));
        owner.or_else(|| hearing.min_by_key(|stream| &stream.topic)).cloned()
    }
}

impl Stream {
    fn of_entry(entry: &str) -> Self {
        let kind = match (entry.split_once('.'), entry.strip_suffix('*')) {
            (Some((database, name)), Some(_)) => Kind::Pattern {
                database: database.into(),
                prefix: name.trim_end_matches('*').into(),
            },
            _ => Kind::Collection,
        };
        Self { topic: entry.to_owned(), kind }
    }

    /// A collection that it watches.
    pub fn a_collection(&self) -> String {
        match &self.kind {
            Kind::Collection => self.topic.clone(),
            Kind::Pattern { database, prefix } => format!("{database}.{prefix}first"),
            Kind::Database => format!("{}.first", self.topic),
            Kind::Deployment => "ingest.first".into(),
        }
    }

    /// Whether it watches a collection.
    pub fn covers(&self, in_database: &str, name: &str) -> bool {
        match &self.kind {
            Kind::Collection => self.topic == format!("{in_database}.{name}"),
            Kind::Pattern { database, prefix } => {
                database == in_database && !name.is_empty() && name.starts_with(prefix)
            }
            Kind::Database => self.topic == in_database,
            Kind::Deployment => true,
        }
    }

    /// Whether a change is in its stream: one of its collections, a rename into one of them, or the
    /// end of their database, of which a stream of one collection only hears that it is dropped.
    pub fn hears(&self, event: &Event) -> bool {
        let into = event.renamed_to().is_some_and(|(db, name)| self.covers(db, name));
        let ends = event.operation == "dropDatabase"
            && matches!(&self.kind, Kind::Pattern { database, .. } if *database == event.database);
        self.covers(&event.database, &event.collection) || into || ends
    }

    /// Whether the server ends this stream behind a change, with an `invalidate`.
    pub fn ends_behind(&self, event: &Event) -> bool {
        match (&self.kind, event.operation.as_str()) {
            (Kind::Collection, "drop" | "rename") => self.hears(event),
            (Kind::Pattern { database, .. }, "dropDatabase") => *database == event.database,
            (Kind::Database, "dropDatabase") => self.topic == event.database,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn event(operation: &str, database: &str, name: &str, to: &str) -> Event {
        let mut event = doc! {
            "_id": { "_data": "8265a1b2c3000000012b022c0100296e5a1004" },
            "operationType": operation,
            "ns": { "db": database, "coll": name },
        };
        if !to.is_empty() {
            event.insert("to", doc! { "db": database, "coll": to });
        }
        Event::of(event).unwrap()
    }

    #[test]
    fn each_change_has_its_stream() {
        let watch = Watch::Collections(vec!["d.one".into(), "d.two".into(), "d.job_*".into()]);
        let topic = |operation, name, to| {
            let stream = watch.stream_of(&event(operation, "d", name, to));
            stream.map_or("none".into(), |stream| stream.topic)
        };
        assert_eq!(topic("insert", "one", ""), "d.one");
        assert_eq!(topic("insert", "job_1", ""), "d.job_*");
        assert_eq!(topic("insert", "jobs", ""), "none");
        assert_eq!(topic("rename", "one", "two"), "d.one");
        assert_eq!(topic("rename", "two", "one"), "d.two");
        assert_eq!(topic("rename", "else", "two"), "d.two");
        assert_eq!(topic("rename", "else", "job_3"), "d.job_*");
        assert_eq!(topic("dropDatabase", "", ""), "d.job_*");
    }

    #[test]
    fn only_the_ends_of_what_it_watches_end_a_stream() {
        let ends = |watch: &Watch, operation, name, to| {
            watch.streams()[0].ends_behind(&event(operation, "d", name, to))
        };
        let one = Watch::Collections(vec!["d.one".into()]);
        assert!(ends(&one, "drop", "one", "") && ends(&one, "rename", "two", "one"));
        assert!(!ends(&one, "insert", "one", "") && !ends(&one, "dropDatabase", "", ""));
        let all = Watch::Databases(vec!["d".into()]);
        assert!(ends(&all, "dropDatabase", "", "") && !ends(&all, "drop", "one", ""));
        assert!(!ends(&Watch::Deployment, "dropDatabase", "", ""));
    }
}
