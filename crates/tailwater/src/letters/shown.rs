//! One dead letter with what it holds: the record as it was, or the event as the table has it.

use serde::Serialize;
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

    fn to_line(&self) -> String {
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
        let header = |(name, value): &(Box<str>, bytes::Bytes)| (name.to_string(), Content::of(value));
        Self {
            letter,
            headers: record.headers.iter().map(header).collect(),
            key: record.key.as_deref().map(Content::of),
            value: record.value.as_deref().map(Content::of),
        }
    }

    /// One that is kept in the table.
    pub(super) fn of_row(letter: Letter, event: String) -> Self {
        Self { letter, headers: Vec::new(), key: None, value: Some(Content::Text(event)) }
    }

    pub(crate) fn to_text(&self) -> String {
        let Letter { id, at, reason, error, ns, op, doc_id, epoch, replayed, .. } = &self.letter;
        let kept_in = match self.letter.is_in_topic() {
            true => "the topic of dead letters",
            false => "the table of dead letters",
        };
        let replayed = replayed.to_string();
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name:<10}{value}\n"));
            }
        };
        line("id", id);
        line("kept in", kept_in);
        line("time", at);
        line("reason", reason);
        line("error", error);
        line("namespace", ns);
        line("op", op);
        line("document", doc_id);
        line("epoch", epoch);
        line("replayed", &replayed);
        for (name, value) in &self.headers {
            line("header", &format!("{name}: {}", value.to_line()));
        }
        line("key", &self.key.as_ref().map(Content::to_line).unwrap_or_default());
        line("value", &self.value.as_ref().map_or("null".to_owned(), Content::to_line));
        text
    }
}
