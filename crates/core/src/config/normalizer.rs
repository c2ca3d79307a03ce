//! The section `normalizer`: the mapping file, and where what it gives goes.

use std::sync::Arc;

use secrecy::SecretString;

use crate::mapping::Mapping;

/// What becomes of events on their way.
#[derive(Debug, Clone)]
pub struct Normalizer {
    /// The mapping file, as it is configured.
    pub file: String,
    /// Its text, in which a key may stand.
    pub text: SecretString,
    /// The mapping of that text.
    pub mapping: Arc<Mapping>,
    /// Where its events go.
    pub output: Output,
}

/// Where normalized events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Output {
    /// Into rows at once: the mapping runs in the sink.
    #[default]
    Inline,
    /// Into the normalized topic, from which the sink makes rows of events; the current state and
    /// `raw_cdc` are always of the raw topics.
    Topic,
}
