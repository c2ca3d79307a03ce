//! Values that are larger than a topic takes, cut into chunks. [`super::Joiner`] joins them again.
//!
//! ```text
//!   value ─▶ 0/3 ─▶ 1/3 ─▶ 2/3        one after the other in one partition, in one transaction
//! ```

use bytes::Bytes;

use super::header;
use crate::record::Message;
use crate::{Error, ErrorKind, Result};

/// A batch of one record, by Kafka's format 2, around the record itself: the head of the batch is 61
/// bytes.
const BATCH: usize = 61;
/// Around the key, the value and the headers of a record: its attributes, its time, and five lengths and
/// counts, each number at its longest.
const RECORD: usize = 1 + 10 + 5 * 5;
/// Around the name and the value of a header: their lengths.
const HEADER: usize = 2 * 5;
/// What the header [`header::CHUNK`] holds at its longest.
const CHUNK: usize = 2 * 10 + 1;

/// The bytes that a message takes as the only one of its batch, uncompressed: never less than what
/// the broker counts, and more by at most some twenty a header.
pub fn bytes_in_batch(message: &Message) -> usize {
    frame(message) + message.value.as_ref().map_or(0, Bytes::len)
}

/// All but the value. A copy that makes no row is told so on the way, so its header counts as well.
fn frame(message: &Message) -> usize {
    let header = |name: &str, value: usize| HEADER + name.len() + value;
    let headers = message.headers.iter().map(|(name, value)| header(name, value.len()));
    BATCH
        + RECORD
        + message.key.as_ref().map_or(0, Bytes::len)
        + headers.sum::<usize>()
        + header(header::ROW, header::NO.len())
}

/// Appends the message, in chunks where it takes more than `limit` bytes.
///
/// # Errors
/// `Refused` when it cannot be cut: its key and headers alone are too large, or it has no headers, as
/// those of `compat`, so that no reader could join it.
pub fn chunks(message: Message, limit: usize, out: &mut Vec<Message>) -> Result<()> {
    if bytes_in_batch(&message) <= limit {
        out.push(message);
        return Ok(());
    }
    let refused = |why| {
        let what = format!("cannot cut a message for the topic `{}`: {why}", message.topic);
        Error::new(ErrorKind::Refused, what).with_hint("enlarge `max.message.bytes` of the topic")
    };
    let value = message.value.clone().unwrap_or_default();
    if message.headers.is_empty() {
        return Err(refused("messages without headers cannot be joined again"));
    }
    let around = frame(&message) + HEADER + header::CHUNK.len() + CHUNK;
    let room = limit.saturating_sub(around);
    if room == 0 || value.is_empty() {
        return Err(refused("its key and headers are larger than the topic takes"));
    }
    let count = value.len().div_ceil(room);
    for index in 0..count {
        let mut chunk = message.clone();
        chunk.value = Some(value.slice(index * room..value.len().min((index + 1) * room)));
        chunk.headers.push((header::CHUNK.into(), format!("{index}/{count}").into()));
        out.push(chunk);
    }
    Ok(())
}
