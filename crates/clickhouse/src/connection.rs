//! Connection: where ClickHouse is, and the three things that are asked of it: a statement, rows,
//! an insert.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Compression};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
pub use tailwater_core::config::Endpoint;
use tailwater_core::{Error, ErrorKind, Result};

use crate::classify::classify;

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
/// The server's own work on all rows of a table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Handing a piece of an insert to the network.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The server's own work on one block, views included.
const INSERT_TIMEOUT: Duration = Duration::from_secs(120);
/// Pieces in which a block goes to the network.
const PIECE: usize = 1024 * 1024;

impl Connection {
    /// Prepares a connection. It opens with the first question.
    ///
    /// # Errors
    /// `Config` when the endpoint's certificates cannot be used.
    pub fn new(endpoint: Endpoint) -> Result<Self> {
        // On the same host compression costs more than it saves.
        let compression =
            if endpoint.is_on_this_host() { Compression::None } else { Compression::Lz4 };
        let client = match &endpoint.ca {
            None => Client::default(),
            Some(ca) => trusting(ca)?,
        };
        let client = client
            .with_url(endpoint.url.as_str())
            .with_database(&endpoint.database)
            .with_user(&endpoint.username)
            .with_password(endpoint.password.expose_secret())
            .with_compression(compression)
            .with_product_info("tailwater", env!("CARGO_PKG_VERSION"));
        Ok(Self { client, endpoint })
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

    /// Runs a statement that works through a whole table, under a `log_comment` of its own.
    ///
    /// # Errors
    /// By the server's code; `what` says what was tried. After any error it may go on there.
    pub async fn work_through(&self, sql: &str, comment: &str, what: &str) -> Result<()> {
        let client = self.client.clone().with_setting("log_comment", comment);
        let query = client.query(&escaped(sql)).execute();
        within(TABLE_TIMEOUT, query).await.map_err(|error| classify(error, what))
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

    /// Inserts blocks, one behind the other in one request, with the given settings. An `Ok` is the
    /// server's own.
    ///
    /// # Errors
    /// By the server's code. After any error the rows may be there or not.
    pub async fn insert(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
        blocks: Vec<Bytes>,
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
            for mut rest in blocks {
                while !rest.is_empty() {
                    insert.send(rest.split_to(rest.len().min(PIECE))).await?;
                }
            }
            insert.end().await
        };
        send.await.map_err(|error| classify(error, what))
    }
}

/// As long as the driver's own client keeps an idle connection: shorter than any server does.
const IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A client that trusts servers whose certificates one of these signed, and no others.
fn trusting(ca: &str) -> Result<Client> {
    let wrong = |error: Option<rustls::pki_types::pem::Error>| {
        let error = error.map_or("there is none in it".to_owned(), |error| error.to_string());
        Error::new(ErrorKind::Config, "cannot use the certificates of `clickhouse.tls.ca`")
            .with_source(error)
            .with_hint("the file holds PEM: lines from BEGIN CERTIFICATE to END CERTIFICATE")
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(Some(error)))?;
        roots.add(certificate).map_err(|error| wrong(None).with_source(error))?;
    }
    if roots.is_empty() {
        return Err(wrong(None));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Bug, "no TLS versions").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    Ok(Client::with_http_client(http))
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
    fn a_secret_is_not_in_the_debug_form() {
        let endpoint = Endpoint::parse("http://u:hunter2@h/db").unwrap();
        assert!(!format!("{:?}", Connection::new(endpoint)).contains("hunter2"));
    }

    #[test]
    fn certificates_must_be_some() {
        for wrong in ["", "text", "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"] {
            let mut endpoint = Endpoint::parse("https://h").unwrap();
            endpoint.ca = Some(wrong.to_owned());
            assert_eq!(Connection::new(endpoint).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
