//! Memory is bounded in bytes, whatever the document size, backlog or outage: on real servers, by
//! the resident set of `run` itself.
//!
//! Longer: `cargo xtask soak outage --minutes 10`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;
use std::time::Duration;

use tailwater_testkit::servers::Weather;
use tailwater_testkit::weighing::{MIB, Weighing};

/// The product.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_16_mb_pass() {
    let Some(mut weighing) = Weighing::start(binary()).await.unwrap() else { return };
    weighing.insert(20, 15_900_000).await.unwrap();
    weighing.update(2, 15_900_000).await.unwrap();
    weighing.settle().await.unwrap();
    let resident = weighing.resident().unwrap();
    println!("{}, {} MiB at most", weighing.written, resident.most / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_under_load_is_caught_up_with() {
    let Some(mut weighing) = Weighing::start(binary()).await.unwrap() else { return };
    weighing.insert(40, 4_000_000).await.unwrap();
    weighing.settle().await.unwrap();
    println!("warm: {:?}", weighing.resident().unwrap());
    weighing.proxy.turn(Weather::Broken);
    weighing.update(6, 4_000_000).await.unwrap();
    let full = weighing.wait_until_full().await.unwrap();
    println!("full: {} MiB, {} at most, {}", full.now / MIB, full.most / MIB, weighing.written);
    weighing.proxy.turn(Weather::Clear);
    weighing.settle().await.unwrap();
    println!("{}, {} MiB at most", weighing.written, weighing.resident().unwrap().most / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_clickhouse_only_delays() {
    let Some(mut weighing) = Weighing::start(binary()).await.unwrap() else { return };
    weighing.proxy.turn(Weather::Slow(Duration::from_millis(5)));
    weighing.insert(40, 1_000_000).await.unwrap();
    weighing.update(4, 1_000_000).await.unwrap();
    weighing.wait_for_rows(80).await.unwrap();
    weighing.proxy.turn(Weather::Clear);
    weighing.settle().await.unwrap();
    println!("{}, {} MiB at most", weighing.written, weighing.resident().unwrap().most / MIB);
}
