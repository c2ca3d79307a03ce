//! The section `kafka`: how to reach it, what the source writes into it, and its topics.

mod connector;
mod msk;
mod properties;
mod read;
mod security;
mod servers;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

pub use self::properties::Client;
pub(super) use self::read::{Around, Lies, read};
use crate::connector::{Messages, TopicSettings};
use crate::message::Format;
use crate::topics::TopicNaming;

/// A Kafka, and what is in it.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port`, each, with commas between.
    pub bootstrap_servers: String,
    /// How connections are made.
    pub security_protocol: SecurityProtocol,
    /// How to sign in; there where the protocol has SASL.
    pub sasl: Option<Sasl>,
    /// Certificates.
    pub tls: Tls,
    /// How values are written; not under `compat`.
    pub format: Format,
    /// What values are; not under `compat`.
    pub publish: Publish,
    /// Whether a delete is followed by a null, for compacted topics; not under `compat`.
    pub tombstones: bool,
    /// Whose messages ours must be like.
    pub compat: Compat,
    /// The topics.
    pub topics: Topics,
    /// Properties of librdkafka, none of which Tailwater sets itself. A value may be a secret.
    pub properties: BTreeMap<String, SecretString>,
}

/// Kafka's `security.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// Neither encrypted nor signed in.
    Plaintext,
    /// TLS.
    Ssl,
    /// Signed in, not encrypted.
    SaslPlaintext,
    /// Signed in, over TLS.
    SaslSsl,
}

/// How to sign in.
#[derive(Debug, Clone)]
pub enum Sasl {
    /// By user and password.
    Password {
        /// Which way the password goes.
        mechanism: PasswordMechanism,
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// `OAUTHBEARER`.
    OAuthBearer(OAuthBearer),
    /// `AWS_MSK_IAM`: `OAUTHBEARER` with a token that is signed here, with the credentials that the
    /// usual AWS chain finds.
    AwsMskIam {
        /// The AWS region.
        region: String,
    },
}

/// A mechanism that takes user and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PasswordMechanism {
    /// `PLAIN`.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
}

/// Where the token of `OAUTHBEARER` comes from.
#[derive(Debug, Clone)]
pub enum OAuthBearer {
    /// It is this one, a JWT, and lasts as long as it lasts.
    Token(SecretString),
    /// It is in a file, which somebody else keeps fresh: to be read again ahead of its end.
    TokenFile(String),
    /// It has no signature, and says these words of a `sasl.oauthbearer.config`. For tests.
    Unsecured(String),
}

/// Certificates, as PEM.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Those that may sign the brokers'; `None`: those of this host.
    pub ca: Option<String>,
    /// Ours, and its chain.
    pub certificate: Option<String>,
    /// The key of ours.
    pub key: Option<SecretString>,
    /// The password of the key.
    pub key_password: Option<SecretString>,
}

/// What the value of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Publish {
    /// The whole change event.
    #[default]
    ChangeEvent,
    /// Its document alone.
    FullDocument,
}

/// Whose messages ours must be like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Compat {
    /// Nobody's.
    #[default]
    None,
    /// Those of the MongoDB Kafka source connector, byte for byte.
    MongoKafka {
        /// Its keys and values.
        messages: Messages,
        /// Its topic names, as they are configured; [`Topics::raw`] names by them.
        topics: TopicSettings,
    },
}

/// The topics.
#[derive(Debug, Clone)]
pub struct Topics {
    /// What the topics of collections are called.
    pub raw: TopicNaming,
    /// What to read instead of what the source writes: names, and regexes that begin with `^`.
    pub read: Option<Vec<String>>,
    /// Where normalized events go.
    pub normalized: Arc<str>,
    /// Where events go that cannot be normalized.
    pub dead_letter: Arc<str>,
    /// Where the checkpoints of source and normalize are.
    pub checkpoints: Arc<str>,
    /// Of topics that are made.
    pub partitions: u32,
    /// Of topics that are made.
    pub replication_factor: u16,
    /// Of topics that are made.
    pub retention: Duration,
    /// Of topics that are made: the largest batch in bytes, and so the largest message.
    pub max_message_bytes: u32,
}

/// The topic of normalized events, by default.
pub const DEFAULT_NORMALIZED: &str = "events.normalized.record";
/// The topic of dead letters, by default.
pub const DEFAULT_DEAD_LETTER: &str = "events.dead_letter";
/// As many consumers can share a topic; more can be had only by a drained command.
pub const DEFAULT_PARTITIONS: u32 = 12;
/// With two of them in step, the loss of any broker loses nothing.
pub const DEFAULT_REPLICATION_FACTOR: u16 = 3;
/// A weekend without anybody to mend what stands.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(72 * 3600);
/// Eight times Kafka's own, which documents exceed; larger ones go in chunks.
pub const DEFAULT_MAX_MESSAGE_BYTES: u32 = 8 << 20;

impl SecurityProtocol {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether clients sign in.
    pub const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    /// Whether connections are encrypted.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

impl PasswordMechanism {
    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Sasl {
    /// Kafka's `sasl.mechanism`.
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Password { mechanism, .. } => mechanism.name(),
            Self::OAuthBearer(_) | Self::AwsMskIam { .. } => "OAUTHBEARER",
        }
    }
}
