//! Bookmark: where a change stream goes on, and what it was read of, as the cursor of a position.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::{Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use bytes::Bytes;
use tailwater_core::token::{self, ClusterTime, Token};
use tailwater_core::{Error, ErrorKind, Result};

/// The kinds of events that a stream lists; `None`: all.
pub type Operations = Option<BTreeSet<String>>;

/// Where a change stream goes on, and what it was read of.
#[derive(Debug, Clone, PartialEq)]
pub struct Bookmark {
    /// Where it goes on.
    pub place: Place,
    /// What the stream listed that led here: an event is found again only by a stream that has it.
    pub operations: Operations,
    /// What the stream lists from here on: with it the events behind the place are numbered.
    pub reading: Operations,
    /// The replica set's own id, where the server told it.
    pub replica_set: Option<ObjectId>,
}

/// A place in the history of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// Behind the event, or the moment, that a resume token names.
    After(RawDocumentBuf),
    /// At a cluster time, itself included.
    At(Timestamp),
}

impl Bookmark {
    /// The same stream's bookmark at another time, to the second.
    #[must_use]
    pub fn at(&self, seconds: u32) -> Self {
        let place = Place::At(Timestamp { time: seconds, increment: 0 });
        // What it listed before does not matter: no event of it is looked for.
        Self { place, operations: self.reading.clone(), ..self.clone() }
    }

    /// The bytes that a checkpoint keeps.
    pub fn encode(&self) -> Bytes {
        let mut document = match &self.place {
            Place::After(token) => rawdoc! { "after": token.clone() },
            Place::At(time) => rawdoc! { "at": *time },
        };
        let text = |operations: &BTreeSet<String>| {
            operations.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        };
        if let Some(operations) = &self.operations {
            document.append(bson::raw::cstr!("operations"), text(operations));
        }
        if self.reading != self.operations {
            let reading = self.reading.as_ref();
            let reading = reading.map_or(RawBson::Null, |reading| text(reading).into());
            document.append(bson::raw::cstr!("reading"), reading);
        }
        if let Some(id) = self.replica_set {
            document.append(bson::raw::cstr!("replica_set"), id);
        }
        Bytes::copy_from_slice(document.as_bytes())
    }

    /// Reads what `encode` wrote. Bookmarks of earlier versions hold a place alone: of all events.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "cannot read a stream's bookmark");
        let document =
            RawDocument::from_bytes(bytes).map_err(|error| corrupt().with_source(error))?;
        let place = match document.get_document("after") {
            Ok(token) => Place::After(token.to_owned()),
            Err(_) => document
                .get_timestamp("at")
                .map(Place::At)
                .map_err(|error| corrupt().with_source(error))?,
        };
        let list = |names: &str| -> BTreeSet<String> {
            names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let operations = document.get_str("operations").ok().map(list);
        let reading = match document.get("reading") {
            Ok(Some(RawBsonRef::Null)) => None,
            Ok(Some(RawBsonRef::String(names))) => Some(list(names)),
            _ => operations.clone(),
        };
        let replica_set = document.get_object_id("replica_set").ok();
        Ok(Self { place, operations, reading, replica_set })
    }
}

impl Place {
    /// The text of the resume token; `None` for a time.
    pub(crate) fn token_data(&self) -> Option<&str> {
        match self {
            Self::After(token) => token.get_str("_data").ok(),
            Self::At(_) => None,
        }
    }

    /// The decoded resume token; `None` for a time, and for a format that is not known.
    pub(crate) fn token(&self) -> Option<Token<'_>> {
        self.token_data().and_then(|data| token::decode(data.as_bytes()))
    }

    /// Its cluster time; `None` for a token whose format is not known.
    pub fn time(&self) -> Option<ClusterTime> {
        match self {
            Self::After(_) => self.token().map(|token| token.cluster_time),
            Self::At(time) => Some(ClusterTime { seconds: time.time, increment: time.increment }),
        }
    }

    /// The options of a `$changeStream` stage that go on here.
    ///
    /// `startAfter` takes every token; `resumeAfter` refuses that of an `invalidate` event.
    pub(crate) fn options(&self) -> Result<Document> {
        match self {
            Self::After(token) => {
                let token = Document::try_from(token.as_ref()).map_err(|error| {
                    Error::new(ErrorKind::Corrupt, "a resume token is not BSON").with_source(error)
                })?;
                Ok(doc! { "startAfter": token })
            }
            Self::At(time) => Ok(doc! { "startAtOperationTime": *time }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_reads_back_what_it_wrote() {
        let lists = [None, Some(&[][..]), Some(&["insert"]), Some(&["insert", "delete"])];
        let lists =
            lists.map(|names| names.map(|names| names.iter().map(|s| (*s).to_owned()).collect()));
        for (place, replica_set) in [
            (Place::After(rawdoc! { "_data": "8265" }), None),
            (Place::At(Timestamp { time: 7, increment: 9 }), Some(ObjectId::new())),
        ] {
            for (operations, reading) in
                lists.iter().flat_map(|a| lists.iter().map(move |b| (a, b)))
            {
                let (operations, reading) = (operations.clone(), reading.clone());
                let bookmark = Bookmark { place: place.clone(), operations, reading, replica_set };
                assert_eq!(Bookmark::decode(&bookmark.encode()).unwrap(), bookmark);
            }
        }
    }

    #[test]
    fn a_bookmark_of_an_earlier_version_is_of_all_events() {
        let bookmark = Bookmark::decode(rawdoc! { "after": { "_data": "82" } }.as_bytes()).unwrap();
        assert_eq!(
            (bookmark.operations, bookmark.reading, bookmark.replica_set),
            (None, None, None)
        );
        let bytes = rawdoc! { "after": { "_data": "82" }, "operations": "delete,insert" };
        let bookmark = Bookmark::decode(bytes.as_bytes()).unwrap();
        assert!(bookmark.reading.is_some() && bookmark.reading == bookmark.operations);
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"abc", rawdoc! { "x": 1 }.as_bytes()] {
            assert_eq!(Bookmark::decode(bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
