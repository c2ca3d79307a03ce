//! Scope: which namespaces one stream watches.

use crate::event::ChangeEvent;
use crate::{Error, ErrorKind, Result};

/// What one stream watches, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One collection.
    Collection {
        /// The database.
        db: String,
        /// The collection.
        coll: String,
    },
    /// The collections whose names match, with `*` for any text and `?` for one character.
    Pattern {
        /// The database, or a pattern of it.
        db: String,
        /// The pattern of the collection, or its name.
        coll: String,
    },
    /// Every collection of a database.
    Database(String),
    /// Every collection there is.
    Deployment,
}

impl Scope {
    /// Reads an entry of `collections`: `db.coll`, with `*` and `?` in either. The database ends at
    /// the first dot.
    ///
    /// # Errors
    /// `Config` when there is no dot, or nothing on one side of it.
    pub fn collection(entry: &str) -> Result<Self> {
        match entry.split_once('.') {
            Some((db, coll)) if !db.is_empty() && !coll.is_empty() => {
                let (db, coll) = (db.to_owned(), coll.to_owned());
                Ok(if is_pattern(entry) {
                    Self::Pattern { db, coll }
                } else {
                    Self::Collection { db, coll }
                })
            }
            _ => Err(Error::new(ErrorKind::Config, format!("`{entry}` names no collection"))
                .with_hint("write the database, a dot and the collection: `ingest.files`")),
        }
    }

    /// Reads an entry of `databases`.
    ///
    /// # Errors
    /// `Config` for what is no name of a database.
    pub fn database(entry: &str) -> Result<Self> {
        if entry.is_empty() || entry.contains(['.', '*', '?', '/', '\\', '"', '$', ' ']) {
            return Err(Error::new(ErrorKind::Config, format!("`{entry}` names no database"))
                .with_hint(
                    "name whole databases; patterns go into `--collections`: `ingest.job_*`",
                ));
        }
        Ok(Self::Database(entry.to_owned()))
    }

    /// The entry as it is configured; it names the stream.
    pub fn entry(&self) -> String {
        match self {
            Self::Collection { db, coll } | Self::Pattern { db, coll } => format!("{db}.{coll}"),
            Self::Database(db) => db.clone(),
            Self::Deployment => "deployment".to_owned(),
        }
    }

    /// Whether collections of a database may be watched.
    pub fn reaches(&self, db: &str) -> bool {
        match self {
            Self::Collection { db: d, .. } | Self::Database(d) => d == db,
            Self::Pattern { db: d, .. } => matches(d, db),
            Self::Deployment => true,
        }
    }

    /// Whether a collection is watched.
    pub fn covers(&self, db: &str, coll: &str) -> bool {
        match self {
            Self::Collection { db: d, coll: c } => d == db && c == coll,
            Self::Pattern { db: d, coll: c } => matches(d, db) && matches(c, coll),
            Self::Database(d) => d == db,
            Self::Deployment => true,
        }
    }
}

/// Whether an event is of a collection that counts, or makes one that does; without scopes all do. An
/// event of a database concerns all that is watched in it.
pub fn counts(scopes: Option<&[Scope]>, event: &ChangeEvent) -> bool {
    let Some(scopes) = scopes else { return true };
    let counts = |(db, coll)| {
        // Names that are no text are refused where they are needed.
        let (Ok(db), Ok(coll)) = (str::from_utf8(db), str::from_utf8(coll)) else { return true };
        scopes.iter().any(|scope| match coll.is_empty() {
            true => scope.reaches(db),
            false => scope.covers(db, coll),
        })
    };
    counts((event.db(), event.coll()))
        || event.operation_type() == b"rename" && counts(event.renamed_to())
}

/// Refuses streams that would bring the same change twice.
///
/// # Errors
/// `Config`, with both entries.
pub fn check_overlaps(scopes: &[Scope]) -> Result<()> {
    for (at, scope) in scopes.iter().enumerate() {
        for other in &scopes[..at] {
            let overlap = match (scope, other) {
                (Scope::Collection { db, coll }, wide) | (wide, Scope::Collection { db, coll }) => {
                    wide.covers(db, coll)
                }
                (Scope::Deployment, _) | (_, Scope::Deployment) => true,
                (Scope::Database(db), wide) | (wide, Scope::Database(db)) => wide.reaches(db),
                (Scope::Pattern { db, coll }, Scope::Pattern { db: d, coll: c }) => {
                    meet(db, d) && meet(coll, c)
                }
            };
            if overlap {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "`{}` and `{}` watch the same collection",
                        other.entry(),
                        scope.entry()
                    ),
                )
                .with_hint("leave one of them out, or every change would come twice"));
            }
        }
    }
    Ok(())
}

/// Whether a name has a wildcard in it.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// The regular expression, for the server, that matches what a pattern matches.
pub fn to_regex(pattern: &str) -> String {
    let mut regex = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => regex.push_str("[\\s\\S]*"),
            '?' => regex.push_str("[\\s\\S]"),
            c if c.is_alphanumeric() || c == '_' => regex.push(c),
            c => {
                regex.push('\\');
                regex.push(c);
            }
        }
    }
    regex.push_str("\\z");
    regex
}

/// Whether some name matches both patterns. Of what is left of each, from their ends.
fn meet(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut meets = vec![vec![false; other.len() + 1]; one.len() + 1];
    for i in (0..=one.len()).rev() {
        for j in (0..=other.len()).rev() {
            meets[i][j] = match (one.get(i), other.get(j)) {
                (None, None) => true,
                (Some('*'), None) => meets[i + 1][j],
                (None, Some('*')) => meets[i][j + 1],
                // It ends here, or takes in what the other has next.
                (Some('*'), Some(_)) | (Some(_), Some('*')) => meets[i + 1][j] || meets[i][j + 1],
                (Some(a), Some(b)) => (a == b || *a == '?' || *b == '?') && meets[i + 1][j + 1],
                _ => false,
            };
        }
    }
    meets[0][0]
}

/// Matches with one mark to go back to, which is enough for wildcards.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, n) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_a_collection_or_a_pattern() {
        let scope = Scope::collection("ingest.files.2024").unwrap();
        assert_eq!(scope, Scope::Collection { db: "ingest".into(), coll: "files.2024".into() });
        assert!(matches!(Scope::collection("ingest.job_*").unwrap(), Scope::Pattern { .. }));
        for wrong in ["files", ".files", "ingest.", ""] {
            assert_eq!(Scope::collection(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
        assert!(Scope::database("ingest.files").is_err() && Scope::database("ingest").is_ok());
    }

    #[test]
    fn a_pattern_covers_what_it_matches_and_nothing_else() {
        for (pattern, name, covered) in [
            ("d.job_*", "d.job_1", true),
            ("d.job_*", "d.job_", true),
            ("d.job_*", "d.jobs", false),
            ("d.*_?", "d.a_b_c", true),
            ("d.*_?", "d.a_b_cc", false),
            ("*.files", "any.files", true),
            ("*.files", "any.files2", false),
            ("d.a*b*c", "d.aXbYbZc", true),
            ("d.*", "e.x", false),
        ] {
            let (db, coll) = name.split_once('.').unwrap();
            let scope = Scope::collection(pattern).unwrap();
            assert_eq!(scope.covers(db, coll), covered, "{pattern} {name}");
        }
    }

    #[test]
    fn an_event_counts_where_it_is_of_what_is_watched_or_makes_it() {
        let scopes = [Scope::collection("d.one").unwrap(), Scope::collection("e.job_*").unwrap()];
        let counts = |kind: &str, (db, coll): (&str, &str), to: &str| {
            let event = bson::doc! {
                "_id": { "_data": "826B03E054000000052B022C0100296E04" }, "operationType": kind,
                "ns": { "db": db, "coll": coll }, "to": { "db": "d", "coll": to },
            };
            let event = ChangeEvent::index(event.to_vec().unwrap().into()).unwrap();
            super::counts(Some(&scopes), &event)
        };
        assert!(counts("insert", ("d", "one"), "x") && !counts("insert", ("d", "two"), "one"));
        assert!(counts("rename", ("d", "two"), "one") && !counts("rename", ("d", "two"), "three"));
        assert!(counts("dropDatabase", ("e", ""), "x") && !counts("dropDatabase", ("f", ""), "x"));
    }

    #[test]
    fn a_regex_takes_nothing_of_the_name_for_syntax() {
        assert_eq!(to_regex("a.b*c+?é"), "^a\\.b[\\s\\S]*c\\+[\\s\\S]é\\z");
    }

    #[test]
    fn two_streams_of_one_collection_are_refused() {
        let scope = |entry| Scope::collection(entry).unwrap();
        assert!(check_overlaps(&[scope("a.b"), scope("a.c"), scope("a.d*")]).is_ok());
        assert!(check_overlaps(&[scope("d.a*"), scope("d.b*"), scope("e?.a*")]).is_ok());
        for (one, other) in [
            ("a.b", "a.b"),
            ("a.bc", "a.b*"),
            ("a.b*", "a.bc"),
            ("a.b*", "a.b*"),
            ("d.a*", "d.*b"),
            ("?.x*", "d*.*y"),
        ] {
            let error = check_overlaps(&[scope(one), scope(other)]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{one}` and `{other}`")), "{error}");
        }
    }

    #[test]
    fn whole_databases_overlap_with_all_that_reaches_into_them() {
        let (d, e) = (Scope::database("d").unwrap(), Scope::database("e").unwrap());
        let pattern = Scope::collection("?.x*").unwrap();
        assert!(check_overlaps(&[d.clone(), e]).is_ok());
        assert!(check_overlaps(&[d.clone(), pattern]).is_err());
        assert!(check_overlaps(&[d, Scope::Deployment]).is_err());
    }

    proptest! {
        #[test]
        fn two_patterns_meet_where_a_name_matches_both(one in "[ab*?]{1,3}", other in "[ab*?]{1,3}") {
            // What they meet at is no longer than both together.
            let mut names = vec![String::new()];
            for at in 0..(1 << 6) - 1 {
                names.extend(['a', 'b'].map(|c| format!("{}{c}", names[at])));
            }
            let both = names.iter().find(|name| matches(&one, name) && matches(&other, name));
            prop_assert_eq!(meet(&one, &other), both.is_some(), "{:?}", both);
        }
    }
}
