//! One dead letter with what it holds: the record as it was, or the event as the table has it.

use serde::Serialize;
use tailwater_clickhouse::letters as of_table;
use tailwater_core::record::Record;

use super::Letter;

/// A dead letter with what it holds.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    letter: Letter,
    /// The record's headers.
    headers: Vec<(String, Content)>,
    key: Option<Content>,
    value: Option<Content>,
}

/// Bytes, as text where they are some.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Text(String),
    Hex(String),
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Hex(hex) => format!("0x{hex}"),
        }
    }
}

impl Shown {
    /// One that is kept in the topic.
    pub(super) fn of_record(letter: Letter, record: Option<Record>) -> Self {
        let Some(record) = record else {
            return Self { letter, headers: Vec::new(), key: None, value: None };
        };
        let headers = record.headers.iter();
        Self {
            letter,
            headers: headers.map(|(name, value)| (name.to_string(), Content::of(value))).collect(),
            key: record.key.as_deref().map(Content::of),
            value: record.value.as_deref().map(Content::of),
        }
    }

    /// One that is kept in the table.
    pub(super) fn of_row(letter: Letter, row: Option<of_table::Letter>) -> Self {
        let value = row.map(|row| match row.is_text {
            0 => Content::Hex(row.content),
            _ => Content::Text(row.content),
        });
        Self { letter, headers: Vec::new(), key: None, value }
    }

    pub(crate) fn to_text(&self) -> String {
        let Letter { id, time, reason, error, namespace, op, document, epoch, .. } = &self.letter;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name:<10}{value}\n"));
            }
        };
        line("id", id);
        line("in", self.letter.kept_in());
        line("time", time);
        line("reason", reason);
        line("error", error);
        line("namespace", namespace);
        line("op", op);
        line("document", document);
        line("epoch", epoch);
        for (name, value) in &self.headers {
            line("header", &format!("{name}: {}", value.to_text()));
        }
        line("key", &self.key.as_ref().map(Content::to_text).unwrap_or_default());
        line("value", &self.value.as_ref().map_or("null".to_owned(), Content::to_text));
        text
    }
}
