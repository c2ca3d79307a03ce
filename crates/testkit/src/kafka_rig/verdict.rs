//! What all judges found.

use std::fmt;

use crate::checker::{self, Findings};

/// What one judge looked at, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many records or rows.
    pub count: u64,
    /// The broken rules.
    pub findings: Findings,
}

/// The verdict over the whole chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `record_raw` and the current state.
    pub tables: checker::Verdict,
    /// The raw topics.
    pub raw: Judged,
    /// The normalized topic, where there is one.
    pub normalized: Option<Judged>,
    /// `raw_cdc`, where there is one.
    pub ledger: Option<Judged>,
    /// Dead letters and gap records, of which there must be none.
    pub dead: u64,
}

impl Verdict {
    /// Whether every promise held.
    pub fn is_clean(&self) -> bool {
        let others = [Some(&self.raw), self.normalized.as_ref(), self.ledger.as_ref()];
        self.tables.is_clean()
            && self.dead == 0
            && others.into_iter().flatten().all(|judged| judged.findings.is_empty())
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
        let Self { tables, raw, normalized, ledger, dead } = self;
        writeln!(f, "{tables}")?;
        write!(f, "raw topics: {raw}")?;
        for (name, judged) in [("normalized topic", normalized), ("raw_cdc", ledger)] {
            if let Some(judged) = judged {
                write!(f, "\n{name}: {judged}")?;
            }
        }
        if *dead > 0 {
            write!(f, "\n{dead} dead letters and gap records")?;
        }
        Ok(())
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings.is_empty() {
            true => write!(f, "{}, each change once and in order", self.count),
            false => write!(f, "{}{}", self.count, self.findings),
        }
    }
}
