//! Client: how every connection to the cluster is made, and what the cluster says of it.
//!
//! No secret is ever logged: librdkafka is told its properties and nothing prints them.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tailwater_core::config::Client as Kind;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tracing::{debug, info, warn};

use crate::classify;
use crate::native::{self, Native};
use crate::said::{Said, Trouble};
use crate::tokens::Tokens;

/// What ends a transaction or commits offsets is sent again only after a time like this. A copy of it does
/// harm later, and only the time until the answer tells that there may be one: see [`NEVER_RESENT`].
const RESEND: Duration = Duration::from_secs(3);
/// What was answered within this time was sent once: librdkafka takes off a fifth of [`RESEND`] at most.
pub(crate) const NEVER_RESENT: Duration = Duration::from_secs(2);
/// How long one question to the cluster may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long the first look at the cluster waits for an answer.
const FIRST_LOOK: Duration = Duration::from_millis(250);

/// A property of librdkafka's, and whether only some clients take it.
pub(crate) type Property = (Option<Kind>, String, String);

/// What to do when user, password or token are not taken.
const SIGN_IN: &str = "check `kafka.sasl` (mechanism, user, password), and that the port is the listener of that mechanism";

const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// How every connection to the cluster is made.
#[derive(Clone)]
pub struct Client {
    properties: Arc<[Property]>,
    tokens: Option<Tokens>,
    said: Said,
    /// What to do when the sign-in is refused.
    hint: &'static str,
    /// The servers, for messages.
    pub(crate) servers: Arc<str>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// So much is fetched ahead, in kilobytes, before a reader asks for no more. No budget counts it.
const AHEAD_KBYTES: &str = "16384";
/// Where that was full the next fetch comes soon, and not after a second.
const FULL_MS: &str = "10";

/// Sets what nobody has configured.
pub(crate) fn set_usual(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

impl Client {
    /// A client of the servers, with properties of librdkafka that every client takes. They may hold
    /// secrets.
    pub fn new(servers: &str, properties: Vec<(String, String)>, tokens: Option<Tokens>) -> Self {
        let of_all = |(name, value)| (None, name, value);
        Self::with(servers, properties.into_iter().map(of_all).collect(), tokens, SIGN_IN)
    }

    pub(crate) fn with(
        servers: &str,
        properties: Vec<Property>,
        tokens: Option<Tokens>,
        hint: &'static str,
    ) -> Self {
        native::keep_little();
        native::keep_openssl();
        let mut all = vec![(None, "bootstrap.servers".to_owned(), servers.to_owned())];
        all.extend(properties);
        Self {
            properties: all.into(),
            tokens,
            said: Said::default(),
            hint,
            servers: servers.into(),
        }
    }

    /// The properties that all connections of a kind share.
    pub(crate) fn config(&self, kind: Kind) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "tailwater").set_log_level(RDKafkaLogLevel::Info);
        // Who closes a connection may say no more: that the port is one for TLS, or wants a sign-in,
        // librdkafka guesses in the log line of it alone. We do not print them.
        config.set("log.connection.close", "true");
        for (of, name, value) in self.properties.iter() {
            if of.is_none_or(|of| of == kind) {
                config.set(name, value);
            }
        }
        config
    }

    /// How long a transaction may stay open: as configured, or else the given time.
    pub(crate) fn transaction_timeout(&self, usual: Duration) -> Duration {
        let configured =
            self.properties.iter().rev().find(|(_, name, _)| name == TRANSACTION_TIMEOUT);
        let millis = configured.and_then(|(_, _, millis)| millis.trim().parse().ok());
        millis.map_or(usual, Duration::from_millis)
    }

    /// The properties of a client whose answers tell by their time whether what they answer was sent twice.
    pub(crate) fn config_of_once(&self, kind: Kind) -> ClientConfig {
        let mut config = self.config(kind);
        for name in ["retry.backoff.ms", "retry.backoff.max.ms"] {
            config.set(name, RESEND.as_millis().to_string());
        }
        config
    }

    pub(crate) fn context(&self) -> Context {
        Context { said: self.said.clone() }
    }

    /// A client that was just made, with the token that it signs in with, where the sign-in takes one.
    pub(crate) fn signing_in<T: Native>(&self, client: T) -> Arc<T> {
        let client = Arc::new(client);
        if let Some(tokens) = &self.tokens {
            tokens.supply(&client);
        }
        client
    }

    /// A consumer for questions and for reading partitions by hand. It never joins the group, but
    /// librdkafka wants the name of one, and brokers may check the right to it. It reads from leaders: a
    /// replica nearby may be behind, and what is read up to its end would not be all.
    pub(crate) fn reader(
        &self,
        isolation: Isolation,
        group: &str,
    ) -> Result<Arc<BaseConsumer<Context>>> {
        let mut config = self.reader_config(isolation, group);
        config.remove("client.rack");
        self.reading(&config)
    }

    fn reader_config(&self, isolation: Isolation, group: &str) -> ClientConfig {
        let mut config = self.config(Kind::Consumer);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", AHEAD_KBYTES)
            .set("isolation.level", isolation.as_str());
        set_usual(&mut config, "fetch.queue.backoff.ms", FULL_MS);
        config
    }

    /// The same for many partitions at once. A reply is counted as it is compressed, and held as it is
    /// not, which may be a hundred times as much: so it is to be small, unless somebody knows better.
    pub(crate) fn reader_of_many(
        &self,
        isolation: Isolation,
        group: &str,
    ) -> Result<Arc<BaseConsumer<Context>>> {
        let mut config = self.reader_config(isolation, group);
        let sizes = ["fetch.max.bytes", "fetch.message.max.bytes", "max.partition.fetch.bytes"];
        if sizes.iter().all(|size| config.get(size).is_none()) {
            config.set("fetch.max.bytes", "1048576").set("fetch.message.max.bytes", "65536");
        }
        self.reading(&config)
    }

    fn reading(&self, config: &ClientConfig) -> Result<Arc<BaseConsumer<Context>>> {
        let made = config.create_with_context(self.context());
        let made = made.map_err(|error| classify::error(error, "cannot make a Kafka client"))?;
        Ok(self.signing_in(made))
    }

    /// A client that asks for topics, and makes them.
    pub(crate) fn admin(&self) -> Result<Arc<AdminClient<Context>>> {
        let made = self.config(Kind::Admin).create_with_context(self.context());
        let made = made.map_err(|error| classify::error(error, "cannot make a Kafka client"))?;
        let admin = self.signing_in(made);
        native::hear_always(&admin)?;
        Ok(admin)
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
            // Who is refused need not wait long, and a broker far away may need its time.
            let mut slice = FIRST_LOOK;
            loop {
                let answer = admin.inner().fetch_metadata(None, slice);
                let left = deadline.saturating_duration_since(Instant::now());
                slice = (slice * 2).min(PATIENCE).min(left).max(FIRST_LOOK);
                match answer {
                    Ok(metadata) => {
                        client.said.forget();
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
        let (kind, what) = (classify::kind(&error), what.into());
        if !classify::is_of_connection(&error) {
            return classify::error(error, what);
        }
        let refusal = self.said.refusal();
        let by_us = refusal.as_ref().is_some_and(|(trouble, _)| *trouble != Trouble::SignIn);
        if let (false, Some((kind, why))) = (by_us, self.tokens.as_ref().and_then(Tokens::over)) {
            return Error::new(kind, what).with_source(why).with_hint(self.hint);
        }
        if let Some((trouble, reason)) = refusal {
            return Error::new(ErrorKind::Unauthorized, what)
                .with_source(reason)
                .with_hint(trouble.hint().unwrap_or(self.hint));
        }
        if kind == ErrorKind::Unauthorized {
            return Error::new(kind, what).with_source(error).with_hint(self.hint);
        }
        let Some((trouble, reason)) = self.said.trouble() else {
            return classify::error(error, what);
        };
        let made = Error::new(kind, what).with_source(format!("{error}: {reason}"));
        match trouble.hint() {
            Some(hint) => made.with_hint(hint),
            None => made,
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

/// Whether a broker could not be reached: said by every connection, many times a second.
pub(crate) const fn is_away(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
        )
    )
}

/// What librdkafka calls back. Tokens it need not ask for: see `tokens.rs`.
#[derive(Debug, Clone)]
pub struct Context {
    said: Said,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            self.said.note(None, message);
        }
        match level {
            // What becomes of connections is an error too, and told as such.
            RDKafkaLogLevel::Error if facility == "FAIL" => {
                debug!(facility, "librdkafka: {message}");
            }
            // Said with each try to reach one.
            RDKafkaLogLevel::Error if message.ends_with("brokers are down") => {
                debug!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => warn!(facility, "librdkafka: {message}"),
            // It says much that is no concern of anybody who does not debug.
            _ => debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.said.note(error.rdkafka_error_code(), reason);
        match error.rdkafka_error_code() {
            // Both are told where they count.
            Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                debug!(reason, "kafka: {error}");
            }
            // Why, and of which, each of them has said: this must not be told in its place.
            Some(RDKafkaErrorCode::AllBrokersDown) => debug!(reason, "kafka: {error}"),
            code if is_away(code) && !self.said.is_news() => debug!(reason, "kafka: {error}"),
            _ => warn!(reason, "kafka: {error}"),
        }
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

/// Whether anybody still waits for what a thread does: it goes on when its future is dropped.
#[derive(Debug)]
pub(crate) struct Wanted(Weak<()>);

impl Wanted {
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Runs what blocks, and must not begin once nobody waits for it: others may have taken over by then.
pub(crate) async fn blocking_while_wanted<T: Send + 'static>(
    work: impl FnOnce(&Wanted) -> Result<T> + Send + 'static,
) -> Result<T> {
    let waiting = Arc::new(());
    let wanted = Wanted(Arc::downgrade(&waiting));
    let outcome = blocking(move || work(&wanted)).await;
    drop(waiting);
    outcome
}
