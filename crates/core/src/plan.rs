//! Plan: what a pipeline needs of its servers, what of that is there, and the statements that make,
//! change or drop the rest.
//!
//! Text for people, and statements for servers: only the statements may hold a secret.

use std::fmt::{self, Write as _};

use secrecy::{ExposeSecret as _, SecretString};

/// A statement, and how it is shown: without its secrets.
#[derive(Clone)]
pub struct Statement {
    sql: SecretString,
    shown: String,
}

impl Statement {
    /// One without a secret.
    pub fn plain(sql: impl Into<String>) -> Self {
        let shown = sql.into();
        Self { sql: shown.clone().into(), shown }
    }

    /// One that is shown as `shown`.
    pub fn with_secret(sql: SecretString, shown: impl Into<String>) -> Self {
        Self { sql, shown: shown.into() }
    }

    /// What is sent. It may hold a secret.
    pub fn sql(&self) -> &str {
        self.sql.expose_secret()
    }

    /// What is shown.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether it holds a secret.
    pub fn has_secret(&self) -> bool {
        self.sql() != self.shown
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statement").field(&self.shown).finish()
    }
}

/// What is to be done about one thing that a pipeline has or needs.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it is, as people call it: ``table `record_raw` ``.
    pub thing: String,
    /// What is to be done.
    pub state: State,
}

/// What is to be done about a thing.
#[derive(Debug, Clone)]
pub enum State {
    /// Nothing: it is there and fits. What else there is to say of it, or nothing.
    There(String),
    /// It is missing.
    Make(Action),
    /// It is there, and does not fit.
    Change(String, Action),
    /// It goes, and what is in it.
    Drop(Action),
    /// Nothing, though it is not as it should be: why, and what mends it.
    Stays(String),
    /// It does not fit, and nothing that may be done mends it: why, and what to do.
    Wrong(String, String),
}

/// What does it.
#[derive(Debug, Clone)]
pub enum Action {
    /// Statements for ClickHouse, in their order.
    Statements(Vec<Statement>),
    /// A call to Kafka, in words.
    Topic(String),
}

impl Action {
    /// One statement without a secret.
    pub fn sql(sql: impl Into<String>) -> Self {
        Self::Statements(vec![Statement::plain(sql)])
    }
}

impl Step {
    /// A step.
    pub fn new(thing: impl Into<String>, state: State) -> Self {
        Self { thing: thing.into(), state }
    }

    /// What it does, where it does anything.
    pub const fn action(&self) -> Option<&Action> {
        match &self.state {
            State::Make(action) | State::Change(_, action) | State::Drop(action) => Some(action),
            State::There(_) | State::Stays(_) | State::Wrong(..) => None,
        }
    }
}

/// The steps, in the order in which they are taken.
#[derive(Debug, Clone, Default)]
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
        self.steps.iter().filter(|step| matches!(step.state, State::Wrong(..)))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let (mark, thing) = (mark(&step.state), &step.thing);
            match &step.state {
                State::There(more) if more.is_empty() => writeln!(f, "{mark} {thing}")?,
                State::There(why) | State::Stays(why) | State::Change(why, _) => {
                    writeln!(f, "{mark} {thing}: {why}")?;
                }
                State::Wrong(why, mend) => writeln!(f, "{mark} {thing}: {why}\n    {mend}")?,
                State::Make(_) | State::Drop(_) => writeln!(f, "{mark} {thing}")?,
            }
            match step.action() {
                Some(Action::Statements(statements)) => {
                    for statement in statements {
                        writeln!(f, "{};", indented(statement.shown()))?;
                    }
                }
                Some(Action::Topic(what)) => writeln!(f, "{}", indented(what))?,
                None => {}
            }
        }
        let count = |is: fn(&State) -> bool| self.steps.iter().filter(|it| is(&it.state)).count();
        let counts = [
            (count(|state| matches!(state, State::Make(_))), "to make"),
            (count(|state| matches!(state, State::Change(..))), "to change"),
            (count(|state| matches!(state, State::Drop(_))), "to drop"),
            (count(|state| matches!(state, State::Wrong(..))), "wrong"),
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
        State::There(_) => "  ok    ",
        State::Make(_) => "+ make  ",
        State::Change(..) => "~ change",
        State::Drop(_) => "- drop  ",
        State::Stays(_) => "  stays ",
        State::Wrong(..) => "! wrong ",
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_and_never_shown() {
        let statement =
            Statement::with_secret("SET x = 'hunter2'".to_owned().into(), "SET x = '…'");
        let action = Action::Statements(vec![statement.clone()]);
        let plan = Plan { steps: vec![Step::new("x", State::Make(action))], notes: Vec::new() };
        assert_eq!(statement.sql(), "SET x = 'hunter2'");
        assert!(statement.has_secret() && !Statement::plain("x").has_secret());
        for shown in [format!("{plan:?}"), format!("{plan:#?}"), plan.to_string()] {
            assert!(shown.contains('…') && !shown.contains("hunter2"), "{shown}");
        }
    }
}
