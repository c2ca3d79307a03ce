//! Quoting for SQL text: nothing from outside reaches a statement unquoted.

/// An identifier in backticks.
pub fn identifier(name: &str) -> String {
    quote(name, '`')
}

/// A string literal.
pub fn literal(text: &str) -> String {
    quote(text, '\'')
}

fn quote(text: &str, mark: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for c in text.chars() {
        if c == mark || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push(mark);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_cannot_leave_the_quotes() {
        assert_eq!(identifier("a`b\\c"), r"`a\`b\\c`");
        assert_eq!(literal("it's \\"), r"'it\'s \\'");
    }
}
