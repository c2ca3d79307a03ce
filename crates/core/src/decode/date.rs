//! Dates read from ISO 8601 text.

use crate::ejson::date::{DAY_MS, civil};

/// The milliseconds since 1970 of a text like `2025-01-02T03:04:05.678Z`, or with another offset
/// than `Z`. Of a longer fraction the first three digits count.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let mut text = Text(text);
    let year = text.year()?;
    let mut part = |mark, range: std::ops::RangeInclusive<i64>| {
        text.skip(mark)?;
        text.digits(2).filter(|value| range.contains(value))
    };
    let (month, day) = (part(b'-', 1..=12)?, part(b'-', 1..=31)?);
    let (hour, minute, second) = (part(b'T', 0..=23)?, part(b':', 0..=59)?, part(b':', 0..=59)?);
    let days = days(year, month, day);
    if civil(days) != (year, month.unsigned_abs(), day.unsigned_abs()) {
        return None;
    }
    let millis = if text.skip(b'.').is_some() { text.fraction()? } else { 0 };
    let seconds = (hour * 60 + minute - text.offset()?) * 60 + second;
    let ms = i128::from(days) * i128::from(DAY_MS) + i128::from(seconds * 1000 + millis);
    text.0.is_empty().then_some(ms)?.try_into().ok()
}

/// What is still to be read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn skip(&mut self, mark: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[mark])?;
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |value, digit| {
            digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
        })
    }

    fn count_digits(&self) -> usize {
        self.0.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    /// Four digits, or a sign and up to nine.
    fn year(&mut self) -> Option<i64> {
        let sign = match self.0.first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return self.digits(4),
        };
        self.0 = &self.0[1..];
        let count = Some(self.count_digits()).filter(|count| (4..=9).contains(count))?;
        self.digits(count).map(|year| sign * year)
    }

    fn fraction(&mut self) -> Option<i64> {
        let count = Some(self.count_digits()).filter(|count| *count > 0)?;
        let used = count.min(3);
        let millis = self.digits(used)? * [100, 10, 1][used - 1];
        self.0 = &self.0[count - used..];
        Some(millis)
    }

    /// Minutes east: `Z`, `+01:00`, `+0100`, `+01`.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.0.first()? {
            b'Z' => 0,
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.0 = &self.0[1..];
        if sign == 0 {
            return Some(0);
        }
        let hours = self.digits(2)?;
        let minutes = match self.skip(b':') {
            None if self.0.is_empty() => 0,
            _ => self.digits(2)?,
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
    }
}

/// The other direction of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ejson::date::{Fraction, write};

    #[test]
    fn dates_with_offsets_are_read_and_other_texts_are_not() {
        let ms = |text: &str| parse(text.as_bytes());
        assert_eq!(ms("1970-01-01T01:00:00.5+01:00"), Some(500));
        assert_eq!(ms("1970-01-01T01:00:00.123456789+0100"), Some(123));
        assert_eq!(ms("1969-12-31T23:00:00-01"), Some(0));
        for wrong in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-02-30T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00Zx",
            "+1-01-01T00:00:00Z",
            "+999999999-01-01T00:00:00Z",
            "1970-01-01T00:00:00+1:00",
            "197é-01-01T00:00:00Z",
        ] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn dates_read_back(ms: i64) {
            let mut text = Vec::new();
            write(ms, Fraction::UnlessZero, &mut text);
            proptest::prop_assert_eq!(parse(&text), Some(ms));
        }
    }
}
