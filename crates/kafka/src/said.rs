//! Said: what the brokers have said of our connections. The calls themselves end with "timed out" or
//! "transport failure"; why, librdkafka tells apart, in events and log lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

/// What was said longer ago explains nothing any more.
const LATELY: Duration = Duration::from_secs(60);

/// That a broker is away is told so often.
const AWAY_EVERY: Duration = Duration::from_secs(10);

/// What was said last. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    refusal: Option<(Instant, Trouble, String)>,
    trouble: Option<(Instant, Trouble, String)>,
    /// When somebody was last told that a broker is away.
    away: Option<Instant>,
}

/// What keeps a connection from being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// User, password or token are not taken.
    SignIn,
    /// Who has signed the broker's certificate is not trusted.
    Authority,
    /// The broker's certificate is for other names.
    Name,
    /// The broker's certificate is over, or not yet valid.
    Time,
    /// The broker wants another certificate of us, or one at all.
    Certificate,
    /// One of the two speaks TLS.
    Protocol,
    /// The broker wants us to sign in.
    NoSignIn,
    /// Something else.
    Other,
}

impl Trouble {
    /// By librdkafka's texts, and OpenSSL's in them. Codes alone do not tell: a broker that ends in
    /// the middle of a handshake has the same one as a wrong certificate.
    fn of(code: Option<Code>, text: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed)) {
            Self::SignIn
        } else if says(&["hostname mismatch", "IP address mismatch"]) {
            Self::Name
        } else if says(&["certificate has expired", "certificate is not yet valid"]) {
            Self::Time
        } else if says(&["certificate verify failed"]) {
            Self::Authority
        } else if says(&[
            "alert certificate required",
            "alert bad certificate",
            "alert unknown ca",
            "alert certificate unknown",
            "alert certificate expired",
            "alert certificate revoked",
            "alert unsupported certificate",
            "alert handshake failure",
            "alert access denied",
            "client SSL authentication might be required",
        ]) {
            Self::Certificate
        } else if says(&[
            "wrong version number",
            "packet length too long",
            "connecting to a SSL listener?",
            "connecting to a PLAINTEXT broker listener?",
        ]) {
            Self::Protocol
        } else if says(&["broker might require SASL authentication"]) {
            Self::NoSignIn
        } else {
            Self::Other
        }
    }

    /// Whether waiting does not mend it.
    const fn is_refusal(self) -> bool {
        match self {
            Self::SignIn | Self::Authority | Self::Name | Self::Time | Self::Certificate => true,
            // So does a broker that just goes away.
            Self::Protocol | Self::NoSignIn | Self::Other => false,
        }
    }

    /// The next step, where it does not hang on the way of signing in.
    pub(crate) const fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::SignIn | Self::Other => return None,
            Self::Authority => {
                "name the file with the certificate of whoever signs the brokers' in `kafka.tls.ca`; without it, those of this host count"
            }
            Self::Name => {
                "the certificate is not for this name: write one that it is for in `bootstrap_servers`, and let the brokers advertise such"
            }
            Self::Time => {
                "give the brokers a certificate that is valid today, or set this host's clock"
            }
            Self::Certificate => {
                "the brokers want a certificate that they trust: name it in `kafka.tls.certificate`, with `key`"
            }
            Self::Protocol => {
                "check `kafka.security_protocol` against the port: one side speaks TLS and the other does not"
            }
            Self::NoSignIn => {
                "if this port is one with sign-in, write `security_protocol: SASL_SSL` and `sasl` in `kafka`"
            }
        })
    }
}

impl Said {
    /// Whether it is time to tell that a broker is away.
    pub(crate) fn is_news(&self) -> bool {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = words.away.is_none_or(|told| told.elapsed() > AWAY_EVERY);
        if news {
            words.away = Some(Instant::now());
        }
        news
    }

    /// Notes what was said, in an error or without one.
    pub(crate) fn note(&self, code: Option<Code>, text: &str) {
        let trouble = Trouble::of(code, text);
        let said = Some((Instant::now(), trouble, text.to_owned()));
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_refusal() {
            words.refusal = said;
        } else {
            words.trouble = said;
        }
    }

    /// Forgets all: a connection was made.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Words::default();
    }

    /// Why we were refused lately.
    pub(crate) fn refusal(&self) -> Option<(Trouble, String)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lately(&words.refusal)
    }

    /// What else kept us from connecting lately.
    pub(crate) fn trouble(&self) -> Option<(Trouble, String)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lately(&words.trouble)
    }
}

fn lately(said: &Option<(Instant, Trouble, String)>) -> Option<(Trouble, String)> {
    let (at, trouble, text) = said.as_ref()?;
    (at.elapsed() < LATELY).then(|| (*trouble, text.clone()))
}
