//! Taking a refused block apart: the binary tree over a Range.
//!
//! The tree depends on the Range alone, so that a restarted process cuts at the same places and
//! uses the same tokens: T.0 is the first half, T.01 the second half of that, and so on.

use std::collections::BTreeSet;

use tailwater_core::position::{LaneId, Seq, SeqRange};
use tailwater_core::{Error, ErrorKind, Result};

use crate::write_ahead::Planned;

/// A node of the tree: some events of a Range, and the way to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The events.
    pub range: SeqRange,
    /// `0` for each first half on the way from the root, `1` for each second.
    pub path: String,
}

impl Cut {
    /// The whole Range.
    pub const fn root(range: SeqRange) -> Self {
        Self { range, path: String::new() }
    }

    /// Both halves; `None` when there is one event only.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let SeqRange { first, last } = self.range;
        (first != last).then(|| {
            let middle = Seq(first.0 + (last.0 - first.0) / 2);
            let half = |first, last, step| Self {
                range: SeqRange { first, last },
                path: format!("{}{step}", self.path),
            };
            [half(first, middle, '0'), half(middle.plus(1), last, '1')]
        })
    }

    /// Those of `rows` that lie in the cut.
    pub fn of(&self, rows: &BTreeSet<Seq>) -> BTreeSet<Seq> {
        rows.range(self.range.first..=self.range.last).copied().collect()
    }
}

/// How many events of one Range may become dead letters. A Range beyond both limits stops its lane
/// instead of emptying a stream into the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxRejected {
    /// Of the Range's events, in percent.
    pub percent: u64,
    /// Of the Range's events, their number.
    pub rows: u64,
}

impl Default for MaxRejected {
    fn default() -> Self {
        Self { percent: 10, rows: 100 }
    }
}

impl MaxRejected {
    /// Whether `rejected` of the `events` in a Range are still tolerable.
    ///
    /// # Errors
    /// `Unsuitable`, with the numbers and the last refusal.
    pub fn check(self, rejected: u64, events: u64, range: SeqRange, refusal: &Error) -> Result<()> {
        if self.tolerates(rejected, events) {
            return Ok(());
        }
        let cause = std::error::Error::source(refusal).map_or(String::new(), ToString::to_string);
        Err(Error::new(
            ErrorKind::Unsuitable,
            format!("ClickHouse refuses {rejected} and more of the {events} events {range}"),
        )
        .with_source(format!("{refusal}: {cause}"))
        .with_hint("mend the table or its views; the events are read again by the next run"))
    }

    /// Whether so many of a part's events may be dead letters from the start. To be asked before
    /// they are declared.
    ///
    /// # Errors
    /// `Unsuitable`, with the numbers and what was said of the first.
    pub fn check_planned(self, lane: &LaneId, body: &impl Planned) -> Result<()> {
        let (rejected, events) = (body.rejected(), body.events());
        if self.tolerates(rejected, events) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsuitable,
            format!("{rejected} of {events} events of `{lane}` would be dead letters"),
        )
        .with_source(body.rejection().unwrap_or_default())
        .with_hint(
            "mend the mapping or what writes the topic, or raise `max_rejected`; nothing of them is \
             written, and the next run reads them again",
        ))
    }

    const fn tolerates(self, rejected: u64, events: u64) -> bool {
        let Self { percent, rows } = self;
        rejected <= rows || rejected.saturating_mul(100) <= events.saturating_mul(percent)
    }
}

#[cfg(test)]
mod tests {
    use tailwater_core::position::{Millis, Plan};

    use super::*;

    #[test]
    fn the_leaves_are_the_events_each_once_and_in_order() {
        let mut todo = vec![Cut::root(SeqRange { first: Seq(5), last: Seq(17) })];
        let (mut leaves, mut paths) = (Vec::new(), BTreeSet::new());
        while let Some(cut) = todo.pop() {
            assert!(paths.insert(cut.path.clone()), "{} twice", cut.path);
            match cut.halves() {
                None => leaves.push(cut.range.first.0),
                Some([first, second]) => todo.extend([second, first]),
            }
        }
        assert_eq!(leaves, (5..=17).collect::<Vec<_>>());
    }

    /// A body of so many events.
    struct Body {
        rejected: u64,
        plan: Plan,
    }

    impl Planned for Body {
        fn plan(&self) -> &Plan {
            &self.plan
        }

        fn rejected(&self) -> u64 {
            self.rejected
        }

        fn rejection(&self) -> Option<String> {
            Some("unreadable: no JSON".to_owned())
        }
    }

    #[test]
    fn dead_letters_that_are_planned_count_as_those_that_are_refused() {
        let check = |rejected, rows| {
            let (ts_min, ts_max) = (Millis(0), Millis(0));
            let rows = [("few".to_owned(), 1), ("rows".to_owned(), rows)].into();
            let plan = Plan { ts_min, ts_max, rows, digest: 0, mapping: None };
            let lane = LaneId::partition_of("t", 3);
            MaxRejected::default().check_planned(&lane, &Body { rejected, plan })
        };
        assert!(check(100, 100).is_ok() && check(101, 1010).is_ok());
        let error = check(101, 1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsuitable);
        assert_eq!(error.to_string(), "101 of 1000 events of `t-3` would be dead letters");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "unreadable: no JSON");
    }

    #[test]
    fn a_range_stops_only_beyond_both_limits() {
        let refusal = Error::new(ErrorKind::Refused, "no");
        let range = |count| SeqRange::starting_at(Seq(0), count).unwrap();
        let limits = MaxRejected::default();
        for (rejected, of, stops) in
            [(100, 100, false), (101, 1000, true), (101, 1010, false), (5000, 100_000, false)]
        {
            assert_eq!(
                limits.check(rejected, of, range(of), &refusal).is_err(),
                stops,
                "{rejected}/{of}"
            );
        }
    }
}
