//! The commands of whoever operates a pipeline, on real servers: what they tell is so, and what they
//! change is changed once.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod check;
mod checkpoint;
mod dlq;
mod grants;
mod kafka_engine;
mod schema;
mod stage;
mod status;

use std::path::Path;
use std::time::Duration;

/// The product.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// How long anything may take that needs healthy servers.
const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks at something that will come true.
const LOOK: Duration = Duration::from_millis(100);
