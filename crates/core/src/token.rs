//! Resume tokens: kept as the server sent them, decoded only for their time, their place in a
//! transaction, and to tell which of two comes first.
//!
//! A token's `_data` is the hex of a KeyString (MongoDB source, `resume_token.cpp` and
//! `key_string.cpp`):
//!
//! ```text
//!   82 <seconds u32be> <increment u32be>   clusterTime
//!   2B 02                                  version, a small integer: 0, 1 or 2
//!   2C 0100                                token type, from version 1 on: 0 a moment, 128 an event
//!   29                                     txnOpIndex, zero here
//!   6E                                     fromInvalidate, from version 1 on: 6E no, 6F yes
//!   5A 10 04 <16 bytes>                    the collection's UUID; missing in a moment
//!   46 ...                                 what identifies the event: opaque
//!   2B 02                                  the number of a fragment, where there are fragments
//!   04                                     the end
//! ```

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A MongoDB timestamp: the seconds, and a counter within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterTime {
    /// Seconds since 1970.
    pub seconds: u32,
    /// The counter within the second.
    pub increment: u32,
}

impl ClusterTime {
    /// The time of these 64 bits.
    pub const fn of_bits(bits: u64) -> Self {
        Self { seconds: (bits >> 32) as u32, increment: bits as u32 }
    }

    /// The 64 bits in which MongoDB keeps it.
    pub const fn bits(self) -> u64 {
        (self.seconds as u64) << 32 | self.increment as u64
    }
}

/// What a token's `_data` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// When the event happened.
    pub cluster_time: ClusterTime,
    /// The number of the operation within its transaction; 0 outside of one.
    pub txn_op_index: u64,
    /// The token of an `invalidate` event.
    pub from_invalidate: bool,
    version: u64,
    kind: u64,
    /// The collection and what identifies the event, as hex; comparable within one version.
    rest: &'a [u8],
}

const TIMESTAMP: u8 = 0x82;
const NUMERIC_ZERO: u8 = 0x29;
const NUMERIC_POSITIVE_1_BYTE: u8 = 0x2B;
const NUMERIC_POSITIVE_8_BYTE: u8 = 0x32;
const BOOL_FALSE: u8 = 0x6E;
const BOOL_TRUE: u8 = 0x6F;
/// Ends every KeyString.
const END: &[u8] = b"04";
/// The newest version that is known; 8.0 still writes it.
const NEWEST: u64 = 2;
/// The kind of a token that names an event, and not a mere moment.
const EVENT: u64 = 128;

/// Decodes a token's `_data`; `None` when the format is not one that we know.
pub fn decode(data: &[u8]) -> Option<Token<'_>> {
    let mut hex = Hex(data);
    (hex.byte()? == TIMESTAMP).then_some(())?;
    let cluster_time = ClusterTime { seconds: hex.u32()?, increment: hex.u32()? };
    let version = hex.integer()?;
    (version <= NEWEST).then_some(())?;
    let kind = if version > 0 { hex.integer()? } else { EVENT };
    let txn_op_index = hex.integer()?;
    let from_invalidate = version > 0
        && match hex.byte()? {
            BOOL_FALSE => false,
            BOOL_TRUE => true,
            _ => return None,
        };
    Some(Token { cluster_time, txn_op_index, from_invalidate, version, kind, rest: hex.0 })
}

impl Token<'_> {
    /// Whether it names an event; else it names the moment before the events of its time.
    pub const fn is_event(&self) -> bool {
        self.kind == EVENT
    }

    /// Which of two tokens of one cluster comes first in its streams. `None` when that cannot be
    /// told: their formats differ, and so may what identifies the events.
    ///
    /// The parts of an event that was sent in fragments count as the event.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        let times = self.cluster_time.cmp(&other.cluster_time);
        if times.is_ne() {
            return Some(times);
        }
        let (ours, theirs) = (self.front(), other.front());
        if self.version == other.version {
            let (ours_rest, theirs_rest) = (without_end(self.rest), without_end(other.rest));
            // Behind what identifies an event only the number of its fragment can follow.
            let same = ours_rest.starts_with(theirs_rest) || theirs_rest.starts_with(ours_rest);
            let rests = if same { Ordering::Equal } else { ours_rest.cmp(theirs_rest) };
            return Some(ours.cmp(&theirs).then(rests));
        }
        let comparable = self.version > 0 && other.version > 0 && ours != theirs;
        comparable.then(|| ours.cmp(&theirs))
    }

    const fn front(&self) -> (u64, u64, bool) {
        (self.kind, self.txn_op_index, self.from_invalidate)
    }
}

fn without_end(rest: &[u8]) -> &[u8] {
    rest.strip_suffix(END).unwrap_or(rest)
}

/// Hex digits, read from the front.
struct Hex<'a>(&'a [u8]);

impl Hex<'_> {
    fn byte(&mut self) -> Option<u8> {
        let ([high, low], rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(digit(*high)? << 4 | digit(*low)?)
    }

    fn u32(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = value << 8 | u32::from(self.byte()?);
        }
        Some(value)
    }

    /// A KeyString integer that is not negative: a type byte that tells the length, then the value
    /// shifted left by one, its lowest bit telling that no fraction follows.
    fn integer(&mut self) -> Option<u64> {
        let kind = self.byte()?;
        if kind == NUMERIC_ZERO {
            return Some(0);
        }
        (NUMERIC_POSITIVE_1_BYTE..=NUMERIC_POSITIVE_8_BYTE).contains(&kind).then_some(())?;
        let mut value = 0;
        for _ in 0..=kind - NUMERIC_POSITIVE_1_BYTE {
            value = value << 8 | u64::from(self.byte()?);
        }
        (value & 1 == 0).then_some(value >> 1)
    }
}

fn digit(ascii: u8) -> Option<u8> {
    (ascii as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_version_1_tells_time_and_transaction_index() {
        let front = decode(
            b"8265F1A2B3000000072B022C0100296E5A1004AABBCCDDEEFF00112233445566778899\
              46645F6964006465F1A2B3C4D5E6F7A8B9C0D10004",
        )
        .unwrap();
        assert_eq!(front.cluster_time, ClusterTime { seconds: 0x65F1_A2B3, increment: 7 });
        assert_eq!((front.txn_op_index, front.from_invalidate), (0, false));
    }

    #[test]
    fn a_transaction_index_of_any_length_is_read() {
        for (bytes, index) in [
            ("29", 0),
            ("2B02", 1),
            ("2BFE", 127),
            ("2C0100", 128),
            ("2C07CE", 999),
            ("2D020000", 65_536),
        ] {
            let data = format!("8265F1A2B3000000072B022C0100{bytes}6E5A1004");
            assert_eq!(decode(data.as_bytes()).unwrap().txn_op_index, index, "{bytes}");
        }
    }

    #[test]
    fn an_invalidate_token_says_so() {
        let front = decode(b"8265F1A2B3000000072B022C0100296F5A1004").unwrap();
        assert!(front.from_invalidate);
    }

    const KEY: &str = "5A100445BD964E86A14D1397F8F873CBCB6665461E5F6964002B";

    /// The order of tokens of a real 6.0.5, of a transaction, of fragments.
    #[test]
    fn tokens_come_in_the_order_of_their_stream() {
        let tokens = [
            "826B03E054000000052B0229296E04".to_owned(),
            format!("826B03E054000000052B022C0100296E{KEY}02000004"),
            format!("826B03E054000000052B022C0100296E{KEY}04000004"),
            format!("826B03E054000000052B022C0100296F{KEY}04000004"),
            format!("826B03E054000000052B022C01002B026E{KEY}02000004"),
            format!("826B03E054000000052B022C01002C01006E{KEY}02000004"),
            "826B03E054000000062B0229296E04".to_owned(),
        ];
        let decoded: Vec<_> = tokens.iter().map(|data| decode(data.as_bytes()).unwrap()).collect();
        for (i, one) in decoded.iter().enumerate() {
            for (j, other) in decoded.iter().enumerate() {
                assert_eq!(one.compare(other), Some(i.cmp(&j)), "{} {}", tokens[i], tokens[j]);
            }
            assert_eq!(one.is_event(), (1..6).contains(&i));
        }
    }

    #[test]
    fn the_fragments_of_an_event_are_the_event() {
        let whole = format!("826B03E054000000052B022C0100296E{KEY}020004");
        let second = format!("826B03E054000000052B022C0100296E{KEY}02002B0404");
        let (whole, second) =
            (decode(whole.as_bytes()).unwrap(), decode(second.as_bytes()).unwrap());
        assert_eq!(whole.compare(&second), Some(Ordering::Equal));
        assert_eq!(second.compare(&whole), Some(Ordering::Equal));
    }

    #[test]
    fn tokens_of_different_formats_are_compared_only_where_that_is_safe() {
        let token = |version, rest| format!("826B03E054000000052B{version}2C0100{rest}");
        let (one, same, next) =
            (token("02", "296E5A"), token("04", "296E5A"), token("04", "2B026E5A"));
        let (one, same, next) = (
            decode(one.as_bytes()).unwrap(),
            decode(same.as_bytes()).unwrap(),
            decode(next.as_bytes()).unwrap(),
        );
        assert_eq!(one.compare(&same), None);
        assert_eq!(one.compare(&next), Some(Ordering::Less));
        let later = decode(b"826B03E054000000062B0429296E04").unwrap();
        assert_eq!(later.compare(&one), Some(Ordering::Greater));
        assert_eq!(decode(b"826B03E054000000052B062C0100296E5A"), None, "version 3");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for data in ["", "82", "8365F1A2B3000000072B02", "8265F1A2B3000000072B022C0100", "zz"] {
            assert_eq!(decode(data.as_bytes()), None, "{data}");
        }
    }
}
