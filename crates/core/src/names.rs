//! Names: what the current-state tables of a run are called.

use twox_hash::XxHash64;

use crate::table::{LONGEST_PLAIN_NAME, TableName};

/// A template of table names, with `{db}` and `{coll}` for the parts of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CurrentNames {
    /// `None`: `{db}__{coll}`, which never gives two collections one name.
    template: Option<String>,
}

/// What the template is by default.
pub const DEFAULT_TEMPLATE: &str = "{db}__{coll}";

impl CurrentNames {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(template: &str) -> Result<Self, String> {
        if template == DEFAULT_TEMPLATE {
            return Ok(Self::default());
        }
        if !template.contains("{coll}") {
            return Err("the template has no `{coll}`, so that collections would share it".into());
        }
        let rest = template.replace("{db}", "").replace("{coll}", "");
        if rest.contains(['{', '}']) {
            return Err("the template knows `{db}` and `{coll}` only".into());
        }
        if rest.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
            return Err("the template has characters that no table name should have".into());
        }
        Ok(Self { template: Some(template.to_owned()) })
    }

    /// Whether the database is a part of the names.
    pub fn names_databases(&self) -> bool {
        self.template.as_ref().is_none_or(|template| template.contains("{db}"))
    }

    /// The table of a collection.
    pub fn table(&self, db: &str, coll: &str) -> TableName {
        let Some(template) = &self.template else { return TableName::current(db, coll) };
        // One pass: a database may be called `{coll}`.
        let mut name = String::new();
        let mut rest = template.as_str();
        while let Some(at) = rest.find('{') {
            name.push_str(&rest[..at]);
            rest = &rest[at..];
            let (part, len) =
                if rest.starts_with("{db}") { (db, "{db}".len()) } else { (coll, "{coll}".len()) };
            name.push_str(part);
            rest = &rest[len..];
        }
        name.push_str(rest);
        if name.len() > LONGEST_PLAIN_NAME {
            let namespace = format!("{db}.{coll}");
            let hash = XxHash64::oneshot(0, namespace.as_bytes()) as u32;
            let end = name.floor_char_boundary(LONGEST_PLAIN_NAME);
            name.truncate(end);
            name.push_str(&format!("__{hash:08x}"));
        }
        TableName::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_once() {
        let names = |template| CurrentNames::parse(template).unwrap();
        assert_eq!(names("{db}__{coll}").table("a", "b.c").as_str(), "a__b.c");
        assert_eq!(names("x_{coll}").table("a", "b").as_str(), "x_b");
        assert_eq!(names("{db}-{coll}").table("{coll}", "b").as_str(), "{coll}-b");
        let long = names("x_{coll}").table("a", &"b".repeat(200));
        assert_eq!(long.as_str().len(), 160);
        assert_ne!(long, names("x_{coll}").table("b", &"b".repeat(200)));
    }

    #[test]
    fn a_template_names_the_collection() {
        for wrong in ["", "x", "{db}", "{coll}{x}", "{coll", "a/{coll}"] {
            assert!(CurrentNames::parse(wrong).is_err(), "{wrong}");
        }
    }
}
