//! Recall: how lanes are taken back from the loop that runs them.
//!
//! ```text
//!   group ── Revoked(lanes, Release) ──▶ loop: ends what it does with them, then drops the Release
//!     └──── Recall: too late ──────────▶ loop: drops whatever it does, which is as safe as a crash
//! ```
//!
//! Who takes a lane back waits until its [`Release`] is gone, so that nothing of the lane is written
//! behind its back.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The loop's duty to let lanes go. Dropping it says that they are let go.
#[derive(Debug)]
pub struct Release {
    recaller: Recaller,
    _waiting: mpsc::Sender<()>,
}

/// Waits, on a thread of its own, for lanes to be let go.
#[derive(Debug)]
pub struct Released(mpsc::Receiver<()>);

impl Release {
    /// Says that the lanes are let go.
    pub fn done(self) {}
}

impl Drop for Release {
    fn drop(&mut self) {
        // Before anybody hears of it who may want lanes back again.
        self.recaller.0.send_replace(None);
    }
}

impl Released {
    /// Blocks until the lanes are let go.
    pub fn wait(self) {
        // Nothing is ever sent: it ends when the sender is gone.
        self.0.recv().unwrap_or_default();
    }
}

/// Tells the loop when a revoked lane has been waited for too long.
#[derive(Debug, Clone)]
pub struct Recall(watch::Receiver<Option<Instant>>);

/// The side that takes lanes back.
#[derive(Debug, Clone)]
pub struct Recaller(watch::Sender<Option<Instant>>);

impl Recaller {
    /// Nothing is taken back.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// What the loop listens to.
    pub fn listen(&self) -> Recall {
        Recall(self.0.subscribe())
    }

    /// Lanes are wanted back; after `grace` the loop drops whatever it does. The duty goes to the loop,
    /// and whoever wants the lanes waits for its end.
    pub fn want_back(&self, grace: Duration) -> (Release, Released) {
        self.0.send_replace(Some(Instant::now() + grace));
        let (sender, receiver) = mpsc::channel();
        (Release { recaller: self.clone(), _waiting: sender }, Released(receiver))
    }
}

impl Default for Recaller {
    fn default() -> Self {
        Self::new()
    }
}

impl Recall {
    /// Nothing is ever taken back.
    pub fn never() -> Self {
        Recaller::new().listen()
    }

    /// Whether a lane is wanted back at the moment.
    pub fn is_wanted(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns when a lane that is wanted back has been waited for too long; else never.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn overdue(&self) {
        let mut wanted = self.0.clone();
        loop {
            let deadline = *wanted.borrow_and_update();
            let changed = async {
                if wanted.changed().await.is_err() {
                    // Nobody is there to take anything back.
                    std::future::pending::<()>().await;
                }
            };
            match deadline {
                None => changed.await,
                Some(deadline) => tokio::select! {
                    () = tokio::time::sleep_until(deadline) => return,
                    () = changed => {}
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lane_is_overdue_after_the_grace_and_not_before() {
        let recaller = Recaller::new();
        let recall = recaller.listen();
        assert!(!recall.is_wanted());
        let (release, _released) = recaller.want_back(Duration::from_secs(5));
        assert!(recall.is_wanted());
        let soon = tokio::time::timeout(Duration::from_secs(4), recall.overdue());
        assert!(soon.await.is_err());
        tokio::time::timeout(Duration::from_secs(2), recall.overdue()).await.unwrap();
        release.done();
        assert!(!recall.is_wanted());
        let later = tokio::time::timeout(Duration::from_secs(60), recall.overdue());
        assert!(later.await.is_err());
        drop(recaller);
        assert!(tokio::time::timeout(Duration::from_secs(60), recall.overdue()).await.is_err());
    }

    #[test]
    fn who_waits_goes_on_when_the_duty_is_done_or_gone() {
        let recaller = Recaller::new();
        let (release, released) = recaller.want_back(Duration::ZERO);
        release.done();
        released.wait();
        let (release, released) = recaller.want_back(Duration::ZERO);
        drop(release);
        released.wait();
        assert!(!recaller.listen().is_wanted());
    }
}
