//! Failpoints: the boundaries at which a crash matters, by name, so that a test can die at each.
//!
//! In a build with debug assertions `TAILWATER_FAILPOINT=declared` kills the process where the
//! first Range is declared, `declared:3` where the third is, and `declared:3:stop` stops it there
//! (SIGSTOP) until somebody lets it go on. A release build has none of this, and never reads the
//! variable.

/// A new stream knows where it begins; nothing of it is saved.
pub const BEGINNING: &str = "beginning";
/// A Range is declared durably; nothing of it is sent.
pub const DECLARED: &str = "declared";
/// A Range is written and acknowledged; its lane has not moved.
pub const WRITTEN: &str = "written";
/// The new checkpoints are in a file of their own; the old ones still count.
pub const CHECKPOINT_WRITTEN: &str = "checkpoint-written";
/// The new checkpoints are in place; nobody has been told.
pub const CHECKPOINT_PLACED: &str = "checkpoint-placed";
/// A pending Range may be sent again; nothing of it was asked for yet.
pub const REDECLARED: &str = "redeclared";
/// It is known which rows of a pending Range are missing; none is sent.
pub const READ_BACK: &str = "read-back";
/// The missing rows are sent; they are not read back.
pub const RESENT: &str = "resent";
/// An event that the server refuses is in the dead letters; others of its Range may follow.
pub const REJECTED: &str = "rejected";
/// A pending Range is complete; its lane has not moved.
pub const RECOVERED: &str = "recovered";

/// The records of a transaction are sent; its checkpoints are not.
pub const SENT: &str = "sent";
/// All of a transaction is acknowledged; it is not committed.
pub const COMMITTING: &str = "committing";
/// A transaction is committed; nobody has been told.
pub const COMMITTED: &str = "committed";
/// What is to be replayed is planned; nobody has been fenced.
pub const PLANNED: &str = "planned";

/// Those that a life without a pending Range passes.
pub const OF_WORK: [&str; 5] =
    [BEGINNING, DECLARED, WRITTEN, CHECKPOINT_WRITTEN, CHECKPOINT_PLACED];
/// Those that only a life passes which finds a pending Range with rows missing.
pub const OF_RECOVERY: [&str; 4] = [REDECLARED, READ_BACK, RESENT, RECOVERED];

/// The environment variable that names one failpoint.
pub const VARIABLE: &str = "TAILWATER_FAILPOINT";

/// Ends or stops the process if this is the failpoint that the environment names.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);

    let order = ORDER.get_or_init(|| Order::parse(&std::env::var(VARIABLE).ok()?));
    let Some(order) = order.as_ref().filter(|order| order.name == name) else { return };
    if REACHED.fetch_add(1, Ordering::Relaxed) + 1 != order.time {
        return;
    }
    tracing::warn!(name, "failpoint");
    let signal = if order.stop { Signal::STOP } else { Signal::KILL };
    kill_process(getpid(), signal).expect("a process may signal itself");
    if order.stop {
        // A stop reaches the process by any of its threads, so this one would go on for a moment.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Does nothing: a release build has no failpoints.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_name: &str) {}

/// What the environment asks for.
#[cfg(debug_assertions)]
#[derive(Debug, PartialEq, Eq)]
struct Order {
    name: String,
    time: u32,
    stop: bool,
}

#[cfg(debug_assertions)]
impl Order {
    /// Reads `name[:time][:stop]`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let name = parts.next()?.to_owned();
        let mut order = Self { name, time: 1, stop: false };
        for part in parts {
            match part {
                "stop" => order.stop = true,
                time => order.time = time.parse().ok()?,
            }
        }
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_the_point_the_time_and_the_deed() {
        let order = |name: &str, time, stop| Order { name: name.into(), time, stop };
        assert_eq!(Order::parse("written"), Some(order("written", 1, false)));
        assert_eq!(Order::parse("written:3"), Some(order("written", 3, false)));
        assert_eq!(Order::parse("written:3:stop"), Some(order("written", 3, true)));
        assert_eq!(Order::parse("written:x"), None);
    }
}
