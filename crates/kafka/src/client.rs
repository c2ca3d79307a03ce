//! Client: how every connection to the cluster is made, and what the cluster says of it.
//!
//! No secret is ever logged: librdkafka is told its properties and nothing prints them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tailwater_core::{Action, Error, ErrorKind, Result};
use tracing::{debug, info, warn};

use crate::classify;

/// How long one question to the cluster may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// Where a token for SASL OAUTHBEARER comes from. It must answer at once.
pub trait Tokens: Send + Sync + fmt::Debug {
    /// The token as it is now.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn token(&self) -> Result<OAuthToken, String>;
}

/// How every connection to the cluster is made.
#[derive(Clone)]
pub struct Client {
    properties: Arc<[(String, String)]>,
    tokens: Option<Arc<dyn Tokens>>,
    said: Said,
    /// The servers, for messages.
    pub(crate) servers: Arc<str>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the servers in `properties`, which are librdkafka's and may hold secrets.
    pub fn new(
        servers: &str,
        properties: Vec<(String, String)>,
        tokens: Option<Arc<dyn Tokens>>,
    ) -> Self {
        let mut all = vec![("bootstrap.servers".to_owned(), servers.to_owned())];
        all.extend(properties);
        Self { properties: all.into(), tokens, said: Said::default(), servers: servers.into() }
    }

    /// The properties that all connections share.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "tailwater").set_log_level(RDKafkaLogLevel::Info);
        // A quiet connection is not worth a line each time it is closed.
        config.set("log.connection.close", "false");
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        config
    }

    /// How long a transaction may stay open: as configured, or else the given time.
    pub(crate) fn transaction_timeout(&self, usual: Duration) -> Duration {
        let configured = self.properties.iter().rev().find(|(name, _)| name == TRANSACTION_TIMEOUT);
        let millis = configured.and_then(|(_, millis)| millis.trim().parse().ok());
        millis.map_or(usual, Duration::from_millis)
    }

    pub(crate) fn context(&self) -> Context {
        Context { tokens: self.tokens.clone(), said: self.said.clone() }
    }

    /// A consumer for questions and for reading partitions by hand. It never joins the group, but
    /// librdkafka wants the name of one, and brokers may check the right to it.
    pub(crate) fn reader(
        &self,
        isolation: Isolation,
        group: &str,
    ) -> Result<BaseConsumer<Context>> {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // What is fetched ahead is counted by no budget.
            .set("queued.max.messages.kbytes", "16384")
            .set("isolation.level", isolation.as_str());
        config
            .create_with_context(self.context())
            .map_err(|error| classify::error(error, "cannot make a Kafka client"))
    }

    /// A client that asks for topics, and makes them.
    pub(crate) fn admin(&self) -> Result<AdminClient<Context>> {
        self.config()
            .create_with_context(self.context())
            .map_err(|error| classify::error(error, "cannot make a Kafka client"))
    }

    /// Waits until the cluster answers, at most `patience`.
    ///
    /// # Errors
    /// `Unauthorized` when the sign-in is refused, `Unreachable` when nobody answers.
    pub async fn connect(&self, patience: Duration) -> Result<()> {
        let client = self.clone();
        blocking(move || {
            let admin = client.admin()?;
            let deadline = Instant::now() + patience;
            loop {
                let answer = admin.inner().fetch_metadata(None, Duration::from_secs(2));
                match answer {
                    Ok(metadata) => {
                        info!(servers = %client.servers, brokers = metadata.brokers().len(), "kafka answers");
                        return Ok(());
                    }
                    Err(error) => {
                        let error = client.explain(error, format!("cannot reach Kafka at `{}`", client.servers));
                        if error.kind().action() != Action::Retry || Instant::now() > deadline {
                            return Err(error);
                        }
                    }
                }
            }
        })
        .await
    }

    /// An error with what the cluster has said about the connection, which librdkafka tells apart.
    pub(crate) fn explain(&self, error: KafkaError, what: impl Into<String>) -> Error {
        let known = classify::kind(&error);
        match self.said.refusal() {
            Some(reason) if known == ErrorKind::Unreachable => {
                classify::error(KafkaError::Global(RDKafkaErrorCode::Authentication), what)
                    .with_source(reason)
            }
            _ => classify::error(error, what),
        }
    }
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Those of transactions that were committed.
    Committed,
    /// All.
    Uncommitted,
}

impl Isolation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

/// What the cluster has said about the sign-in.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    fn refused(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    fn refusal(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What librdkafka calls back.
#[derive(Debug, Clone)]
pub struct Context {
    tokens: Option<Arc<dyn Tokens>>,
    said: Said,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => warn!(facility, "librdkafka: {message}"),
            // It says much that is no concern of anybody who does not debug.
            _ => debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if classify::kind(&error) == ErrorKind::Unauthorized
            || error.rdkafka_error_code() == Some(RDKafkaErrorCode::SSL)
        {
            self.said.refused(reason);
        }
        match error.rdkafka_error_code() {
            // Both are told where they count.
            Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                debug!(reason, "kafka: {error}");
            }
            _ => warn!(reason, "kafka: {error}"),
        }
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("no tokens are configured")?;
        Ok(tokens.token()?)
    }
}

impl ConsumerContext for Context {}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|panic| Error::new(ErrorKind::Bug, "a Kafka call panicked").with_source(panic))?
}
