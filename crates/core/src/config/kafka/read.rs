//! Read: the keys of the section, and what they say together.

use super::topics::Around as AroundTopics;
use super::{Compat, Kafka, Publish, connector, properties, security, servers, topics};
use crate::config::section::{At, Reader, Section};
use crate::config::tree::Place;
use crate::message::Format;
use crate::scope::Scope;

/// What other sections say that this one depends on.
pub(in crate::config) struct Around<'a> {
    /// The pipeline's name.
    pub(in crate::config) pipeline: &'a str,
    /// What is watched, where that is said and sound.
    pub(in crate::config) scopes: Option<&'a [Scope]>,
    /// Whether MongoDB is read, so that what is in the topics is ours.
    pub(in crate::config) writes: bool,
    /// Whether topics of collections are read.
    pub(in crate::config) reads: bool,
}

/// What values in topics cannot tell, and where that is said.
#[derive(Debug, Clone, Default)]
pub(in crate::config) struct Lies {
    /// Why the current state would not be the collection.
    pub(in crate::config) current: Vec<At<&'static str>>,
    /// Why there would be no change events to keep.
    pub(in crate::config) raw_cdc: Option<At<&'static str>>,
}

pub(in crate::config) fn read(
    mut section: Section<'_>,
    around: &Around<'_>,
    reader: &Reader<'_>,
) -> (Option<Kafka>, Lies) {
    let at_kafka = section.place.clone();
    let (bootstrap_servers, servers) = servers::read(&mut section, reader);
    let security = security::read(&mut section, &servers, reader);
    let formats = Format::ALL.map(|format| (format.name(), format));
    let format = section.choice("format", &formats);
    let publish = section.choice(
        "publish",
        &[("change_event", Publish::ChangeEvent), ("full_document", Publish::FullDocument)],
    );
    let tombstones = section.flag("tombstones");
    let compat = section.choice("compat", &[("none", false), ("mongo-kafka", true)]);
    let like_connector = compat.as_ref().is_some_and(|at| at.value);
    let unasked = section.given("connector").filter(|_| !like_connector);
    let settings = section.section("connector");
    let connector = like_connector.then(|| connector::read(settings, reader));
    let mut lies = Lies::default();
    let mut lie = |place: &Place, value| {
        lies.current.push(At { place: place.clone(), value });
    };
    if like_connector {
        let ours = [
            format.as_ref().map(|at| (&at.place, "format", "`output.format.value`")),
            publish.as_ref().map(|at| (&at.place, "publish", "`publish.full.document.only`")),
            tombstones.as_ref().map(|at| {
                (&at.place, "tombstones", "`publish.full.document.only.tombstone.on.delete`")
            }),
        ];
        for (place, name, theirs) in ours.into_iter().flatten() {
            let what = format!("`compat: mongo-kafka` has its own word for `{name}`");
            reader.complain(place, what, format!("write {theirs} in `connector`"));
        }
    } else if let Some((key, node)) = unasked {
        reader.hide(node);
        let what = "`connector` is for `compat: mongo-kafka`";
        reader.complain(&key.place, what, "add that, or remove it");
    }
    let simplified = match &format {
        Some(At { place, value: Format::JsonSimplified }) => Some(place),
        _ => None,
    };
    if let Some(place) = simplified {
        lie(place, "`format: json_simplified` loses types");
    }
    if let Some(place) = connector.as_ref().and_then(|read| read.simplified.as_ref()) {
        lie(place, "`SimplifiedJson` loses types");
    }
    let documents = match (&publish, &connector) {
        (_, Some(read)) => read.full_document_only.clone(),
        (Some(At { place, value: Publish::FullDocument }), None) => Some(place.clone()),
        _ => None,
    };
    if let (Some(place), true) = (documents, around.writes) {
        // Others' are taken for what they are.
        lie(&place, "documents alone say nothing of drops and renames");
        lies.raw_cdc = Some(At { place, value: "documents alone are no change events" });
    }
    let naming = connector.as_ref().zip(compat.as_ref());
    let naming =
        naming.map(|(read, at)| At { place: at.place.clone(), value: read.naming.clone() });
    let around = AroundTopics {
        pipeline: around.pipeline,
        scopes: around.scopes,
        connector: naming,
        reads: around.reads,
        must_name_what_to_read: around.reads && !around.writes,
    };
    let topics = topics::read(section.section("topics"), &at_kafka, around, reader);
    let properties = properties::read(section.section("properties"), reader);
    section.end();
    let kafka = security.map(|security| Kafka {
        bootstrap_servers,
        security_protocol: security.protocol,
        sasl: security.sasl,
        tls: security.tls,
        format: format.map(|at| at.value).unwrap_or_default(),
        publish: publish.map(|at| at.value).unwrap_or_default(),
        tombstones: tombstones.is_some_and(|at| at.value),
        compat: connector.map_or(Compat::None, |read| read.compat),
        topics,
        properties,
    });
    (kafka, lies)
}
