//! Kills source, normalize, sink, the broker and the servers under load, lets members come and go,
//! and lets the judges look at every topic and table.
//!
//! Longer loops: `cargo xtask soak kafka --kills 200 --seed 7`.

use std::path::Path;

use tailwater_testkit::kafka_loop::{self, Plan};
use tailwater_testkit::kafka_rig::Records;

/// With the mapping in a process of its own, and inside the sink.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_every_change_is_in_kafka_and_in_clickhouse_once() {
    let binary = Path::new(env!("CARGO_BIN_EXE_tailwater"));
    for (seed, records) in [(1, Records::Topic), (4, Records::Inline)] {
        let plan = Plan::new(seed, 4).with_records(records);
        match kafka_loop::run(binary, &plan, |line| println!("{line}")).await {
            Ok(Some(report)) => println!("{report}"),
            Ok(None) => {}
            Err(error) => panic!("{error:#}"),
        }
    }
}
