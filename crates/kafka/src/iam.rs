//! The token of AWS MSK IAM: a signed request that is never sent. The broker shows it to AWS.
//!
//! ```text
//!   GET https://kafka.{region}.{suffix}/?Action=kafka-cluster:Connect
//!     ─▶ signature (SigV4) in the query ─▶ + User-Agent, unsigned ─▶ base64url
//! ```
//!
//! Pure: credentials, region and time come from outside. Where they come from says `tokens.rs`.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign as sigv4,
};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tailwater_core::{Error, ErrorKind, Result};

use crate::token::{Token, millis};

/// How long a signature counts: MSK takes no more.
pub(crate) const LIFETIME: Duration = Duration::from_secs(900);
/// librdkafka wants a name; MSK goes by the credentials.
const PRINCIPAL: &str = "tailwater";
/// Who signs, for AWS's logs.
const USER_AGENT: &str = concat!("tailwater%2F", env!("CARGO_PKG_VERSION"));
/// What a signed query leaves as it is (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Regions outside of `amazonaws.com`, by the beginning of their names, as AWS's SDKs list them.
const SUFFIXES: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
];

/// Signs a token, which counts as long as the signature and the credentials do.
///
/// # Errors
/// `Config` for a region that makes no host name.
pub(crate) fn sign(credentials: &Credentials, region: &str, now: SystemTime) -> Result<Token> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let what = format!("cannot sign a token for MSK in region `{region}`");
        Error::new(ErrorKind::Config, what)
            .with_source(cause)
            .with_hint("check `region` in `kafka.sasl`")
    };
    let suffix = SUFFIXES.iter().find(|(start, _)| region.starts_with(start));
    let suffix = suffix.map_or("amazonaws.com", |(_, suffix)| suffix);
    let url = format!("https://kafka.{region}.{suffix}/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let identity = credentials.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kafka-cluster")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| failed(error.into()))?;
    let request =
        SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::empty())
            .map_err(|error| failed(error.into()))?;
    let signed =
        sigv4(request, &parameters.into()).map_err(|error| failed(error.into()))?.into_parts().0;
    let mut text = url.clone();
    for (name, value) in signed.params() {
        text.extend(["&", name, "="]);
        text.extend(utf8_percent_encode(value, ESCAPED));
    }
    text.extend(["&User-Agent=", USER_AGENT]);
    let until = now + LIFETIME;
    let until = credentials.expiry().map_or(until, |expiry| until.min(expiry));
    Ok(Token::new(URL_SAFE_NO_PAD.encode(text), PRINCIPAL, Some(millis(until))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    const KEY: &str = "AKIDEXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SESSION: &str = "IQoJb3JpZ2luX2VjEXAMPLE+/with=signs//==";

    /// 2026-11-24T20:00:00Z.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_550_400)
    }

    fn signed(region: &str, session: Option<&str>, expiry: Option<SystemTime>) -> Token {
        let session = session.map(String::from);
        let credentials = Credentials::new(KEY, SECRET, session, expiry, "test");
        sign(&credentials, region, now()).unwrap()
    }

    /// What a token asks for: the address, and the query without its order.
    fn read(token: &str) -> (String, BTreeMap<String, String>) {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        let (address, query) = text.split_once('?').unwrap();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        (address.to_owned(), query.split('&').map(pair).collect())
    }

    /// Tokens that AWS's own signer made of these credentials at this time:
    /// `aws-msk-iam-sasl-signer-python` 1.0.2 on botocore 1.44.8, with `freezegun` (and, for China,
    /// its `ENDPOINT_URL_TEMPLATE` on `.com.cn`, which it lacks). A SigV4 of forty lines on `hashlib`
    /// and `hmac` gave the same signatures.
    const GOLDEN: [(&str, Option<&str>, &str); 3] = [
        (
            "eu-west-1",
            None,
            "aHR0cHM6Ly9rYWZrYS5ldS13ZXN0LTEuYW1hem9uYXdzLmNvbS8_QWN0aW9uPWthZmthLWNsdXN0ZXIlM0FD\
             b25uZWN0JlgtQW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJREVY\
             QU1QTEUlMkYyMDI2MTEyNCUyRmV1LXdlc3QtMSUyRmthZmthLWNsdXN0ZXIlMkZhd3M0X3JlcXVlc3QmWC1B\
             bXotRGF0ZT0yMDI2MTEyNFQyMDAwMDBaJlgtQW16LUV4cGlyZXM9OTAwJlgtQW16LVNpZ25lZEhlYWRlcnM9\
             aG9zdCZYLUFtei1TaWduYXR1cmU9MmMzNmMxZGM1NDcwMGIzODllYzhkODMyZTNhZjlmZGU5NzQyMjFiMmJi\
             ZjUxMzY5YTQxMmU3ZTY2MDk2NWU3ZCZVc2VyLUFnZW50PWF3cy1tc2staWFtLXNhc2wtc2lnbmVyLXB5dGhv\
             biUyRjEuMC4y",
        ),
        (
            "us-east-1",
            Some(SESSION),
            "aHR0cHM6Ly9rYWZrYS51cy1lYXN0LTEuYW1hem9uYXdzLmNvbS8_QWN0aW9uPWthZmthLWNsdXN0ZXIlM0FD\
             b25uZWN0JlgtQW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJREVY\
             QU1QTEUlMkYyMDI2MTEyNCUyRnVzLWVhc3QtMSUyRmthZmthLWNsdXN0ZXIlMkZhd3M0X3JlcXVlc3QmWC1B\
             bXotRGF0ZT0yMDI2MTEyNFQyMDAwMDBaJlgtQW16LUV4cGlyZXM9OTAwJlgtQW16LVNpZ25lZEhlYWRlcnM9\
             aG9zdCZYLUFtei1TZWN1cml0eS1Ub2tlbj1JUW9KYjNKcFoybHVYMlZqRVhBTVBMRSUyQiUyRndpdGglM0Rz\
             aWducyUyRiUyRiUzRCUzRCZYLUFtei1TaWduYXR1cmU9YzQzYWJkOGY2NjQwNDljZmFhYjQwOGRhNDQwYzgx\
             OTNmYzc2YmU0ZTVlOTE5MjcxYjliM2IyNGJkMzI0N2E4YSZVc2VyLUFnZW50PWF3cy1tc2staWFtLXNhc2wt\
             c2lnbmVyLXB5dGhvbiUyRjEuMC4y",
        ),
        (
            "cn-north-1",
            None,
            "aHR0cHM6Ly9rYWZrYS5jbi1ub3J0aC0xLmFtYXpvbmF3cy5jb20uY24vP0FjdGlvbj1rYWZrYS1jbHVzdGVy\
             JTNBQ29ubmVjdCZYLUFtei1BbGdvcml0aG09QVdTNC1ITUFDLVNIQTI1NiZYLUFtei1DcmVkZW50aWFsPUFL\
             SURFWEFNUExFJTJGMjAyNjExMjQlMkZjbi1ub3J0aC0xJTJGa2Fma2EtY2x1c3RlciUyRmF3czRfcmVxdWVz\
             dCZYLUFtei1EYXRlPTIwMjYxMTI0VDIwMDAwMFomWC1BbXotRXhwaXJlcz05MDAmWC1BbXotU2lnbmVkSGVh\
             ZGVycz1ob3N0JlgtQW16LVNpZ25hdHVyZT1lZDAyZjRhMzdmYjE1OTE1YmQ5ZGEwNjRkZTc2YzNjYjM1MTli\
             Yzk4ODFlM2ZjZmM5YzUwOTViNzM3YjMzMTJiJlVzZXItQWdlbnQ9YXdzLW1zay1pYW0tc2FzbC1zaWduZXIt\
             cHl0aG9uJTJGMS4wLjI",
        ),
    ];

    #[test]
    fn tokens_are_those_of_the_signer_of_aws() {
        for (region, session, golden) in GOLDEN {
            let token = signed(region, session, None);
            let (address, mut query) = read(token.text());
            let (golden_address, mut golden_query) = read(golden);
            assert_eq!(address, golden_address);
            assert!(query.remove("User-Agent").unwrap().starts_with("tailwater%2F"));
            golden_query.remove("User-Agent");
            assert_eq!(query, golden_query);
        }
    }

    #[test]
    fn a_token_dies_with_the_signature_or_the_credentials() {
        let expires = |expiry: Option<SystemTime>| signed("eu-west-1", None, expiry).expires_at;
        let after = |seconds| now() + Duration::from_secs(seconds);
        assert_eq!(expires(None), Some(millis(after(900))));
        assert_eq!(expires(Some(after(3600))), Some(millis(after(900))));
        assert_eq!(expires(Some(after(60))), Some(millis(after(60))));
    }

    #[test]
    fn each_partition_of_aws_has_its_hosts() {
        for (region, host) in [
            ("us-gov-west-1", "https://kafka.us-gov-west-1.amazonaws.com/"),
            ("cn-northwest-1", "https://kafka.cn-northwest-1.amazonaws.com.cn/"),
            ("eusc-de-east-1", "https://kafka.eusc-de-east-1.amazonaws.eu/"),
            ("us-isob-east-1", "https://kafka.us-isob-east-1.sc2s.sgov.gov/"),
        ] {
            assert_eq!(read(signed(region, None, None).text()).0, host);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let token = signed("eu-west-1", Some(SESSION), None);
        let shown = format!("{token:?}");
        assert!(!shown.contains(token.text()) && !shown.contains(SESSION), "{shown}");
    }
}
