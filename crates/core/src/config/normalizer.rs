//! The section `normalizer`: the mapping file, and where what it gives goes.

use std::sync::Arc;

use secrecy::SecretString;

use super::section::{At, Reader, Section};
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

/// What other sections say that this one depends on.
pub(super) struct Around {
    /// Whether there are topics to write to.
    pub(super) kafka: bool,
    /// Whether rows are made.
    pub(super) rows: bool,
}

pub(super) fn read(
    section: Option<Section<'_>>,
    around: &Around,
    reader: &Reader<'_>,
) -> Option<Normalizer> {
    let mut section = section?;
    let at_normalizer = section.place.clone();
    let output = section.choice("output", &[("inline", Output::Inline), ("topic", Output::Topic)]);
    let mapping = section.text("mapping");
    if section.is_absent("mapping") {
        section.lacks("mapping", "mapping: mapping.yaml");
    }
    section.end();
    match &output {
        Some(At { place, value: Output::Topic }) if !around.kafka => {
            let what = "`output: topic` needs a Kafka, and there is no section `kafka`";
            reader.complain(place, what, "write `inline`, or leave it out");
        }
        Some(At { value: Output::Topic, .. }) => {}
        _ if !around.rows => {
            let what = "an inline mapping makes rows, and there is no section `clickhouse`";
            reader.complain(&at_normalizer, what, "write `output: topic`, or remove it");
        }
        _ => {}
    }
    let At { place, value: file } = mapping?;
    let text = match reader.secrets.file(&file) {
        Ok(text) => text,
        Err(why) => {
            reader.leads_nowhere(&place, why, "`mapping` is read from there".to_owned());
            return None;
        }
    };
    match Mapping::read(&file, &text, reader.secrets) {
        Ok(mapping) => Some(Normalizer {
            file,
            text: text.into(),
            mapping: Arc::new(mapping),
            output: output.map(|at| at.value).unwrap_or_default(),
        }),
        Err(error) => {
            if !reader.lenient.get() {
                reader.others.borrow_mut().push(error);
            }
            None
        }
    }
}
