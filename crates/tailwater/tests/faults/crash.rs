//! The product dies at each boundary in turn.

use bson::{Document, doc};
use tailwater_pipeline::failpoint;
use tailwater_testkit::rig::Rig;
use tailwater_testkit::servers::{Engine, Exit, Target};
use tailwater_testkit::workload::{self, Workload};

use crate::stage::{Stage, start_with_failpoint};
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
    dies(&mut rig, failpoint::BEGINNING).await;
    rig.start_again().unwrap();
    rig.warm_up(|number| doc! { "_id": format!("warm-up {number}") }).await.unwrap();
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

/// `DELIVERY.md` §8, line 6, in direct mode: somebody has put an old copy of the state file back.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_state_file_repeats_nothing() {
    let Some(mut stage) = Stage::start().await else { return };
    let load = stage.load();
    let file = stage.rig.arguments.state.join("checkpoints");
    for more in [0, 500] {
        let rows = stage.rows().await;
        stage.wait_for_rows(rows + more).await;
        let old = std::fs::read(&file).unwrap();
        stage.wait_for_rows(rows + more + 1000).await;
        stage.rig.tailwater.kill().unwrap();
        std::fs::write(&file, old).unwrap();
        stage.rig.start_again().unwrap();
    }
    load.stop().await.unwrap();
    stage.judge().await;
}

/// `DELIVERY.md` §8, line 14.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_become_dead_letters_once_though_it_dies_between_them() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.alter("ADD CONSTRAINT good CHECK NOT startsWith(doc_id, 'bad')").await;
    let rows = stage.rows().await;
    stage.start_with_failpoint(failpoint::REJECTED);
    let files = stage.rig.client.database("ingest").collection::<Document>("files");
    let bad = [3, 4, 17];
    let documents = (0..20).map(|number| match bad.contains(&number) {
        true => doc! { "_id": format!("bad {number}") },
        false => doc! { "_id": format!("good {number}") },
    });
    files.insert_many(documents).await.unwrap();
    for _ in &bad {
        let exit = stage.rig.tailwater.wait(DEADLINE).await.unwrap();
        assert_eq!(exit, Exit::Signal);
        start_with_failpoint(&mut stage.rig, failpoint::REJECTED);
    }
    stage.wait_for_rows(rows + 17).await;
    stage.write(5).await;
    stage.wait_for_rows(rows + 22).await;
    let exit = stage.rig.tailwater.terminate(DEADLINE).await.unwrap();
    assert_eq!(exit, Exit::Code(0), "{}", stage.rig.tailwater.log_tail());
    assert_eq!(stage.rows().await, rows + 22);
    let letters = "SELECT count() AS count FROM tailwater_dead_letters";
    assert_eq!(stage.count(letters).await, 3);
    let offsets = "SELECT uniqExact(_offset) AS count FROM (SELECT _offset FROM record_raw \
                   UNION ALL SELECT _offset FROM tailwater_dead_letters)";
    assert_eq!(stage.count(offsets).await, rows + 25, "each event is a row or a dead letter");
}

/// `DELIVERY.md` §8, line 13.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_one_document_survives_deaths_in_its_middle() {
    let Some(mut stage) = Stage::start().await else { return };
    let rows = stage.rows().await;
    stage.start_with_failpoint(&format!("{}:2", failpoint::WRITTEN));
    let mut session = stage.rig.client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let files = stage.rig.client.database("ingest").collection::<Document>("files");
    // So large that a batch ends inside the transaction.
    let one = doc! { "_id": "one", "padding": "x".repeat(80_000) };
    files.insert_one(one).session(&mut session).await.unwrap();
    for number in 1..1000 {
        let set = doc! { "$set": { "number": number } };
        files.update_one(doc! { "_id": "one" }, set).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    let exit = stage.rig.tailwater.wait(DEADLINE).await.unwrap();
    assert_eq!(exit, Exit::Signal);
    let range = stage.checkpoints()[0]["pending"]["range"].clone();
    let [first, last] = ["first", "last"].map(|end| range[end].as_u64().unwrap());
    let within = rows < first || last + 1 < rows + 1000;
    assert!(within, "{range} does not cut the transaction, which begins at {rows}");
    start_with_failpoint(&mut stage.rig, failpoint::RECOVERED);
    let exit = stage.rig.tailwater.wait(DEADLINE).await.unwrap();
    assert_eq!(exit, Exit::Signal);
    stage.rig.start_again().unwrap();
    stage.wait_for_rows(rows + 1000).await;
    stage.judge().await;
}
