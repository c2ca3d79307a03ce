//! One budget in bytes for everything in flight. When it is spent, reading waits.
//!
//! Who waits must hold nothing that somebody else waits for: so one waits before asking for more,
//! with [`Budget::take`], and what has come is counted as it is, with [`Share::resize`], even where
//! that is more than is left. Then the next one waits longer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// What an event takes in memory, by its own size, until it is encoded and known: its document again as
/// bytes and as columns, and the whole event as text.
pub const ENCODED_FACTOR: usize = 4;

/// Permits are counted in units, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;

/// The bytes that may be in flight in this process.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Units>,
    total: usize,
}

#[derive(Debug)]
struct Units {
    free: Semaphore,
    /// What was taken beyond all that is free. It is paid back first.
    debt: Mutex<usize>,
}

/// A share of the budget. It returns when dropped.
#[derive(Debug)]
pub struct Share {
    units: Arc<Units>,
    held: usize,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let total = units(bytes).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Units { free: Semaphore::new(total), debt: Mutex::new(0) }), total }
    }

    /// Waits until `bytes` are free, and takes them. More than the whole budget counts as the whole
    /// budget: a single oversized document passes, alone.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn take(&self, bytes: usize) -> Share {
        let held = units(bytes).min(self.total).min(u32::MAX as usize);
        let permit = self
            .units
            .free
            // It fits: the line above.
            .acquire_many(held as u32)
            .await
            .expect("the budget's semaphore is never closed");
        permit.forget();
        Share { units: Arc::clone(&self.units), held }
    }

    /// A share of nothing, which waits for nothing.
    pub fn nothing(&self) -> Share {
        Share { units: Arc::clone(&self.units), held: 0 }
    }
}

impl Share {
    /// Makes the share as large as what it stands for has turned out to be. Never waits.
    pub fn resize(&mut self, bytes: usize) {
        let wanted = units(bytes);
        match wanted.checked_sub(self.held) {
            Some(more) => self.units.overdraw(more),
            None => self.units.give_back(self.held - wanted),
        }
        self.held = wanted;
    }

    /// Both shares as one.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.held += std::mem::take(&mut other.held);
        self
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.units.give_back(self.held);
    }
}

impl Units {
    fn overdraw(&self, units: usize) {
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        *debt += units - self.free.forget_permits(units);
    }

    fn give_back(&self, units: usize) {
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = units.min(*debt);
        *debt -= paid;
        self.free.add_permits(units - paid);
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spent_budget_waits_for_a_share_to_return() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.take(8 * UNIT).await;
        let mut second = Polled::of(budget.take(8 * UNIT));
        assert!(second.poll().is_none());
        drop(first);
        assert!(second.poll().is_some());
    }

    #[tokio::test]
    async fn more_than_the_budget_is_the_whole_budget() {
        let budget = Budget::new(10 * UNIT);
        let all = budget.take(1000 * UNIT).await;
        assert!(Polled::of(budget.take(UNIT)).poll().is_none());
        drop(all);
        assert!(Polled::of(budget.take(10 * UNIT)).poll().is_some());
    }

    #[tokio::test]
    async fn what_has_come_is_counted_and_the_next_one_waits_until_it_is_paid() {
        let budget = Budget::new(10 * UNIT);
        let mut small = budget.take(4 * UNIT).await;
        let other = budget.take(4 * UNIT).await;
        small.resize(30 * UNIT);
        let mut next = Polled::of(budget.take(UNIT));
        assert!(next.poll().is_none());
        drop(other);
        assert!(next.poll().is_none(), "4 of 24 are paid");
        small.resize(9 * UNIT);
        let _next = next.poll().expect("one is free");
        assert!(Polled::of(budget.take(UNIT)).poll().is_none());
        drop(small);
        assert!(Polled::of(budget.take(9 * UNIT)).poll().is_some());
    }

    #[tokio::test]
    async fn a_share_of_nothing_and_shares_together_return_what_they_hold() {
        let budget = Budget::new(10 * UNIT);
        let all = budget.take(4 * UNIT).await.and(budget.take(6 * UNIT).await);
        let mut late = budget.nothing();
        late.resize(2 * UNIT);
        assert!(Polled::of(budget.take(UNIT)).poll().is_none());
        drop(all);
        assert!(Polled::of(budget.take(9 * UNIT)).poll().is_none());
        drop(late);
        assert!(Polled::of(budget.take(10 * UNIT)).poll().is_some());
    }

    struct Polled<F>(std::pin::Pin<Box<F>>);

    impl<F: Future> Polled<F> {
        fn of(future: F) -> Self {
            Self(Box::pin(future))
        }

        fn poll(&mut self) -> Option<F::Output> {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match self.0.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            }
        }
    }
}
