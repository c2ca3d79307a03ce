//! The section `kafka` of a config file, read as the product reads it.

use std::path::Path;

use tailwater_core::config::{Config, Given, Kafka, Secrets};

struct Files;

impl Secrets for Files {
    fn variable(&self, name: &str) -> Result<String, String> {
        Ok(format!("the value of {name}"))
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let path = match path {
            // As the docs name them.
            "/etc/tailwater/client.key" => pem("plain.key"),
            "/etc/tailwater/client.pem" | "/etc/ssl/kafka-ca.pem" => pem("chain.pem"),
            path if path.starts_with("/run/secrets/") => return Ok("secret".to_owned()),
            path => path.to_owned(),
        };
        std::fs::read_to_string(&path).map_err(|error| format!("`{path}`: {error}"))
    }
}

/// The section, of its lines.
pub(crate) fn kafka(lines: &[&str]) -> Kafka {
    read(&format!("kafka:\n  {}\n", lines.join("\n  ")))
}

/// The section, of its text.
pub(crate) fn read(section: &str) -> Kafka {
    let text = format!(
        "version: 1\nmongodb: {{ uri: 'mongodb://localhost', collections: [a.b] }}\n\
         clickhouse: {{ url: 'http://localhost' }}\n{section}"
    );
    let config = Config::read("tailwater.yaml", &text, &Given::default(), &Files);
    config.unwrap_or_else(|error| panic!("{error:?}\n{text}")).kafka.unwrap()
}

/// A file beside this one. The key of `chain.pem`, which holds a certificate and whoever has signed
/// it, is `plain.key`, and `encrypted.key` under the password `opened`: made by `openssl`, for nobody.
pub(crate) fn pem(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pem").join(name).display().to_string()
}
