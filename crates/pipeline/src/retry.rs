//! Pauses between attempts: growing, jittered, with a ceiling.

use std::time::Duration;

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

/// A number from 0 to 1. Without randomness of the system it is 1: a full pause is always right.
fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

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
