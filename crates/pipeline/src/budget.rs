//! One budget in bytes for everything in flight. When it is spent, reading waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in units, since a semaphore counts in 32 bits.
const UNIT: usize = 1024;

/// The bytes that may be in flight in this process.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// A share of the budget. It returns when dropped.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let total = units(bytes);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `bytes` are free, and takes them. More than the whole budget counts as the whole
    /// budget: a single oversized document passes, alone.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn take(&self, bytes: usize) -> Share {
        let permit = Arc::clone(&self.units)
            .acquire_many_owned(units(bytes).min(self.total))
            .await
            .expect("the budget's semaphore is never closed");
        Share { _permit: permit }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spent_budget_waits_for_a_share_to_return() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.take(8 * UNIT).await;
        let mut second = tokio_test_poll(budget.take(8 * UNIT));
        assert!(second.poll().is_none());
        drop(first);
        assert!(second.poll().is_some());
    }

    #[tokio::test]
    async fn more_than_the_budget_is_the_whole_budget() {
        let budget = Budget::new(10 * UNIT);
        let _all = budget.take(1000 * UNIT).await;
        assert!(tokio_test_poll(budget.take(UNIT)).poll().is_none());
    }

    struct Polled<F>(std::pin::Pin<Box<F>>);

    fn tokio_test_poll<F: Future>(future: F) -> Polled<F> {
        Polled(Box::pin(future))
    }

    impl<F: Future> Polled<F> {
        fn poll(&mut self) -> Option<F::Output> {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match self.0.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            }
        }
    }
}
