//! One error type for the whole product: a kind that a caller can act on, a sentence, a cause.
//!
//! Text is lower case, without a full stop, names in backticks, and says what was tried and on
//! what. It never holds a document's values or a secret.

use std::error::Error as StdError;

use crate::gap::Gap;

/// A shorthand for results of this crate and of the ends.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, as far as a caller acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A flag, a URI or a config value cannot be used.
    Config,
    /// A server cannot be reached, or broke the connection.
    Unreachable,
    /// A server answered that it cannot serve now: overload, memory, too many parts, elections.
    Busy,
    /// Credentials or rights are missing.
    Unauthorized,
    /// A server or a table is not what exactly-once delivery needs.
    Unsuitable,
    /// A server cannot take so much at once: it has no memory for it now, or never will.
    TooLarge,
    /// The position is no longer in the oplog.
    HistoryLost,
    /// The position does not belong to this server, or the stored state to this target.
    WrongHistory,
    /// Another process holds what this one needs: a state folder, a data folder, a port.
    InUse,
    /// A stored file does not hold what was written to it.
    Corrupt,
    /// The local disk refused: full, read-only, no rights.
    Storage,
    /// A server refused the data itself.
    Refused,
    /// Tailwater broke one of its own rules.
    Bug,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Try again from the last position, for ever, with growing pauses.
    Retry,
    /// Take the data apart, or open the stream anew.
    Repair,
    /// End, and say what an operator must do.
    Stop,
}

impl ErrorKind {
    /// What the caller does about an error of this kind.
    pub const fn action(self) -> Action {
        match self {
            Self::Unreachable | Self::Busy | Self::TooLarge => Action::Retry,
            Self::Refused => Action::Repair,
            Self::Config
            | Self::Unauthorized
            | Self::Unsuitable
            | Self::HistoryLost
            | Self::WrongHistory
            | Self::InUse
            | Self::Corrupt
            | Self::Storage
            | Self::Bug => Action::Stop,
        }
    }

    /// The next step for the person who reads the message, where the kind alone tells it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Config => "see `tailwater --help` for what is allowed",
            Self::Unreachable => "check that the server runs and that this host may reach it",
            Self::Busy => "the server is overloaded; Tailwater goes on when it answers again",
            Self::Unauthorized => "check the user name, the password and the rights of the user",
            Self::Unsuitable => "mend the server or the table as described, then start again",
            Self::TooLarge => "give the server more memory; Tailwater tries smaller blocks",
            Self::HistoryLost => {
                "changes are missing: enlarge the oplog, then start again as another `pipeline`, with new tables and, without a Kafka, a new state folder"
            }
            Self::WrongHistory => {
                "restore the state folder, or the topics, that belong to these tables, or use another database"
            }
            Self::InUse => {
                "stop the other process, or give this one a folder and a port of its own"
            }
            Self::Corrupt => "restore the file from a backup; nothing was changed",
            Self::Storage => "free or enlarge the disk, then start again; nothing is lost",
            Self::Refused => "look at the rejected data; nothing was skipped",
            Self::Bug => "this is a bug in Tailwater: please report it with the log",
        }
    }
}

/// An error with its kind, what was tried, and its cause.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    kind: ErrorKind,
    context: String,
    hint: Option<String>,
    gap: Option<Box<Gap>>,
    #[source]
    source: Option<BoxError>,
}

impl Error {
    /// Makes an error of `kind` that says what was tried.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), hint: None, gap: None, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Replaces the kind's hint by one that fits this very case.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what is missing for good, to be recorded before anything ends or goes on.
    #[must_use]
    pub fn with_gap(mut self, gap: Gap) -> Self {
        self.gap = Some(Box::new(gap));
        self
    }

    /// What is missing for good.
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_deref()
    }

    /// The kind, to act on.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The next step for the person who reads the message.
    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.kind.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_hint_replaces_the_hint_of_the_kind() {
        let error = Error::new(ErrorKind::InUse, "port 1 is taken");
        assert_eq!(error.hint(), ErrorKind::InUse.hint());
        assert_eq!(error.with_hint("use port 2").hint(), "use port 2");
    }
}
