//! Dates as ISO 8601 text in UTC.

pub(crate) const DAY_MS: i64 = 86_400_000;

/// Whether milliseconds are written when they are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fraction {
    Always,
    UnlessZero,
}

/// Appends `2025-01-02T03:04:05.678Z`.
///
/// Years beyond 0000..9999, which RFC 3339 cannot say, get a sign and at least six digits, as
/// ECMAScript writes them. Writes at most 30 bytes.
pub(crate) fn write(ms: i64, fraction: Fraction, out: &mut Vec<u8>) {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    if (0..=9999).contains(&year) {
        digits(year.unsigned_abs(), 4, out);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        digits(year.unsigned_abs(), 6, out);
    }
    let of_day = of_day.unsigned_abs();
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    for (mark, value) in [
        (b'-', month),
        (b'-', day),
        (b'T', seconds / 3600),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        // All of them have two digits.
        out.extend_from_slice(&[mark, b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
    }
    if millis != 0 || fraction == Fraction::Always {
        out.push(b'.');
        digits(millis, 3, out);
    }
    out.push(b'Z');
}

fn digits(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

/// Year, month and day of a count of days since 1970 in the proleptic Gregorian calendar, by
/// Howard Hinnant's algorithm: years begin in March, eras have 400 years.
pub(crate) fn civil(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097).unsigned_abs();
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    // At most 399.
    let year = year_of_era as i64 + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ms: i64) -> String {
        let mut out = Vec::new();
        write(ms, Fraction::Always, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_of_all_times_are_written() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_795_397_624_917), "2026-11-23T01:33:44.917Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(253_402_300_800_000), "+010000-01-01T00:00:00.000Z");
        assert_eq!(text(-62_167_219_200_000), "0000-01-01T00:00:00.000Z");
        assert_eq!(text(-62_167_219_200_001), "-000001-12-31T23:59:59.999Z");
        assert_eq!(text(i64::MAX), "+292278994-08-17T07:12:55.807Z");
        assert_eq!(text(i64::MIN), "-292275055-05-16T16:47:04.192Z");
    }

    #[test]
    fn whole_seconds_can_go_without_fraction() {
        let mut out = Vec::new();
        write(1000, Fraction::UnlessZero, &mut out);
        assert_eq!(out, b"1970-01-01T00:00:01Z");
    }

    proptest::proptest! {
        #[test]
        fn dates_agree_with_jiff(ms in -62_167_219_200_000i64..=253_402_207_199_999) {
            let ours = text(ms);
            let theirs = jiff::Timestamp::from_millisecond(ms).unwrap();
            proptest::prop_assert_eq!(ours, format!("{theirs:.3}"));
        }
    }
}
