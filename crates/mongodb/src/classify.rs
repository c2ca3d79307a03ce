//! What an error of the driver or the server means, by code and phase. One table, one test.

use mongodb::error::{Error as DriverError, ErrorKind as DriverKind};
use tailwater_core::{Error, ErrorKind};

/// What was being done when the error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first connection and the questions that go with it.
    Connect,
    /// Opening a change stream at a bookmark, for the first time.
    Open,
    /// Opening it again: it was open before.
    Reopen,
    /// Reading an open change stream.
    Read,
}

/// An error of a change stream, and what a reader can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) meaning: Meaning,
    pub(crate) error: Error,
}

/// What a reader can do about an error, beyond its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The server does not go on at this resume token; it may at its time.
    TokenRefused,
    /// The oplog no longer holds the position.
    HistoryLost,
    /// The next event is larger than the server can send.
    TooLarge,
    /// The kind says it all.
    Other,
}

impl Failure {
    /// Reads an error of the driver.
    pub(crate) fn of(error: &DriverError, phase: Phase, what: &str) -> Self {
        let meaning = command_code(error).map_or(Meaning::Other, |code| meaning(code, phase));
        Self { meaning, error: classify(error, phase, what) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { meaning: Meaning::Other, error }
    }
}

const fn meaning(code: i32, phase: Phase) -> Meaning {
    match (code, phase) {
        // ChangeStreamFatalError, "the resume token was not found", and its kin.
        (280 | 464, _) => Meaning::TokenRefused,
        // InvalidResumeToken, a KeyString of an unknown form, a token of a newer version, a token of a
        // fragment for a server that sends none.
        (260 | 50811 | 50795 | 40646, Phase::Open | Phase::Reopen) => Meaning::TokenRefused,
        // ChangeStreamHistoryLost.
        (286, _) => Meaning::HistoryLost,
        // BSONObjectTooLarge.
        (10334, _) => Meaning::TooLarge,
        _ => Meaning::Other,
    }
}

/// Turns an error of the driver into one of ours; `what` says what was tried, on what.
pub fn classify(error: &DriverError, phase: Phase, what: &str) -> Error {
    let code = command_code(error);
    let kind = match code {
        Some(code) => by_code(code, phase, error.contains_label("ResumableChangeStreamError")),
        None => by_kind(&error.kind),
    };
    // The driver's own text drags labels and empty sources along; the kind says it all.
    let result = Error::new(kind, what.to_owned()).with_source(error.kind.to_string());
    match hint(code) {
        Some(hint) => result.with_hint(hint),
        None => result,
    }
}

fn command_code(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        DriverKind::Command(command) => Some(command.code),
        _ => None,
    }
}

fn by_kind(kind: &DriverKind) -> ErrorKind {
    match kind {
        DriverKind::InvalidArgument { .. }
        | DriverKind::InvalidTlsConfig { .. }
        | DriverKind::DnsResolve { .. } => ErrorKind::Config,
        DriverKind::Authentication { .. } => ErrorKind::Unauthorized,
        DriverKind::IncompatibleServer { .. } | DriverKind::SessionsNotSupported => {
            ErrorKind::Unsuitable
        }
        // The driver's own rule: what no server said can be tried again.
        _ => ErrorKind::Unreachable,
    }
}

fn by_code(code: i32, phase: Phase, resumable: bool) -> ErrorKind {
    match meaning(code, phase) {
        Meaning::TokenRefused => return ErrorKind::WrongHistory,
        Meaning::HistoryLost => return ErrorKind::HistoryLost,
        Meaning::TooLarge => return ErrorKind::Unsuitable,
        Meaning::Other => {}
    }
    match code {
        // Unauthorized, AuthenticationFailed, AtlasError.
        13 | 18 | 8000 => ErrorKind::Unauthorized,
        // "$changeStream is only supported on replica sets", and NoMatchingDocument: an image that
        // is required was not recorded.
        40573 | 47 => ErrorKind::Unsuitable,
        // CursorNotFound, HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress,
        // PrimarySteppedDown, ExceededTimeLimit, SocketException, NotWritablePrimary,
        // InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
        // NotPrimaryOrSecondary, StaleShardVersion, StaleEpoch, StaleConfig, RetryChangeStream,
        // FailedToSatisfyReadPreference, Interrupted, InterruptedDueToStorageChange.
        43 | 6 | 7 | 89 | 91 | 189 | 262 | 9001 | 10107 | 11600 | 11601 | 11602 | 13435 | 13436
        | 63 | 150 | 13388 | 234 | 133 | 355 => ErrorKind::Unreachable,
        _ if resumable => ErrorKind::Unreachable,
        // A server that starts up or elects answers with codes of its own while it does.
        _ if matches!(phase, Phase::Reopen | Phase::Read) => ErrorKind::Unreachable,
        _ => ErrorKind::Unsuitable,
    }
}

fn hint(code: Option<i32>) -> Option<&'static str> {
    Some(match code? {
        13 => "give the user the role `read` on the watched databases",
        18 => "check the user name, the password and `authSource` in the connection string",
        40573 => STANDALONE_HINT,
        280 | 464 | 260 | 50811 | 50795 | 40646 => {
            "use the server and the collections of the last run; if they are gone for good, start \
             again as another `pipeline`, with new tables and, without a Kafka, a new state folder"
        }
        47 => IMAGES_HINT,
        _ => return None,
    })
}

/// What to do where images are missing.
pub(crate) const IMAGES_HINT: &str = "images are there from the moment on that they are recorded: \
     db.runCommand({ collMod: \"<collection>\", changeStreamPreAndPostImages: { enabled: true } }). \
     For changes before that, take `whenAvailable` instead of `required`";

/// The lines that make a standalone server a replica set.
pub(crate) const STANDALONE_HINT: &str = "change streams need a replica set; one server is enough. Start it with `--replSet rs0` (or \
     `replication: { replSetName: rs0 }` in mongod.conf), then run once: \
     mongosh --eval 'rs.initiate()'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        for (code, phase, kind) in [
            (43, Phase::Read, ErrorKind::Unreachable),
            (91, Phase::Open, ErrorKind::Unreachable),
            (189, Phase::Read, ErrorKind::Unreachable),
            (11602, Phase::Read, ErrorKind::Unreachable),
            (13435, Phase::Open, ErrorKind::Unreachable),
            (286, Phase::Open, ErrorKind::HistoryLost),
            (286, Phase::Read, ErrorKind::HistoryLost),
            (280, Phase::Read, ErrorKind::WrongHistory),
            (260, Phase::Open, ErrorKind::WrongHistory),
            (50811, Phase::Open, ErrorKind::WrongHistory),
            (464, Phase::Read, ErrorKind::WrongHistory),
            (50795, Phase::Open, ErrorKind::WrongHistory),
            (40646, Phase::Open, ErrorKind::WrongHistory),
            (10334, Phase::Read, ErrorKind::Unsuitable),
            (47, Phase::Read, ErrorKind::Unsuitable),
            (47, Phase::Open, ErrorKind::Unsuitable),
            (40573, Phase::Open, ErrorKind::Unsuitable),
            (13, Phase::Open, ErrorKind::Unauthorized),
            (18, Phase::Connect, ErrorKind::Unauthorized),
            (9, Phase::Open, ErrorKind::Unsuitable),
            // KeyNotFound, NotYetInitialized, ReadConcernMajorityNotAvailableYet.
            (211, Phase::Open, ErrorKind::Unsuitable),
            (211, Phase::Reopen, ErrorKind::Unreachable),
            (94, Phase::Reopen, ErrorKind::Unreachable),
            (134, Phase::Reopen, ErrorKind::Unreachable),
            (13, Phase::Reopen, ErrorKind::Unauthorized),
            (40573, Phase::Reopen, ErrorKind::Unsuitable),
            (260, Phase::Reopen, ErrorKind::WrongHistory),
            (286, Phase::Reopen, ErrorKind::HistoryLost),
        ] {
            assert_eq!(by_code(code, phase, false), kind, "{code} in {phase:?}");
        }
        assert_eq!(by_code(4242, Phase::Open, true), ErrorKind::Unreachable);
    }
}
