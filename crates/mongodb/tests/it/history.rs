//! Places outside of what the server has, and events that it cannot send.

use bson::{Document, Timestamp, doc};
use tailwater_core::ErrorKind;
use tailwater_core::gap::Moment;
use tailwater_core::scope::Scope;
use tailwater_core::token::ClusterTime;
use tailwater_core::watch::{BeforeChange, Watch};
use tailwater_mongodb::bookmark::Place;
use tailwater_testkit::servers::Mongod;

use crate::watcher::{Watcher, moved, now, time};

#[tokio::test(flavor = "multi_thread")]
async fn a_place_ahead_of_the_cluster_stops_with_both_times() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let present = now(&mongod).await;
    let Timestamp { time, increment } = time(&present);
    let data = format!("82{:08X}{:08X}2B0229296E04", time + 3600, increment);
    let scopes = || vec![Scope::Database("shop".into())];
    for place in [
        Place::At(Timestamp { time: time + 3600, increment }),
        Place::After(bson::rawdoc! { "_data": data }),
    ] {
        let ahead = moved(&present, |bookmark| bookmark.place = place);
        let (events, error) = Watcher::start(&mongod, scopes(), Watch::default(), &ahead)
            .await
            .read_to_the_end()
            .await;
        assert_eq!((events.len(), error.kind()), (0, ErrorKind::WrongHistory));
        assert!(error.to_string().contains(&format!("Timestamp({}", time + 3600)), "{error}");
    }
    // A stream may begin right behind the present, and begin again there.
    for _ in 0..2 {
        let mut watcher = Watcher::start(&mongod, scopes(), Watch::default(), &present).await;
        let shop = mongod.client().await.unwrap().database("shop");
        shop.collection("things").insert_one(doc! { "x": 1 }).await.unwrap();
        watcher.read(1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_stops_behind_everything_before_it() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let shop = mongod.client().await.unwrap().database("shop");
    let images = doc! { "enabled": true };
    let create = doc! { "create": "things", "changeStreamPreAndPostImages": images };
    shop.run_command(create).await.unwrap();
    let things = shop.collection::<Document>("things");
    things.insert_one(doc! { "_id": 0, "pad": "x".repeat(9_000_000) }).await.unwrap();
    things.insert_many((1..50).map(|id| doc! { "_id": id })).await.unwrap();
    things.update_one(doc! { "_id": 0 }, doc! { "$set": { "x": 1 } }).await.unwrap();
    things.insert_one(doc! { "_id": 50 }).await.unwrap();

    let watch = || Watch { before_change: BeforeChange::WhenAvailable, ..Watch::default() };
    let scopes = || vec![Scope::Database("shop".into())];
    let mut watcher = Watcher::start(&mongod, scopes(), watch(), &begin).await;
    let (events, error) = watcher.read_to_the_end().await;
    assert_eq!(events.len(), 51, "the create and all inserts before it: {error}");
    assert_eq!(error.kind(), ErrorKind::Unsuitable);
    let last = std::str::from_utf8(events[50].token_data()).unwrap();
    let seconds = events[50].cluster_time().seconds;
    assert!(error.to_string().contains(last), "{error}");
    assert!(error.to_string().contains(&format!("Timestamp({seconds}")), "{error}");

    // And again from there.
    let there = watcher.next.into_values().next().unwrap();
    let (events, again) =
        Watcher::start(&mongod, scopes(), watch(), &there).await.read_to_the_end().await;
    assert_eq!((events.len(), again.to_string()), (0, error.to_string()));

    // Less is small enough.
    let mut watcher = Watcher::start(&mongod, scopes(), Watch::default(), &there).await;
    let kinds: Vec<_> = watcher.read(2).await.unwrap();
    assert_eq!([kinds[0].operation_type(), kinds[1].operation_type()], [&b"update"[..], b"insert"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_gone_is_a_gap_from_the_place_to_what_is_left() {
    let Some(mongod) = Mongod::start_forgetful().await.unwrap() else { return };
    let client = mongod.client().await.unwrap();
    let shop = client.database("shop");
    let things = shop.collection::<Document>("things");
    let begin = now(&mongod).await;
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    let scopes = || vec![Scope::collection("shop.things").unwrap()];
    let mut watcher = Watcher::start(&mongod, scopes(), Watch::default(), &begin).await;
    let events = watcher.read(2).await.unwrap();
    let there = watcher.next.into_values().next().unwrap();

    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let oldest = async || {
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap().unwrap();
        first.get_timestamp("ts").unwrap()
    };
    while oldest().await.time <= events[1].cluster_time().seconds {
        let pad = "x".repeat(100_000);
        things.insert_many((0..20).map(|_| doc! { "pad": &pad })).await.unwrap();
    }
    let Timestamp { time: seconds, increment } = time(&begin);
    for (position, from) in
        [(&there, events[1].cluster_time()), (&begin, ClusterTime { seconds, increment })]
    {
        let (events, error) = Watcher::start(&mongod, scopes(), Watch::default(), position)
            .await
            .read_to_the_end()
            .await;
        assert_eq!((events.len(), error.kind()), (0, ErrorKind::HistoryLost));
        let gap = error.gap().unwrap();
        let oldest = oldest().await;
        assert_eq!(gap.names, ["shop.things"]);
        let (lost, Moment::Cluster(to)) = gap.times else { panic!("{gap:?}") };
        assert_eq!(lost, Moment::Cluster(from));
        assert!(to > from && (to.seconds, to.increment) <= (oldest.time, oldest.increment));
        assert!(error.to_string().contains(&format!("Timestamp({}", to.seconds)), "{error}");
    }
}
