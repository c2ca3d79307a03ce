//! What librdkafka makes of the section `kafka`, and what is told where it makes nothing. No broker
//! is asked.

use std::time::Duration;

use tailwater_core::{ErrorKind, Result};
use tailwater_kafka::topics::NewTopics;
use tailwater_kafka::{Client, Topics};

use crate::config::{kafka, pem, read};

/// Nobody listens there.
const NOWHERE: &str = "bootstrap_servers: '127.0.0.1:1'";

pub(crate) fn topics(client: &Client) -> Result<Topics> {
    let new = NewTopics {
        partitions: std::num::NonZeroU32::MIN,
        replication_factor: 1,
        retention: Duration::from_secs(3600),
        max_message_bytes: 1 << 20,
    };
    Topics::new(client, new)
}

/// Whether librdkafka makes a client of it.
fn made(lines: &[&str]) -> Result<()> {
    topics(&Client::of(&kafka(lines), None)).map(drop)
}

#[test]
fn each_way_to_sign_in_makes_a_client() {
    let (chain, plain, encrypted) = (pem("chain.pem"), pem("plain.key"), pem("encrypted.key"));
    let user = "username: u, password: p";
    for lines in [
        &[NOWHERE][..],
        &[NOWHERE, "security_protocol: SSL"],
        &[NOWHERE, &format!("tls: {{ ca: '{chain}' }}")],
        &[NOWHERE, &format!("tls: {{ certificate: '{chain}', key: '{plain}' }}")],
        &[
            NOWHERE,
            &format!("tls: {{ certificate: '{chain}', key: '{encrypted}', key_password: opened }}"),
        ],
        &[NOWHERE, &format!("sasl: {{ mechanism: PLAIN, {user} }}")],
        &[
            NOWHERE,
            &format!("sasl: {{ mechanism: SCRAM-SHA-256, {user} }}"),
            "security_protocol: SASL_PLAINTEXT",
        ],
        &[
            NOWHERE,
            &format!("sasl: {{ mechanism: SCRAM-SHA-512, {user} }}"),
            &format!("tls: {{ ca: '{chain}' }}"),
        ],
        &[NOWHERE, "sasl: { mechanism: OAUTHBEARER, token: opaque }"],
        &[NOWHERE, "sasl: { mechanism: OAUTHBEARER, unsecured: principal=u }"],
        &[NOWHERE, "sasl: { mechanism: AWS_MSK_IAM, region: eu-west-1 }"],
        &[
            NOWHERE,
            "properties: { ssl.endpoint.identification.algorithm: none, socket.keepalive.enable: true, linger.ms: 2, fetch.min.bytes: 2 }",
        ],
    ] {
        made(lines).unwrap_or_else(|error| panic!("{lines:?}: {error:?}"));
    }
}

#[test]
fn a_key_that_does_not_open_or_fit_is_told() {
    let (chain, encrypted) = (pem("chain.pem"), pem("encrypted.key"));
    let wrong =
        format!("tls: {{ certificate: '{chain}', key: '{encrypted}', key_password: shut }}");
    let other = format!("tls: {{ certificate: '{chain}', key: '{}' }}", pem("other.key"));
    let broken = format!("tls: {{ ca: '{}' }}", pem("broken.pem"));
    for (line, mend) in [
        (wrong.as_str(), "`key_password`"),
        (&other, "not the private key of `kafka.tls.certificate`"),
        (&broken, "`kafka.tls.ca`"),
        ("properties: { socket.timeout.ms: 999999999 }", "`kafka.properties`"),
        ("properties: { ssl.cipher.suites: none }", "`kafka.properties`"),
    ] {
        let error = made(&[NOWHERE, "security_protocol: SSL", line]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.hint().contains(mend), "{line}: {error:?}");
        assert!(!format!("{error:?}").contains("shut"), "{error:?}");
    }
}

#[test]
fn the_examples_of_the_docs_are_right() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, section) = docs.split_once("\n## Signing in\n").unwrap();
    let examples: Vec<_> = section.split("```yaml\n").skip(1).collect();
    assert_eq!(examples.len(), 8);
    for example in examples {
        let (example, _) = example.split_once("```").unwrap();
        let made = topics(&Client::of(&read(example), None));
        made.unwrap_or_else(|error| panic!("{example}: {error:?}"));
    }
}
