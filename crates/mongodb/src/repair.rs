//! Repair: going on where the server does not take a resume token.
//!
//! ```text
//!   the token T of an event that the stream no longer lists: 280, "resume token was not found"
//!     prove    read from T's time, listing what T was read with, until T itself comes
//!     reopen   at T's time, listing what is wanted now
//!     drop     every event up to T, by the decoded tokens; nothing behind it
//! ```
//!
//! Without the proof a cluster that never had T would go on in silence.

use std::cmp::Ordering;

use bson::Timestamp;
use tailwater_core::token::{self, Token};
use tailwater_core::{Error, ErrorKind, Result};

use crate::bookmark::Place;

/// Events that come again after a repair.
#[derive(Debug)]
pub(crate) struct Overlap {
    /// The token's text: everything up to it was read before.
    until: String,
}

impl Overlap {
    /// The overlap of going on at the time of a place.
    ///
    /// # Errors
    /// `WrongHistory` when it cannot be told where the place lies.
    pub(crate) fn of(place: &Place, entry: &str) -> Result<Self> {
        let undecidable = |why: &str| {
            let what = format!("cannot tell where the change stream of `{entry}` goes on: {why}");
            Error::new(ErrorKind::WrongHistory, what).with_hint(
                "start once more with the server and the `operations` of the last run, then change \
                 one of them",
            )
        };
        let Some(token) = place.token() else {
            return Err(undecidable("MongoDB refuses its resume token, whose format is unknown"));
        };
        if token.from_invalidate {
            return Err(undecidable("MongoDB refuses the resume token of its `invalidate` event"));
        }
        Ok(Self { until: place.token_data().unwrap_or_default().to_owned() })
    }

    fn token(&self) -> Result<Token<'_>> {
        token::decode(self.until.as_bytes())
            .ok_or_else(|| Error::new(ErrorKind::Bug, "a repair began without a known token"))
    }

    /// Where the stream is opened.
    pub(crate) fn start(&self) -> Result<Place> {
        let time = self.token()?.cluster_time;
        Ok(Place::At(Timestamp { time: time.seconds, increment: time.increment }))
    }

    /// Whether it ends with an event, which can be looked for; else with a mere moment.
    pub(crate) fn ends_with_event(&self) -> Result<bool> {
        Ok(self.token()?.is_event())
    }

    /// Where the event or the moment of another token lies: before its end, at it, or behind.
    ///
    /// # Errors
    /// `WrongHistory` when that cannot be told: dropping it could lose it, keeping it could repeat it.
    pub(crate) fn place(&self, data: &[u8]) -> Result<Ordering> {
        if data == self.until.as_bytes() {
            return Ok(Ordering::Equal);
        }
        let until = self.token()?;
        let order = token::decode(data).and_then(|token| token.compare(&until));
        order.ok_or_else(|| {
            Error::new(
                ErrorKind::WrongHistory,
                "cannot tell which events were read before: the resume tokens of this server have \
                 another format than those of the last run",
            )
            .with_hint(
                "start once with the `operations` of the last run and this server, then change them",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    const KEY: &str = "5A100445BD964E86A14D1397F8F873CBCB6665461E5F6964002B02000004";

    fn place(data: &str) -> Place {
        Place::After(rawdoc! { "_data": data })
    }

    #[test]
    fn what_was_read_before_is_told_from_what_was_not() {
        let token = |index: &str| format!("826B03E054000000052B022C0100{index}6E{KEY}");
        let overlap = Overlap::of(&place(&token("2B04")), "d.c").unwrap();
        assert_eq!(
            overlap.start().unwrap(),
            Place::At(Timestamp { time: 0x6B03_E054, increment: 5 })
        );
        for (index, order) in [
            ("29", Ordering::Less),
            ("2B02", Ordering::Less),
            ("2B04", Ordering::Equal),
            ("2B06", Ordering::Greater),
        ] {
            assert_eq!(overlap.place(token(index).as_bytes()).unwrap(), order, "{index}");
        }
        let moment = b"826B03E054000000062B0229296E04";
        assert_eq!(overlap.place(moment).unwrap(), Ordering::Greater);
    }

    #[test]
    fn what_cannot_be_told_stops() {
        for data in
            ["8365", "826B03E054000000052B062C0100296E04", "826B03E054000000052B022C0100296F04"]
        {
            let error = Overlap::of(&place(data), "d.c").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongHistory, "{data}");
        }
        let overlap = Overlap::of(&place(&format!("826B03E054000000052B022C0100296E{KEY}")), "d.c");
        let other_format = format!("826B03E054000000052B042C0100296E{KEY}");
        let error = overlap.unwrap().place(other_format.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongHistory);
    }
}
