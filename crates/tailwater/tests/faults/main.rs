//! What may break between MongoDB, Tailwater and ClickHouse, on real servers: each test breaks one
//! thing, lets the product go on or end, and judges.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod clickhouse;
mod crash;
mod gaps;
mod messages;
mod mongodb;
mod network;
mod stage;

use std::path::Path;
use std::time::Duration;

/// The product.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// How long anything may take that needs healthy servers.
const DEADLINE: Duration = Duration::from_secs(120);
