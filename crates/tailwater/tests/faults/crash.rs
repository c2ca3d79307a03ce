//! The product dies at each boundary in turn.

use tailwater_pipeline::failpoint;
use tailwater_testkit::rig::Rig;
use tailwater_testkit::servers::{Engine, Exit, Target};
use tailwater_testkit::workload::{self, Workload};

use crate::stage::start_with_failpoint;
use crate::{DEADLINE, binary};

async fn dies(rig: &mut Rig, order: &str) {
    start_with_failpoint(rig, order);
    let exit = rig.tailwater.wait(DEADLINE).await.unwrap();
    assert_eq!(exit, Exit::Signal, "at {order}:\n{}", rig.tailwater.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_each_boundary_in_turn_loses_and_repeats_nothing() {
    let home = tempfile::tempdir().unwrap();
    let Some(engine) = Engine::start(binary(), &home.path().join("state")).await.unwrap() else {
        return;
    };
    let target = Target::Server { through: engine.address(), direct: engine.address() };
    let namespaces = ["ingest.files".to_owned(), "ingest.jobs".to_owned()];
    let Some(mut rig) = Rig::assemble(binary(), &namespaces, target).await.unwrap() else { return };
    rig.tailwater.kill().unwrap();
    for number in 1..=2 {
        dies(&mut rig, &format!("{}:{number}", failpoint::BEGINNING)).await;
    }
    rig.start_again().unwrap();
    rig.warm_up(|number| bson::doc! { "_id": format!("warm-up {number}") }).await.unwrap();
    let plan = workload::Plan::new(3, namespaces.into());
    let load = Workload::start(&rig.client, &plan).unwrap();

    for point in failpoint::OF_WORK.into_iter().filter(|point| *point != failpoint::BEGINNING) {
        for number in [1, 4] {
            rig.tailwater.kill().unwrap();
            dies(&mut rig, &format!("{point}:{number}")).await;
        }
    }
    for point in failpoint::OF_RECOVERY {
        // A Range is pending of which nothing is there.
        dies(&mut rig, failpoint::DECLARED).await;
        dies(&mut rig, point).await;
    }
    rig.start_again().unwrap();
    load.stop().await.unwrap();
    let verdict = rig.judge().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}");
}
