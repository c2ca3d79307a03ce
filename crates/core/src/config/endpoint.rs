//! Endpoint: where a ClickHouse is, and as whom to talk to it.

use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use crate::{Error, ErrorKind, Result};

/// Where a ClickHouse is, and as whom to talk to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Scheme, host and port; no credentials.
    pub url: Url,
    /// The database that holds the tables.
    pub database: String,
    /// The user.
    pub username: String,
    /// The user's password; empty: none.
    pub password: SecretString,
    /// The certificates, as PEM, that may sign the server's; `None`: those of this host.
    pub ca: Option<String>,
}

/// The database of a server that nobody configured.
pub(super) const DEFAULT_DATABASE: &str = "default";
/// The user of a server that nobody configured.
pub(super) const DEFAULT_USER: &str = "default";

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
        Ok(Self { url, database, username, password, ca: None })
    }

    /// Whether what goes there stays on this host.
    pub fn is_on_this_host(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Whether it names a password.
    pub fn has_password(&self) -> bool {
        !self.password.expose_secret().is_empty()
    }
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
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
