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
    /// The broker's certificate is not trusted. Why, OpenSSL does not tell.
    Untrusted,
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
        } else if says(&["certificate verify failed", "Failed to verify broker certificate"]) {
            Self::Untrusted
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
            "connecting to a PLAINTEXT broker listener?",
        ]) || closed_at_once(text, "APIVERSION_QUERY")
        {
            Self::Protocol
        } else if closed_at_once(text, "UP") {
            Self::NoSignIn
        } else {
            Self::Other
        }
    }

    /// Whether waiting does not mend it.
    const fn is_refusal(self) -> bool {
        match self {
            Self::SignIn | Self::Untrusted | Self::Certificate => true,
            // So does a broker that just goes away.
            Self::Protocol | Self::NoSignIn | Self::Other => false,
        }
    }

    /// The next step, where it does not hang on the way of signing in.
    pub(crate) const fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::SignIn | Self::Other => return None,
            Self::Untrusted => {
                "name the file with the certificate of whoever signs the brokers' in `kafka.tls.ca` (else those of this host count); theirs must be for the names in `bootstrap_servers`, and not be over"
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

/// Whether a broker has closed a connection soon after it got into that state.
fn closed_at_once(text: &str, state: &str) -> bool {
    let after = |text: &str| {
        let (_, rest) = text.rsplit_once("(after ")?;
        let (millis, rest) = rest.split_once("ms in state ")?;
        let same = rest.strip_prefix(state)?.starts_with([')', ',']);
        Some(same && millis.parse::<u64>().ok()? < 2000)
    };
    text.contains("Disconnected") && after(text).unwrap_or(false)
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
        // Log lines begin with the name of a thread.
        let text = match text.split_once("]: ") {
            Some((thread, rest)) if thread.starts_with("[thrd:") => rest,
            _ => text,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As librdkafka 2.12 with OpenSSL 3.6 says them.
    const TEXTS: [(Option<Code>, &str, Trouble); 9] = [
        (
            Some(Code::Authentication),
            "sasl_ssl://b:9096/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 312ms in state AUTH_REQ)",
            Trouble::SignIn,
        ),
        (
            Some(Code::SSL),
            "ssl://b:9094/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured or root CA certificates are installed (install ca-certificates package) (after 4ms in state SSL_HANDSHAKE)",
            Trouble::Untrusted,
        ),
        (
            Some(Code::BrokerTransportFailure),
            "ssl://b:9094/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42 (after 9ms in state APIVERSION_QUERY)",
            Trouble::Certificate,
        ),
        (
            Some(Code::SSL),
            "ssl://b:9092/bootstrap: SSL handshake failed: error:0A00010B:SSL routines::wrong version number (after 4ms in state SSL_HANDSHAKE)",
            Trouble::Protocol,
        ),
        (
            None,
            "[thrd:b:9094/bootstrap]: b:9094/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 3ms in state APIVERSION_QUERY, 1 identical error(s) suppressed)",
            Trouble::Protocol,
        ),
        (
            None,
            "[thrd:b:9096/bootstrap]: b:9096/bootstrap: Disconnected: connection closed by peer (after 3ms in state UP)",
            Trouble::NoSignIn,
        ),
        (
            None,
            "[thrd:b:9092/bootstrap]: b:9092/1: Disconnected: connection closed by peer (after 600000ms in state UP)",
            Trouble::Other,
        ),
        (
            Some(Code::BrokerTransportFailure),
            "ssl://b:9094/bootstrap: SSL handshake failed: Disconnected (after 4ms in state SSL_HANDSHAKE)",
            Trouble::Other,
        ),
        (
            Some(Code::BrokerTransportFailure),
            "b:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)",
            Trouble::Other,
        ),
    ];

    #[test]
    fn each_text_is_understood() {
        for (code, text, trouble) in TEXTS {
            assert_eq!(Trouble::of(code, text), trouble, "{text}");
        }
    }

    #[test]
    fn a_broker_that_goes_away_is_no_refusal() {
        let said = Said::default();
        for (code, text, trouble) in TEXTS {
            said.forget();
            said.note(code, text);
            assert_eq!(said.refusal().is_some(), trouble.is_refusal(), "{text}");
            assert_eq!(said.trouble().is_some(), !trouble.is_refusal(), "{text}");
        }
    }

    #[test]
    fn what_is_told_does_not_begin_with_a_thread() {
        let said = Said::default();
        said.note(None, TEXTS[5].1);
        let (_, told) = said.trouble().expect("it was noted");
        assert!(told.starts_with("b:9096/bootstrap: Disconnected"), "{told}");
    }
}
