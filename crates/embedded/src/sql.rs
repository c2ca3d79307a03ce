//! As much of SQL as the HTTP protocol needs: where an INSERT's data begins, and which FORMAT a
//! query asks for.
//!
//! It never judges a statement; what it does not understand goes to the engine as it is.

/// What a request's text turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An INSERT whose data follows from `data_at` on.
    InsertData {
        /// Where the statement ends, without `FORMAT` and `VALUES`.
        statement_end: usize,
        /// The format of the data.
        format: String,
        /// Where the data begins.
        data_at: usize,
    },
    /// An INSERT that the text does not yet show in full.
    Incomplete,
    /// Any other statement: the whole text is the query.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Text,
    Open,
    Close,
    Semicolon,
    Other,
    /// A quote that is never closed: the rest of the text, of which nothing can be said.
    Unclosed,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Yields tokens without white space and comments.
struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    const fn new(sql: &'a [u8]) -> Self {
        Self { sql, at: 0 }
    }

    fn position_of(&self, from: usize, needle: &[u8]) -> Option<usize> {
        let rest = self.sql.get(from..)?;
        rest.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
    }

    fn skip_space(&mut self) -> Option<()> {
        loop {
            match (self.sql.get(self.at)?, self.sql.get(self.at + 1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', Some(b'-')) | (b'#', Some(b' ' | b'!')) => {
                    self.at = self.position_of(self.at, b"\n")? + 1;
                }
                (b'/', Some(b'*')) => self.at = self.position_of(self.at + 2, b"*/")? + 2,
                _ => return Some(()),
            }
        }
    }

    /// The end of a quoted piece that begins at `at`; quotes are escaped by `\` or by doubling.
    fn quoted_end(&self, quote: u8) -> Option<usize> {
        let mut at = self.at + 1;
        loop {
            match *self.sql.get(at)? {
                b'\\' => at += 2,
                byte if byte == quote => {
                    if self.sql.get(at + 1) != Some(&quote) {
                        return Some(at + 1);
                    }
                    at += 2;
                }
                _ => at += 1,
            }
        }
    }

    fn heredoc_end(&self) -> Option<usize> {
        let close = self.position_of(self.at + 1, b"$")?;
        let tag = self.sql.get(self.at..=close)?;
        let plain = tag.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(byte));
        if plain {
            self.position_of(close + 1, tag).map(|at| at + tag.len())
        } else {
            Some(self.at + 1)
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_space()?;
        let start = self.at;
        let first = *self.sql.get(start)?;
        let closed = |kind, end: Option<usize>| match end {
            Some(end) => (kind, end),
            None => (Kind::Unclosed, self.sql.len()),
        };
        let (kind, end) = match first {
            b'\'' => closed(Kind::Text, self.quoted_end(b'\'')),
            b'"' | b'`' => closed(Kind::Quoted, self.quoted_end(first)),
            b'$' => closed(Kind::Text, self.heredoc_end()),
            b'(' | b'[' | b'{' => (Kind::Open, start + 1),
            b')' | b']' | b'}' => (Kind::Close, start + 1),
            b';' => (Kind::Semicolon, start + 1),
            _ if is_word(first) => {
                let rest = self.sql.get(start..)?;
                let word = rest.iter().take_while(|byte| is_word(**byte) || **byte == b'$');
                (Kind::Word, start + word.count())
            }
            _ => (Kind::Other, start + 1),
        };
        self.at = end;
        Some(Token { kind, start, end })
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is(sql: &[u8], token: Token, word: &str) -> bool {
    token.kind == Kind::Word
        && sql.get(token.start..token.end).is_some_and(|t| t.eq_ignore_ascii_case(word.as_bytes()))
}

/// Looks at the beginning of a request's text, of which `complete` says whether it is all.
pub(crate) fn shape(sql: &[u8], complete: bool) -> Shape {
    let unfinished = if complete { Shape::Other } else { Shape::Incomplete };
    let mut lexer = Lexer::new(sql);
    let Some(first) = lexer.next() else { return unfinished };
    if first.end == sql.len() && !complete {
        return Shape::Incomplete;
    }
    if !is(sql, first, "insert") {
        return Shape::Other;
    }
    let mut depth = 0_usize;
    let mut previous = first;
    // The word after INTO, TABLE, FUNCTION or a dot is a name, whatever it spells.
    let mut name_next = false;
    while let Some(token) = lexer.next() {
        let at_edge = token.end == sql.len() && !complete;
        match token.kind {
            Kind::Unclosed => return unfinished,
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word if at_edge => return Shape::Incomplete,
            Kind::Word if depth == 0 && !name_next => {
                if is(sql, token, "values") {
                    return Shape::InsertData {
                        statement_end: previous.end,
                        format: "Values".to_owned(),
                        data_at: token.end,
                    };
                }
                if is(sql, token, "format") {
                    let Some(name) = lexer.next() else { return unfinished };
                    if name.end == sql.len() && !complete {
                        return Shape::Incomplete;
                    }
                    let format = sql.get(name.start..name.end).unwrap_or_default();
                    return Shape::InsertData {
                        statement_end: previous.end,
                        format: String::from_utf8_lossy(format).into_owned(),
                        data_at: data_begin(sql, name.end),
                    };
                }
                if ["select", "with", "from", "watch"].iter().any(|word| is(sql, token, word)) {
                    return Shape::Other;
                }
            }
            _ => {}
        }
        name_next = match token.kind {
            Kind::Word => {
                ["into", "table", "function"].iter().any(|word| is(sql, token, word))
                    && !(name_next && !is(sql, token, "table") && !is(sql, token, "function"))
            }
            Kind::Other => sql.get(token.start) == Some(&b'.'),
            _ => false,
        };
        previous = token;
    }
    unfinished
}

/// Data begins after the first line break, if only blanks precede it, else after the blanks.
fn data_begin(sql: &[u8], from: usize) -> usize {
    let mut at = from;
    while matches!(sql.get(at), Some(b' ' | b'\t' | 0x0c)) {
        at += 1;
    }
    if sql.get(at) == Some(&b'\r') {
        at += 1;
    }
    if sql.get(at) == Some(&b'\n') {
        at += 1;
    }
    at
}

/// How a query that is not an INSERT with data ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail<'a> {
    /// Where the statement proper ends: behind its last token, before any `;` and comments.
    pub(crate) end: usize,
    /// The FORMAT that it names, and where that word begins.
    pub(crate) format: Option<(usize, &'a str)>,
    /// It wants to write to a file, or to read one beside the client.
    pub(crate) uses_client_file: bool,
    /// It reads data that should follow the statement: `input(…)`.
    pub(crate) reads_input: bool,
    /// It may yield any amount of rows: SELECT and its kin.
    pub(crate) selects: bool,
}

/// Reads a query from its beginning to its end.
pub(crate) fn tail(sql: &str) -> Tail<'_> {
    let bytes = sql.as_bytes();
    let mut tail =
        Tail { end: 0, format: None, uses_client_file: false, reads_input: false, selects: false };
    let mut depth = 0_usize;
    let mut before: Option<Token> = None;
    let mut first_word = true;
    for token in Lexer::new(bytes) {
        if token.kind == Kind::Semicolon && depth == 0 {
            break;
        }
        if first_word && token.kind == Kind::Word {
            first_word = false;
            tail.selects = ["select", "with", "from"].iter().any(|word| is(bytes, token, word));
        }
        match token.kind {
            Kind::Open => {
                depth += 1;
                tail.reads_input |= before.is_some_and(|word| is(bytes, word, "input"));
            }
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word | Kind::Quoted if depth == 0 => {
                if let Some(word) = before {
                    if is(bytes, word, "format") {
                        tail.format =
                            sql.get(token.start..token.end).map(|name| (word.start, name));
                    }
                    tail.uses_client_file |= (is(bytes, word, "into")
                        && is(bytes, token, "outfile"))
                        || (is(bytes, word, "from") && is(bytes, token, "infile"));
                }
            }
            _ => {}
        }
        tail.end = token.end;
        before = Some(token);
    }
    // `format` may also be a column or a function's name: it counts only as the last clause.
    if let Some((at, _)) = tail.format {
        let rest: Vec<Token> = Lexer::new(bytes.get(at..tail.end).unwrap_or_default()).collect();
        let after = rest.get(2).copied();
        if after.is_some_and(|token| !is(bytes.get(at..).unwrap_or_default(), token, "settings")) {
            tail.format = None;
        }
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(end: &str, format: &str, data: &str, sql: &str) {
        let Shape::InsertData { statement_end, format: found, data_at } =
            shape(sql.as_bytes(), true)
        else {
            panic!("no insert: {sql}");
        };
        assert_eq!(&sql[..statement_end], end, "{sql}");
        assert_eq!(found, format, "{sql}");
        assert_eq!(&sql[data_at..], data, "{sql}");
    }

    #[test]
    fn data_begins_after_format_or_values() {
        insert("INSERT INTO t", "Native", "\n\nx", "INSERT INTO t FORMAT Native\n\n\nx");
        insert(
            "insert into t (a, format)",
            "CSV",
            "1",
            "insert into t (a, format) /* c */ format CSV 1",
        );
        insert("INSERT INTO t (values)", "Values", " (1)", "INSERT INTO t (values) VALUES (1)");
        insert("INSERT INTO `format`", "TSV", "", "INSERT INTO `format` -- FORMAT no\n FORMAT TSV");
        insert(
            "INSERT INTO format.values",
            "TSV",
            "x",
            "INSERT INTO format.values FORMAT TSV\r\nx",
        );
        insert(
            "INSERT INTO TABLE format SETTINGS a='FORMAT b'",
            "X",
            "y",
            "INSERT INTO TABLE format SETTINGS a='FORMAT b' FORMAT X\ny",
        );
        insert(
            "INSERT INTO FUNCTION file('x', 'CSV')",
            "CSV",
            "1",
            "INSERT INTO FUNCTION file('x', 'CSV') FORMAT CSV\n1",
        );
    }

    #[test]
    fn an_insert_that_is_cut_anywhere_is_incomplete() {
        let sql = b"INSERT INTO t (a) SETTINGS b='c' FORMAT Native\nx";
        let begin = sql.len() - 2;
        for cut in 0..begin {
            assert_eq!(shape(&sql[..cut], false), Shape::Incomplete, "{cut}");
        }
        assert!(
            matches!(shape(sql, false), Shape::InsertData { data_at, .. } if data_at == sql.len() - 1)
        );
    }

    #[test]
    fn everything_else_is_other() {
        for sql in [
            "SELECT 1",
            "INSERT INTO t SELECT 1 FORMAT Null",
            "INSERT INTO t WITH 1 AS x SELECT x",
            "",
            "CREATE TABLE t",
        ] {
            assert_eq!(shape(sql.as_bytes(), true), Shape::Other, "{sql}");
        }
    }

    #[test]
    fn the_tail_names_the_format_of_the_last_clause_only() {
        let format = |sql: &'static str| tail(sql).format.map(|(_, name)| name);
        assert_eq!(format("SELECT 1 FORMAT JSON"), Some("JSON"));
        assert_eq!(format("SELECT 1 FORMAT JSON SETTINGS a = 1 ; -- x"), Some("JSON"));
        assert_eq!(format("SELECT format, a FROM t"), None);
        assert_eq!(format("SELECT format('{}', a) FROM t"), None);
        assert_eq!(format("SELECT * FROM (SELECT 1 FORMAT JSON)"), None);
        assert_eq!(format("SELECT 'FORMAT JSON'"), None);
        let sql = "SELECT 1 -- c\n ; ";
        assert_eq!(&sql[..tail(sql).end], "SELECT 1");
        // What is not understood is never cut off.
        for sql in ["SELECT a$b FROM t", "SELECT $a, 2", "SELECT 'x", "SELECT \"é\" + ‘ü’ -1"]
        {
            assert_eq!(tail(sql).end, sql.len(), "{sql}");
        }
        assert!(tail("SELECT 1 INTO OUTFILE 'x'").uses_client_file);
        assert!(tail("INSERT INTO t FROM INFILE 'x' FORMAT CSV").uses_client_file);
        assert!(tail("INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV").reads_input);
        assert!(tail("(SELECT 1) UNION ALL (SELECT 2)").selects);
        assert!(!tail("SHOW TABLES").selects);
    }
}
