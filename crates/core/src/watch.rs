//! Watch: what the change streams of a run ask of the server, and what they leave out.

use std::collections::{BTreeMap, BTreeSet};

/// What the change streams of a run ask of the server, and what they leave out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    /// The kinds of events to read, by MongoDB's names; `None`: all, DDL too.
    pub operations: Option<BTreeSet<String>>,
    /// The document after an update.
    pub full_document: FullDocument,
    /// The document before a change.
    pub before_change: BeforeChange,
    /// By `db.coll`: paths that are taken out of every event before it goes anywhere.
    pub exclude_fields: BTreeMap<String, Vec<String>>,
}

/// MongoDB's `fullDocument` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullDocument {
    /// None for updates.
    Default,
    /// As it is when the event is read.
    #[default]
    UpdateLookup,
    /// The recorded one, where the collection records them.
    WhenAvailable,
    /// The recorded one, or an error.
    Required,
}

/// MongoDB's `fullDocumentBeforeChange` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BeforeChange {
    /// None.
    #[default]
    Off,
    /// The recorded one, where the collection records them.
    WhenAvailable,
    /// The recorded one, or an error.
    Required,
}

impl FullDocument {
    /// MongoDB's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::UpdateLookup => "updateLookup",
            Self::WhenAvailable => "whenAvailable",
            Self::Required => "required",
        }
    }
}

impl BeforeChange {
    /// MongoDB's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::WhenAvailable => "whenAvailable",
            Self::Required => "required",
        }
    }
}
