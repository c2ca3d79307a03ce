//! Kills the binary, its engine and the servers under load, and lets the checker judge.
//!
//! Longer loops: `cargo xtask soak kill --kills 200 --seed 7`, `cargo xtask soak fault`.

use std::path::Path;

use tailwater_testkit::{fault_loop, kill_loop};

const BINARY: &str = env!("CARGO_BIN_EXE_tailwater");

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_every_change_arrives_once() {
    let plan = kill_loop::Plan::new(12, 12);
    match kill_loop::run(Path::new(BINARY), &plan, |line| println!("{line}")).await {
        Ok(Some(report)) => println!("{report}"),
        Ok(None) => {}
        Err(error) => panic!("{error:#}"),
    }
}

/// The declaration, the read-back and the token: without any one of them this fails.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_tokens_and_rows_and_late_copies_lose_and_repeat_nothing() {
    let plan = fault_loop::Plan { seed: 12, rounds: 2 };
    match fault_loop::run(Path::new(BINARY), plan, |line| println!("{line}")).await {
        Ok(Some(report)) => println!("{report}"),
        Ok(None) => {}
        Err(error) => panic!("{error:#}"),
    }
}
