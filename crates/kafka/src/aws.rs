//! AWS: tokens for MSK with the credentials that the usual chain finds, and finds again.

use std::time::SystemTime;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use tailwater_core::{Error, ErrorKind, Result};
use tracing::warn;

use crate::iam;
use crate::token::Token;
use crate::tokens::cause;

/// A signer of tokens for MSK.
pub(crate) struct Signer {
    region: String,
    provider: Option<SharedCredentialsProvider>,
    /// The last ones, until they are nearly over: each look may be a request to AWS.
    credentials: Option<Credentials>,
}

impl Signer {
    /// Finds the usual AWS chain: environment, profile, web identity, container, instance.
    pub(crate) async fn new(region: &str) -> Self {
        // Where AWS is asked for credentials. The brokers' region has all that there is to ask.
        let asked = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(region.to_owned()));
        let config = aws_config::defaults(BehaviorVersion::latest()).region(asked).load().await;
        Self::with(region, config.credentials_provider())
    }

    fn with(region: &str, provider: Option<SharedCredentialsProvider>) -> Self {
        Self { region: region.to_owned(), provider, credentials: None }
    }

    pub(crate) async fn token(&mut self, now: SystemTime) -> Result<Token> {
        let credentials = self.credentials(now).await?;
        iam::sign(&credentials, &self.region, now)
    }

    async fn credentials(&mut self, now: SystemTime) -> Result<Credentials> {
        let lasts = |credentials: &Credentials, until: SystemTime| {
            credentials.expiry().is_some_and(|end| end > until)
        };
        let known = self.credentials.clone();
        if let Some(known) = known.as_ref().filter(|known| lasts(known, now + iam::LIFETIME)) {
            return Ok(known.clone());
        }
        let provider = self.provider.as_ref().ok_or_else(|| no_credentials(None))?;
        match provider.provide_credentials().await {
            Ok(credentials) => {
                self.credentials = Some(credentials.clone());
                Ok(credentials)
            }
            Err(error) => match known.filter(|known| lasts(known, now)) {
                Some(known) => {
                    warn!(%error, cause = cause(&error), "AWS gives no new credentials, going on with the old ones");
                    Ok(known)
                }
                None => Err(no_credentials(Some(error))),
            },
        }
    }
}

fn no_credentials(error: Option<CredentialsError>) -> Error {
    let kind = match error {
        None
        | Some(
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_),
        ) => ErrorKind::Unauthorized,
        Some(_) => ErrorKind::Unreachable,
    };
    let told = error.map(|error| format!("{error}: {}", cause(&error))).unwrap_or_default();
    Error::new(kind, "no AWS credentials for MSK were found")
        .with_source(told)
        .with_hint("give this process a role (instance, task, pod identity), `AWS_PROFILE`, or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::Command;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, UNIX_EPOCH};

    use aws_credential_types::provider::{self, ProvideCredentials, future};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    /// Answers in this order, and says how many are left.
    #[derive(Debug, Clone)]
    struct Script(Arc<Mutex<VecDeque<provider::Result>>>);

    impl Script {
        fn of(answers: impl IntoIterator<Item = provider::Result>) -> (Self, Signer) {
            let script = Self(Arc::new(Mutex::new(answers.into_iter().collect())));
            let provider = SharedCredentialsProvider::new(script.clone());
            (script, Signer::with("eu-west-1", Some(provider)))
        }

        fn left(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl ProvideCredentials for Script {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(self.0.lock().unwrap().pop_front().unwrap())
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_550_400 + seconds)
    }

    fn lasting_until(key: &str, end: SystemTime) -> provider::Result {
        Ok(Credentials::new(key, "secret", None, Some(end), "test"))
    }

    fn away() -> provider::Result {
        Err(CredentialsError::provider_error("nobody answers"))
    }

    /// With whose key a token is signed, and until when it counts.
    async fn signed(signer: &mut Signer, now: SystemTime) -> (String, SystemTime) {
        let token = signer.token(now).await.unwrap();
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token.text()).unwrap()).unwrap();
        let (_, rest) = url.split_once("X-Amz-Credential=").unwrap();
        let end = u64::try_from(token.expires_at.unwrap().0).unwrap();
        (rest.split_once("%2F").unwrap().0.to_owned(), UNIX_EPOCH + Duration::from_millis(end))
    }

    #[tokio::test]
    async fn credentials_are_reused_until_a_token_would_outlive_them() {
        let (script, mut signer) =
            Script::of([lasting_until("OLD", at(3600)), lasting_until("NEW", at(9999))]);
        assert_eq!(signed(&mut signer, at(0)).await, ("OLD".into(), at(900)));
        assert_eq!(signed(&mut signer, at(2600)).await, ("OLD".into(), at(3500)));
        assert_eq!(script.left(), 1);
        assert_eq!(signed(&mut signer, at(2800)).await, ("NEW".into(), at(3700)));
    }

    #[tokio::test]
    async fn credentials_without_an_end_are_looked_up_each_time() {
        let forever = |key: &str| Ok(Credentials::new(key, "secret", None, None, "test"));
        let (_, mut signer) = Script::of([forever("OLD"), forever("ROTATED")]);
        assert_eq!(signed(&mut signer, at(0)).await.0, "OLD");
        assert_eq!(signed(&mut signer, at(1)).await.0, "ROTATED");
    }

    #[tokio::test]
    async fn the_old_ones_count_while_aws_gives_no_new_ones() {
        let (_, mut signer) = Script::of([
            lasting_until("OLD", at(1000)),
            away(),
            away(),
            lasting_until("NEW", at(9999)),
        ]);
        assert_eq!(signed(&mut signer, at(0)).await, ("OLD".into(), at(900)));
        assert_eq!(signed(&mut signer, at(500)).await, ("OLD".into(), at(1000)));
        let error = signer.token(at(1001)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("nobody answers"));
        assert_eq!(signed(&mut signer, at(1002)).await, ("NEW".into(), at(1902)));
    }

    /// The chain reads the environment of its process, so each case is a process of its own.
    #[tokio::test]
    async fn the_usual_chain_finds_credentials() {
        const CASE: &str = "TAILWATER_TEST_CREDENTIALS";
        let Ok(expected) = std::env::var(CASE) else {
            let container = container("FROM-CONTAINER");
            let key = [("AWS_ACCESS_KEY_ID", "FROM-ENV"), ("AWS_SECRET_ACCESS_KEY", "secret")];
            let uri = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())];
            for (expected, given) in [("FROM-ENV", &key[..]), ("FROM-CONTAINER", &uri), ("", &[])] {
                let name = "aws::tests::the_usual_chain_finds_credentials";
                let mut child = Command::new(std::env::current_exe().unwrap());
                child.env_clear().args(["--exact", name]).env(CASE, expected);
                child.env("AWS_EC2_METADATA_DISABLED", "true").envs(given.iter().copied());
                let output = child.output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && said.contains("1 passed"), "{expected}: {said}");
            }
            return;
        };
        let mut signer = Signer::new("eu-west-1").await;
        if expected.is_empty() {
            let error = signer.token(at(0)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
            assert!(error.hint().contains("AWS_ACCESS_KEY_ID"), "{error:?}");
        } else {
            assert_eq!(signed(&mut signer, at(0)).await.0, expected);
        }
    }

    /// Serves credentials once, as the agent of a container's host does. Gives the address.
    fn container(key: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/credentials", listener.local_addr().unwrap());
        let body = format!(
            r#"{{"AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}}"#
        );
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        });
        address
    }
}
