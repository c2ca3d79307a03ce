//! What may break between MongoDB, Tailwater and ClickHouse, on real servers: each test breaks one
//! thing, lets the product go on or end, and judges.

mod network;

use std::path::Path;

/// The product.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}
