//! A mapping for loops, and what it must make of a change, implemented a second time.
//!
//! It reads only fields that are scalars in every document of the workload.

use bson::{Bson, Document};
use serde_json::{Map, Value, json};

use crate::truth::Event;

/// The mapping file.
pub const FILE: &str = "\
mappings:
  - match: { ns.db: ingest, ns.coll: files }
    event_type_override:
      when: \"$eq(fullDocument.status, 'arrived')\"
      value: \"file_arrived\"
      else: \"file_event\"
    tags: [status]
    attrs: [n]
    computed:
      - is_large: \"$gt(n, 50)\"
    raw: true
";

/// The columns that a mapping decides about.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// `event_type`.
    pub event_type: String,
    /// `tags`.
    pub tags: Map<String, Value>,
    /// `attrs`.
    pub attrs: Map<String, Value>,
}

/// What becomes of a change with this document; `None`: what does without a mapping.
pub fn expected(event: &Event, document: Option<&Document>) -> Option<Expected> {
    if event.namespace() != "ingest.files" || !event.concerns_a_document() {
        return None;
    }
    let field = |name| document.and_then(|document| document.get(name));
    let number = match field("n") {
        Some(Bson::Int32(number)) => Some(i64::from(*number)),
        Some(Bson::Int64(number)) => Some(*number),
        _ => None,
    };
    let status = field("status").and_then(Bson::as_str);
    let event_type = if status == Some("arrived") { "file_arrived" } else { "file_event" };
    let tags = status.map(|status| ("status".to_owned(), json!(status)));
    let attrs = number.map(|number| ("n".to_owned(), json!(number)));
    let is_large = ("is_large".to_owned(), json!(number.is_some_and(|number| number > 50)));
    Some(Expected {
        event_type: event_type.to_owned(),
        tags: tags.into_iter().collect(),
        attrs: attrs.into_iter().chain([is_large]).collect(),
    })
}
