//! Spoken: moments, lengths of time and tables as people read them.

use crate::ejson::date::{self, Fraction};
use crate::position::Millis;

/// A moment as RFC 3339 in UTC, with milliseconds.
pub fn moment(at: Millis) -> String {
    let mut text = Vec::new();
    date::write(at.0, Fraction::Always, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A length of time, in the unit that fits it.
pub fn length(millis: i64) -> String {
    let millis = millis.max(0);
    match millis {
        ..1000 => format!("{millis} ms"),
        1000..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        10_000..120_000 => format!("{} s", millis / 1000),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        7_200_000..172_800_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} d", millis / 86_400_000),
    }
}

/// A table of texts, its columns aligned: the first line is the head, a column whose head begins with
/// `>` stands to the right.
pub fn table(lines: &[Vec<String>]) -> String {
    let Some(head) = lines.first() else { return String::new() };
    let right: Vec<bool> = head.iter().map(|head| head.starts_with('>')).collect();
    let cell = |line: usize, text: &str| -> String {
        if line == 0 { text.trim_start_matches('>').to_owned() } else { text.to_owned() }
    };
    let mut widths = vec![0; head.len()];
    for (at, line) in lines.iter().enumerate() {
        for (width, text) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell(at, text).chars().count());
        }
    }
    let mut table = String::new();
    for (at, line) in lines.iter().enumerate() {
        let mut text = String::new();
        for ((cell_text, width), right) in line.iter().zip(&widths).zip(&right) {
            let cell = cell(at, cell_text);
            let room = " ".repeat(width - cell.chars().count());
            if !text.is_empty() {
                text.push_str("  ");
            }
            match right {
                true => text.extend([room.as_str(), &cell]),
                false => text.extend([cell.as_str(), &room]),
            }
        }
        table.push_str(text.trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_the_unit_that_fits() {
        let all = [-5, 0, 999, 1234, 59_999, 119_999, 180_000, 7_199_999, 7_200_000, 200_000_000];
        let spoken =
            ["0 ms", "0 ms", "999 ms", "1.2 s", "59 s", "119 s", "3 min", "119 min", "2 h", "2 d"];
        assert_eq!(all.map(length), spoken);
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let lines = [vec!["a", ">long", "b"], vec!["é", "1", ""], vec!["xyz", "123456", "c"]];
        let lines = lines.map(|line| line.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(table(&lines), "a      long  b\né         1\nxyz  123456  c\n");
    }

    #[test]
    fn a_moment_is_in_utc() {
        assert_eq!(moment(Millis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
