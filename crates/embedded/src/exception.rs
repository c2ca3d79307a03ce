//! The engine's exceptions as the HTTP protocol shows them: a code, a status, a text.

use axum::http::StatusCode;

/// An exception, with the code that clients act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception {
    /// ClickHouse's number, such as 60 for an unknown table.
    pub(crate) code: i32,
    text: String,
}

pub(crate) const SYNTAX_ERROR: (i32, &str) = (62, "SYNTAX_ERROR");
pub(crate) const UNKNOWN_FORMAT: (i32, &str) = (73, "UNKNOWN_FORMAT");
pub(crate) const NOT_IMPLEMENTED: (i32, &str) = (48, "NOT_IMPLEMENTED");
pub(crate) const BAD_ARGUMENTS: (i32, &str) = (36, "BAD_ARGUMENTS");
pub(crate) const READONLY: (i32, &str) = (164, "READONLY");
pub(crate) const TOO_MANY_QUERIES: (i32, &str) = (202, "TOO_MANY_SIMULTANEOUS_QUERIES");
pub(crate) const REQUIRED_PASSWORD: (i32, &str) = (194, "REQUIRED_PASSWORD");
pub(crate) const AUTHENTICATION_FAILED: (i32, &str) = (516, "AUTHENTICATION_FAILED");
pub(crate) const CANNOT_SCHEDULE_TASK: (i32, &str) = (439, "CANNOT_SCHEDULE_TASK");
pub(crate) const NETWORK_ERROR: (i32, &str) = (210, "NETWORK_ERROR");
pub(crate) const CANNOT_DECOMPRESS: (i32, &str) = (271, "CANNOT_DECOMPRESS");
pub(crate) const INTO_OUTFILE_NOT_ALLOWED: (i32, &str) = (358, "INTO_OUTFILE_NOT_ALLOWED");

impl Exception {
    /// An exception of the server's own.
    pub(crate) fn new((code, name): (i32, &str), message: &str) -> Self {
        Self { code, text: format!("Code: {code}. DB::Exception: {message}. ({name})") }
    }

    /// Reads the engine's text, `Code: 60. DB::Exception: …`; a text without a code counts as
    /// 1002 (`UNKNOWN_EXCEPTION`).
    pub(crate) fn parse(text: &str) -> Self {
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(number, _)| number.parse().ok());
        match code {
            Some(code) => Self { code, text: text.trim_end().to_owned() },
            None => Self::new((1002, "UNKNOWN_EXCEPTION"), text.trim_end()),
        }
    }

    /// The text for a client; every ClickHouse ends it with its version.
    pub(crate) fn text(&self, version: &str) -> String {
        if self.text.ends_with("))") || self.text.ends_with(&format!("(version {version})")) {
            return format!("{}\n", self.text);
        }
        format!("{} (version {version} (tailwater))\n", self.text)
    }

    /// The status that a ClickHouse server answers with (its `exceptionCodeToHTTPStatus`).
    pub(crate) const fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
            | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => {
                StatusCode::NOT_FOUND
            }
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            76 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            381 => StatusCode::LENGTH_REQUIRED,
            159 => StatusCode::REQUEST_TIMEOUT,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_map_to_the_status_of_a_clickhouse_server() {
        for (code, status) in [
            (60, 404),
            (81, 404),
            (115, 404),
            (62, 400),
            (27, 400),
            (117, 400),
            (36, 400),
            (241, 500),
            (252, 500),
            (516, 403),
            (194, 401),
            (48, 501),
            (159, 408),
        ] {
            let exception = Exception::new((code, "NAME"), "x");
            assert_eq!(exception.status().as_u16(), status, "{code}");
        }
    }

    #[test]
    fn the_version_is_added_once() {
        let bare = Exception::parse("Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)");
        assert_eq!(bare.code, 60);
        assert!(bare.text("26.7").ends_with("(UNKNOWN_TABLE) (version 26.7 (tailwater))\n"));
        let full = Exception::parse("Code: 27. DB::Exception: bad. (X) (version 26.7)");
        assert_eq!(full.text("26.7"), "Code: 27. DB::Exception: bad. (X) (version 26.7)\n");
        assert_eq!(Exception::parse("no code").code, 1002);
    }
}
