//! Tokens: what all connections sign in with by OAUTHBEARER and AWS MSK IAM, kept fresh.
//!
//! ```text
//!   Maker ─▶ a token, at 80 % of its life the next one ─▶ handed to every client there is
//! ```
//!
//! librdkafka would ask for a new token in an event, which waits until somebody polls the client. A
//! reader that waits for ClickHouse does not, nor does a client that is only asked something. So
//! tokens are handed out, and whoever got one keeps signing in, polled or not.
//!
//! It must never let a client go on with no token because one could not be renewed: it is tried
//! again, for as long as it takes.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;
use tailwater_core::config::{Kafka, OAuthBearer, Sasl};
use tailwater_core::position::Millis;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::clock;
use tailwater_pipeline::retry::Backoff;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::aws::Signer;
use crate::native::{self, Native};
use crate::token::{Token, Unsecured};

/// How long the first token may take.
const FIRST: Duration = Duration::from_secs(10);
/// A file may be replaced at any time, and to look costs nothing.
const FILE: Duration = Duration::from_secs(30);
/// A process that was stopped has no idea how late it is: the clock is looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// No token is renewed more often.
const LEAST: Duration = Duration::from_millis(500);

/// Tokens for all connections of a process. Clones are of the same ones; with the last, their renewal
/// ends.
#[derive(Clone)]
pub struct Tokens {
    shared: Arc<Shared>,
    renewal: Option<Arc<Renewal>>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Why there is no newer one.
    trouble: Option<String>,
    /// Those who are to have it; each tells whether it still is there.
    takers: Vec<Taker>,
}

type Taker = Box<dyn Fn(&Token) -> bool + Send>;

/// A task that ends when nobody wants its tokens.
struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("token", &self.shared.state().token).finish_non_exhaustive()
    }
}

/// The tokens that the sign-in takes, the first one in hand; `None` where it takes none.
///
/// # Errors
/// `Config` for what can be no token; `Unauthorized` where there are no AWS credentials, or the token
/// is over; `Unreachable` when nobody gives any.
pub async fn tokens(kafka: &Kafka) -> Result<Option<Tokens>> {
    let maker = match &kafka.sasl {
        None | Some(Sasl::Password { .. }) => return Ok(None),
        Some(Sasl::OAuthBearer(OAuthBearer::Token(text))) => {
            let token = Token::read(text.expose_secret());
            let token = token.map_err(|why| wrong("`token` in `kafka.sasl`", why))?;
            return Tokens::fixed(token).map(Some);
        }
        Some(Sasl::OAuthBearer(OAuthBearer::TokenFile(path))) => Maker::File(path.clone()),
        Some(Sasl::OAuthBearer(OAuthBearer::Unsecured(words))) => {
            let unsecured = Unsecured::parse(words);
            Maker::Unsecured(unsecured.map_err(|why| wrong("`unsecured` in `kafka.sasl`", why))?)
        }
        Some(Sasl::AwsMskIam { region }) => Maker::Iam(Signer::new(region).await),
    };
    Tokens::made_by(maker).await.map(Some)
}

fn wrong(what: &str, why: String) -> Error {
    Error::new(ErrorKind::Config, format!("{what} cannot be used"))
        .with_source(why)
        .with_hint("see \"Signing in\" in docs/config.md")
}

fn refuse_over(token: &Token) -> Result<()> {
    match token.expires_at {
        Some(end) if token.is_over(clock::now()) => {
            let what = format!("the Kafka token is over since {}", shown(end));
            Err(Error::new(ErrorKind::Unauthorized, what)
                .with_hint("give a new one, or name a file in `token_file` that is kept fresh"))
        }
        _ => Ok(()),
    }
}

impl Tokens {
    fn fixed(token: Token) -> Result<Self> {
        refuse_over(&token)?;
        info!(expires_at = token.expires_at.map(shown), "a token for Kafka is there");
        let state = State { token: Some(token), ..State::default() };
        Ok(Self { shared: Arc::new(Shared(Mutex::new(state))), renewal: None })
    }

    async fn made_by(mut maker: Maker) -> Result<Self> {
        let deadline = Instant::now() + FIRST;
        let mut backoff = Backoff::new();
        let token = loop {
            match maker.make().await {
                Ok(token) => break token,
                Err(error)
                    if error.kind().action() == Action::Retry && Instant::now() < deadline =>
                {
                    if backoff.attempts() == 0 {
                        warn!(%error, cause = cause(&error), "trying again");
                    }
                }
                Err(error) => return Err(error),
            }
            backoff.pause().await;
        };
        let this = Self::fixed(token)?;
        let task = tokio::spawn(renew(Arc::clone(&this.shared), maker));
        Ok(Self { renewal: Some(Arc::new(Renewal(task.abort_handle()))), ..this })
    }

    /// Until when the token counts, in milliseconds since 1970, where that is known.
    pub fn expires_at(&self) -> Option<Millis> {
        self.shared.state().token.as_ref().and_then(|token| token.expires_at)
    }

    /// Whether the token is over, and what that means for a connection that cannot be made: the next
    /// one is waited for, or there is none.
    pub(crate) fn over(&self) -> Option<(ErrorKind, String)> {
        let state = self.shared.state();
        let token = state.token.as_ref().filter(|token| token.is_over(clock::now()))?;
        let since = token.expires_at.map(shown).unwrap_or_default();
        let (kind, then) = match (&self.renewal, &state.trouble) {
            (None, _) => (ErrorKind::Unauthorized, "and is the only one"),
            (Some(_), Some(trouble)) => (ErrorKind::Unreachable, trouble.as_str()),
            (Some(_), None) => (ErrorKind::Unreachable, "the next one is on its way"),
        };
        Some((kind, format!("the token is over since {since}: {then}")))
    }

    /// Gives a client the token, now, and each later one as long as it is there.
    pub(crate) fn supply<T: Native>(&self, client: &Arc<T>) {
        let client = Arc::downgrade(client);
        let give = move |token: &Token| match client.upgrade() {
            Some(client) => {
                if let Err(why) = native::set_token(&*client, token) {
                    warn!(why, "librdkafka does not take the token");
                }
                true
            }
            None => false,
        };
        let mut state = self.shared.state();
        if let Some(token) = state.token.as_ref().filter(|token| !token.is_over(clock::now())) {
            give(token);
        }
        state.takers.push(Box::new(give));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a new token to everybody. It may block: the last hold on a client may be ours, and ends
    /// the client then.
    fn hand_out(&self, token: Token) {
        let mut takers = {
            let mut state = self.state();
            state.trouble = None;
            // Whoever comes from now on gets the new one.
            state.token = Some(token.clone());
            std::mem::take(&mut state.takers)
        };
        takers.retain(|give| give(&token));
        self.state().takers.append(&mut takers);
    }
}

/// Renews the token for ever.
async fn renew(shared: Arc<Shared>, mut maker: Maker) {
    loop {
        let expires_at = shared.state().expires_at();
        sleep_until(due(&maker, clock::now(), expires_at)).await;
        let mut backoff = Backoff::new();
        let token = loop {
            let error = match maker.make().await {
                Ok(token) => break token,
                Err(error) => error,
            };
            let cause = cause(&error);
            if backoff.attempts().is_multiple_of(10) {
                warn!(%error, cause, "the token for Kafka could not be renewed, trying again");
            }
            shared.state().trouble = Some(format!("{error}: {cause}"));
            backoff.pause().await;
        };
        let same = shared.state().token.as_ref().is_some_and(|old| old.text() == token.text());
        if same {
            continue;
        }
        debug!(expires_at = token.expires_at.map(shown), "the token for Kafka is renewed");
        let shared = Arc::clone(&shared);
        let handed = tokio::task::spawn_blocking(move || shared.hand_out(token)).await;
        if let Err(panic) = handed {
            warn!(%panic, "a token could not be handed out");
        }
    }
}

impl State {
    fn expires_at(&self) -> Option<Millis> {
        self.token.as_ref().and_then(|token| token.expires_at)
    }
}

/// When to make the next token: when 80 % of what is left of the last one is over.
fn due(maker: &Maker, now: Millis, expires_at: Option<Millis>) -> Millis {
    let left = expires_at.map_or(i64::MAX, |end| end.0.saturating_sub(now.0));
    let wait = (left / 5).saturating_mul(4);
    let most = match maker {
        Maker::File(_) => FILE,
        // Without an end there is nothing to renew.
        Maker::Unsecured(_) | Maker::Iam(_) => Duration::MAX,
    };
    let (least, most) = (LEAST.as_millis(), most.as_millis());
    let wait = u128::try_from(wait).unwrap_or(0).min(most).max(least);
    Millis(now.0.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX)))
}

/// Waits for a time of the wall clock, which may be set, and goes on while this process is stopped.
async fn sleep_until(due: Millis) {
    while let Some(left) = u64::try_from(due.0 - clock::now().0).ok().filter(|left| *left > 0) {
        tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await;
    }
}

/// Who makes the tokens.
enum Maker {
    /// Somebody else, into this file.
    File(String),
    /// Ourselves, without a signature.
    Unsecured(Unsecured),
    /// Ourselves, with AWS credentials.
    Iam(Signer),
}

impl Maker {
    async fn make(&mut self) -> Result<Token> {
        match self {
            Self::File(path) => read(path).await,
            Self::Unsecured(unsecured) => Ok(unsecured.token(clock::now())),
            Self::Iam(signer) => signer.token(SystemTime::now()).await,
        }
    }
}

async fn read(path: &str) -> Result<Token> {
    let what = || format!("cannot read the token file `{path}`");
    let text = tokio::fs::read_to_string(path).await.map_err(|error| {
        // Who replaces it may remove it first.
        Error::new(ErrorKind::Unreachable, what())
            .with_source(error)
            .with_hint("check `token_file` in `kafka.sasl`, and who writes the file")
    })?;
    Token::read(&text).map_err(|why| {
        Error::new(ErrorKind::Unreachable, what()).with_source(why).with_hint(
            "write the token alone into it, in one step: as a new file that takes its name",
        )
    })
}

/// What is behind an error: the first line of one of the AWS SDK says little.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut told = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        told.push(error.to_string());
        next = error.source();
    }
    told.join(": ")
}

/// A time, for people.
fn shown(at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0);
    time.map_or_else(|_| format!("{} ms", at.0), |time| time.to_string())
}
