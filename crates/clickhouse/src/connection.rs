//! Connection: where ClickHouse is, and the three things that are asked of it: a statement, rows,
//! an insert.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Compression};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tailwater_core::{Error, ErrorKind, Result};
use url::{Host, Url};

use crate::classify::classify;

/// Where a ClickHouse is, and as whom to talk to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Scheme, host and port; no credentials.
    pub url: Url,
    /// The database that holds the tables.
    pub database: String,
    username: String,
    password: SecretString,
}

const DEFAULT_DATABASE: &str = "default";
const DEFAULT_USER: &str = "default";

impl Endpoint {
    /// Reads `http[s]://user:password@host:port/database`.
    ///
    /// # Errors
    /// `Config`, without the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Config, format!("cannot use the ClickHouse target: {why}"))
                .with_hint("it looks like http://user:password@host:8123/database")
        };
        let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`{}` is neither http nor https", url.scheme())));
        }
        if url.host().is_none() {
            return Err(wrong("it names no host".to_owned()));
        }
        if url.port() == Some(9000) || url.port() == Some(9440) {
            return Err(wrong(
                "port 9000 and 9440 speak the native protocol; HTTP is on 8123, HTTPS on 8443"
                    .into(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("settings in the address are not supported".to_owned()));
        }
        let decoded = |part: &str| {
            percent_encoding::percent_decode_str(part)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| wrong("a part of it is not UTF-8".to_owned()))
        };
        let or =
            |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let username = or(decoded(url.username())?, DEFAULT_USER);
        let password = decoded(url.password().unwrap_or_default())?.into();
        let database = or(decoded(url.path().trim_matches('/'))?, DEFAULT_DATABASE);
        // Both can only fail for a URL without a host.
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return Err(wrong("it cannot carry credentials".to_owned()));
        }
        url.set_path("");
        Ok(Self { url, database, username, password })
    }

    fn is_on_this_host(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

/// A ClickHouse at an endpoint.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    endpoint: Endpoint,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An answer to a small question comes within this time, or the connection is dead.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Handing a piece of an insert to the network.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The server's own work on one block, views included.
const INSERT_TIMEOUT: Duration = Duration::from_secs(120);
/// Pieces in which a block goes to the network.
const PIECE: usize = 1024 * 1024;

impl Connection {
    /// Prepares a connection. It opens with the first question.
    pub fn new(endpoint: Endpoint) -> Self {
        // On the same host compression costs more than it saves.
        let compression =
            if endpoint.is_on_this_host() { Compression::None } else { Compression::Lz4 };
        let client = Client::default()
            .with_url(endpoint.url.as_str())
            .with_database(&endpoint.database)
            .with_user(&endpoint.username)
            .with_password(endpoint.password.expose_secret())
            .with_compression(compression)
            .with_product_info("tailwater", env!("CARGO_PKG_VERSION"));
        Self { client, endpoint }
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The database that holds the tables.
    pub fn database(&self) -> &str {
        &self.endpoint.database
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// By the server's code.
    pub async fn ping(&self) -> Result<()> {
        let what = format!("cannot reach ClickHouse at `{}`", self.endpoint.url);
        self.text("SELECT 1", &what).await.map(|_| ())
    }

    /// Runs a statement that answers nothing.
    ///
    /// # Errors
    /// By the server's code; `what` says what was tried.
    pub async fn execute(&self, sql: &str, what: &str) -> Result<()> {
        let query = self.client.query(&escaped(sql)).execute();
        within(QUERY_TIMEOUT, query).await.map_err(|error| classify(error, what))
    }

    /// Asks for rows, each an object of named columns.
    ///
    /// # Errors
    /// By the server's code; `what` says what was tried.
    pub async fn rows<T: DeserializeOwned>(&self, sql: &str, what: &str) -> Result<Vec<T>> {
        let bytes = self.fetch(sql, "JSONEachRow", what).await?;
        let rows = serde_json::Deserializer::from_slice(&bytes).into_iter::<T>();
        rows.collect::<Result<_, _>>().map_err(|error| {
            Error::new(
                ErrorKind::Unreachable,
                format!("{what}: the answer is not what was asked for"),
            )
            .with_source(error)
        })
    }

    /// Asks for one text.
    ///
    /// # Errors
    /// By the server's code; `what` says what was tried.
    pub async fn text(&self, sql: &str, what: &str) -> Result<String> {
        let bytes = self.fetch(sql, "TabSeparatedRaw", what).await?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Asks for an answer in the given format.
    ///
    /// # Errors
    /// By the server's code; `what` says what was tried.
    pub async fn fetch(&self, sql: &str, format: &str, what: &str) -> Result<Vec<u8>> {
        let fetch = async {
            let mut cursor = self
                .client
                .clone()
                .with_setting("output_format_json_quote_64bit_integers", "0")
                .query(&escaped(sql))
                .fetch_bytes(format)?;
            Ok(cursor.collect().await?.to_vec())
        };
        within(QUERY_TIMEOUT, fetch).await.map_err(|error| classify(error, what))
    }

    /// Inserts one block with the given settings. An `Ok` is the server's own.
    ///
    /// # Errors
    /// By the server's code. After any error the rows may be there or not.
    pub async fn insert(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
        block: &Bytes,
        what: &str,
    ) -> Result<()> {
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            .with_timeouts(Some(SEND_TIMEOUT), Some(INSERT_TIMEOUT));
        for (name, value) in settings {
            insert = insert.with_setting(*name, *value);
        }
        let send = async {
            let mut rest = block.clone();
            while !rest.is_empty() {
                insert.send(rest.split_to(rest.len().min(PIECE))).await?;
            }
            insert.end().await
        };
        send.await.map_err(|error| classify(error, what))
    }
}

async fn within<T>(
    limit: Duration,
    future: impl Future<Output = clickhouse::error::Result<T>>,
) -> clickhouse::error::Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or(Err(clickhouse::error::Error::TimedOut))
}

/// The client takes `?` for a place to bind to; none of ours is one.
fn escaped(sql: &str) -> String {
    sql.replace('?', "??")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_its_parts() {
        let endpoint = Endpoint::parse("https://me:p%40ss@ch.example:8443/events").unwrap();
        assert_eq!(endpoint.url.as_str(), "https://ch.example:8443/");
        assert_eq!((endpoint.username.as_str(), endpoint.database.as_str()), ("me", "events"));
        assert_eq!(endpoint.password.expose_secret(), "p@ss");
        let endpoint = Endpoint::parse("http://localhost:8123").unwrap();
        assert_eq!(
            (endpoint.username.as_str(), endpoint.database.as_str()),
            ("default", "default")
        );
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for wrong in
            ["ftp://u:hunter2@h/db", "http://u:hunter2@h:9000/db", "http://u:hunter2@h:x/db"]
        {
            let error = Endpoint::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error}");
        }
        let endpoint = Endpoint::parse("http://u:hunter2@h/db").unwrap();
        assert!(!format!("{:?}", Connection::new(endpoint)).contains("hunter2"));
    }
}
