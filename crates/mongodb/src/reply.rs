//! Reply: one answer of the server taken apart, and large events put together again.
//!
//! From 6.0.9 and 7.0 on the server cuts an event of more than 16 MB into fragments, each with some
//! of its fields and with a token of its own. Only the last fragment's token is a position.

use bson::RawDocumentBuf;
use bytes::Bytes;
use tailwater_core::bson::{BsonError, Doc, Value};
use tailwater_core::{Error, ErrorKind, Result};

/// One answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The events or fragments, as slices of the answer.
    pub(crate) events: Vec<Bytes>,
    /// Where the server has looked up to.
    pub(crate) post_batch_token: Option<RawDocumentBuf>,
}

fn malformed(error: BsonError) -> Error {
    Error::new(ErrorKind::Unreachable, "MongoDB sent a reply that is not BSON").with_source(error)
}

/// A resume token of its own.
///
/// # Errors
/// When it is not BSON.
pub(crate) fn token(bytes: &[u8]) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(bytes.to_vec()).map_err(|error| {
        Error::new(ErrorKind::Unreachable, "MongoDB sent a resume token that is not BSON")
            .with_source(error)
    })
}

impl Answer {
    /// Takes an answer apart.
    ///
    /// # Errors
    /// `Unreachable` when it is not BSON: something on the way has broken it.
    pub(crate) fn unpack(answer: Bytes) -> Result<Self> {
        let mut events = Vec::new();
        let mut post_batch_token = None;
        for element in Doc::new(&answer).map_err(malformed)?.elements() {
            let element = element.map_err(malformed)?;
            let (b"cursor", Value::Document(cursor)) = (element.key, element.value) else {
                continue;
            };
            for element in cursor.elements() {
                let element = element.map_err(malformed)?;
                match (element.key, element.value) {
                    (b"firstBatch" | b"nextBatch", Value::Array(batch)) => {
                        for element in batch.elements() {
                            if let Value::Document(event) = element.map_err(malformed)?.value {
                                events.push(answer.slice_ref(event.as_bytes()));
                            }
                        }
                    }
                    (b"postBatchResumeToken", Value::Document(token)) => {
                        post_batch_token = Some(token.as_bytes());
                    }
                    _ => {}
                }
            }
        }
        let post_batch_token = post_batch_token.map(token).transpose()?;
        Ok(Self { events, post_batch_token })
    }
}

/// The fragments of an event that is not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Fragments(Vec<Bytes>);

impl Fragments {
    /// Whether the middle of an event was the last that came.
    pub(crate) fn are_pending(&self) -> bool {
        !self.0.is_empty()
    }

    /// Forgets an event that is not whole.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes an event or a fragment; gives an event that is whole.
    ///
    /// # Errors
    /// `Unreachable` when fragments are missing: they come again from the last position.
    pub(crate) fn take(&mut self, event: Bytes) -> Result<Option<Bytes>> {
        let split = Doc::new(&event).and_then(|doc| doc.get(b"splitEvent")).map_err(malformed)?;
        let number = |doc: Doc<'_>, key: &[u8]| match doc.get(key) {
            Ok(Some(Value::Int32(number))) => usize::try_from(number).ok(),
            Ok(Some(Value::Int64(number))) => usize::try_from(number).ok(),
            _ => None,
        };
        let (fragment, of) = match split {
            Some(Value::Document(split)) => (number(split, b"fragment"), number(split, b"of")),
            _ => (Some(1), Some(1)),
        };
        match (fragment, of) {
            (Some(1), Some(1)) if self.0.is_empty() => Ok(Some(event)),
            (Some(fragment), Some(of)) if fragment == self.0.len() + 1 && fragment <= of => {
                self.0.push(event);
                (fragment == of).then(|| join(&std::mem::take(&mut self.0))).transpose()
            }
            _ => {
                Err(Error::new(ErrorKind::Unreachable, "MongoDB sent fragments out of their order"))
            }
        }
    }
}

/// The fields of all fragments, under the token of the last.
fn join(fragments: &[Bytes]) -> Result<Bytes> {
    let mut out = vec![0; 4];
    for (at, fragment) in fragments.iter().enumerate() {
        let last = at + 1 == fragments.len();
        let doc = Doc::new(fragment).map_err(malformed)?;
        let mut start = 4;
        let mut elements = doc.elements().peekable();
        while let Some(element) = elements.next() {
            let element = element.map_err(malformed)?;
            let end = match elements.peek() {
                // One byte before its name begins an element.
                Some(Ok(next)) => next.key.as_ptr() as usize - doc.as_bytes().as_ptr() as usize - 1,
                _ => fragment.len() - 1,
            };
            let kept = match element.key {
                b"_id" => last,
                key => key != b"splitEvent",
            };
            if kept {
                out.extend_from_slice(&fragment[start..end]);
            }
            start = end;
        }
    }
    out.push(0);
    let length = i32::try_from(out.len()).map_err(|error| {
        Error::new(ErrorKind::Unsuitable, "an event of more than 2 GB cannot be read")
            .with_source(error)
    })?;
    out[..4].copy_from_slice(&length.to_le_bytes());
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, doc};

    fn bytes(document: Document) -> Bytes {
        document.to_vec().unwrap().into()
    }

    fn fragment(number: i32, of: i32, fields: Document) -> Bytes {
        let mut event = doc! { "_id": { "_data": format!("82{number}") },
        "splitEvent": { "fragment": number, "of": of } };
        event.extend(fields);
        bytes(event)
    }

    #[test]
    fn fragments_become_the_event_under_the_last_ones_token() {
        let mut fragments = Fragments::default();
        let first = fragment(1, 3, doc! { "operationType": "update", "ns": { "db": "d" } });
        assert_eq!(fragments.take(first).unwrap(), None);
        assert!(fragments.are_pending());
        let second = fragment(2, 3, doc! { "fullDocument": { "_id": 1 } });
        assert_eq!(fragments.take(second).unwrap(), None);
        let third = fragment(3, 3, doc! { "updateDescription": { "removedFields": [] } });
        let whole = fragments.take(third).unwrap().unwrap();
        assert_eq!(
            Document::from_reader(&whole[..]).unwrap(),
            doc! {
                "operationType": "update", "ns": { "db": "d" }, "fullDocument": { "_id": 1 },
                "_id": { "_data": "823" }, "updateDescription": { "removedFields": [] },
            }
        );
        assert!(!fragments.are_pending());
    }

    #[test]
    fn what_is_whole_passes_as_it_is() {
        let mut fragments = Fragments::default();
        let event = bytes(doc! { "_id": { "_data": "82" }, "operationType": "insert" });
        assert_eq!(fragments.take(event.clone()).unwrap(), Some(event));
        let only = fragment(1, 1, doc! { "operationType": "insert" });
        assert_eq!(fragments.take(only.clone()).unwrap(), Some(only));
    }

    #[test]
    fn a_missing_fragment_is_noticed() {
        for second in [fragment(3, 3, doc! {}), fragment(1, 3, doc! {}), bytes(doc! { "_id": {} })]
        {
            let mut fragments = Fragments::default();
            assert_eq!(fragments.take(fragment(1, 3, doc! {})).unwrap(), None);
            assert_eq!(fragments.take(second).unwrap_err().kind(), ErrorKind::Unreachable);
        }
    }

    #[test]
    fn an_answer_gives_its_events_and_where_the_server_has_looked_up_to() {
        let answer = bytes(doc! { "cursor": {
            "nextBatch": [{ "_id": { "_data": "1" } }, { "_id": { "_data": "2" } }],
            "postBatchResumeToken": { "_data": "3" },
        }, "ok": 1 });
        let answer = Answer::unpack(answer).unwrap();
        assert_eq!(answer.events.len(), 2);
        assert_eq!(answer.post_batch_token.unwrap().get_str("_data").unwrap(), "3");
        assert!(Answer::unpack(Bytes::from_static(b"no")).is_err());
    }
}
