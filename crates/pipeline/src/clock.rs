//! The wall clock, for deadlines that must hold across processes and restarts.

use std::time::{SystemTime, UNIX_EPOCH};

use tailwater_core::position::Millis;

/// The time now. A clock before 1970 reads as 1970.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
