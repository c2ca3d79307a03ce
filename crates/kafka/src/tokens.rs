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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;
use tailwater_core::config::{Kafka, OAuthBearer, Sasl};
use tailwater_core::position::Millis;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::clock;
use tailwater_pipeline::retry::{self, Backoff};
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
    /// Those who are to have each one.
    clients: Vec<Weak<dyn Native>>,
}

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
/// `Config` for what can be no token; `Unauthorized` where there are no AWS credentials, or the only
/// token is over; `Unreachable` when nobody gives any.
pub async fn tokens(kafka: &Kafka) -> Result<Option<Tokens>> {
    let maker = match &kafka.sasl {
        None | Some(Sasl::Password { .. }) => return Ok(None),
        Some(Sasl::OAuthBearer(OAuthBearer::Token(text))) => {
            let token = Token::read(text.expose_secret());
            let token = token.map_err(|why| wrong("`token` in `kafka.sasl`", why))?;
            if let Some(since) = token.over_since(clock::now()) {
                let what = format!("`token` in `kafka.sasl` is over since {}", shown(since));
                return Err(Error::new(ErrorKind::Unauthorized, what).with_hint(
                    "give a new one, or keep one fresh in a file, and name it in `token_file`",
                ));
            }
            return Ok(Some(Tokens::fixed(token)));
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

impl Tokens {
    fn fixed(token: Token) -> Self {
        info!(expires_at = token.expires_at.map(shown), "a token for Kafka is there");
        let state = State { token: Some(token), ..State::default() };
        Self { shared: Arc::new(Shared(Mutex::new(state))), renewal: None }
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
        let this = Self::fixed(token);
        let task = tokio::spawn(renew(Arc::clone(&this.shared), maker));
        Ok(Self { renewal: Some(Arc::new(Renewal(task.abort_handle()))), ..this })
    }

    /// Until when the token counts, in milliseconds since 1970, where that is known.
    pub fn expires_at(&self) -> Option<Millis> {
        self.shared.state().expires_at()
    }

    /// Whether the token is over, and what that means for a connection that cannot be made: the next
    /// one is waited for, or there is none.
    pub(crate) fn over(&self) -> Option<(ErrorKind, String)> {
        let state = self.shared.state();
        let since = shown(state.token.as_ref()?.over_since(clock::now())?);
        let (kind, then) = match (&self.renewal, &state.trouble) {
            (None, _) => (ErrorKind::Unauthorized, "there is no other"),
            (Some(_), Some(trouble)) => (ErrorKind::Unreachable, trouble.as_str()),
            (Some(_), None) => (ErrorKind::Unreachable, "the next one is on its way"),
        };
        Some((kind, format!("the token is over since {since}: {then}")))
    }

    /// Gives a client the token, now, and each later one as long as it is there.
    pub(crate) fn supply<T: Native>(&self, client: &Arc<T>) {
        let mut state = self.shared.state();
        // One that is over is not taken.
        if let Some(token) = state.token.as_ref().filter(|token| token.is_good(clock::now())) {
            give(&**client, token);
        }
        if self.renewal.is_some() {
            let client: Weak<T> = Arc::downgrade(client);
            state.clients.retain(|client| client.strong_count() > 0);
            state.clients.push(client);
        }
    }
}

fn give(client: &dyn Native, token: &Token) {
    if let Err(why) = native::set_token(client, token) {
        warn!(why, "librdkafka does not take the token");
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a new token to everybody. It may block: the last hold on a client may be ours, and ends
    /// the client then.
    fn hand_out(&self, token: &Token) {
        let clients = {
            let mut state = self.state();
            state.trouble = None;
            // Whoever comes from now on gets the new one.
            state.token = Some(token.clone());
            state.clients.clone()
        };
        for client in clients.iter().filter_map(Weak::upgrade) {
            give(&*client, token);
        }
    }
}

impl State {
    fn expires_at(&self) -> Option<Millis> {
        self.token.as_ref().and_then(|token| token.expires_at)
    }
}

/// Renews the token for ever.
async fn renew(shared: Arc<Shared>, mut maker: Maker) {
    loop {
        let expires_at = shared.state().expires_at();
        sleep(wait(&maker, clock::now(), expires_at)).await;
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
        let handed = tokio::task::spawn_blocking(move || shared.hand_out(&token)).await;
        if let Err(panic) = handed {
            warn!(%panic, "a token could not be handed out");
        }
    }
}

/// How long to wait with the next token: until 80 % of what is left of the last one is over.
fn wait(maker: &Maker, now: Millis, expires_at: Option<Millis>) -> Duration {
    let left = expires_at.map(|end| end.0.saturating_sub(now.0));
    let left = left
        .map_or(retry::FOR_EVER, |left| Duration::from_millis(u64::try_from(left).unwrap_or(0)));
    let most = match maker {
        Maker::File(_) => FILE,
        Maker::Unsecured(_) | Maker::Iam(_) => retry::FOR_EVER,
    };
    (left / 5 * 4).min(most).max(LEAST)
}

/// Sleeps so long by the wall clock too: that goes on while this process, or its host, is stopped.
async fn sleep(wait: Duration) {
    let began = (Instant::now(), clock::now());
    loop {
        let by_wall = u64::try_from(clock::now().0.saturating_sub(began.1.0)).unwrap_or(0);
        let gone = began.0.elapsed().max(Duration::from_millis(by_wall));
        match wait.checked_sub(gone).filter(|left| !left.is_zero()) {
            Some(left) => tokio::time::sleep(left.min(LOOK)).await,
            None => return,
        }
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
    /// A token that is good.
    async fn make(&mut self) -> Result<Token> {
        let (token, of) = match self {
            Self::File(path) => (read(path).await?, format!("that in `{path}`")),
            Self::Unsecured(unsecured) => (unsecured.token(clock::now()), "ours".to_owned()),
            Self::Iam(signer) => {
                (signer.token(SystemTime::now()).await?, "that of AWS's credentials".to_owned())
            }
        };
        match token.over_since(clock::now()) {
            None => Ok(token),
            Some(since) => {
                let what = format!("the token for Kafka, {of}, is over since {}", shown(since));
                Err(Error::new(ErrorKind::Unreachable, what)
                    .with_hint("check who keeps it fresh, and this host's clock"))
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::admin::AdminClient;
    use rdkafka::client::DefaultClientContext;

    const NOW: Millis = Millis(1_795_550_400_000);

    fn unsecured(words: &str) -> Maker {
        Maker::Unsecured(Unsecured::parse(words).expect("right words"))
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life() {
        let own = unsecured("principal=me");
        let file = Maker::File("token".to_owned());
        let wait = |maker, left_ms: Option<i64>| {
            wait(maker, NOW, left_ms.map(|left| Millis(NOW.0 + left)))
        };
        assert_eq!(wait(&own, Some(900_000)), Duration::from_secs(720));
        assert_eq!(wait(&own, Some(10_000)), Duration::from_secs(8));
        assert_eq!(wait(&file, Some(10_000)), Duration::from_secs(8));
        // The file may be replaced before, and may have no token that tells its end.
        assert_eq!(wait(&file, Some(900_000)), FILE);
        assert_eq!(wait(&file, None), FILE);
        assert_eq!(wait(&own, None), retry::FOR_EVER / 5 * 4);
        for left in [Some(0), Some(-5), Some(-NOW.0), Some(1)] {
            assert_eq!(wait(&own, left), LEAST);
        }
    }

    fn client(mechanism: &str) -> Arc<AdminClient<DefaultClientContext>> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", "u")
            .set("sasl.password", "p");
        Arc::new(config.create().expect("a client"))
    }

    #[test]
    fn librdkafka_takes_good_tokens_alone() {
        let good = Token::new("good", "me", Some(Millis(clock::now().0 + 60_000)));
        let endless = Token::new("endless", "me", None);
        let far = Token::new("far", "me", Some(Millis(i64::MAX)));
        let over = Token::new("over", "me", Some(Millis(clock::now().0 - 1)));
        let bearer = client("OAUTHBEARER");
        for token in [&good, &endless, &far] {
            native::set_token(&*bearer, token).expect("a good token");
        }
        let why = native::set_token(&*bearer, &over).expect_err("it is over");
        assert!(why.contains("unexpired"), "{why}");
        let why = native::set_token(&*client("PLAIN"), &good).expect_err("nobody asked for it");
        assert!(why.contains("not the configured"), "{why}");
    }

    #[tokio::test]
    async fn clients_that_are_gone_are_forgotten() {
        let tokens = Tokens::made_by(unsecured("principal=me")).await.expect("a token");
        let kept = client("OAUTHBEARER");
        for _ in 0..3 {
            tokens.supply(&client("OAUTHBEARER"));
            tokens.supply(&kept);
        }
        let clients = tokens.shared.state().clients.len();
        assert_eq!(clients, 3, "the kept one, three times");
    }

    #[tokio::test]
    async fn a_token_that_nobody_renews_is_the_only_one() {
        let end = Millis(clock::now().0 - 1000);
        let over = Token::new("secret", "me", Some(end));
        let fixed = Tokens::fixed(over);
        let (kind, why) = fixed.over().expect("it is over");
        assert_eq!(kind, ErrorKind::Unauthorized);
        assert!(why.contains("there is no other") && why.contains(&shown(end)), "{why}");
        assert!(!format!("{fixed:?}").contains("secret"), "{fixed:?}");
        let good = Tokens::made_by(unsecured("principal=me")).await.expect("a token");
        assert_eq!(good.over(), None);
    }

    #[tokio::test]
    async fn with_the_last_clone_the_renewal_ends() {
        let tokens = Tokens::made_by(unsecured("principal=me lifeSeconds=1")).await.expect("one");
        let shared = Arc::downgrade(&tokens.shared);
        drop(tokens.clone());
        assert!(shared.upgrade().is_some());
        drop(tokens);
        let ended = async {
            while shared.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the task ends");
    }
}
