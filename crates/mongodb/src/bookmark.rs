//! Bookmark: where a change stream goes on, as the cursor of a position.

use bson::{RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use bytes::Bytes;
use tailwater_core::{Error, ErrorKind, Result};

/// Where a change stream goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Bookmark {
    /// Behind the event, or the moment, that a resume token names.
    After(RawDocumentBuf),
    /// At a cluster time, itself included.
    At(Timestamp),
}

impl Bookmark {
    /// The bytes that a checkpoint keeps.
    pub fn encode(&self) -> Bytes {
        let document = match self {
            Self::After(token) => rawdoc! { "after": token.clone() },
            Self::At(time) => rawdoc! { "at": *time },
        };
        Bytes::copy_from_slice(document.as_bytes())
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "cannot read a stream's bookmark");
        let document =
            RawDocument::from_bytes(bytes).map_err(|error| corrupt().with_source(error))?;
        if let Ok(token) = document.get_document("after") {
            return Ok(Self::After(token.to_owned()));
        }
        document.get_timestamp("at").map(Self::At).map_err(|error| corrupt().with_source(error))
    }

    /// Adds the bookmark to the options of a `$changeStream` stage.
    ///
    /// `startAfter` takes every token; `resumeAfter` refuses that of an `invalidate` event.
    pub(crate) fn apply(&self, stage: &mut bson::Document) -> Result<()> {
        let option = match self {
            Self::After(token) => {
                let token = bson::Document::try_from(token.as_ref()).map_err(|error| {
                    Error::new(ErrorKind::Corrupt, "a resume token is not BSON").with_source(error)
                })?;
                doc! { "startAfter": token }
            }
            Self::At(time) => doc! { "startAtOperationTime": *time },
        };
        stage.extend(option);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_reads_back_what_it_wrote() {
        for bookmark in [
            Bookmark::After(rawdoc! { "_data": "8265" }),
            Bookmark::At(Timestamp { time: 7, increment: 9 }),
        ] {
            assert_eq!(Bookmark::decode(&bookmark.encode()).unwrap(), bookmark);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"abc", rawdoc! { "x": 1 }.as_bytes()] {
            assert_eq!(Bookmark::decode(bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
