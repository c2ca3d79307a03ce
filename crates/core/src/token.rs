//! Resume tokens: kept as the server sent them, decoded only for their time and their place in a
//! transaction.
//!
//! A token's `_data` is the hex of a KeyString (MongoDB source, `resume_token.cpp` and
//! `key_string.cpp`):
//!
//! ```text
//!   82 <seconds u32be> <increment u32be>   clusterTime
//!   2B 02                                  version, a small integer
//!   2C 0100                                token type, from version 1 on: 0 or 128
//!   29                                     txnOpIndex, zero here
//!   6E                                     fromInvalidate, from version 1 on: 6E no, 6F yes
//!   5A 10 04 <16 bytes>                    the collection's UUID, or 14 for none
//!   46 ...                                 what identifies the event: opaque
//! ```

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
    /// The 64 bits in which MongoDB keeps it.
    pub const fn bits(self) -> u64 {
        (self.seconds as u64) << 32 | self.increment as u64
    }
}

/// The decoded front of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenFront {
    /// When the event happened.
    pub cluster_time: ClusterTime,
    /// The number of the operation within its transaction; 0 outside of one.
    pub txn_op_index: u64,
    /// The token of an `invalidate` event.
    pub from_invalidate: bool,
}

const TIMESTAMP: u8 = 0x82;
const NUMERIC_ZERO: u8 = 0x29;
const NUMERIC_POSITIVE_1_BYTE: u8 = 0x2B;
const NUMERIC_POSITIVE_8_BYTE: u8 = 0x32;
const BOOL_FALSE: u8 = 0x6E;
const BOOL_TRUE: u8 = 0x6F;

/// Decodes the front of a token's `_data`; `None` when the format is not one that we know.
pub fn decode(data: &[u8]) -> Option<TokenFront> {
    let mut hex = Hex(data);
    (hex.byte()? == TIMESTAMP).then_some(())?;
    let cluster_time = ClusterTime { seconds: hex.u32()?, increment: hex.u32()? };
    let version = hex.integer()?;
    if version > 0 {
        hex.integer()?;
    }
    let txn_op_index = hex.integer()?;
    let from_invalidate = version > 0
        && match hex.byte()? {
            BOOL_FALSE => false,
            BOOL_TRUE => true,
            _ => return None,
        };
    Some(TokenFront { cluster_time, txn_op_index, from_invalidate })
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

    #[test]
    fn what_is_no_token_is_refused() {
        for data in ["", "82", "8365F1A2B3000000072B02", "8265F1A2B3000000072B022C0100", "zz"] {
            assert_eq!(decode(data.as_bytes()), None, "{data}");
        }
    }
}
