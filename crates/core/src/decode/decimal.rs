//! Decimal128 read from text.

use crate::ejson::decimal::{EXPONENT_BIAS, LARGEST};

/// The decimal that a text says, if it says one exactly.
pub(crate) fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let bits = match text {
        b"NaN" if !negative => 0x1f << 122,
        b"Infinity" => 0x1e << 122,
        _ => finite(text)?,
    };
    Some((bits | u128::from(negative) << 127).to_le_bytes())
}

fn finite(text: &[u8]) -> Option<u128> {
    let (number, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let mut coefficient = 0;
    let mut exponent = i64::from(exponent);
    // Zeros that have not been counted in yet, since they may be beyond the 34th digit.
    let mut zeros = 0;
    let (mut any, mut point) = (false, false);
    for byte in number {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                any = true;
                exponent -= i64::from(point);
                if *byte == b'0' && coefficient != 0 {
                    zeros += 1;
                } else if *byte != b'0' {
                    coefficient = scale(coefficient, zeros + 1)? + u128::from(byte - b'0');
                    zeros = 0;
                }
            }
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    while zeros > 0 {
        match scale(coefficient, 1) {
            Some(scaled) => coefficient = scaled,
            None => break,
        }
        zeros -= 1;
    }
    exponent += i64::from(zeros);
    let bias = i64::from(EXPONENT_BIAS);
    let (least, greatest) = (-bias, 12_287 - bias);
    if coefficient == 0 {
        exponent = exponent.clamp(least, greatest);
    }
    while exponent > greatest {
        coefficient = scale(coefficient, 1)?;
        exponent -= 1;
    }
    while exponent < least && coefficient % 10 == 0 {
        coefficient /= 10;
        exponent += 1;
    }
    let biased = u128::try_from(exponent + bias).ok()?;
    Some(biased << 113 | coefficient)
}

/// Times ten to that power, while it has no more than 34 digits.
fn scale(coefficient: u128, zeros: u32) -> Option<u128> {
    if coefficient == 0 {
        return Some(0);
    }
    coefficient.checked_mul(10u128.checked_pow(zeros)?).filter(|scaled| *scaled <= LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ejson::decimal::write;

    fn text(bytes: &[u8; 16]) -> String {
        let mut out = Vec::new();
        write(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn other_texts_of_a_decimal_are_read() {
        let read = |from: &str| parse(from.as_bytes()).map(|bytes| text(&bytes));
        assert_eq!(read("+1.50e3").as_deref(), Some("1.50E+3"));
        assert_eq!(read(".5").as_deref(), Some("0.5"));
        assert_eq!(read("0E+9999").as_deref(), Some("0E+6111"));
        assert_eq!(read("1E+6112").as_deref(), Some("1.0E+6112"));
        assert_eq!(read("10E-6177").as_deref(), Some("1E-6176"));
        let long = format!("1{}", "0".repeat(40));
        assert_eq!(read(&long), Some(format!("1.{}E+40", "0".repeat(33))));
        assert_eq!(read(&format!("0.{}1", "0".repeat(40))).as_deref(), Some("1E-41"));
        for wrong in ["", "-", ".", "1.2.3", "1E", "1E+6145", "1E-6177", "x", "NaNs", "-NaN", "inf"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(&"1".repeat(35)), None);
    }

    proptest::proptest! {
        #[test]
        fn decimals_read_back(bytes: [u8; 16]) {
            let canonical = parse(text(&bytes).as_bytes()).unwrap();
            proptest::prop_assert_eq!(text(&canonical), text(&bytes));
            let coefficient = u128::from_le_bytes(bytes) & ((1 << 113) - 1);
            if (bytes[15] >> 5) & 3 != 3 && coefficient <= LARGEST {
                proptest::prop_assert_eq!(canonical, bytes);
            }
        }
    }
}
