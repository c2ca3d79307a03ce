//! Plan: what a pipeline needs of its servers, what of that is there, and the statements that make,
//! change or drop the rest.
//!
//! Text for people, and statements for servers: only the statements may hold a secret.

use std::fmt::{self, Write as _};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};

use crate::sql::literal;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "[HIDDEN]";

/// A statement, and how it is shown: without its secret.
#[derive(Clone)]
pub struct Statement {
    sql: SecretString,
    shown: String,
    secret: Option<SecretString>,
}

impl Statement {
    /// One without a secret.
    pub fn plain(sql: impl Into<String>) -> Self {
        let shown = sql.into();
        Self { sql: shown.clone().into(), shown, secret: None }
    }

    /// One that holds a secret, and is shown as `shown`.
    pub fn with_secret(sql: SecretString, shown: impl Into<String>, secret: SecretString) -> Self {
        Self { sql, shown: shown.into(), secret: Some(secret) }
    }

    /// The same with more behind it.
    #[must_use]
    pub fn followed_by(self, more: &str) -> Self {
        let sql = format!("{}{more}", self.sql()).into();
        Self { sql, shown: self.shown + more, secret: self.secret }
    }

    /// What is sent. It may hold a secret.
    pub fn sql(&self) -> &str {
        self.sql.expose_secret()
    }

    /// What is shown.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A text about it without its secret: servers quote what they refuse.
    pub fn redacted(&self, text: &str) -> String {
        let Some(secret) = &self.secret else { return text.to_owned() };
        let quoted = literal(secret.expose_secret());
        let inner = &quoted[1..quoted.len() - 1];
        text.replace(inner, HIDDEN).replace(secret.expose_secret(), HIDDEN)
    }
}

impl Serialize for Statement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statement").field(&self.shown).finish()
    }
}

/// What is to be done about one thing that a pipeline has or needs.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What it is, as people call it: ``table `record_raw` ``.
    pub thing: String,
    /// What is to be done.
    #[serde(flatten)]
    pub state: State,
}

/// What is to be done about a thing.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing: it is there and fits.
    There {
        /// What else there is to say of it, or nothing.
        what: String,
    },
    /// Nothing, though it is not as the config has it.
    Stays {
        /// Why, or what mends it.
        why: String,
    },
    /// It does not fit, and nothing that may be done mends it.
    Wrong {
        /// Why not.
        why: String,
        /// What to do.
        mend: String,
    },
    /// It is missing.
    Make {
        /// What makes it.
        by: Action,
    },
    /// It is there, and does not fit.
    Change {
        /// Why not.
        why: String,
        /// What changes it.
        by: Action,
    },
    /// It goes, and what is in it.
    Drop {
        /// What is lost for good.
        loses: String,
        /// What drops it.
        by: Action,
    },
}

/// What does it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Statements for ClickHouse, in their order.
    Statements(Vec<Statement>),
    /// A new topic for records.
    Topic(NewTopic),
    /// No topic of this name any more.
    DeleteTopic(String),
    /// No consumer group of this name any more.
    DeleteGroup(String),
}

/// A topic that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Whether it holds checkpoints, and not records.
    pub checkpoints: bool,
    /// What it will be like, for people.
    pub like: String,
}

impl Action {
    /// One statement without a secret.
    pub fn sql(sql: impl Into<String>) -> Self {
        Self::Statements(vec![Statement::plain(sql)])
    }

    /// As people read it.
    fn shown(&self) -> String {
        match self {
            Self::Statements(statements) => {
                statements.iter().map(|it| format!("{};\n", it.shown())).collect()
            }
            Self::Topic(topic) => topic.like.clone(),
            Self::DeleteTopic(_) | Self::DeleteGroup(_) => String::new(),
        }
    }
}

impl Step {
    /// A step.
    pub fn new(thing: impl Into<String>, state: State) -> Self {
        Self { thing: thing.into(), state }
    }

    /// A thing that is there and fits.
    pub fn there(thing: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(thing, State::There { what: what.into() })
    }

    /// A thing that stays as it is.
    pub fn stays(thing: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(thing, State::Stays { why: why.into() })
    }

    /// A thing that nothing mends.
    pub fn wrong(
        thing: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(thing, State::Wrong { why: why.into(), mend: mend.into() })
    }

    /// A thing that is missing.
    pub fn make(thing: impl Into<String>, by: Action) -> Self {
        Self::new(thing, State::Make { by })
    }

    /// A thing that goes.
    pub fn drop(thing: impl Into<String>, loses: impl Into<String>, by: Action) -> Self {
        Self::new(thing, State::Drop { loses: loses.into(), by })
    }

    /// What it does, where it does anything.
    pub const fn action(&self) -> Option<&Action> {
        match &self.state {
            State::Make { by } | State::Change { by, .. } | State::Drop { by, .. } => Some(by),
            State::There { .. } | State::Stays { .. } | State::Wrong { .. } => None,
        }
    }
}

/// The steps, in the order in which they are taken.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// All of them.
    pub steps: Vec<Step>,
    /// What people should know besides.
    pub notes: Vec<String>,
}

impl Plan {
    /// Those that do something.
    pub fn work(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.action().is_some())
    }

    /// Those that nothing mends.
    pub fn wrong(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| matches!(step.state, State::Wrong { .. }))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let (mark, thing) = (mark(&step.state), &step.thing);
            match &step.state {
                State::There { what } if !what.is_empty() => writeln!(f, "{mark} {thing}: {what}")?,
                State::Stays { why: more }
                | State::Change { why: more, .. }
                | State::Drop { loses: more, .. } => writeln!(f, "{mark} {thing}: {more}")?,
                State::Wrong { why, mend } => writeln!(f, "{mark} {thing}: {why}\n    {mend}")?,
                State::There { .. } | State::Make { .. } => writeln!(f, "{mark} {thing}")?,
            }
            let shown = step.action().map(Action::shown).unwrap_or_default();
            shown.lines().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        let count = |is: fn(&State) -> bool| self.steps.iter().filter(|it| is(&it.state)).count();
        let counts = [
            (count(|state| matches!(state, State::Make { .. })), "to make"),
            (count(|state| matches!(state, State::Change { .. })), "to change"),
            (count(|state| matches!(state, State::Drop { .. })), "to drop"),
            (count(|state| matches!(state, State::Wrong { .. })), "wrong"),
        ];
        let mut told = String::new();
        for (number, what) in counts.into_iter().filter(|(number, _)| *number > 0) {
            let mark = if told.is_empty() { "" } else { ", " };
            write!(told, "{mark}{number} {what}")?;
        }
        writeln!(f, "\n{}", if told.is_empty() { "nothing to do" } else { &told })?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

const fn mark(state: &State) -> &'static str {
    match state {
        State::There { .. } => "ok    ",
        State::Stays { .. } => "stays ",
        State::Wrong { .. } => "wrong ",
        State::Make { .. } => "make  ",
        State::Change { .. } => "change",
        State::Drop { .. } => "drop  ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_and_never_shown() {
        let secret = SecretString::from("hun'ter2");
        let sql = SecretString::from(r"SET x = 'hun\'ter2'");
        let statement = Statement::with_secret(sql, "SET x = '…'", secret).followed_by(" y");
        let plan = Plan {
            steps: vec![Step::make("x", Action::Statements(vec![statement.clone()]))],
            notes: Vec::new(),
        };
        assert_eq!(statement.sql(), r"SET x = 'hun\'ter2' y");
        let json = serde_json::to_string(&plan).unwrap();
        for shown in [format!("{plan:?}"), format!("{plan:#?}"), plan.to_string(), json] {
            assert!(shown.contains("SET x = '…' y") && !shown.contains("ter2"), "{shown}");
        }
        let said = r"refused near 'hun\'ter2' (hun'ter2)";
        assert_eq!(statement.redacted(said), "refused near '[HIDDEN]' ([HIDDEN])");
        assert_eq!(Statement::plain("x").redacted(said), said);
    }

    #[test]
    fn a_plan_reads_as_it_is_done() {
        let topic =
            NewTopic { name: "t".to_owned(), checkpoints: false, like: "3 partitions".to_owned() };
        let change =
            State::Change { why: "it lacks `a`".to_owned(), by: Action::sql("ALTER x\n  ADD a") };
        let steps = vec![
            Step::there("table `a`", ""),
            Step::there("table `b`", "its rows go after 3 days"),
            Step::stays("topic `c`", "1 partition, not 3"),
            Step::wrong("view `d`", "it is of others", "drop it"),
            Step::make("topic `t`", Action::Topic(topic)),
            Step::new("table `x`", change),
            Step::drop("table `y`", "its 3 rows are lost", Action::sql("DROP y")),
            Step::drop("topic `z`", "all is lost", Action::DeleteTopic("z".to_owned())),
        ];
        let plan = Plan { steps, notes: vec!["mind this".to_owned()] };
        let expected = "\
ok     table `a`
ok     table `b`: its rows go after 3 days
stays  topic `c`: 1 partition, not 3
wrong  view `d`: it is of others
    drop it
make   topic `t`
    3 partitions
change table `x`: it lacks `a`
    ALTER x
      ADD a;
drop   table `y`: its 3 rows are lost
    DROP y;
drop   topic `z`: all is lost

1 to make, 1 to change, 2 to drop, 1 wrong
note: mind this
";
        assert_eq!(plan.to_string(), expected);
        assert_eq!((plan.work().count(), plan.wrong().count()), (4, 1));
        assert_eq!(Plan::default().to_string(), "\nnothing to do\n");
    }
}
