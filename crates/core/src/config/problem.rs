//! Problem: what is wrong with a config file, where, and what to write instead; all problems of a
//! file are told at once.
//!
//! No secret is shown: a line is printed without the values that may be one.

use std::fmt::Write as _;

use super::tree::Place;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do, beside the caret.
    pub(crate) mend: String,
    /// The text could not be read: which values are secrets is not known.
    syntax: bool,
}

impl Problem {
    pub(crate) fn new(place: Place, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { place, what: what.into(), mend: mend.into(), syntax: false }
    }

    pub(crate) fn syntax(place: Place, what: &str) -> Self {
        let mend = "the file is not YAML from here on".to_owned();
        Self { place, what: what.to_owned(), mend, syntax: true }
    }
}

/// The word of `known` that was probably meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(&plain, &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= (other.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// All problems as text, in the order of the file. `hidden` are the places of values that must not
/// be shown.
pub(crate) fn render(
    file: &str,
    text: &str,
    mut problems: Vec<Problem>,
    hidden: &[Place],
) -> String {
    problems.sort_by_key(|problem| (problem.place.start, problem.place.end));
    problems.dedup();
    let count = problems.len();
    let mut out = match count {
        1 => format!("`{file}` has a problem"),
        _ => format!("`{file}` has {count} problems"),
    };
    for Problem { place, what, mend, syntax } in &problems {
        let start = text[..place.start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let number = text[..start].matches('\n').count() + 1;
        let column = text[start..place.start].chars().count() + 1;
        let line = match syntax {
            true => skeleton(text, start..end),
            false => masked(text, start..uncommented(text, place.start..end), hidden),
        };
        let shift = line.iter().filter(|(byte, _)| *byte < place.start).count();
        let marked = line.iter().filter(|(byte, _)| place.contains(byte)).count().max(1);
        let shown: String = line.iter().map(|(_, c)| *c).collect();
        let margin = number.to_string().len();
        let written = write!(
            out,
            "\n\n{file}:{number}:{column}: {what}\n  {number} | {}\n  {:margin$} | {:shift$}{} {mend}",
            shown.trim_end(),
            "",
            "",
            "^".repeat(marked),
        );
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    out
}

/// The end of what may be shown behind a place: a comment may hold a secret that was tried.
fn uncommented(text: &str, rest: Place) -> usize {
    let comment = |(at, _): &(usize, &str)| text[..rest.start + at].ends_with([' ', '\t', '\n']);
    text[rest.clone()].match_indices('#').find(comment).map_or(rest.end, |(at, _)| rest.start + at)
}

/// The characters of a line with their places; a hidden value is one `…`. So is an anchor or a tag:
/// a password may begin with `&` or `!`.
fn masked(text: &str, line: Place, hidden: &[Place]) -> Vec<(usize, char)> {
    let mut shown = Vec::new();
    let (mut apart, mut marked) = (true, false);
    for (offset, c) in text[line.clone()].char_indices() {
        let at = line.start + offset;
        let begins = apart && matches!(c, '&' | '!' | '*');
        apart = c.is_whitespace() || "[]{},:".contains(c);
        marked = begins || marked && !apart;
        if marked {
            if begins {
                shown.push((at, '…'));
            }
            continue;
        }
        match hidden.iter().find(|place| place.contains(&at)) {
            None if c == '\r' => {}
            None => shown.push((at, if c == '\t' { ' ' } else { c })),
            Some(place) if at == place.start.max(line.start) => shown.push((at, '…')),
            Some(_) => {}
        }
    }
    shown
}

/// A line of a text that cannot be read: its key and its punctuation, no value.
fn skeleton(text: &str, line: Place) -> Vec<(usize, char)> {
    let of_line = &text[line.clone()];
    let key =
        of_line.trim_start().split_once(':').map(|(key, _)| key).filter(|key| {
            key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !key.is_empty()
        });
    let key_end = key.map_or(0, |key| of_line.find(key).unwrap_or(0) + key.len());
    let mut shown: Vec<(usize, char)> = Vec::new();
    let mut inside = false;
    for (offset, c) in of_line.char_indices() {
        let at = line.start + offset;
        let plain = offset < key_end || c.is_whitespace() || "{}[],:'\"&*|>#%@`?-".contains(c);
        if plain {
            shown.push((at, if c == '\t' { ' ' } else { c }));
        } else if !inside {
            shown.push((at, '…'));
        }
        inside = !plain;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["collections", "databases", "uri", "max_wait_ms"];
        for (word, meant) in [
            ("colections", Some("collections")),
            ("Collections", Some("collections")),
            ("url", Some("uri")),
            ("max-wait-ms", Some("max_wait_ms")),
            ("max_wait_s", Some("max_wait_ms")),
            ("something", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
