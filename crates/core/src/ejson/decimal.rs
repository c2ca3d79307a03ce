//! Decimal128 as text, as the BSON specification's decimal128 page prescribes.

pub(crate) const EXPONENT_BIAS: i32 = 6176;
pub(crate) const LARGEST: u128 = 10u128.pow(34) - 1;

/// Appends the decimal's text. Writes at most 43 bytes.
pub(crate) fn write(bytes: &[u8; 16], out: &mut Vec<u8>) {
    let bits = u128::from_le_bytes(*bytes);
    let combination = (bits >> 122) & 0x1f;
    if combination == 0x1f {
        // The sign of a NaN means nothing.
        return out.extend_from_slice(b"NaN");
    }
    if bits >> 127 == 1 {
        out.push(b'-');
    }
    if combination == 0x1e {
        return out.extend_from_slice(b"Infinity");
    }
    let (biased, coefficient) = if combination >> 3 == 3 {
        // This form can only say coefficients beyond 34 digits, which count as zero.
        ((bits >> 111) & 0x3fff, 0)
    } else {
        ((bits >> 113) & 0x3fff, bits & ((1 << 113) - 1))
    };
    let coefficient = if coefficient > LARGEST { 0 } else { coefficient };
    // 14 bits.
    let exponent = biased as i32 - EXPONENT_BIAS;

    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(coefficient).as_bytes();
    // At most 34.
    let count = digits.len() as i32;
    let adjusted = exponent + count - 1;
    if exponent > 0 || adjusted < -6 {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'E');
        out.push(if adjusted < 0 { b'-' } else { b'+' });
        out.extend_from_slice(itoa::Buffer::new().format(adjusted.unsigned_abs()).as_bytes());
    } else if exponent == 0 {
        out.extend_from_slice(digits);
    } else {
        let point = count + exponent;
        if point > 0 {
            let (whole, fraction) = digits.split_at(point as usize);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        } else {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
            out.extend_from_slice(digits);
        }
    }
}
