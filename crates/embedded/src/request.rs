//! What a client asks for: parameters of the URL, of a form, and headers.

use axum::http::{HeaderMap, Method, Uri, header};
use base64::Engine as _;

use crate::compression::Encoding;
use crate::exception::{BAD_ARGUMENTS, Exception, UNKNOWN_FORMAT};

/// One request, read but not judged.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The query's text, or its beginning: the body follows it.
    pub(crate) query: String,
    /// `{name:Type}` parameters.
    pub(crate) params: Vec<(String, String)>,
    /// Settings in the order given.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) database: Option<String>,
    pub(crate) default_format: Option<String>,
    pub(crate) query_id: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// The answer goes out in ClickHouse's blocks.
    pub(crate) compress: bool,
    /// The body comes in ClickHouse's blocks.
    pub(crate) decompress: bool,
    pub(crate) body_encoding: Option<Encoding>,
    pub(crate) answer_encoding: Option<Encoding>,
    /// Nothing of the answer goes out before the query has ended.
    pub(crate) wait_end: bool,
    /// GET and HEAD may not change anything.
    pub(crate) read_only: bool,
}

/// Parameters of the protocol that this server does not need, and that are no settings.
const TOLERATED: [&str; 11] = [
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "quota_key",
    "client_protocol_version",
    "buffer_size",
    "stacktrace",
    "role",
    "network_compression_method",
    "network_zstd_compression_level",
];

fn on(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

/// Only such names may stand in a query unquoted.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Request {
    /// Reads method, URL and headers.
    pub(crate) fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, Exception> {
        let mut request =
            Self { read_only: matches!(*method, Method::GET | Method::HEAD), ..Self::default() };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        request.user = text("x-clickhouse-user").map(str::to_owned);
        request.password = text("x-clickhouse-key").map(str::to_owned);
        request.database = text("x-clickhouse-database").map(str::to_owned);
        request.default_format = text("x-clickhouse-format").map(str::to_owned);
        if let Some((user, password)) = text(header::AUTHORIZATION.as_str()).and_then(basic) {
            request.user = Some(user);
            request.password = Some(password);
        }
        request.body_encoding = match text(header::CONTENT_ENCODING.as_str()) {
            None | Some("" | "identity") => None,
            Some(name) => Some(Encoding::parse(name).ok_or_else(|| {
                Exception::new(
                    (779, "UNSUPPORTED_MEDIA_TYPE"),
                    &format!("Content-Encoding `{name}` is not known here"),
                )
            })?),
        };
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            request.take(&name, value.into_owned());
        }
        if request
            .settings
            .iter()
            .any(|(name, value)| name == "enable_http_compression" && on(value))
        {
            request.answer_encoding =
                text(header::ACCEPT_ENCODING.as_str()).and_then(Encoding::accepted);
        }
        if let Some(format) = request.default_format.as_deref().filter(|name| !is_name(name)) {
            return Err(Exception::new(UNKNOWN_FORMAT, &format!("Unknown format {format}")));
        }
        Ok(request)
    }

    /// Takes one parameter, of the URL or of a form.
    pub(crate) fn take(&mut self, name: &str, value: String) {
        match name {
            "query" => self.query.push_str(&value),
            "database" if !value.is_empty() => self.database = Some(value),
            "default_format" if !value.is_empty() => self.default_format = Some(value),
            "database" | "default_format" => {}
            "query_id" => self.query_id = Some(value).filter(|id| !id.is_empty()),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "compress" => self.compress = on(&value),
            "decompress" => self.decompress = on(&value),
            "wait_end_of_query" => self.wait_end = on(&value),
            name if TOLERATED.contains(&name) => {}
            name => match name.strip_prefix("param_") {
                Some(param) => self.params.push((param.to_owned(), value)),
                None => {
                    self.wait_end |= name == "http_wait_end_of_query" && on(&value);
                    self.settings.push((name.to_owned(), value));
                }
            },
        }
    }

    /// The statement that applies the settings to a connection of this request's own.
    pub(crate) fn set_statement(&self) -> Result<Option<String>, Exception> {
        let mut changes = Vec::new();
        let mut read_only_given = false;
        for (name, value) in &self.settings {
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)) {
                return Err(Exception::new(
                    BAD_ARGUMENTS,
                    &format!("`{name}` cannot be a setting's name"),
                ));
            }
            if name == "readonly" {
                // It comes last: under it nothing else could be set.
                read_only_given = on(value);
                continue;
            }
            changes.push(format!("{name} = {}", literal(value)));
        }
        if read_only_given {
            let value = self.settings.iter().rev().find(|(name, _)| name == "readonly");
            changes.extend(value.map(|(_, value)| format!("readonly = {}", literal(value))));
        } else if self.read_only {
            changes.push("readonly = '2'".to_owned());
        }
        Ok((!changes.is_empty()).then(|| format!("SET {}", changes.join(", "))))
    }
}

/// A value as an SQL string.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name as a quoted SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, uri: &str) -> Request {
        Request::read(&method, &uri.parse().unwrap(), &HeaderMap::new()).unwrap()
    }

    #[test]
    fn parameters_settings_and_the_protocol_s_own_names_are_told_apart() {
        let request = read(
            Method::POST,
            "/?query=SELECT%201&param_x=a%26b&max_threads=2&session_id=s&database=d&decompress=1",
        );
        assert_eq!(request.query, "SELECT 1");
        assert_eq!(request.params, [("x".to_owned(), "a&b".to_owned())]);
        assert_eq!(request.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(request.database.as_deref(), Some("d"));
        assert!(request.decompress && !request.compress && !request.read_only);
    }

    #[test]
    fn a_get_is_read_only_and_values_are_quoted() {
        let set = |method, uri| read(method, uri).set_statement().unwrap();
        assert_eq!(set(Method::POST, "/"), None);
        assert_eq!(set(Method::GET, "/"), Some("SET readonly = '2'".to_owned()));
        assert_eq!(
            set(Method::GET, "/?readonly=1&log_comment=a%27%5Cb"),
            Some("SET log_comment = 'a\\'\\\\b', readonly = '1'".to_owned())
        );
        assert_eq!(
            set(Method::GET, "/?readonly=0"),
            Some("SET readonly = '2'".to_owned()),
            "a GET cannot lift it"
        );
        assert!(read(Method::POST, "/?a%20b=1").set_statement().is_err());
    }
}
