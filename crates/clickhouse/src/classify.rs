//! What an answer of ClickHouse means, by its error code. One table, one test.

use clickhouse::error::Error as ClientError;
use tailwater_core::{Error, ErrorKind};

/// Turns an error of the client into one of ours; `what` says what was tried, on what.
pub fn classify(error: ClientError, what: impl Into<String>) -> Error {
    let (kind, hint) = match &error {
        ClientError::BadResponse(text) => match code(text) {
            Some(code) => (by_code(code), hint(code)),
            // A proxy's page, or an answer that was cut.
            None => (ErrorKind::Unreachable, None),
        },
        ClientError::Network(cause) if format!("{cause:?}").contains("InvalidCertificate") => {
            (ErrorKind::Unreachable, Some("name who signed the server's certificate in `tls.ca`"))
        }
        ClientError::Network(_) | ClientError::TimedOut => (ErrorKind::Unreachable, None),
        ClientError::InvalidParams(_) | ClientError::Unsupported(_) => (ErrorKind::Config, None),
        _ => (ErrorKind::Unreachable, None),
    };
    let error = Error::new(kind, what).with_source(error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The number in `Code: 60. DB::Exception: …`.
fn code(text: &str) -> Option<u32> {
    let rest = &text[text.find("Code: ")? + "Code: ".len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn by_code(code: u32) -> ErrorKind {
    match code {
        // UNEXPECTED_END_OF_FILE, FILE_DOESNT_EXIST, TIMEOUT_EXCEEDED, READONLY,
        // TOO_MANY_SIMULTANEOUS_QUERIES, NO_FREE_CONNECTION, SOCKET_TIMEOUT, NETWORK_ERROR,
        // TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, TOO_MANY_PARTS,
        // TOO_FEW_LIVE_REPLICAS, UNKNOWN_STATUS_OF_INSERT, RECEIVED_ERROR_TOO_MANY_REQUESTS,
        // KEEPER_EXCEPTION, QUERY_WAS_CANCELLED, CANNOT_WRITE_TO_FILE_DESCRIPTOR.
        3 | 107 | 159 | 164 | 202 | 203 | 209 | 210 | 242 | 243 | 252 | 285 | 319 | 364 | 394
        | 425 | 75 | 999 => ErrorKind::Busy,
        // TOO_MANY_ROWS, CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES,
        // TOO_MANY_ROWS_OR_BYTES.
        158 | 173 | 241 | 307 | 396 => ErrorKind::TooLarge,
        // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED.
        192 | 193 | 194 | 497 | 516 => ErrorKind::Unauthorized,
        // NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER, UNKNOWN_TABLE, UNKNOWN_DATABASE,
        // UNKNOWN_SETTING, NOT_IMPLEMENTED, SUPPORT_IS_DISABLED.
        16 | 47 | 60 | 81 | 115 | 48 | 344 => ErrorKind::Unsuitable,
        // CANNOT_PARSE_TEXT, CANNOT_PARSE_DATETIME, CANNOT_PARSE_INPUT_ASSERTION_FAILED,
        // CANNOT_PARSE_QUOTED_STRING, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, CANNOT_CONVERT_TYPE,
        // CANNOT_PARSE_NUMBER, INCORRECT_DATA, TOO_LARGE_STRING_SIZE, ILLEGAL_DIVISION,
        // VIOLATED_CONSTRAINT, TOO_DEEP_RECURSION, CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN,
        // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO, DECIMAL_OVERFLOW, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE.
        6 | 41 | 27 | 26 | 53 | 69 | 70 | 72 | 117 | 131 | 153 | 469 | 306 | 349 | 395 | 407
        | 321 => ErrorKind::Refused,
        // Whatever else a server says, what it said once it may not say again; `/health` shows a
        // pipeline that does not move.
        _ => ErrorKind::Busy,
    }
}

fn hint(code: u32) -> Option<&'static str> {
    Some(match code {
        75 | 243 => "free or enlarge the disk of ClickHouse; nothing is lost, Tailwater waits",
        241 => "give ClickHouse more memory, or fewer queries beside Tailwater; nothing is lost",
        252 => "ClickHouse merges more slowly than it is written to; nothing is lost",
        81 => "create the database first, or name another one in the target's path",
        60 => {
            "a table of Tailwater is gone: start again, and it is made anew; restore its rows first"
        }
        497 => {
            "grant SELECT, INSERT, CREATE TABLE and CREATE VIEW on the database, and SELECT on system.processes"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_out_of_the_text() {
        assert_eq!(code("Code: 252. DB::Exception: Too many parts"), Some(252));
        assert_eq!(code("<html>502</html>"), None);
        assert_eq!(code("Code: "), None);
    }

    #[test]
    fn every_code_has_its_kind() {
        for (code, kind) in [
            (241, ErrorKind::TooLarge),
            (252, ErrorKind::Busy),
            (243, ErrorKind::Busy),
            (159, ErrorKind::Busy),
            (516, ErrorKind::Unauthorized),
            (497, ErrorKind::Unauthorized),
            (60, ErrorKind::Unsuitable),
            (117, ErrorKind::Refused),
            (53, ErrorKind::Refused),
            (27, ErrorKind::Refused),
            (395, ErrorKind::Refused),
            (4711, ErrorKind::Busy),
        ] {
            assert_eq!(by_code(code), kind, "{code}");
        }
    }
}
