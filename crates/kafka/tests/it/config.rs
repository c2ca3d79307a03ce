//! The section `kafka` of a config file, read as the product reads it.

use tailwater_core::config::{Config, Given, Kafka, Secrets};

struct Files;

impl Secrets for Files {
    fn variable(&self, name: &str) -> Result<String, String> {
        Err(format!("nobody asks for `{name}`"))
    }

    fn file(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| format!("`{path}`: {error}"))
    }
}

/// The section, of its lines.
pub(crate) fn kafka(lines: &[&str]) -> Kafka {
    let text = format!(
        "version: 1\nmongodb: {{ uri: 'mongodb://localhost', collections: [a.b] }}\n\
         clickhouse: {{ url: 'http://localhost' }}\nkafka:\n  {}\n",
        lines.join("\n  ")
    );
    let config = Config::read("tailwater.yaml", &text, &Given::default(), &Files);
    config.unwrap_or_else(|error| panic!("{error:?}\n{text}")).kafka.unwrap()
}
