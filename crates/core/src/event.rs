//! ChangeEvent: one change stream document, indexed in one walk and never decoded as a whole.
//!
//! An event keeps the server's bytes. Nothing here copies or changes them.

use std::ops::Range;

use bytes::Bytes;

use crate::bson::{BsonError, Doc, Value};
use crate::position::Millis;
use crate::token::{self, ClusterTime};
use crate::{Error, ErrorKind, Result};

/// A change event in the server's own bytes, with the places of the fields that everything needs.
#[derive(Debug, Clone)]
pub struct ChangeEvent {
    bytes: Bytes,
    token: Span,
    token_data: Span,
    operation_type: Span,
    db: Span,
    coll: Span,
    to_db: Span,
    to_coll: Span,
    document_key: Span,
    full_document: Span,
    before: Span,
    cluster_time: ClusterTime,
    /// The low half of the version.
    order: u64,
    wall_time: Option<Millis>,
    /// `fullDocument` is there, and null.
    null_image: bool,
    looked_up: bool,
    listed: bool,
    typed: bool,
    in_one_lane: bool,
}

/// A place in the event's bytes; empty when the field is missing or null.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(part: &[u8], whole: &[u8]) -> Self {
        // A BSON document is at most 16 MiB and some; a larger one was refused before.
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        let end = start.wrapping_add(part.len());
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::default(),
        }
    }

    const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl ChangeEvent {
    /// Indexes an event.
    ///
    /// # Errors
    /// `Refused` when the bytes are no change event: not BSON, no resume token, no cluster time.
    pub fn index(bytes: Bytes) -> Result<Self> {
        let mut event = Self::places(bytes)?;
        event.place_in_time()?;
        Ok(event)
    }

    /// Indexes an event that has no resume token: its place in time is what another source says.
    ///
    /// # Errors
    /// `Refused` when the bytes are not BSON.
    pub fn placed(bytes: Bytes, version: u128) -> Result<Self> {
        let mut event = Self::places(bytes)?;
        event.cluster_time = ClusterTime::of_bits((version >> 64) as u64);
        event.order = version as u64;
        Ok(event)
    }

    /// Finds the places of the fields.
    fn places(bytes: Bytes) -> Result<Self> {
        let mut event = Self {
            token: Span::default(),
            token_data: Span::default(),
            operation_type: Span::default(),
            db: Span::default(),
            coll: Span::default(),
            to_db: Span::default(),
            to_coll: Span::default(),
            document_key: Span::default(),
            full_document: Span::default(),
            before: Span::default(),
            cluster_time: ClusterTime { seconds: 0, increment: 0 },
            order: 0,
            wall_time: None,
            null_image: false,
            looked_up: true,
            listed: true,
            typed: true,
            in_one_lane: false,
            bytes: Bytes::new(),
        };
        let whole: &[u8] = &bytes;
        let malformed = |error| malformed("it is not BSON").with_source(error);
        for element in Doc::new(whole).map_err(malformed)?.elements() {
            let element = element.map_err(malformed)?;
            match (element.key, element.value) {
                (b"_id", Value::Document(token)) => {
                    event.token = Span::of(token.as_bytes(), whole);
                    if let Some(Value::String(data)) = token.get(b"_data").map_err(malformed)? {
                        event.token_data = Span::of(data, whole);
                    }
                }
                (b"operationType", Value::String(text)) => {
                    event.operation_type = Span::of(text, whole);
                }
                (b"clusterTime", Value::Timestamp { t, i }) => {
                    event.cluster_time = ClusterTime { seconds: t, increment: i };
                }
                (b"wallTime", Value::DateTime(millis)) => event.wall_time = Some(Millis(millis)),
                (b"ns", Value::Document(ns)) => {
                    (event.db, event.coll) = namespace(ns, whole).map_err(malformed)?;
                }
                (b"to", Value::Document(to)) => {
                    (event.to_db, event.to_coll) = namespace(to, whole).map_err(malformed)?;
                }
                (b"documentKey", Value::Document(key)) => {
                    event.document_key = Span::of(key.as_bytes(), whole)
                }
                (b"fullDocument", Value::Document(doc)) => {
                    event.full_document = Span::of(doc.as_bytes(), whole);
                }
                (b"fullDocument", Value::Null) => event.null_image = true,
                (b"fullDocumentBeforeChange", Value::Document(doc)) => {
                    event.before = Span::of(doc.as_bytes(), whole);
                }
                _ => {}
            }
        }
        event.bytes = bytes;
        Ok(event)
    }

    /// The same event with other bytes, of which nothing but its documents changed.
    ///
    /// # Errors
    /// As `index`.
    pub(crate) fn rewritten(&self, bytes: Vec<u8>) -> Result<Self> {
        let Self { cluster_time, order, looked_up, listed, typed, in_one_lane, .. } = *self;
        let places = Self::places(bytes.into())?;
        Ok(Self { cluster_time, order, looked_up, listed, typed, in_one_lane, ..places })
    }

    fn place_in_time(&mut self) -> Result<()> {
        let Some(token) = token::decode(self.token_data()) else {
            return Err(malformed("its resume token has a format that this version does not know"));
        };
        let (cluster_time, index) = (token.cluster_time, token.txn_op_index);
        self.order = index.saturating_add(1);
        // `invalidate` events of old servers carry no cluster time of their own.
        if self.cluster_time.bits() == 0 {
            self.cluster_time = cluster_time;
        }
        Ok(())
    }

    /// The whole event.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole event as a document.
    ///
    /// # Errors
    /// None: its bounds were checked while indexing.
    pub fn document(&self) -> Result<Doc<'_>, BsonError> {
        Doc::new(&self.bytes)
    }

    /// The resume token, a document; empty where there is none.
    pub fn token(&self) -> &[u8] {
        self.slice(self.token)
    }

    /// The text of the resume token.
    pub fn token_data(&self) -> &[u8] {
        self.slice(self.token_data)
    }

    /// MongoDB's `operationType`.
    pub fn operation_type(&self) -> &[u8] {
        self.slice(self.operation_type)
    }

    /// The database of the namespace.
    pub fn db(&self) -> &[u8] {
        self.slice(self.db)
    }

    /// The collection of the namespace; empty for events of a database.
    pub fn coll(&self) -> &[u8] {
        self.slice(self.coll)
    }

    /// The new database and collection of a `rename`; empty otherwise.
    pub fn renamed_to(&self) -> (&[u8], &[u8]) {
        (self.slice(self.to_db), self.slice(self.to_coll))
    }

    /// The document key; `None` for events that concern no document.
    pub fn document_key(&self) -> Option<Doc<'_>> {
        self.inner(self.document_key)
    }

    /// The post-image, where there is one.
    pub fn full_document(&self) -> Option<Doc<'_>> {
        self.inner(self.full_document)
    }

    /// The pre-image, where there is one.
    pub fn before(&self) -> Option<Doc<'_>> {
        self.inner(self.before)
    }

    /// When the event happened, in the cluster's own time.
    pub const fn cluster_time(&self) -> ClusterTime {
        self.cluster_time
    }

    /// The number of the operation within its transaction; 0 outside of one. Of events without a
    /// resume token, what orders those of one cluster time.
    pub const fn txn_op_index(&self) -> u64 {
        self.order.saturating_sub(1)
    }

    /// When the event happened: the server's wall clock, else the seconds of its cluster time.
    pub fn ts(&self) -> Millis {
        self.wall_time.unwrap_or(Millis(i64::from(self.cluster_time.seconds) * 1000))
    }

    /// The order of the event among all versions of a document. The low half leaves 0 to copied
    /// rows, so that on equal times the stream wins.
    pub const fn version(&self) -> u128 {
        (self.cluster_time.bits() as u128) << 64 | self.order as u128
    }

    /// Appends the text by which people and other tools know the event:
    /// `mongo:<db>.<coll>:<doc_id>:<op>:<t>.<i>`, and behind it the number within the transaction where
    /// that is above 0.
    pub fn idempotency_key(&self, doc_id: &[u8], out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        for part in [b"mongo:", self.db(), b".", self.coll(), b":", doc_id, b":"] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(self.operation_type());
        out.push(b':');
        out.extend_from_slice(number.format(self.cluster_time.seconds).as_bytes());
        out.push(b'.');
        out.extend_from_slice(number.format(self.cluster_time.increment).as_bytes());
        if self.txn_op_index() > 0 {
            out.push(b'.');
            out.extend_from_slice(number.format(self.txn_op_index()).as_bytes());
        }
    }

    /// The same event, of a kind that is read for the current state alone.
    #[must_use]
    pub fn unlisted(mut self) -> Self {
        self.listed = false;
        self
    }

    /// The same event, read without a lookup: where its image is null, none was recorded.
    #[must_use]
    pub fn not_looked_up(mut self) -> Self {
        self.looked_up = false;
        self
    }

    /// The same event, of whose values the types were lost on the way.
    #[must_use]
    pub fn untyped(mut self) -> Self {
        self.typed = false;
        self
    }

    /// Whether its values have the types that they have in MongoDB. Where they do not, it must not
    /// become the current state, which is a copy.
    pub const fn is_typed(&self) -> bool {
        self.typed
    }

    /// Whether it is listed: not of a kind that is read for the current state alone.
    pub const fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether a lookup was asked for when it was read.
    pub const fn is_looked_up(&self) -> bool {
        self.looked_up
    }

    /// The same event, by a producer that puts it into one partition, whatever it is: not even the end
    /// of a collection comes in the others.
    #[must_use]
    pub fn in_one_lane(mut self) -> Self {
        self.in_one_lane = true;
        self
    }

    /// Whether it comes in one partition alone, although it may concern documents in all.
    pub const fn is_in_one_lane(&self) -> bool {
        self.in_one_lane
    }

    /// Whether it has a row of its own. An `invalidate` only ends a stream.
    pub fn has_row(&self) -> bool {
        self.listed && !self.is_invalidate()
    }

    /// An update whose looked-up document is gone: a later event says what became of it.
    pub fn is_superseded(&self) -> bool {
        self.looked_up && self.null_image && self.operation_type() == b"update"
    }

    /// Whether it tells what its document is from now on. An update without an image does not, and
    /// must never become an empty document, or a deleted one.
    pub fn tells_state(&self) -> bool {
        let document = self.document_key().is_some();
        document && (self.full_document().is_some() || self.operation_type() == b"delete")
    }

    /// The end of a stream, which only says that a later one must start after it.
    pub fn is_invalidate(&self) -> bool {
        self.operation_type() == b"invalidate"
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    fn inner(&self, span: Span) -> Option<Doc<'_>> {
        match span.start == span.end {
            true => None,
            // Its bounds were checked while indexing.
            false => Doc::new(self.slice(span)).ok(),
        }
    }
}

/// The database and the collection of a namespace.
fn namespace(ns: Doc<'_>, whole: &[u8]) -> Result<(Span, Span), BsonError> {
    let (mut db, mut coll) = (Span::default(), Span::default());
    for element in ns.elements() {
        let element = element?;
        match (element.key, element.value) {
            (b"db", Value::String(text)) => db = Span::of(text, whole),
            (b"coll", Value::String(text)) => coll = Span::of(text, whole),
            _ => {}
        }
    }
    Ok((db, coll))
}

fn malformed(why: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("cannot read a change event: {why}"))
}
