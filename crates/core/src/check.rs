//! Check: what the probes of a pipeline have found, judged, and how it reads.
//!
//! ```text
//!   facts, as the ends tell them ─▶ findings ─▶ a probe for each thing ─▶ a report
//! ```
//!
//! | file | what |
//! |---|---|
//! | `topic` | a topic: its settings, its copies, our rights |
//! | `flow` | whether everything moves: source, messages, groups, rows, latency |
//!
//! Pure. No probe may tell a secret, or a value of a document.

pub mod flow;
pub mod topic;

use serde::Serialize;

use crate::Error;
use crate::spoken::table;

/// What is to be thought of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    #[default]
    Ok,
    /// It works, and is weak, or cannot be told.
    Warn,
    /// Something must be done.
    Fail,
}

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The source's server.
    MongoDb,
    /// What is in the middle.
    Kafka,
    /// The target's server.
    ClickHouse,
    /// What runs between them.
    Pipeline,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Where the thing is.
    pub end: End,
    /// The thing.
    pub what: String,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// What was found, in one line.
    pub found: String,
    /// What to do.
    pub mend: Option<String>,
}

/// All that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The pipeline.
    pub pipeline: String,
    /// Whether the probes that write were left out.
    pub read_only: bool,
    /// The probes.
    pub probes: Vec<Probe>,
}

/// What is found of one thing, piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    verdict: Verdict,
    texts: Vec<String>,
    mends: Vec<String>,
}

impl Verdict {
    /// As it is printed. What must be seen stands out.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::MongoDb => "mongodb",
            Self::Kafka => "kafka",
            Self::ClickHouse => "clickhouse",
            Self::Pipeline => "pipeline",
        }
    }
}

impl Findings {
    /// Adds what is as it should be.
    pub fn say(&mut self, text: impl Into<String>) {
        self.texts.push(one_line(&text.into()));
    }

    /// Adds what is weak.
    pub fn warn(&mut self, text: impl Into<String>, mend: impl Into<String>) {
        self.add(Verdict::Warn, text.into(), mend.into());
    }

    /// Adds what must be mended.
    pub fn fail(&mut self, text: impl Into<String>, mend: impl Into<String>) {
        self.add(Verdict::Fail, text.into(), mend.into());
    }

    /// Adds why something could not be done or told.
    pub fn error(&mut self, verdict: Verdict, error: &Error) {
        self.add(verdict, told(error), error.hint().to_owned());
    }

    fn add(&mut self, verdict: Verdict, text: String, mend: String) {
        self.verdict = self.verdict.max(verdict);
        self.say(text);
        let mend = one_line(&mend);
        if !self.mends.contains(&mend) {
            self.mends.push(mend);
        }
    }

    /// The probe that they make.
    pub fn probe(self, end: End, what: impl Into<String>) -> Probe {
        let Self { verdict, texts, mends } = self;
        let mend = (!mends.is_empty()).then(|| mends.join("; "));
        Probe { end, what: what.into(), verdict, found: texts.join("; "), mend }
    }
}

impl Probe {
    /// Of a thing that is as it should be.
    pub fn ok(end: End, what: impl Into<String>, found: impl Into<String>) -> Self {
        let mut findings = Findings::default();
        findings.say(found);
        findings.probe(end, what)
    }

    /// Of a thing that is weak.
    pub fn warn(
        end: End,
        what: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let mut findings = Findings::default();
        findings.warn(found, mend);
        findings.probe(end, what)
    }

    /// Of a thing that could not be done, or told.
    pub fn of_error(end: End, what: impl Into<String>, verdict: Verdict, error: &Error) -> Self {
        let mut findings = Findings::default();
        findings.error(verdict, error);
        findings.probe(end, what)
    }
}

impl Report {
    /// How many probes came to a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.probes.iter().filter(|probe| probe.verdict == verdict).count()
    }

    /// Whether somebody must act.
    pub fn has_failed(&self) -> bool {
        self.count(Verdict::Fail) > 0
    }

    /// The report as a JSON value.
    ///
    /// # Errors
    /// None, while it is made of texts and numbers.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut value = serde_json::to_value(self)?;
        for (name, verdict) in
            [("ok", Verdict::Ok), ("warn", Verdict::Warn), ("fail", Verdict::Fail)]
        {
            value[name] = self.count(verdict).into();
        }
        Ok(value)
    }

    /// The report as text: a line for each probe, and a last one for all.
    pub fn to_text(&self) -> String {
        let lines: Vec<Vec<String>> = self
            .probes
            .iter()
            .map(|Probe { end, what, verdict, found, mend }| {
                let found = match mend {
                    Some(mend) => format!("{found} → {mend}"),
                    None => found.clone(),
                };
                vec![verdict.as_str().to_owned(), end.as_str().to_owned(), what.clone(), found]
            })
            .collect();
        let [ok, warn, fail] = [Verdict::Ok, Verdict::Warn, Verdict::Fail].map(|it| self.count(it));
        let left_out = match self.read_only {
            true => "; the probes that write were left out",
            false => "",
        };
        let pipeline = &self.pipeline;
        let mut text = table(&lines);
        text.push_str(&format!(
            "\npipeline `{pipeline}`: {ok} ok, {warn} warn, {fail} FAIL{left_out}\n"
        ));
        text
    }
}

/// An error with its causes, each once.
pub fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let line = error.to_string();
        // Drivers repeat their cause in their own text.
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    one_line(&text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// So many of something.
fn so_many(count: u64, one: &str, more: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {more}"),
    }
}
