//! Kills the binary, its engine and the servers under load, while collections and databases are
//! dropped and renamed, and lets the checker judge.
//!
//! Longer loops: `cargo xtask soak kill --kills 200 --seed 7`.

use std::path::Path;

use tailwater_testkit::kill_loop;

/// Each third seed watches two databases, collections and patterns, or everything.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_every_change_arrives_once() {
    let binary = Path::new(env!("CARGO_BIN_EXE_tailwater"));
    for seed in 12..15 {
        let plan = kill_loop::Plan::new(seed, 20);
        match kill_loop::run(binary, &plan, |line| println!("{line}")).await {
            Ok(Some(report)) => println!("{report}"),
            Ok(None) => {}
            Err(error) => panic!("{error:#}"),
        }
    }
}
