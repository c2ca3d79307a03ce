//! What the judge found: a count and a few examples for each broken rule.

use std::collections::BTreeMap;
use std::fmt;

/// How many examples of each finding are kept.
const EXAMPLES: usize = 5;

/// The rules of `docs/checker.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An event without a row.
    Lost,
    /// A row without an event.
    Extra,
    /// A second row with the same `idempotency_key`.
    Duplicate,
    /// `_topic`, `_partition`, `_offset`, `_epoch`.
    Position,
    /// Rows that do not stand in stream order.
    Order,
    /// `doc_id`, `version`, `op`, namespace, `event_type`, `source`, `ts`.
    Identity,
    /// `raw`.
    Content,
    /// `superseded`.
    Superseded,
    /// `attrs` and `tags`.
    Attributes,
    /// A document that the collection holds and the view does not.
    CurrentMissing,
    /// A document that the view shows and the collection does not hold, or that it shows twice.
    CurrentExtra,
    /// A document that the view shows with other bytes, another version or a wrong hash.
    CurrentStale,
    /// A document whose `doc` shows something else.
    CurrentDocument,
    /// A deleted document that still has content behind the view.
    CurrentTombstone,
}

impl Rule {
    const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Extra => "extra",
            Self::Duplicate => "duplicate",
            Self::Position => "position",
            Self::Order => "order",
            Self::Identity => "identity",
            Self::Content => "content",
            Self::Superseded => "superseded",
            Self::Attributes => "attributes",
            Self::CurrentMissing => "current missing",
            Self::CurrentExtra => "current extra",
            Self::CurrentStale => "current stale",
            Self::CurrentDocument => "current doc",
            Self::CurrentTombstone => "current tombstone",
        }
    }
}

/// The findings, by rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    found: BTreeMap<Rule, (u64, Vec<String>)>,
}

impl Findings {
    /// Adds a finding.
    pub fn add(&mut self, rule: Rule, example: impl FnOnce() -> String) {
        let (count, examples) = self.found.entry(rule).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: Self) {
        for (rule, (count, examples)) in other.found {
            let (total, kept) = self.found.entry(rule).or_default();
            *total += count;
            kept.extend(examples);
            kept.truncate(EXAMPLES);
        }
    }

    /// How often the rule was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.found.get(&rule).map_or(0, |(count, _)| *count)
    }

    /// Whether no rule was broken.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The broken rules.
    pub fn rules(&self) -> Vec<Rule> {
        self.found.keys().copied().collect()
    }
}

/// What was compared, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events of the truth.
    pub events: u64,
    /// Rows of `record_raw`.
    pub rows: u64,
    /// Documents that have an event.
    pub documents: u64,
    /// The broken rules.
    pub findings: Findings,
}

impl Verdict {
    /// Whether every promise held.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Fails with the whole verdict unless it is clean.
    ///
    /// # Errors
    ///
    /// When a rule was broken.
    pub fn into_result(self) -> anyhow::Result<Self> {
        if self.is_clean() { Ok(self) } else { Err(anyhow::anyhow!("{self}")) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, rows, documents, findings } = self;
        let count = |rule| findings.count(rule);
        write!(
            f,
            "{events} events, {rows} rows, {documents} documents: {} lost, {} extra, {} duplicate",
            count(Rule::Lost),
            count(Rule::Extra),
            count(Rule::Duplicate)
        )?;
        let current: u64 =
            [Rule::CurrentMissing, Rule::CurrentExtra, Rule::CurrentStale, Rule::CurrentDocument]
                .map(count)
                .iter()
                .sum();
        write!(f, ", {current} wrong in the current state")?;
        write!(f, "{findings}")
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rule, (count, examples)) in &self.found {
            write!(f, "\n  {}: {count}", rule.name())?;
            for example in examples {
                write!(f, "\n    {example}")?;
            }
        }
        Ok(())
    }
}
