//! Compares a change event that somebody tells with the one of the truth. Pure.

use bson::Document;

use crate::contract;
use crate::truth::Event;

/// A change event that was told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its document, of an update the one that was looked up.
    pub(crate) document: Option<Document>,
    /// What is wrong with it.
    pub(crate) wrong: Vec<String>,
}

impl Told {
    /// An update whose document was gone when it was looked up.
    pub(crate) fn is_superseded(&self, event: &Event) -> bool {
        event.operation == "update" && self.document.is_none()
    }
}

/// Compares. Two lookups may see two versions, so of those only the `_id` counts.
pub(crate) fn compare(event: &Event, mut found: Document) -> Told {
    let key = &event.key;
    let mut wrong = Vec::new();
    let document = found.get_document("fullDocument").cloned().ok();
    if event.operation == "update" {
        let same = |document: &Document| {
            event.document.get_document("documentKey").ok().and_then(|key| key.get("_id"))
                == document.get("_id")
        };
        if document.as_ref().is_some_and(|document| !same(document)) {
            wrong.push(format!("`{key}`: looked up another document"));
        }
        found.remove("fullDocument");
    }
    if bytes(&found) != bytes(&event.document) {
        wrong.push(difference(key, &event.document, &found));
    }
    Told { document, wrong }
}

/// A document's BSON: two documents are the same when these are.
fn bytes(document: &Document) -> Option<Vec<u8>> {
    document.to_vec().ok()
}

/// The first field that differs, for the reader of the finding.
fn difference(key: &str, expected: &Document, found: &Document) -> String {
    let text = |document: &Document, field: &str| {
        document.get(field).map_or_else(|| "nothing".into(), contract::canonical_json)
    };
    let fields = expected.keys().chain(found.keys());
    for field in fields {
        let (expected, found) = (text(expected, field), text(found, field));
        if expected != found {
            return format!("`{key}`: {field} is {found:.300}, not {expected:.300}");
        }
    }
    let names = |document: &Document| document.keys().cloned().collect::<Vec<_>>().join(",");
    format!("`{key}`: same fields, other order or bytes: {} / {}", names(found), names(expected))
}
