//! The headers of a message, by name. All are text but [`KEY`].
//!
//! A contract with everybody who reads the topics: `docs/messages.md`.

/// The format of the value, as [`super::Format::name`] has it, or [`NORMALIZED`].
pub const FORMAT: &str = "tw-format";
/// MongoDB's `operationType`, or [`TOMBSTONE`].
pub const OP: &str = "tw-op";
/// The namespace: the database, and behind a dot the collection where there is one.
pub const NS: &str = "tw-ns";
/// The order among all versions of the document, decimal.
pub const VERSION: &str = "tw-version";
/// When it happened: milliseconds since 1970, decimal.
pub const TS: &str = "tw-ts";
/// `i/n`: the value is the part `i`, from 0 on, of `n`.
pub const CHUNK: &str = "tw-chunk";
/// `0`: it makes no row in event tables.
pub const ROW: &str = "tw-row";
/// `0`: it was read without a lookup.
pub const LOOKUP: &str = "tw-lookup";
/// [`DOCUMENT`]: the value is the document, not the change event.
pub const VALUE: &str = "tw-value";
/// The document key as BSON, where the message's key is JSON that cannot carry it.
pub const KEY: &str = "tw-key";

/// The reason of a dead letter.
pub const REASON: &str = "tw-reason";
/// What exactly was said of a dead letter.
pub const ERROR: &str = "tw-error";
/// The topic that a dead letter was in.
pub const TOPIC: &str = "tw-topic";
/// The partition that a dead letter was in, decimal.
pub const PARTITION: &str = "tw-partition";
/// The offset that a dead letter had, decimal.
pub const OFFSET: &str = "tw-offset";
/// The epoch of the topic that a dead letter was in, 32 hex digits.
pub const EPOCH: &str = "tw-epoch";
/// What [`CHUNK`] was of a dead letter.
pub const WAS_CHUNK: &str = "tw-was-chunk";
/// When a dead letter was produced again, milliseconds since 1970, decimal: on its record, and on the mark
/// beside the letter, which has nothing else but the headers that name the letter.
pub const REPLAYED: &str = "tw-replayed";

/// The format of normalized events.
pub const NORMALIZED: &str = "normalized";
/// What [`VALUE`] says of documents.
pub const DOCUMENT: &str = "document";
/// What [`OP`] says of the null that follows the event of a delete.
pub const TOMBSTONE: &str = "tombstone";
/// What [`ROW`] and [`LOOKUP`] say.
pub const NO: &str = "0";
