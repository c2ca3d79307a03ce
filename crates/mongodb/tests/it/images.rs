//! The document before and after a change, and what is left out of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Database;
use tailwater_core::ErrorKind;
use tailwater_core::event::ChangeEvent;
use tailwater_core::scope::Scope;
use tailwater_core::watch::{BeforeChange, FullDocument, Watch};
use tailwater_mongodb::Server;
use tailwater_testkit::servers::Mongod;

use crate::watcher::{Watcher, now};

const DEADLINE: Duration = Duration::from_secs(60);

fn scopes() -> Vec<Scope> {
    vec![Scope::Database("shop".into())]
}

fn of<'e>(events: &'e [ChangeEvent], coll: &str, kind: &str) -> &'e ChangeEvent {
    let found = events
        .iter()
        .find(|event| event.coll() == coll.as_bytes() && event.operation_type() == kind.as_bytes());
    found.unwrap()
}

fn image(bytes: Option<tailwater_core::bson::Doc<'_>>) -> Option<Document> {
    bytes.map(|doc| Document::from_reader(doc.as_bytes()).unwrap())
}

/// The same changes in a collection that records images and in one that does not.
async fn write(shop: &Database) {
    let images = doc! { "enabled": true };
    let create = doc! { "create": "recorded", "changeStreamPreAndPostImages": images };
    shop.run_command(create).await.unwrap();
    for name in ["recorded", "plain"] {
        let things = shop.collection::<Document>(name);
        things.insert_one(doc! { "_id": 1, "x": 0 }).await.unwrap();
        things.update_one(doc! { "_id": 1 }, doc! { "$inc": { "x": 1 } }).await.unwrap();
        things.delete_one(doc! { "_id": 1 }).await.unwrap();
    }
    shop.collection("plain").insert_one(doc! { "_id": "end" }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_brings_its_images_and_only_a_failed_lookup_is_superseded() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    write(&mongod.client().await.unwrap().database("shop")).await;
    let read = async |full_document, before_change| {
        let watch = Watch { full_document, before_change, ..Watch::default() };
        // Two creates, three changes each, the end.
        Watcher::start(&mongod, scopes(), watch, &begin).await.read(9).await.unwrap()
    };

    let events = read(FullDocument::UpdateLookup, BeforeChange::Off).await;
    for coll in ["recorded", "plain"] {
        let update = of(&events, coll, "update");
        assert!(update.is_superseded() && !update.tells_state(), "it was deleted meanwhile");
        assert!(of(&events, coll, "delete").before().is_none());
        assert!(
            of(&events, coll, "delete").tells_state() && of(&events, coll, "insert").tells_state()
        );
    }
    let events = read(FullDocument::Default, BeforeChange::Off).await;
    let update = of(&events, "recorded", "update");
    assert!(update.full_document().is_none() && !update.is_superseded() && !update.tells_state());

    let events = read(FullDocument::WhenAvailable, BeforeChange::WhenAvailable).await;
    let (update, delete) = (of(&events, "recorded", "update"), of(&events, "recorded", "delete"));
    assert_eq!(image(update.full_document()), Some(doc! { "_id": 1, "x": 1 }));
    assert_eq!(image(update.before()), Some(doc! { "_id": 1, "x": 0 }));
    assert_eq!(image(delete.before()), Some(doc! { "_id": 1, "x": 1 }));
    let update = of(&events, "plain", "update");
    assert!(update.full_document().is_none() && !update.is_superseded() && !update.tells_state());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_required_and_missing_stops_with_the_command_that_records_images() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    write(&mongod.client().await.unwrap().database("shop")).await;
    let scope = |coll| vec![Scope::collection(coll).unwrap()];
    for (full_document, before_change) in [
        (FullDocument::Required, BeforeChange::Off),
        (FullDocument::UpdateLookup, BeforeChange::Required),
    ] {
        let watch = || Watch { full_document, before_change, ..Watch::default() };
        let mut watcher = Watcher::start(&mongod, scope("shop.plain"), watch(), &begin).await;
        let (_, error) = watcher.read_to_the_end().await;
        assert_eq!(error.kind(), ErrorKind::Unsuitable);
        assert!(error.hint().contains("collMod"), "{error}: {}", error.hint());
        let mut watcher = Watcher::start(&mongod, scope("shop.recorded"), watch(), &begin).await;
        assert_eq!(watcher.read(4).await.unwrap().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_field_is_in_no_byte_of_any_event() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let begin = now(&mongod).await;
    let shop = mongod.client().await.unwrap().database("shop");
    let images = doc! { "enabled": true };
    let create = doc! { "create": "things", "changeStreamPreAndPostImages": images };
    shop.run_command(create).await.unwrap();
    let things = shop.collection::<Document>("things");
    let parts = |count: i32| -> Vec<Bson> {
        (0..count).map(|n| doc! { "n": n, "pin": "SECRET", "blob": ["SECRET"] }.into()).collect()
    };
    let user = doc! { "name": "ada", "pin": "SECRET" };
    things
        .insert_one(doc! { "_id": 1, "user": &user, "parts": parts(3), "payload": "SECRET" })
        .await
        .unwrap();
    for change in [
        doc! { "$set": { "payload.x": 1 } },
        doc! { "$set": { "user.pin": "SECRET 2", "user.name": "eve" } },
        doc! { "$set": { "user": { "name": "bob", "pin": "SECRET" } } },
        doc! { "$set": { "parts.1.pin": "SECRET", "parts.1.n": 7 } },
        doc! { "$push": { "parts": { "n": 9, "pin": "SECRET", "blob": [] } } },
        doc! { "$set": { "parts.2": { "n": 8, "pin": "SECRET" } } },
        doc! { "$unset": { "user.pin": 1, "payload": 1 } },
    ] {
        // The first does not fit the document, and changes nothing.
        drop(things.update_one(doc! { "_id": 1 }, change).await);
    }
    let pipeline =
        vec![doc! { "$set": { "parts": { "$slice": ["$parts", 2] }, "payload": "SECRET" } }];
    things.update_one(doc! { "_id": 1 }, pipeline).await.unwrap();
    things.delete_one(doc! { "_id": 1 }).await.unwrap();

    let excluded = ["payload", "user.pin", "parts.pin", "parts.blob"].map(str::to_owned).to_vec();
    let watch = Watch {
        before_change: BeforeChange::WhenAvailable,
        full_document: FullDocument::WhenAvailable,
        exclude_fields: BTreeMap::from([("shop.things".to_owned(), excluded)]),
        ..Watch::default()
    };
    let mut watcher = Watcher::start(&mongod, scopes(), watch, &begin).await;
    // The create, the insert, six updates by operators and one by a pipeline, the delete.
    let events = watcher.read(10).await.unwrap();
    assert_eq!(events.len(), 10);
    for event in &events {
        let text = Document::from_reader(&event.bytes()[..]).unwrap().to_string();
        for hidden in ["SECRET", "pin", "payload", "blob"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    assert_eq!(
        image(events[1].full_document()),
        Some(
            doc! { "_id": 1, "user": { "name": "ada" }, "parts": [{ "n": 0 }, { "n": 1 }, { "n": 2 }] }
        )
    );
    let before = image(events[9].before()).unwrap();
    assert_eq!(
        before,
        doc! { "_id": 1, "user": { "name": "bob" }, "parts": [{ "n": 0 }, { "n": 7 }] }
    );
    let delta = |event: &ChangeEvent| {
        let event = Document::from_reader(&event.bytes()[..]).unwrap();
        event
            .get_document("updateDescription")
            .unwrap()
            .get_document("updatedFields")
            .unwrap()
            .clone()
    };
    assert_eq!(delta(&events[2]), doc! { "user.name": "eve" });
    assert_eq!(delta(&events[3]), doc! { "user": { "name": "bob" } });
    assert_eq!(delta(&events[4]), doc! { "parts.1.n": 7 });
    assert_eq!(delta(&events[5]), doc! { "parts.3": { "n": 9 } });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_records_no_images_is_named_before_anything_runs() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let client = mongod.client().await.unwrap();
    write(&client.database("shop")).await;
    let view = doc! { "create": "view", "viewOn": "plain", "pipeline": [] };
    client.database("shop").run_command(view).await.unwrap();
    client.database("other").collection("things").insert_one(doc! {}).await.unwrap();
    let server = Server::connect(&mongod.uri(), 1, DEADLINE).await.unwrap();
    let missing = async |scopes: &[Scope]| server.without_images(scopes).await.unwrap();
    assert_eq!(missing(&scopes()).await, ["shop.plain"]);
    assert_eq!(missing(&[Scope::collection("shop.r*").unwrap()]).await, Vec::<String>::new());
    assert_eq!(missing(&[Scope::Deployment]).await, ["other.things", "shop.plain"]);
    assert_eq!(missing(&[Scope::collection("*.t*").unwrap()]).await, ["other.things"]);
    let oplog = server.oplog().await.unwrap().unwrap();
    assert!(oplog.is_whole, "{oplog:?}");
}
