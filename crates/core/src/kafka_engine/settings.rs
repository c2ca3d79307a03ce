//! Settings of the Kafka engine: how the server reaches the brokers, signs in, and cuts blocks.

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{Batch, Client, Kafka, OAuthBearer, Sasl, SecurityProtocol};
use crate::plan::{HIDDEN, Statement};
use crate::sql::literal;
use crate::{Error, ErrorKind, Result};

/// Rows of one block, where nothing is configured: a block is held in memory as a whole.
const DEFAULT_MAX_ROWS: u64 = 65_536;
/// How long messages wait for others, where nothing is configured, in milliseconds.
const DEFAULT_MAX_WAIT_MS: u128 = 1000;

/// The value of a setting.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Secret(SecretString),
}

/// The settings of a table that reads these topics. What tables cannot say goes into `notes`.
pub(super) fn of(
    kafka: &Kafka,
    topics: &[String],
    group: &str,
    batch: Batch,
    notes: &mut Vec<String>,
) -> Result<Vec<(&'static str, Value)>> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut settings = vec![
        ("kafka_broker_list", text(&kafka.bootstrap_servers)),
        ("kafka_topic_list", text(&topics.join(","))),
        ("kafka_group_name", text(group)),
        // A row for each message, whatever is in it: the feed tells what is no event.
        ("kafka_format", text("RawBLOB")),
    ];
    if kafka.security_protocol != SecurityProtocol::Plaintext {
        settings.push(("kafka_security_protocol", text(kafka.security_protocol.name())));
    }
    match &kafka.sasl {
        None => {}
        Some(sasl @ Sasl::Password { username, password, .. }) => settings.extend([
            ("kafka_sasl_mechanism", text(sasl.mechanism())),
            ("kafka_sasl_username", text(username)),
            ("kafka_sasl_password", Value::Secret(password.clone())),
        ]),
        Some(Sasl::AwsMskIam { region }) => {
            settings.extend([
                ("kafka_sasl_mechanism", text("AWS_MSK_IAM")),
                ("kafka_aws_region", text(region)),
            ]);
            notes.push(in_config(
                "use_environment_credentials",
                "true, so that the server signs in with its own AWS credentials",
            ));
        }
        Some(Sasl::OAuthBearer(OAuthBearer::Unsecured(_))) => {
            settings.push(("kafka_sasl_mechanism", text("OAUTHBEARER")));
            notes.push(in_config("sasl_oauthbearer_config", "that of `sasl.unsecured`"));
            notes.push(in_config("enable_sasl_oauthbearer_unsecure_jwt", "true"));
        }
        Some(Sasl::OAuthBearer(_)) => {
            let what = "the Kafka engine cannot sign in with a token of OAUTHBEARER";
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("sign in by password or with AWS_MSK_IAM, or let the sink read"));
        }
    }
    let certificates = [
        (kafka.tls.ca.is_some(), "ssl_ca_location", "a file with the certificates of `tls.ca`"),
        (kafka.tls.certificate.is_some(), "ssl_certificate_location", "that of `tls.certificate`"),
        (kafka.tls.key.is_some(), "ssl_key_location", "that of `tls.key`"),
        (kafka.tls.key_password.is_some(), "ssl_key_password", "that of `tls.key_password`"),
    ];
    let certificates = certificates.into_iter().filter(|(is_there, ..)| *is_there);
    notes.extend(certificates.map(|(_, name, value)| in_config(name, value)));
    let properties = kafka.properties_of(Client::Consumer);
    notes.extend(properties.map(|(name, _)| {
        in_config(&name.replace('.', "_"), &format!("what `properties` says of `{name}`"))
    }));
    let rows = batch.max_rows.unwrap_or(DEFAULT_MAX_ROWS);
    let wait = batch.max_wait.map_or(DEFAULT_MAX_WAIT_MS, |wait| wait.as_millis());
    settings.extend([
        ("kafka_max_block_size", Value::Number(rows)),
        ("kafka_flush_interval_ms", Value::Number(u64::try_from(wait).unwrap_or(u64::MAX))),
    ]);
    Ok(settings)
}

fn in_config(name: &str, value: &str) -> String {
    format!("no table can say this: the server's own config needs `<kafka><{name}>`: {value}")
}

/// Makes the table.
pub(super) fn create(table: &str, settings: &[(&'static str, Value)]) -> Statement {
    let with = |secret: fn(&SecretString) -> String| {
        let line = |(name, value): &(&str, Value)| {
            let value = match value {
                Value::Text(text) => literal(text),
                Value::Number(number) => number.to_string(),
                Value::Secret(it) => secret(it),
            };
            format!("{name} = {value}")
        };
        let lines: Vec<String> = settings.iter().map(line).collect();
        format!(
            "CREATE TABLE {table} (\n  value String\n) ENGINE = Kafka\nSETTINGS\n  {}",
            lines.join(",\n  "),
        )
    };
    let shown = with(|_| literal(HIDDEN));
    let secret = settings.iter().find_map(|(_, value)| match value {
        Value::Secret(secret) => Some(secret.clone()),
        Value::Text(_) | Value::Number(_) => None,
    });
    match secret {
        None => Statement::plain(shown),
        Some(secret) => {
            let sql = with(|secret| literal(secret.expose_secret()));
            Statement::with_secret(sql.into(), shown, secret)
        }
    }
}
