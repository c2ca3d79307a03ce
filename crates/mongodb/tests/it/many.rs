//! Hundreds of collections: in one stream, and in a stream each.

use std::collections::BTreeMap;

use bson::{Document, doc};
use futures_util::future::join_all;
use tailwater_core::event::ChangeEvent;
use tailwater_core::scope::Scope;
use tailwater_core::watch::Watch;
use tailwater_testkit::servers::Mongod;

use crate::watcher::{Watcher, now};

const DOCUMENTS: usize = 20;

async fn write(mongod: &Mongod, collections: usize) {
    let shop = mongod.client().await.unwrap().database("shop");
    let write = async |number: usize| {
        let things = shop.collection::<Document>(&format!("c{number}"));
        things.insert_many((0..DOCUMENTS).map(|id| doc! { "_id": id as i64 })).await.unwrap();
    };
    for first in (0..collections).step_by(20) {
        join_all((first..collections.min(first + 20)).map(write)).await;
    }
}

/// Checks that every document came once, in order.
fn judge(events: &[ChangeEvent], collections: usize) {
    let mut seen: BTreeMap<&[u8], Vec<i64>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.operation_type() == b"insert") {
        let key = Document::from_reader(event.document_key().unwrap().as_bytes()).unwrap();
        seen.entry(event.coll()).or_default().push(key.get_i64("_id").unwrap());
    }
    assert_eq!(seen.len(), collections);
    let all: Vec<i64> = (0..DOCUMENTS as i64).collect();
    assert!(seen.values().all(|ids| *ids == all), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_collections_come_in_one_stream() {
    const COLLECTIONS: usize = 200;
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let scopes = vec![Scope::Database("shop".into())];
    let mut watcher = Watcher::start(&mongod, scopes, Watch::default(), &begin).await;
    let (events, ()) =
        tokio::join!(watcher.read(COLLECTIONS * (DOCUMENTS + 1)), write(&mongod, COLLECTIONS));
    judge(&events.unwrap(), COLLECTIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_for_each_of_many_collections_takes_one_connection_each() {
    const COLLECTIONS: usize = 60;
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let entries = (0..COLLECTIONS).map(|number| format!("shop.c{number}"));
    let scopes: Vec<Scope> = entries.map(|entry| Scope::collection(&entry).unwrap()).collect();
    let mut watcher = Watcher::start(&mongod, scopes, Watch::default(), &begin).await;
    let (events, ()) =
        tokio::join!(watcher.read(COLLECTIONS * (DOCUMENTS + 1)), write(&mongod, COLLECTIONS));
    judge(&events.unwrap(), COLLECTIONS);
    let admin = mongod.client().await.unwrap().database("admin");
    let pipeline = vec![
        doc! { "$currentOp": { "allUsers": true, "idleConnections": true } },
        doc! { "$match": { "appName": "tailwater" } },
        doc! { "$count": "connections" },
    ];
    let mut counted = admin.aggregate(pipeline).await.unwrap();
    assert!(counted.advance().await.unwrap());
    let connections = counted.deserialize_current().unwrap().get_i32("connections").unwrap();
    assert!((1..=COLLECTIONS as i32 + 8).contains(&connections), "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_wait_for_another_to_recover_are_not_called_silent() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let scopes: Vec<Scope> =
        (0..2).map(|number| Scope::collection(&format!("shop.c{number}")).unwrap()).collect();
    write(&mongod, 1).await;
    let mut watcher = Watcher::start(&mongod, scopes, Watch::default(), &begin).await;
    assert_eq!(watcher.vitals.complaints().len(), 2);
    assert_eq!(watcher.read_exactly(&begin, DOCUMENTS).await.len(), DOCUMENTS);
    assert_eq!(watcher.vitals.complaints(), [""; 0]);
}
