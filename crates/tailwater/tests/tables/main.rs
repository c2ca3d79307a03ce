//! The tables of Kafka mode on a real engine: each append table gets what it lacks and nothing twice,
//! whatever the mapping says and whoever refuses; lanes end and rename collections in any order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod append;
mod renames;
mod stage;

use std::path::Path;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}
