//! Pauses between attempts: growing, jittered, with a ceiling.

use std::time::Duration;

use tailwater_core::{Action, Result};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const CEILING: Duration = Duration::from_secs(5);

/// The pauses of one retried operation.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Starts with the shortest pause.
    pub const fn new() -> Self {
        Self { attempts: 0 }
    }

    /// How many pauses were taken.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits, longer each time.
    pub async fn pause(&mut self) {
        let pause = self.next_pause(jitter());
        tokio::time::sleep(pause).await;
    }

    /// Half of the pause is fixed, half is random, so that many lanes do not knock at once.
    fn next_pause(&mut self, jitter: f64) -> Duration {
        let full = FIRST.saturating_mul(1 << self.attempts.min(16)).min(CEILING);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(0.5 + 0.5 * jitter)
    }
}

/// Tries `operation` until it succeeds, fails with what no waiting mends, or `patience` ends; then
/// the last error counts.
///
/// # Errors
/// Those of `operation`.
pub async fn patiently<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    mut operation: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new();
    loop {
        match operation().await {
            Err(error) if error.kind().action() == Action::Retry && Instant::now() < deadline => {
                if backoff.attempts().is_multiple_of(10) {
                    tracing::warn!(%error, "trying again");
                }
            }
            result => return result,
        }
        backoff.pause().await;
    }
}

/// Waits for ever.
pub const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A number from 0 to 1. Without randomness of the system it is 1: a full pause is always right.
fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_core::{Error, ErrorKind};

    #[tokio::test(start_paused = true)]
    async fn patience_ends_with_the_last_error() {
        let mut tries = 0;
        let result: Result<()> = patiently(Duration::from_secs(30), || {
            tries += 1;
            std::future::ready(Err(Error::new(ErrorKind::Unreachable, format!("try {tries}"))))
        })
        .await;
        assert!(tries > 5, "{tries}");
        assert_eq!(result.unwrap_err().to_string(), format!("try {tries}"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_does_not_mend_ends_at_once() {
        let mut tries = 0;
        let result: Result<()> = patiently(FOR_EVER, || {
            tries += 1;
            std::future::ready(Err(Error::new(ErrorKind::Unauthorized, "no rights")))
        })
        .await;
        assert_eq!((tries, result.is_err()), (1, true));
    }

    #[test]
    fn pauses_grow_to_the_ceiling_and_stay_there() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next_pause(1.0)).collect();
        assert_eq!(pauses[0], FIRST);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[39], CEILING);
        assert_eq!(Backoff::new().next_pause(0.0), FIRST / 2);
    }
}
