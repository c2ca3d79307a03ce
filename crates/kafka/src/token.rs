//! Token: what a client signs in with by OAUTHBEARER, and until when. Values only.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use tailwater_core::position::Millis;

/// The name of whoever signs in by a token that does not say it.
const NAMELESS: &str = "tailwater";

/// A token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    text: SecretString,
    /// Who signs in. It is not sent; brokers read the token.
    pub(crate) principal: String,
    /// Until when it counts, where that is known.
    pub(crate) expires_at: Option<Millis>,
}

impl Token {
    pub(crate) fn new(
        text: impl Into<SecretString>,
        principal: &str,
        expires_at: Option<Millis>,
    ) -> Self {
        Self { text: text.into(), principal: principal.to_owned(), expires_at }
    }

    /// A token that somebody else has made. What it says of itself is read where it is a JWT; whether
    /// it is true, the broker judges.
    ///
    /// # Errors
    /// A sentence that says why it can be none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        // RFC 7628, `client-resp`. A line end in it would also be a line end in the middle of a JWT.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it holds characters that no token has".to_owned());
        }
        let claims = claims(text).unwrap_or_default();
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or(NAMELESS);
        // librdkafka takes C strings.
        let principal = subject.replace('\0', "");
        let seconds = claims.get("exp").and_then(Value::as_f64);
        // Beyond all times a cast ends at the last one.
        let expires_at = seconds.map(|seconds| Millis((seconds * 1000.0) as i64));
        Ok(Self::new(text, &principal, expires_at))
    }

    /// The token itself, a secret.
    pub(crate) fn text(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether it counts.
    pub(crate) fn is_good(&self, now: Millis) -> bool {
        self.over_since(now).is_none()
    }

    /// Since when it counts no more.
    pub(crate) fn over_since(&self, now: Millis) -> Option<Millis> {
        self.expires_at.filter(|end| *end <= now)
    }
}

/// What a JWT says.
fn claims(text: &str) -> Option<Map<String, Value>> {
    let mut parts = text.split('.');
    let (_, payload) = (parts.next()?, parts.next()?);
    parts.next()?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// A time of the system's, in our own kind.
pub(crate) fn millis(at: SystemTime) -> Millis {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A maker of tokens without a signature, by the words of librdkafka's `sasl.oauthbearer.config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsecured {
    principal: String,
    principal_claim: String,
    scopes: Vec<String>,
    scope_claim: String,
    life_seconds: u32,
}

impl Unsecured {
    /// Reads the words: `principal=NAME`, and perhaps `scope=A,B`, `lifeSeconds=N`,
    /// `principalClaimName=NAME`, `scopeClaimName=NAME`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(words: &str) -> Result<Self, String> {
        let mut this = Self {
            principal: String::new(),
            principal_claim: "sub".to_owned(),
            scopes: Vec::new(),
            scope_claim: "scope".to_owned(),
            life_seconds: 3600,
        };
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if value.is_empty() {
                return Err(format!("`{name}` has no value"));
            }
            match name {
                "principal" => this.principal = value.to_owned(),
                "principalClaimName" => this.principal_claim = value.to_owned(),
                "scope" => {
                    let scopes = value.split(',').filter(|scope| !scope.is_empty());
                    this.scopes = scopes.map(str::to_owned).collect();
                }
                "scopeClaimName" => this.scope_claim = value.to_owned(),
                "lifeSeconds" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                    this.life_seconds = seconds
                        .ok_or_else(|| format!("`lifeSeconds={value}` is no number of seconds"))?;
                }
                _ => return Err(format!("`{name}` is not known")),
            }
        }
        if this.principal.is_empty() {
            return Err("it lacks `principal=NAME`".to_owned());
        }
        Ok(this)
    }

    /// A token from now on.
    pub(crate) fn token(&self, now: Millis) -> Token {
        let expires_at = Millis(now.0.saturating_add(i64::from(self.life_seconds) * 1000));
        let seconds = |at: Millis| json!(at.0 as f64 / 1000.0);
        let mut claims = Map::new();
        claims.insert(self.principal_claim.clone(), json!(self.principal));
        claims.insert("iat".to_owned(), seconds(now));
        claims.insert("exp".to_owned(), seconds(expires_at));
        if !self.scopes.is_empty() {
            claims.insert(self.scope_claim.clone(), json!(self.scopes));
        }
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}.", encode(json!({ "alg": "none" })), encode(claims.into()));
        Token::new(text, &self.principal, Some(expires_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(token: &Token) -> Value {
        let part = token.text().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn jwt(payload: &str) -> String {
        format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn unsecured_tokens_say_what_those_of_librdkafka_say() {
        // The expected text is of librdkafka's own tests (`rdkafka_sasl_oauthbearer.c`), whose times
        // have three digits behind the point.
        let words = "principal=fubar scope=role1,role2 lifeSeconds=60";
        let token = Unsecured::parse(words).unwrap().token(Millis(1000));
        let librdkafka = Token::read(
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmdWJhciIsImlhdCI6MS4wMDAsImV4cCI6NjEuMDAwLCJzY29wZSI6WyJyb2xlMSIsInJvbGUyIl19.",
        )
        .unwrap();
        assert_eq!(payload(&token), payload(&librdkafka));
        assert!(token.text().starts_with("eyJhbGciOiJub25lIn0.") && token.text().ends_with('.'));
        assert_eq!(
            (token.expires_at, librdkafka.expires_at),
            (Some(Millis(61_000)), Some(Millis(61_000)))
        );
        assert_eq!((&*token.principal, &*librdkafka.principal), ("fubar", "fubar"));
    }

    #[test]
    fn claims_have_the_names_that_are_wanted() {
        let words = "principalClaimName=azp  scopeClaimName=roles principal=me scope=,a,";
        let token = Unsecured::parse(words).unwrap().token(Millis(500));
        assert_eq!(
            payload(&token),
            json!({ "azp": "me", "iat": 0.5, "exp": 3600.5, "roles": ["a"] })
        );
    }

    #[test]
    fn wrong_words_are_told() {
        for (words, told) in [
            ("", "principal"),
            ("scope=a", "principal"),
            ("principal=", "`principal`"),
            ("principal=a lifeSeconds=0", "lifeSeconds=0"),
            ("principal=a lifeSeconds=1m", "lifeSeconds=1m"),
            ("principal=a extension_x=y", "extension_x"),
            ("principal=a what", "`what`"),
        ] {
            let why = Unsecured::parse(words).unwrap_err();
            assert!(why.contains(told), "{words}: {why}");
        }
    }

    #[test]
    fn a_jwt_tells_who_and_until_when() {
        let read = |text: &str| {
            let token = Token::read(text).unwrap();
            (token.principal, token.expires_at.map(|at| at.0))
        };
        let (me, nobody) = (|| "me".to_owned(), || NAMELESS.to_owned());
        assert_eq!(read(&jwt(r#"{"sub":"me","exp":1795550400}"#)), (me(), Some(1_795_550_400_000)));
        assert_eq!(read(&jwt(r#"{"sub":"me","exp":1.5}"#)), (me(), Some(1500)));
        assert_eq!(read(&jwt(r#"{"exp":1e300}"#)), (nobody(), Some(i64::MAX)));
        assert_eq!(read(&jwt(r#"{"exp":"soon"}"#)), (nobody(), None));
        assert_eq!(read(&jwt("[]")), (nobody(), None));
        assert_eq!(read("\n opaque~token+/= \n"), (nobody(), None));
    }

    #[test]
    fn what_can_be_no_token_is_told_without_showing_it() {
        for text in ["", " \n", "two words", "line\nend", "ü", "a\0b"] {
            let why = Token::read(text).unwrap_err();
            assert!(text.trim().is_empty() || !why.contains(text.trim()), "{why}");
        }
    }
}
