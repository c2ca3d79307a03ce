//! Signing in: who is let in, and what those are told who are not.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tailwater_core::position::{LaneId, Position, Seq};
use tailwater_core::{Error, ErrorKind};
use tailwater_kafka::{Client, Election, Tokens, Transaction, tokens};
use tailwater_pipeline::clock;
use tailwater_pipeline::vitals::Vitals;
use tailwater_testkit::servers::{Kafka, Secured};

use crate::config::kafka;
use crate::settings::topics;

/// No refusal takes as long; a broker on a busy machine may take some of it.
const PATIENCE: Duration = Duration::from_secs(30);

fn line(name: &str, value: &str) -> String {
    format!("{name}: '{value}'")
}

/// Signs in as these lines of a config file say.
async fn sign_in(lines: &[String]) -> Result<Client, Error> {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let kafka = kafka(&lines);
    let client = Client::of(&kafka, tokens(&kafka).await?);
    client.connect(PATIENCE).await?;
    Ok(client)
}

/// Is told why not, at once, and what to do.
async fn refused(lines: &[String], told: &str, mend: &str) {
    let began = Instant::now();
    let error = sign_in(lines).await.unwrap_err();
    let took = began.elapsed();
    assert!(took < PATIENCE, "refused after {took:?}: {error:?}");
    expect(&error, told, mend);
}

fn expect(error: &Error, told: &str, mend: &str) {
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains(told), "{cause}");
    assert!(error.hint().contains(mend), "{}", error.hint());
}

fn by_password(secured: &Secured, ca: &Path, mechanism: &str, password: &str) -> Vec<String> {
    let user = Kafka::USER;
    vec![
        line("bootstrap_servers", &secured.password),
        format!("tls: {{ ca: '{}' }}", ca.display()),
        format!("sasl: {{ mechanism: {mechanism}, username: {user}, password: {password} }}"),
    ]
}

#[tokio::test]
async fn a_password_lets_in_over_tls_by_each_mechanism() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        let lines = by_password(secured, &secured.ca, mechanism, Kafka::PASSWORD);
        sign_in(&lines).await.unwrap();
        let lines = by_password(secured, &secured.ca, mechanism, "wrong");
        refused(&lines, "Authentication failed", "`username` and `password`").await;
    }
}

#[tokio::test]
async fn a_broker_that_nobody_known_has_signed_is_not_trusted() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    // The certificate of somebody who has signed nothing of the broker's.
    let stranger = &secured.stranger_certificate;
    let lines = by_password(secured, stranger, "SCRAM-SHA-512", Kafka::PASSWORD);
    refused(&lines, "certificate verify failed", "`kafka.tls.ca`").await;
    // Those of this host.
    let mut lines = by_password(secured, stranger, "SCRAM-SHA-512", Kafka::PASSWORD);
    lines.remove(1);
    refused(&lines, "certificate verify failed", "`kafka.tls.ca`").await;
}

#[tokio::test]
async fn a_certificate_lets_in_and_no_other_does() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    let lines = |own: Option<(&Path, &Path)>| {
        let own = own.map_or_else(String::new, |(certificate, key)| {
            format!(", certificate: '{}', key: '{}'", certificate.display(), key.display())
        });
        let tls = format!("tls: {{ ca: '{}'{own} }}", secured.ca.display());
        vec![line("bootstrap_servers", &secured.certificate), tls]
    };
    let own = (secured.client_certificate.as_path(), secured.client_key.as_path());
    sign_in(&lines(Some(own))).await.unwrap();
    refused(&lines(None), "bad certificate", "`kafka.tls.certificate`").await;
    let stranger = (secured.stranger_certificate.as_path(), secured.stranger_key.as_path());
    refused(&lines(Some(stranger)), "certificate", "`kafka.tls.certificate`").await;
    let other_key = (secured.client_certificate.as_path(), secured.stranger_key.as_path());
    let error = sign_in(&lines(Some(other_key))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.hint().contains("`kafka.tls.key`"), "{error:?}");
}

fn by_token(secured: &Secured, token: &str) -> Vec<String> {
    vec![
        line("bootstrap_servers", &secured.token),
        "security_protocol: SASL_PLAINTEXT".to_owned(),
        format!("sasl: {{ mechanism: OAUTHBEARER, {token} }}"),
    ]
}

#[tokio::test]
async fn a_token_lets_in_and_a_wrong_one_does_not() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    sign_in(&by_token(secured, "unsecured: principal=tailwater")).await.unwrap();
    // Its principal is in a claim that the broker does not look for.
    let wrong = "unsecured: 'principal=tailwater principalClaimName=azp'";
    refused(&by_token(secured, wrong), "invalid_token", "check the token").await;
    refused(&by_token(secured, "token: opaque"), "invalid_token", "check the token").await;
    // {"sub":"tailwater","exp":1}
    let over = "token: eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0YWlsd2F0ZXIiLCJleHAiOjF9.";
    let error = sign_in(&by_token(secured, over)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert!(error.to_string().contains("1970-01-01T00:00:01Z"), "{error:?}");
}

/// A JWT without a signature that counts so many seconds from now on.
fn jwt(subject: &str, seconds: u64) -> String {
    let end = UNIX_EPOCH.elapsed().unwrap().as_secs() + seconds;
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"{subject}","iat":{},"exp":{end}}}"#, end - seconds);
    format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))
}

#[tokio::test]
async fn a_token_that_could_not_be_renewed_is_waited_for() {
    let Some(broker) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = broker.secured().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, jwt("tailwater", 4)).unwrap();
    let lines = by_token(secured, &format!("token_file: '{}'", file.display()));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let kafka = kafka(&lines);
    let tokens = tokens(&kafka).await.unwrap().unwrap();
    let client = Client::of(&kafka, Some(tokens.clone()));
    client.connect(PATIENCE).await.unwrap();
    std::fs::write(&file, "").unwrap();
    let over = tokens.expires_at().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while clock::now() <= over {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = client.connect(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("the token is over since") && cause.contains("it is empty"), "{cause}");
    // A client that was made meanwhile gets it as well.
    let connecting = tokio::spawn(async move { client.connect(PATIENCE).await });
    std::fs::write(&file, jwt("tailwater", 3600)).unwrap();
    connecting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_listener_for_another_sign_in_is_told() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    let user = Kafka::USER;
    let lines = [
        line("bootstrap_servers", &secured.token),
        "security_protocol: SASL_PLAINTEXT".to_owned(),
        format!("sasl: {{ mechanism: SCRAM-SHA-256, username: {user}, password: x }}"),
    ];
    refused(&lines, "mechanism", "the port must be one for this").await;
}

/// A client whose connection could be mended by waiting: it is told why none is made.
async fn unreachable(lines: &[String], mend: &str) {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let client = Client::of(&kafka(&lines), None);
    let error = client.connect(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(error.hint().contains(mend), "{error:?}");
}

#[tokio::test]
async fn a_listener_that_speaks_otherwise_is_told() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    let ca = format!("tls: {{ ca: '{}' }}", secured.ca.display());
    let tls_to_plain = [line("bootstrap_servers", &kafka.bootstrap()), ca];
    unreachable(&tls_to_plain, "`kafka.security_protocol`").await;
    let plain_to_tls = [line("bootstrap_servers", &secured.certificate)];
    unreachable(&plain_to_tls, "`kafka.security_protocol`").await;
    let nobody = [line("bootstrap_servers", &secured.token)];
    unreachable(&nobody, "`sasl`").await;
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let Some(kafka) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = kafka.secured().unwrap();
    let client =
        sign_in(&by_password(secured, &secured.ca, "SCRAM-SHA-512", Kafka::PASSWORD)).await;
    let client = client.unwrap();
    let error = topics(&client).unwrap().ensure(&Arc::from("forbidden"), None).await.unwrap_err();
    expect(&error, "authorization", "on the topic");
    let mut election = Election::stand(&client, "forbidden", "forbidden.checkpoints").unwrap();
    let error = tokio::time::timeout(PATIENCE, election.won()).await.unwrap().unwrap_err();
    expect(&error, "uthorization", "an ACL is missing");

    // Topics alone are not enough.
    let user = format!("User:{}", Kafka::USER);
    let all = ["--operation", "All", "--topic", "half.", "--resource-pattern-type", "prefixed"];
    kafka.allow(&user, &all).await.unwrap();
    let checkpoints = Arc::from("half.checkpoints");
    let begun = Transaction::begin(
        &client,
        topics(&client).unwrap(),
        "half",
        &checkpoints,
        Vitals::default(),
    );
    let error = tokio::time::timeout(PATIENCE, begun).await.unwrap().unwrap_err();
    expect(&error, "uthorization", "transactional ids");
    let mut election = Election::stand(&client, "half", &checkpoints).unwrap();
    let error = tokio::time::timeout(PATIENCE, election.won()).await.unwrap().unwrap_err();
    expect(&error, "uthorization", "Read on the groups");
}

/// Waits until these tokens were renewed so often.
async fn renewed(tokens: &Tokens, times: usize) {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = tokens.expires_at();
    let mut left = times;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} of {times} renewals are missing");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = tokens.expires_at();
        if now != seen {
            (seen, left) = (now, left - 1);
        }
    }
}

#[tokio::test]
async fn who_is_idle_outlives_its_tokens() {
    let Some(broker) = Kafka::shared_secured().await.unwrap() else { return };
    let secured = broker.secured().unwrap();
    let all = [
        "--operation",
        "All",
        "--topic",
        "idle.",
        "--group",
        "idle.",
        "--transactional-id",
        "idle.",
        "--resource-pattern-type",
        "prefixed",
    ];
    broker.allow("User:idle", &all).await.unwrap();
    let lines = by_token(secured, "unsecured: 'principal=idle lifeSeconds=3'");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let kafka = kafka(&lines);
    let tokens = tokens(&kafka).await.unwrap().unwrap();
    let client = Client::of(&kafka, Some(tokens.clone()));
    let topics = topics(&client).unwrap();
    let name = Arc::from("idle.checkpoints");
    let mut source = Transaction::begin(&client, topics.clone(), "idle", &name, Vitals::default())
        .await
        .unwrap();
    let mut election = Election::stand(&client, "idle", &name).unwrap();
    election.won().await.unwrap();
    // Nobody asks or tells the broker anything, but for the group.
    renewed(&tokens, 3).await;
    topics.ensure(&Arc::from("idle.topic"), None).await.unwrap();
    let lane = LaneId::stream("a.b");
    source
        .begin_missing([lane.clone()], &Position { seq: Seq(0), cursor: Bytes::new() })
        .await
        .unwrap();
    assert!(source.checkpoints().stream(&lane).is_some());
    tokio::select! {
        lost = election.lost() => panic!("the group was lost: {lost:?}"),
        () = renewed(&tokens, 1) => {}
    }
}
