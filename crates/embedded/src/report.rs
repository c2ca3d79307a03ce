//! The one line by which a child tells its parent how its start went.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tailwater_core::{Error, ErrorKind};

/// How an engine's start went.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Ready { address: SocketAddr },
    Failed { kind: String, context: String, hint: String },
}

impl Report {
    pub(crate) const fn ready(address: SocketAddr) -> Self {
        Self::Ready { address }
    }

    pub(crate) fn failed(error: &Error) -> Self {
        let mut context = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            context = format!("{context}: {inner}");
            cause = inner.source();
        }
        Self::Failed { kind: format!("{:?}", error.kind()), context, hint: error.hint().to_owned() }
    }

    /// The error as the child had it.
    pub(crate) fn error(kind: &str, context: String, hint: String) -> Error {
        let kinds = [
            ErrorKind::Config,
            ErrorKind::InUse,
            ErrorKind::Storage,
            ErrorKind::Unreachable,
            ErrorKind::Corrupt,
        ];
        let kind =
            kinds.into_iter().find(|known| format!("{known:?}") == kind).unwrap_or(ErrorKind::Bug);
        Error::new(kind, context).with_hint(hint)
    }
}
