//! NormalizedEvent: an event after the mapping, as the normalized topic holds it and as the event
//! table has it.

use crate::mapping::Fields;
use crate::position::Millis;

/// An event after the mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalizedEvent {
    /// The time of the row.
    pub ts: Millis,
    /// The type of the event.
    pub event_type: String,
    /// The database.
    pub db: String,
    /// The collection.
    pub coll: String,
    /// Its identity, for people and other tools.
    pub idempotency_key: String,
    /// The tags.
    pub tags: Fields,
    /// The attributes.
    pub attrs: Fields,
    /// The document.
    pub doc_id: String,
    /// MongoDB's `operationType`.
    pub op: String,
    /// The order among all versions of the document.
    pub version: u128,
    /// The change event as canonical Extended JSON, where the row keeps it.
    pub raw: Option<String>,
    /// An update whose looked-up document was gone.
    pub superseded: bool,
    /// The hash of the mapping.
    pub mapping: String,
}
