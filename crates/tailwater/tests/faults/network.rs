//! What lies between the product and its servers breaks.

use tailwater_testkit::fault_loop;

use crate::binary;

/// Longer loops: `cargo xtask soak fault --rounds 20 --seed 7`.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_tokens_and_rows_and_late_inserts_change_nothing() {
    let plan = fault_loop::Plan { seed: 5, rounds: 2 };
    match fault_loop::run(binary(), plan, |line| println!("{line}")).await {
        Ok(Some(report)) => println!("{report}"),
        Ok(None) => {}
        Err(error) => panic!("{error:#}"),
    }
}
