//! Signs of life: what each lane heard and delivered, and when. `/metrics` and `/health` read it.
//!
//! Counts only; nothing here decides anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tailwater_core::position::{LaneId, Millis};

/// Shared by the ends, the delivery and the HTTP endpoint: those of one part.
#[derive(Debug, Clone)]
pub struct Vitals {
    lanes: Arc<Mutex<BTreeMap<LaneId, Pulse>>>,
    part: &'static str,
    server: &'static str,
}

impl Default for Vitals {
    fn default() -> Self {
        Self::of("direct", "mongodb")
    }
}

/// What is known of one lane.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Events read from the source.
    pub read: u64,
    /// Events delivered.
    pub delivered: u64,
    /// Failed attempts to write.
    pub write_failures: u64,
    /// Failed attempts to read.
    pub read_failures: u64,
    /// When the source last answered, with events or without.
    pub heard_at: Option<Instant>,
    /// Since when there are events that are read and not delivered.
    pub behind_since: Option<Instant>,
    /// The newest `ts` that was delivered, in seconds since 1970.
    pub delivered_time: f64,
}

/// Longer than any pause between attempts, and than the idle wait of a stream.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(60);

impl Vitals {
    /// Those of a part, which reads from that server.
    pub fn of(part: &'static str, server: &'static str) -> Self {
        Self { lanes: Arc::default(), part, server }
    }

    /// The part.
    pub const fn part(&self) -> &'static str {
        self.part
    }

    /// A lane that is no longer ours.
    pub fn forget(&self, lane: &LaneId) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(lane);
    }

    /// A lane that is to be heard of.
    pub fn expect(&self, lane: &LaneId) {
        self.update(lane, |_| {});
    }

    /// The source answered, with `events` of them.
    pub fn heard(&self, lane: &LaneId, events: u64) {
        self.update(lane, |pulse| {
            let now = Instant::now();
            pulse.heard_at = Some(now);
            pulse.read += events;
            if pulse.behind_since.is_none() && pulse.read > pulse.delivered {
                pulse.behind_since = Some(now);
            }
        });
    }

    /// The source did not answer.
    pub fn read_failed(&self, lane: &LaneId) {
        self.update(lane, |pulse| pulse.read_failures += 1);
    }

    /// `events` more are delivered, the newest of them of the time `newest`.
    pub fn delivered(&self, lane: &LaneId, events: u64, newest: Millis) {
        self.update(lane, |pulse| {
            pulse.delivered += events;
            // What has no rows has no time.
            if newest.0 != 0 {
                pulse.delivered_time = newest.0 as f64 / 1000.0;
            }
            pulse.behind_since = (pulse.read > pulse.delivered).then(Instant::now);
        });
    }

    /// A write failed.
    pub fn delivery_failed(&self, lane: &LaneId) {
        self.update(lane, |pulse| pulse.write_failures += 1);
    }

    /// A copy of all lanes.
    pub fn snapshot(&self) -> BTreeMap<LaneId, Pulse> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the pipeline is not healthy; empty when it is. A lane is ill when its source says
    /// nothing, or when what was read does not get delivered.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (lane, pulse) in self.snapshot() {
            match pulse.heard_at.map(|at| at.elapsed()) {
                None => complaints.push(format!("{lane}: {} has not answered yet", self.server)),
                Some(silence) if silence > SILENCE_LIMIT => complaints.push(format!(
                    "{lane}: {} has not answered for {} s",
                    self.server,
                    silence.as_secs()
                )),
                Some(_) => {}
            }
            if let Some(behind) = pulse.behind_since.map(|at| at.elapsed())
                && behind > SILENCE_LIMIT
            {
                complaints
                    .push(format!("{lane}: nothing was delivered for {} s", behind.as_secs()));
            }
        }
        complaints
    }

    fn update(&self, lane: &LaneId, change: impl FnOnce(&mut Pulse)) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.get_mut(lane) {
            Some(pulse) => change(pulse),
            None => change(lanes.entry(lane.clone()).or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_delivered_all_it_read_is_not_behind() {
        let (vitals, lane) = (Vitals::default(), LaneId::stream("a.b"));
        vitals.heard(&lane, 3);
        assert!(vitals.snapshot()[&lane].behind_since.is_some());
        vitals.delivered(&lane, 3, Millis(9500));
        let pulse = &vitals.snapshot()[&lane];
        assert!(pulse.behind_since.is_none());
        assert_eq!((pulse.read, pulse.delivered, pulse.delivered_time), (3, 3, 9.5));
        assert!(vitals.complaints().is_empty());
    }
}
