//! Listing other kinds of events than before: nothing is lost, nothing comes twice.

use bson::{Document, doc};
use mongodb::Client;
use tailwater_core::ErrorKind;
use tailwater_core::scope::Scope;
use tailwater_core::watch::Watch;
use tailwater_mongodb::bookmark::Place;
use tailwater_testkit::servers::Mongod;

use crate::watcher::{Watcher, listed, moved, now, tokens};

/// All kinds, a transaction among them, an end of a collection; a delete at last.
async fn write(client: &Client) {
    let shop = client.database("shop");
    let things = shop.collection::<Document>("things");
    let set = doc! { "$set": { "x": 1 } };
    things.insert_many((0..3).map(|id| doc! { "_id": id })).await.unwrap();
    things.update_one(doc! { "_id": 1 }, set.clone()).await.unwrap();
    things.delete_one(doc! { "_id": 2 }).await.unwrap();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for id in 10..14 {
        things.insert_one(doc! { "_id": id }).session(&mut session).await.unwrap();
        things.update_one(doc! { "_id": id }, set.clone()).session(&mut session).await.unwrap();
        things.delete_one(doc! { "_id": id }).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    let old = shop.collection::<Document>("old");
    old.insert_one(doc! { "_id": 1 }).await.unwrap();
    old.drop().await.unwrap();
    things.update_one(doc! { "_id": 0 }, set).await.unwrap();
    things.delete_one(doc! { "_id": 0 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_kinds_are_listed_from_any_event_on_without_loss_or_repetition() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    write(&mongod.client().await.unwrap()).await;
    let scopes = || vec![Scope::Database("shop".into())];
    let watch = |kinds| Watch { operations: listed(kinds), ..Watch::default() };
    let (before, after) = (&["insert", "update"], &["insert", "delete"]);

    // 3 + 1 + 8 of the transaction + 1 + the drop + 1, and 3 + 1 + 8 + 1 + the drop + 1.
    let old =
        Watcher::start(&mongod, scopes(), watch(before), &begin).await.read(15).await.unwrap();
    let new = Watcher::start(&mongod, scopes(), watch(after), &begin).await.read(15).await.unwrap();
    assert_eq!((old.len(), new.len()), (15, 15));

    let begin = moved(&begin, |bookmark| bookmark.reading = listed(before));
    for count in 1..=old.len() {
        // As a worker does that finds a pending Range, and another list in its configuration.
        let mut watcher = Watcher::start(&mongod, scopes(), watch(after), &begin).await;
        let pending = watcher.read_exactly(&begin, count).await;
        assert_eq!(tokens(&pending), tokens(&old[..count]));
        let last = old[count - 1].version();
        let behind: Vec<_> = new.iter().filter(|event| event.version() > last).cloned().collect();
        let read = watcher.read(behind.len()).await.unwrap();
        assert_eq!(tokens(&read), tokens(&behind), "behind event {count}");
    }
}

/// A newer server may have sent an event in fragments that this one sends whole.
#[tokio::test(flavor = "multi_thread")]
async fn behind_the_token_of_a_fragment_that_is_no_more_nothing_is_repeated() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    write(&mongod.client().await.unwrap()).await;
    let scopes = || vec![Scope::Database("shop".into())];
    let all = Watcher::start(&mongod, scopes(), Watch::default(), &begin).await.read(23).await;
    let all = all.unwrap();
    for count in [2, 8, 20] {
        let token = String::from_utf8_lossy(all[count - 1].token_data()).into_owned();
        let fragment = format!("{}2B0404", token.strip_suffix("04").unwrap());
        let there = moved(&begin, |bookmark| {
            bookmark.place = Place::After(bson::rawdoc! { "_data": fragment });
        });
        let mut watcher = Watcher::start(&mongod, scopes(), Watch::default(), &there).await;
        let read = watcher.read(all.len() - count).await.unwrap();
        assert_eq!(tokens(&read), tokens(&all[count..]), "behind event {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_collection_is_read_though_it_is_not_listed() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let shop = mongod.client().await.unwrap().database("shop");
    let things = shop.collection::<Document>("things");
    for id in 0..2 {
        things.insert_one(doc! { "_id": id }).await.unwrap();
        things.update_one(doc! { "_id": id }, doc! { "$set": { "x": 1 } }).await.unwrap();
        things.drop().await.unwrap();
    }
    let watch = Watch { operations: listed(&["insert"]), ..Watch::default() };
    let scope = Scope::collection("shop.things").unwrap();
    let mut watcher = Watcher::start(&mongod, vec![scope], watch, &begin).await;
    let events = watcher.read(6).await.unwrap();
    let seen: Vec<(&[u8], bool)> =
        events.iter().map(|event| (event.operation_type(), event.has_row())).collect();
    let once: [(&[u8], bool); 3] = [(b"insert", true), (b"drop", false), (b"invalidate", false)];
    assert_eq!(seen, [once, once].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_this_cluster_never_had_is_not_repaired() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let shop = mongod.client().await.unwrap().database("shop");
    shop.collection("things").insert_one(doc! { "_id": 1 }).await.unwrap();
    let Some(other) = Mongod::start().await.unwrap() else { return };
    let elsewhere = other.client().await.unwrap().database("shop");
    elsewhere.collection("things").insert_one(doc! { "_id": 1 }).await.unwrap();

    let scopes = || vec![Scope::Database("shop".into())];
    let mut watcher = Watcher::start(&mongod, scopes(), Watch::default(), &begin).await;
    assert_eq!(watcher.read(2).await.unwrap().len(), 2);
    let there = watcher.next.into_values().next().unwrap();

    let (events, error) =
        Watcher::start(&other, scopes(), Watch::default(), &there).await.read_to_the_end().await;
    assert_eq!((events.len(), error.kind()), (0, ErrorKind::WrongHistory));
    assert!(error.to_string().contains("another replica set"), "{error}");

    // As an earlier version left it: then the event itself must be found.
    for operations in [None, listed(&["insert", "update"])] {
        let there = moved(&there, |bookmark| {
            bookmark.replica_set = None;
            bookmark.operations = operations;
        });
        elsewhere.collection("things").insert_one(doc! { "x": 1 }).await.unwrap();
        let (events, error) = Watcher::start(&other, scopes(), Watch::default(), &there)
            .await
            .read_to_the_end()
            .await;
        assert_eq!((events.len(), error.kind()), (0, ErrorKind::WrongHistory), "{error}");
    }
}
