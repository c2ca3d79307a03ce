//! Read: the keys of the section, and what they say together.

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
    /// Where it is said that updates have no documents.
    pub(in crate::config) no_documents: Option<&'a Place>,
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
    let ours = read_ours(&mut section);
    let connector = read_connector(&mut section, &ours, reader);
    let lies = lies(&ours, connector.as_ref(), around, reader);
    let around = topics::Around {
        pipeline: around.pipeline,
        scopes: around.scopes,
        connector: connector.as_ref().map(|read| read.naming.clone()),
        reads: around.reads,
        must_name_what_to_read: around.reads && !around.writes,
    };
    let topics = topics::read(section.section("topics"), &at_kafka, &around, reader);
    let properties = properties::read(section.section("properties"), reader);
    section.end();
    let kafka = security.map(|security| Kafka {
        bootstrap_servers,
        security_protocol: security.protocol,
        sasl: security.sasl,
        tls: security.tls,
        format: ours.format.map(|at| at.value).unwrap_or_default(),
        publish: ours.publish.map(|at| at.value).unwrap_or_default(),
        tombstones: ours.tombstones.is_some_and(|at| at.value),
        compat: connector.map_or(Compat::None, |read| read.compat),
        topics,
        properties,
    });
    (kafka, lies)
}

/// What messages are like, where they are not like the connector's.
struct Ours {
    format: Option<At<Format>>,
    publish: Option<At<Publish>>,
    tombstones: Option<At<bool>>,
}

fn read_ours(section: &mut Section<'_>) -> Ours {
    let formats = Format::ALL.map(|format| (format.name(), format));
    let kinds = [("change_event", Publish::ChangeEvent), ("full_document", Publish::FullDocument)];
    Ours {
        format: section.choice("format", &formats),
        publish: section.choice("publish", &kinds),
        tombstones: section.flag("tombstones"),
    }
}

/// What messages are like, where they are like the connector's.
fn read_connector(
    section: &mut Section<'_>,
    ours: &Ours,
    reader: &Reader<'_>,
) -> Option<connector::Read> {
    let compat = section.choice("compat", &[("none", false), ("mongo-kafka", true)]);
    let unclear = compat.is_none() && !section.is_absent("compat");
    let settings = section.given("connector");
    if !compat.is_some_and(|at| at.value) {
        if let Some((key, node)) = settings {
            reader.hide(node);
            if !unclear {
                let what = "`connector` is for `compat: mongo-kafka`";
                reader.complain(&key.place, what, "add that, or remove it");
            }
        }
        return None;
    }
    let Ours { format, publish, tombstones } = ours;
    let places = [
        (format.as_ref().map(|at| &at.place), "format", "output.format.value"),
        (publish.as_ref().map(|at| &at.place), "publish", "publish.full.document.only"),
        (tombstones.as_ref().map(|at| &at.place), "tombstones", connector::TOMBSTONES),
    ];
    for (place, name, theirs) in places {
        if let Some(place) = place {
            let what = format!("`compat: mongo-kafka` has its own word for `{name}`");
            reader.complain(place, what, format!("write `{theirs}` in `connector`"));
        }
    }
    Some(connector::read(section.section("connector"), reader))
}

fn lies(
    ours: &Ours,
    connector: Option<&connector::Read>,
    around: &Around<'_>,
    reader: &Reader<'_>,
) -> Lies {
    let mut lies = Lies::default();
    let mut lie = |place: &Place, value| {
        lies.current.push(At { place: place.clone(), value });
    };
    let documents = match (connector, &ours.publish) {
        (Some(read), _) => read.full_document_only.as_ref(),
        (None, Some(At { place, value: Publish::FullDocument })) => Some(place),
        _ => None,
    };
    match (connector, &ours.format) {
        (Some(connector::Read { simplified: Some(place), .. }), _) => {
            lie(place, "`SimplifiedJson` loses types");
        }
        (None, Some(At { place, value: Format::JsonSimplified })) => {
            lie(place, "`format: json_simplified` loses types");
        }
        _ => {}
    }
    if let (Some(_), Some(place)) = (documents, around.no_documents) {
        let what =
            "`full_document: default` has no documents of updates, and only documents go out";
        reader.complain(place, what, "leave it out");
    }
    // Documents of others are taken for what they are: the whole state.
    if let Some(place) = documents.filter(|_| around.writes) {
        lie(place, "documents alone say nothing of drops and renames");
        let value = "documents alone are no change events";
        lies.raw_cdc = Some(At { place: place.clone(), value });
    }
    lies
}
