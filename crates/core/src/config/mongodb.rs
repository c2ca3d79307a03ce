//! The section `mongodb`: what to read.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret as _, SecretString};

use super::Given;
use super::section::{At, Reader, Section};
use super::tree::{Key, Place, Value};
use crate::Result;
use crate::scope::{self, Scope};
use crate::watch::{BeforeChange, FullDocument, Watch};

/// What to read from MongoDB.
#[derive(Debug, Clone)]
pub struct MongoDb {
    /// The connection string; empty where it leads nowhere and the source was not asked for.
    pub uri: SecretString,
    /// One stream each.
    pub scopes: Vec<Scope>,
    /// What the streams ask of the server, and what they leave out.
    pub watch: Watch,
}

/// MongoDB's `operationType`, as far as a change stream can tell it.
const OPERATIONS: [&str; 15] = [
    "insert",
    "update",
    "replace",
    "delete",
    "drop",
    "rename",
    "dropDatabase",
    "invalidate",
    "create",
    "createIndexes",
    "dropIndexes",
    "modify",
    "shardCollection",
    "reshardCollection",
    "refineCollectionShardKey",
];

const FULL_DOCUMENT: [(&str, FullDocument); 4] = [
    (FullDocument::Default.as_str(), FullDocument::Default),
    (FullDocument::UpdateLookup.as_str(), FullDocument::UpdateLookup),
    (FullDocument::WhenAvailable.as_str(), FullDocument::WhenAvailable),
    (FullDocument::Required.as_str(), FullDocument::Required),
];

const BEFORE_CHANGE: [(&str, BeforeChange); 3] = [
    (BeforeChange::Off.as_str(), BeforeChange::Off),
    (BeforeChange::WhenAvailable.as_str(), BeforeChange::WhenAvailable),
    (BeforeChange::Required.as_str(), BeforeChange::Required),
];

/// The part of the section that other sections must fit.
pub(super) struct Read {
    pub(super) mongodb: Option<MongoDb>,
    /// Why the current state would lie, and where that is said.
    pub(super) lies: Option<At<&'static str>>,
    /// Where it is said that updates have no documents.
    pub(super) no_documents: Option<Place>,
    /// The streams, where they are said.
    pub(super) scopes: Option<At<Vec<Scope>>>,
}

pub(super) fn read(section: Option<Section<'_>>, given: &Given, reader: &Reader<'_>) -> Read {
    let Some(mut section) = section else {
        let of_flags = given.source.clone().zip(given.scopes.clone());
        let mongodb =
            of_flags.map(|(uri, scopes)| MongoDb { uri, scopes, watch: Watch::default() });
        let scopes = given.scopes.clone().map(|value| At { place: 0..0, value });
        return Read { mongodb, lies: None, no_documents: None, scopes };
    };
    let uri = section.secret("uri");
    if let Some(At { place, value }) = &uri
        && !["mongodb://", "mongodb+srv://"].iter().any(|s| value.expose_secret().starts_with(s))
    {
        reader.complain(
            place,
            "`uri` is no MongoDB connection string",
            "it begins with mongodb:// or mongodb+srv://",
        );
    }
    let scopes = read_scopes(&mut section, given, reader);
    let mut lies = None;
    let operations = read_operations(&mut section, reader);
    if let Some(At { place, value }) = &operations
        && !value.contains("delete")
    {
        lies = Some(At { place: place.clone(), value: "`operations` leaves out `delete`" });
    }
    let exclude_fields = read_exclusions(&mut section, scopes.as_ref(), reader);
    let full_document = section.choice("full_document", &FULL_DOCUMENT);
    let mut no_documents = None;
    if let Some(At { place, value: FullDocument::Default }) = &full_document {
        no_documents = Some(place.clone());
        let why = "`full_document: default` has no documents of updates";
        lies = Some(At { place: place.clone(), value: why });
    }
    let before_change = section.choice("full_document_before_change", &BEFORE_CHANGE);
    let lost = [("stop", true), ("resnapshot", false)];
    if let Some(At { place, value: false }) = section.choice("on_history_lost", &lost) {
        let what = "`on_history_lost: resnapshot`: copying collections again is not built yet";
        reader.complain(&place, what, "write `stop`, or leave it out");
    }
    section.not_built("snapshot", "copying what is in a collection already is");
    let uri = match (&given.source, uri) {
        (Some(source), _) => Some(source.clone()),
        (None, Some(uri)) => Some(uri.value),
        (None, None) if section.is_absent("uri") => {
            section.lacks("uri", "uri: mongodb://host:27017");
            None
        }
        (None, None) => reader.lenient.get().then(SecretString::default),
    };
    section.end();
    let watch = Watch {
        operations: operations.map(|at| at.value),
        full_document: full_document.map(|at| at.value).unwrap_or_default(),
        before_change: before_change.map(|at| at.value).unwrap_or_default(),
        exclude_fields,
    };
    let mongodb =
        uri.zip(scopes.clone()).map(|(uri, scopes)| MongoDb { uri, scopes: scopes.value, watch });
    Read { mongodb, lies, no_documents, scopes }
}

fn read_scopes(
    section: &mut Section<'_>,
    given: &Given,
    reader: &Reader<'_>,
) -> Option<At<Vec<Scope>>> {
    let entries = [
        (section.texts("collections"), Scope::collection as fn(&str) -> Result<Scope>),
        (section.texts("databases"), Scope::database),
    ];
    let deployment = section.flag("deployment").filter(|flag| flag.value);
    let mut all: Vec<At<Vec<Scope>>> = Vec::new();
    for (texts, parse) in entries {
        let Some(At { place, value }) = texts else { continue };
        let mut scopes = Vec::new();
        for At { place, value } in &value {
            match parse(value) {
                Ok(scope) => scopes.push(scope),
                Err(error) => reader.complain(place, error.to_string(), error.hint()),
            }
            // An overlap shows at the entry that brings it.
            if let Err(error) = scope::check_overlaps(&scopes) {
                reader.complain(place, error.to_string(), error.hint());
                scopes.pop();
            }
        }
        all.push(At { place, value: scopes });
    }
    all.extend(deployment.map(|At { place, .. }| At { place, value: vec![Scope::Deployment] }));
    for extra in all.iter().skip(1) {
        reader.complain(
            &extra.place,
            "only one of `collections`, `databases` and `deployment` can say what to watch",
            "remove the others",
        );
    }
    if let Some(scopes) = &given.scopes {
        return Some(At { place: section.place.clone(), value: scopes.clone() });
    }
    if all.is_empty() && section.is_absent("collections") && section.is_absent("databases") {
        section.lacks("collections", "collections: [db.coll]");
    }
    // What has a problem of its own must not be taken for less than it is.
    all.into_iter().next().filter(|at| !at.value.is_empty())
}

fn read_operations(section: &mut Section<'_>, reader: &Reader<'_>) -> Option<At<BTreeSet<String>>> {
    let At { place, value } = section.texts("operations")?;
    let mut operations = BTreeSet::new();
    for At { place, value } in value {
        if !OPERATIONS.contains(&value.as_str()) {
            reader.unknown(&place, "operation", &value, OPERATIONS.into_iter());
        } else if !operations.insert(value) {
            reader.complain(&place, "this operation comes twice", "remove one of them");
        }
    }
    Some(At { place, value: operations })
}

fn read_exclusions(
    section: &mut Section<'_>,
    scopes: Option<&At<Vec<Scope>>>,
    reader: &Reader<'_>,
) -> BTreeMap<String, Vec<String>> {
    let Some(fields) = section.section("exclude_fields") else { return BTreeMap::new() };
    let mut exclusions = BTreeMap::new();
    for (Key { place, name }, node) in fields.free_entries() {
        match Scope::collection(name) {
            Ok(Scope::Collection { db, coll }) => {
                let watched = |at: &At<Vec<Scope>>| at.value.iter().any(|s| s.covers(&db, &coll));
                if !scopes.is_none_or(watched) {
                    let what = format!("`{name}` is not watched");
                    reader.complain(place, what, "name a collection that is");
                }
            }
            Ok(_) => reader.complain(
                place,
                format!("`{name}` is a pattern: fields are left out by collection"),
                "name each collection: `ingest.files: [payload]`",
            ),
            Err(error) => reader.complain(place, error.to_string(), error.hint()),
        }
        if matches!(node.value, Value::Null) {
            reader.complain(place, format!("`{name}` names no fields"), "write `[field, …]`");
        }
        let mut paths = Vec::new();
        for At { place, value } in reader.texts(name, node) {
            let mut parts = value.split('.');
            if parts.clone().any(str::is_empty) {
                let what = "this is no path of a field";
                reader.complain(&place, what, "write names with dots between: `a.b`");
            } else if parts.next() == Some("_id") {
                reader.complain(
                    &place,
                    "`_id` cannot be left out: rows are told by it",
                    "remove it from the list",
                );
            } else {
                paths.push(value);
            }
        }
        exclusions.insert(name.clone(), paths);
    }
    exclusions
}
