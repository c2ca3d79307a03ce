//! Metadata: a lane's checkpoint as the short text beside its committed offset.
//!
//! ```text
//!   tw1;<topic id>;<flags>[;<first>-<last>;<declared>;<ts min>;<ts max>;<digest>;<rows>;<mapping>]
//! ```
//!
//! Flags: `r` renumbered, `f` foreign. Rows: `table=count` with `,` between, names as URLs have them.
//! A text of another format is never taken for none.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tailwater_core::position::{Checkpoint, Epoch, Intent, Millis, Plan, Seq, SeqRange};

const VERSION: &str = "tw1";

/// Brokers take 4096 bytes by default; a text is far below.
pub(crate) const MAX_BYTES: usize = 1024;

/// What a text says of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) epoch: Epoch,
    pub(crate) renumbered: bool,
    pub(crate) pending: Option<Intent>,
}

impl Metadata {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { epoch, pending, renumbered, .. } = checkpoint;
        Self { epoch: *epoch, renumbered: *renumbered, pending: pending.clone() }
    }

    pub(crate) fn write(&self) -> String {
        let mut text = format!("{VERSION};{};", self.epoch);
        if self.renumbered {
            text.push('r');
        }
        let Some(intent) = &self.pending else { return text };
        if intent.foreign {
            text.push('f');
        }
        let Plan { ts_min, ts_max, rows, digest, mapping } = &intent.plan;
        let written = write!(
            text,
            ";{};{};{};{};{digest:x};",
            intent.range, intent.declared_at.0, ts_min.0, ts_max.0
        );
        debug_assert!(written.is_ok(), "a String takes everything");
        for (index, (table, count)) in rows.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            escape(table, &mut text);
            let written = write!(text, "={count}");
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        text.push(';');
        text.push_str(mapping.as_deref().unwrap_or_default());
        text
    }

    /// Reads a text; `None` where there is none.
    ///
    /// # Errors
    /// Why it is not one of ours.
    pub(crate) fn read(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut words = text.split(';');
        let version = words.next().unwrap_or_default();
        if version != VERSION {
            return Err("another program, or another version of Tailwater, wrote it".to_owned());
        }
        let wrong = || format!("it is not what `{VERSION}` writes");
        let mut word = || words.next().ok_or_else(wrong);
        let epoch = Epoch::parse(word()?).ok_or_else(wrong)?;
        let flags = word()?;
        let renumbered = flags.contains('r');
        let Ok(range) = word() else {
            return Ok(Some(Self { epoch, renumbered, pending: None }));
        };
        let (first, last) = range.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let range = SeqRange { first: Seq(number(first)?), last: Seq(number(last)?) };
        let mut millis = || word()?.parse().map(Millis).map_err(|_| wrong());
        let (declared_at, ts_min, ts_max) = (millis()?, millis()?, millis()?);
        let digest = u64::from_str_radix(word()?, 16).map_err(|_| wrong())?;
        let mut rows = BTreeMap::new();
        for entry in word()?.split(',').filter(|entry| !entry.is_empty()) {
            let (table, count) = entry.rsplit_once('=').ok_or_else(wrong)?;
            rows.insert(unescape(table).ok_or_else(wrong)?, number(count)?);
        }
        let mapping = Some(word()?.to_owned()).filter(|hash| !hash.is_empty());
        let plan = Plan { ts_min, ts_max, rows, digest, mapping };
        let foreign = flags.contains('f');
        let pending = Some(Intent { range, plan, declared_at, foreign });
        Ok(Some(Self { epoch, renumbered, pending }))
    }
}

fn escape(name: &str, out: &mut String) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let written = write!(out, "%{byte:02x}");
            debug_assert!(written.is_ok(), "a String takes everything");
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pending: bool) -> Metadata {
        let rows = BTreeMap::from([("record_raw".to_owned(), 10), ("a;b,c=é".to_owned(), 2)]);
        let plan = Plan {
            ts_min: Millis(-5),
            ts_max: Millis(i64::MAX),
            rows,
            digest: u64::MAX,
            mapping: Some("00112233445566aa".to_owned()),
        };
        let range = SeqRange { first: Seq(7), last: Seq(u64::MAX) };
        let intent = Intent { range, plan, declared_at: Millis(1_795_000_000_000), foreign: true };
        Metadata {
            epoch: Epoch::new([7; 16]),
            renumbered: true,
            pending: pending.then_some(intent),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for metadata in [metadata(true), metadata(false)] {
            let text = metadata.write();
            assert!(text.is_ascii() && text.len() < MAX_BYTES, "{text}");
            assert_eq!(Metadata::read(&text), Ok(Some(metadata)));
        }
        assert_eq!(Metadata::read(""), Ok(None));
    }

    #[test]
    fn a_text_of_somebody_else_and_a_cut_one_are_refused() {
        assert!(Metadata::read("hello").is_err());
        assert!(Metadata::read("tw2;07;").is_err());
        let text = metadata(true).write();
        let cut = &text[..text.rfind(';').unwrap()];
        assert!(Metadata::read(cut).is_err(), "{cut}");
    }
}
