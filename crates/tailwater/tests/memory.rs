//! Memory is bounded in bytes, whatever the document size, backlog or outage: on real servers, by
//! the resident set of `run` itself, which the engine is no part of.
//!
//! Longer: `cargo xtask soak outage --minutes 10`, and the same with `--kafka`.

use std::path::Path;
use std::time::Duration;

use tailwater_testkit::outage::{self, Plan};
use tailwater_testkit::servers::Weather;
use tailwater_testkit::weighing::{MIB, Way, Weighing};

/// The product.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// The least that a config may give: one reply of large documents, encoded, is all of it.
const LEAST: u64 = 64 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_16_mb_pass_though_each_is_as_large_as_the_budget() {
    let Some(mut weighing) = Weighing::start(binary(), LEAST, Way::Direct).await.unwrap() else {
        return;
    };
    weighing.insert(8, 15_900_000).await.unwrap();
    weighing.update(1).await.unwrap();
    weighing.settle().await.unwrap();
    let most = weighing.expect_bounded().unwrap();
    println!("{}; {} MiB resident at most", weighing.written, most / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_under_load_fills_the_budget_and_no_more() {
    outage_through(Way::Direct).await;
}

/// What piles up waits in the topics, and the sink reads no more of it than it may hold.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_behind_a_kafka_fills_the_budget_and_no_more() {
    outage_through(Way::Kafka).await;
}

#[expect(clippy::print_stdout, reason = "a test tells how it went")]
async fn outage_through(way: Way) {
    match outage::run(binary(), &Plan::short(way), |line| println!("{line}")).await {
        Ok(Some(report)) => println!("{report}"),
        Ok(None) => {}
        Err(error) => panic!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_clickhouse_slows_reading_down() {
    let Some(mut weighing) = Weighing::start(binary(), LEAST, Way::Direct).await.unwrap() else {
        return;
    };
    weighing.insert(20, 1_000_000).await.unwrap();
    weighing.settle().await.unwrap();
    weighing.proxy.turn(Weather::Slow(Duration::from_millis(2)));
    weighing.update(6).await.unwrap();
    weighing.wait_for_rows(40).await.unwrap();
    weighing.proxy.turn(Weather::Clear);
    weighing.settle().await.unwrap();
    let most = weighing.expect_bounded().unwrap();
    println!("{}; {} MiB resident at most", weighing.written, most / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_range_that_has_outgrown_the_budget_is_read_again() {
    let Some(mut weighing) = Weighing::start(binary(), LEAST, Way::Direct).await.unwrap() else {
        return;
    };
    weighing.insert(10, 1000).await.unwrap();
    weighing.settle().await.unwrap();
    weighing.proxy.turn(Weather::Broken);
    let log = weighing.tailwater.log().len();
    weighing.update_all().await.unwrap();
    weighing.wait_for_log(log, "write failed").await.unwrap();
    weighing.tailwater.kill().unwrap();
    // Their documents are looked up anew: ten small changes are 80 MB now, and more once encoded.
    weighing.grow(8_000_000).await.unwrap();
    weighing.proxy.turn(Weather::Clear);
    weighing.start_again().unwrap();
    weighing.settle().await.unwrap();
    assert!(weighing.tailwater.log()[log..].contains("finishing the pending range"));
}
