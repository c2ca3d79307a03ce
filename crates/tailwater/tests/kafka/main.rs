//! What may break with a Kafka in the middle, on real servers: each test breaks one thing, lets the
//! parts go on or end, and judges.
//!
//! One broker, one mongod and one ClickHouse serve all tests; each has a pipeline of its own, with
//! its topics, groups and databases. What breaks the broker itself has another one, in turns.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod broker;
mod current;
mod formats;
mod judge;
mod lanes;
mod normalizer;
mod offsets;
mod part;
mod records;
mod servers;
mod sink;
mod source;
mod stage;
mod topics;

use std::path::Path;
use std::time::Duration;

/// The product.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// How long anything may take that needs healthy servers.
const DEADLINE: Duration = Duration::from_secs(300);
/// Between two looks at something that will come true.
const LOOK: Duration = Duration::from_millis(50);
