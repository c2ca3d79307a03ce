//! Streams over more than one collection, and what ends collections: every change has its row, and
//! the current state follows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use tailwater_pipeline::failpoint;
use tailwater_testkit::servers::{Engine, Exit, Mongod, Tailwater};

const DEADLINE: Duration = Duration::from_secs(60);

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// Two collections that match `job_*` and two that do not; drops, a rename, an index.
async fn write(client: &Client) {
    let shop = client.database("shop");
    let collection = |name: &str| shop.collection::<Document>(name);
    for name in ["job_a", "job_b", "one", "other"] {
        let documents = (0..3).map(|id| doc! { "_id": id, "from": name });
        collection(name).insert_many(documents).await.unwrap();
    }
    collection("one").drop().await.unwrap();
    collection("one").insert_one(doc! { "_id": 1, "from": "again" }).await.unwrap();
    let rename = doc! { "renameCollection": "shop.job_a", "to": "shop.job_c" };
    client.database("admin").run_command(rename).await.unwrap();
    collection("job_c").update_one(doc! { "_id": 0 }, doc! { "$set": { "x": 1 } }).await.unwrap();
    collection("job_a").insert_one(doc! { "_id": 9 }).await.unwrap();
    collection("one").drop().await.unwrap();
    collection("one").insert_one(doc! { "_id": 2, "from": "third" }).await.unwrap();
}

/// The answer, or the error: a table is made with its first row.
async fn ask(url: &str, sql: &str) -> String {
    let client = clickhouse::Client::default().with_url(url);
    let mut answer = client.query(sql).fetch_bytes("TabSeparated").unwrap();
    match answer.collect().await {
        Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    }
}

/// Asks until the answer is what is wanted.
async fn expect(url: &str, sql: &str, wanted: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ask(url, sql).await;
        if answer == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}\n{answer}\nwanted\n{wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs with what to watch, writes once `topics` streams are there, and gives the address of
/// ClickHouse and all that must live on.
async fn run(
    watch: &[&str],
    streams: usize,
) -> Option<(String, (Mongod, Engine, Tailwater, tempfile::TempDir))> {
    let home = tempfile::tempdir().unwrap();
    let mongod = Mongod::start().await.unwrap()?;
    let engine = Engine::start(binary(), &home.path().join("engine")).await.unwrap()?;
    let url = format!("http://{}", engine.address());
    let state = home.path().join("state");
    let mut arguments: Vec<String> =
        ["run", "--source", &mongod.uri(), "--target", &url].map(str::to_owned).to_vec();
    arguments.extend(["--state".to_owned(), state.display().to_string()]);
    arguments.extend(watch.iter().map(|word| (*word).to_owned()));
    let log = home.path().join("log");
    let tailwater = Tailwater::start(binary(), &arguments, &log).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while tailwater.log().matches("stream begins").count() < streams {
        assert!(Instant::now() < deadline, "{}", tailwater.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    write(&mongod.client().await.unwrap()).await;
    Some((url, (mongod, engine, tailwater, home)))
}

const STATE_OF_ONE: &str = "SELECT _id, doc.from FROM shop__one_current ORDER BY _id";
const STATE_OF_JOB_A: &str = "SELECT _id FROM shop__job_a_current ORDER BY _id";
const STATE_OF_JOB_C: &str = "SELECT _id, doc.from, doc.x FROM shop__job_c_current ORDER BY _id";
const JOB_C: &str = "0\tjob_a\t1\n1\tjob_a\t\\N\n2\tjob_a\t\\N\n";
const OPERATIONS: &str =
    "SELECT op, count(), uniqExact(idempotency_key) FROM record_raw GROUP BY op ORDER BY op";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_watched_as_one_stream() {
    let Some((url, _alive)) = run(&["--databases", "shop"], 1).await else { return };
    expect(
        &url,
        OPERATIONS,
        "create\t7\t7\ndrop\t2\t2\ninsert\t15\t15\nrename\t1\t1\nupdate\t1\t1\n",
    )
    .await;
    expect(&url, STATE_OF_ONE, "2\tthird\n").await;
    expect(&url, STATE_OF_JOB_A, "9\n").await;
    expect(&url, STATE_OF_JOB_C, JOB_C).await;
    expect(&url, "SELECT count() FROM shop__other_current", "3\n").await;
    expect(&url, "SELECT DISTINCT _topic FROM record_raw", "shop\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_is_one_stream_and_a_dropped_collection_is_watched_on() {
    let watch = ["--collections", "shop.job_*,shop.one"];
    let Some((url, _alive)) = run(&watch, 2).await else { return };
    expect(
        &url,
        "SELECT _topic, op, count() FROM record_raw GROUP BY ALL ORDER BY ALL",
        "shop.job_*\tcreate\t3\nshop.job_*\tinsert\t7\nshop.job_*\trename\t1\nshop.job_*\tupdate\t1\n\
         shop.one\tcreate\t3\nshop.one\tdrop\t2\nshop.one\tinsert\t5\n",
    )
    .await;
    expect(&url, STATE_OF_ONE, "2\tthird\n").await;
    expect(&url, STATE_OF_JOB_A, "9\n").await;
    expect(&url, STATE_OF_JOB_C, JOB_C).await;
    expect(&url, "SELECT count() FROM system.tables WHERE name LIKE 'shop\\_\\_other%'", "0\n")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_watched_as_one_stream() {
    let Some((url, _alive)) = run(&["--deployment"], 1).await else { return };
    expect(&url, STATE_OF_ONE, "2\tthird\n").await;
    expect(&url, STATE_OF_JOB_C, JOB_C).await;
    expect(&url, "SELECT DISTINCT _topic FROM record_raw", "deployment\n").await;
}

/// Runs by a config file that lists some kinds and leaves out some fields.
fn run_listing(home: &Path, mongod: &Mongod, url: &str, operations: &str) -> Tailwater {
    let arguments = listing(home, mongod, url, operations);
    Tailwater::start(binary(), &arguments, &home.join("log")).unwrap()
}

/// The same, until the first Range is declared.
async fn die_listing(
    home: &Path,
    mongod: &Mongod,
    url: &str,
    operations: &str,
    meanwhile: impl AsyncFnOnce(),
) {
    let before = std::fs::read_to_string(home.join("log")).unwrap_or_default();
    let mut arguments = vec![format!("{}={}", failpoint::VARIABLE, failpoint::DECLARED)];
    arguments.push(binary().display().to_string());
    arguments.extend(listing(home, mongod, url, operations));
    let mut tailwater = Tailwater::start(Path::new("env"), &arguments, &home.join("log")).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while tailwater.log()[before.len()..].matches("stream goes on").count() == 0 {
        assert!(Instant::now() < deadline, "{}", tailwater.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    meanwhile().await;
    assert_eq!(tailwater.wait(DEADLINE).await.unwrap(), Exit::Signal);
}

fn listing(home: &Path, mongod: &Mongod, url: &str, operations: &str) -> Vec<String> {
    let file = home.join("tailwater.yaml");
    let text = format!(
        "version: 1\nmongodb:\n  uri: \"{}\"\n  databases: [shop]\n  operations: [{operations}]\n  \
         exclude_fields: {{ shop.users: [pin, cards.number] }}\n  \
         full_document_before_change: whenAvailable\nclickhouse: {{ url: \"{url}\" }}\nstate: {}\n",
        mongod.uri(),
        home.join("state").display(),
    );
    std::fs::write(&file, text).unwrap();
    ["run".to_owned(), "-c".to_owned(), file.display().to_string()].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_has_rows_what_is_excluded_is_nowhere_and_both_may_change() {
    let home = tempfile::tempdir().unwrap();
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let engine = Engine::start(binary(), &home.path().join("engine")).await.unwrap();
    let Some(engine) = engine else { return };
    let url = format!("http://{}", engine.address());
    let shop = mongod.client().await.unwrap().database("shop");
    let (users, old) = (shop.collection::<Document>("users"), shop.collection("old"));
    let images = doc! { "enabled": true };
    let create = doc! { "create": "users", "changeStreamPreAndPostImages": images };
    shop.run_command(create).await.unwrap();

    let mut tailwater =
        run_listing(home.path(), &mongod, &url, "insert, update, replace, delete, createIndexes");
    let deadline = Instant::now() + DEADLINE;
    while !tailwater.log().contains("stream begins") {
        assert!(Instant::now() < deadline, "{}", tailwater.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let cards = [doc! { "number": "SECRET", "kind": "visa" }];
    let user = doc! { "name": "ada", "pin": "SECRET", "cards": &cards[..] };
    for id in 0..3 {
        let mut user = user.clone();
        user.insert("_id", id);
        users.insert_one(user).await.unwrap();
        old.insert_one(doc! { "_id": id }).await.unwrap();
    }
    let change = doc! { "$set": { "cards.0.number": "SECRET 2", "cards.0.kind": "amex" } };
    users.update_one(doc! { "_id": 0 }, change).await.unwrap();
    old.drop().await.unwrap();
    let index =
        doc! { "createIndexes": "users", "indexes": [{ "key": { "name": 1 }, "name": "n" }] };
    shop.run_command(index).await.unwrap();
    expect(&url, OPERATIONS, "createIndexes\t1\t1\ninsert\t6\t6\nupdate\t1\t1\n").await;
    expect(&url, "SELECT count() FROM shop__old_current", "0\n").await;
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));

    // The last event that was read is of a kind that is not listed any more.
    users.update_one(doc! { "_id": 1 }, doc! { "$set": { "name": "bob" } }).await.unwrap();
    users.delete_one(doc! { "_id": 0 }).await.unwrap();
    old.insert_one(doc! { "_id": 9 }).await.unwrap();
    let mut tailwater =
        run_listing(home.path(), &mongod, &url, "insert, update, replace, delete, drop");
    old.drop().await.unwrap();
    let listed = "createIndexes\t1\t1\ndelete\t1\t1\ndrop\t1\t1\ninsert\t7\t7\nupdate\t2\t2\n";
    expect(&url, OPERATIONS, listed).await;
    assert!(tailwater.log().contains("going on from the time"), "{}", tailwater.log_tail());
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));

    let secrets = "SELECT countIf(position(raw, 'SECRET') > 0 OR position(toString(attrs), 'SECRET') > 0) \
                   FROM record_raw";
    expect(&url, secrets, "0\n").await;
    let documents = "SELECT countIf(position(_bson, 'SECRET') > 0 OR position(toString(doc), 'SECRET') > 0), \
                     countIf(position(_bson, 'kind') > 0) > 0 FROM shop__users";
    expect(&url, documents, "0\t1\n").await;
}

/// The bookmark before a Range names the kinds that led to it; the Range may be of others.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_range_is_read_again_as_it_was_declared_where_other_kinds_are_listed_since() {
    let home = tempfile::tempdir().unwrap();
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let engine = Engine::start(binary(), &home.path().join("engine")).await.unwrap();
    let Some(engine) = engine else { return };
    let url = format!("http://{}", engine.address());
    let users = mongod.client().await.unwrap().database("shop").collection::<Document>("users");
    let insert = async |id: &str| {
        users.insert_one(doc! { "_id": id }).await.unwrap();
    };
    let update = doc! { "$inc": { "x": 1 } };

    // From the beginning of a stream on: a `create` and an update that are not listed.
    die_listing(home.path(), &mongod, &url, "insert, delete", async || {
        insert("a").await;
        users.update_one(doc! { "_id": "a" }, update.clone()).await.unwrap();
    })
    .await;
    let mut tailwater = run_listing(home.path(), &mongod, &url, "insert, delete");
    insert("b").await;
    expect(&url, OPERATIONS, "insert\t2\t2\n").await;
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));

    // From a bookmark on that was reached without updates.
    insert("c").await;
    users.update_one(doc! { "_id": "a" }, update).await.unwrap();
    insert("d").await;
    insert("e").await;
    let all = "insert, update, delete";
    die_listing(home.path(), &mongod, &url, all, async || {}).await;
    let mut tailwater = run_listing(home.path(), &mongod, &url, all);
    expect(&url, OPERATIONS, "insert\t5\t5\nupdate\t1\t1\n").await;
    assert!(!tailwater.log().contains("as_declared=false"), "{}", tailwater.log_tail());
    assert_eq!(tailwater.terminate(DEADLINE).await.unwrap(), Exit::Code(0));
}
