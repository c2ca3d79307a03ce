//! The truth: every change of the deployment, read by an independent change stream.
//!
//! Never looks documents up, so nothing in an event depends on when it was read. A stream of the
//! whole deployment outlives what ends others: drops of collections and databases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bson::{Document, Timestamp, doc, oid::ObjectId};
use futures_util::TryStreamExt as _;
use mongodb::Client;
use mongodb::Cursor;
use mongodb::error::ErrorKind;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::contract::{self, Token};
use crate::watch::Watch;

/// The database of the markers that tell how far the truth has read. Never judged.
pub const MARKERS: &str = "testkit_markers";

/// How long a marker may be on its way, also where the server is away for a while.
const MARKER_DEADLINE: Duration = Duration::from_secs(300);
/// How long the server may be away before the truth gives up.
const SERVER_DEADLINE: Duration = Duration::from_secs(120);

/// One change, with the columns that the contract derives from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `idempotency_key`.
    pub key: String,
    /// `doc_id`.
    pub doc_id: String,
    /// `version`.
    pub version: u128,
    /// `op`.
    pub operation: String,
    /// `ns_db`.
    pub database: String,
    /// `ns_coll`.
    pub collection: String,
    /// `ts` in milliseconds since 1970.
    pub millis: i64,
    /// The whole change event, as an independent stream gave it (no looked-up document).
    pub document: Document,
}

impl Event {
    /// `db.coll`.
    pub fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }

    /// The resume token's text, which no other event has.
    pub fn token(&self) -> &str {
        let token = self.document.get_document("_id").and_then(|token| token.get_str("_data"));
        token.unwrap_or_default()
    }

    /// Whether one document was changed, and not the collection itself.
    pub fn concerns_a_document(&self) -> bool {
        self.document.contains_key("documentKey")
    }

    /// Where a `rename` goes: a database and a collection.
    pub fn renamed_to(&self) -> Option<(&str, &str)> {
        let to = self.document.get_document("to").ok()?;
        Some((to.get_str("db").ok()?, to.get_str("coll").ok()?))
    }

    /// Derives the columns of a change event.
    ///
    /// # Errors
    ///
    /// When it is no change event.
    pub fn of(document: Document) -> anyhow::Result<Self> {
        let token = document.get_document("_id")?.get_str("_data").context("no token")?;
        let token: Token = contract::decode_token(token)?;
        let operation = document.get_str("operationType")?.to_owned();
        let namespace = document.get_document("ns").cloned().unwrap_or_default();
        let database = namespace.get_str("db").unwrap_or_default().to_owned();
        let collection = namespace.get_str("coll").unwrap_or_default().to_owned();
        let doc_id = document.get_document("documentKey").map(contract::doc_id).unwrap_or_default();
        let millis = document.get_datetime("wallTime").map_or_else(
            |_| i64::from(token.time.time) * 1000,
            |wall_time| wall_time.timestamp_millis(),
        );
        let full_name = format!("{database}.{collection}");
        Ok(Self {
            key: contract::idempotency_key(&full_name, &doc_id, &operation, token),
            version: contract::version(token),
            doc_id,
            operation,
            database,
            collection,
            millis,
            document,
        })
    }
}

/// A running reader of the truth.
#[derive(Debug)]
pub struct Truth {
    client: Client,
    events: Arc<Mutex<Vec<Event>>>,
    id: ObjectId,
    markers: i64,
    last_marker: watch::Receiver<i64>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Truth {
    /// Opens the stream. Every later change will be in it.
    ///
    /// # Errors
    ///
    /// When the stream cannot be opened.
    pub async fn start(client: &Client) -> anyhow::Result<Self> {
        let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
        let mut time = hello.get_timestamp("operationTime").context("no operation time")?;
        time.increment += 1;
        let from = From::Time(time);
        let stream = open(client, &from).await.context("cannot open the truth's stream")?;
        let (seen, last_marker) = watch::channel(0);
        let id = ObjectId::new();
        let mut reader = Reader { client: client.clone(), events: Arc::default(), id, seen };
        let events = Arc::clone(&reader.events);
        let task = tokio::spawn(async move { reader.read(stream, from).await });
        Ok(Self { client: client.clone(), events, id, markers: 0, last_marker, task })
    }

    /// How many events there are so far, markers excluded.
    pub async fn len(&self) -> usize {
        self.events.lock().await.len()
    }

    /// How many of them a run brings that watches this.
    pub async fn len_of(&self, watch: &Watch) -> u64 {
        let events = self.events.lock().await;
        events.iter().filter(|event| watch.stream_of(event).is_some()).count() as u64
    }

    /// Whether there is no event yet.
    pub async fn is_empty(&self) -> bool {
        self.len().await == 0
    }

    /// All changes that were written before this call, in stream order.
    ///
    /// # Errors
    ///
    /// When the marker cannot be written, or the stream has failed.
    pub async fn up_to_now(&mut self) -> anyhow::Result<Vec<Event>> {
        self.markers += 1;
        let number = self.markers;
        let markers = self.client.database(MARKERS).collection::<Document>("markers");
        let marker = doc! { "reader": self.id, "number": number };
        markers.insert_one(marker).await.context("cannot write a marker")?;
        let seen = self.last_marker.wait_for(|seen| *seen >= number);
        let Ok(seen) = tokio::time::timeout(MARKER_DEADLINE, seen).await.map(|seen| seen.is_ok())
        else {
            let count = self.len().await;
            bail!("{count} events, and no marker behind them within {MARKER_DEADLINE:?}");
        };
        if !seen {
            match (&mut self.task).await? {
                Err(error) => return Err(error.context("the truth's stream has failed")),
                Ok(()) => bail!("the truth's stream has ended"),
            }
        }
        Ok(self.events.lock().await.clone())
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A plain cursor, not the driver's change stream: where it goes on is decided here alone, by the
/// tokens of the events that were taken. The driver's stream (3.9.1) forgets its token when it cannot
/// resume at once, and then goes on from now.
async fn open(client: &Client, from: &From) -> mongodb::error::Result<Cursor<Document>> {
    let mut options = doc! { "showExpandedEvents": true, "allChangesForCluster": true };
    match from {
        From::Time(time) => options.insert("startAtOperationTime", *time),
        From::Event(token) => options.insert("resumeAfter", token.clone()),
    };
    client
        .database("admin")
        .aggregate([doc! { "$changeStream": options }])
        .max_await_time(Duration::from_millis(200))
        .await
}

/// Where the truth reads on.
#[derive(Debug, Clone)]
enum From {
    /// At a time.
    Time(Timestamp),
    /// Behind an event.
    Event(Document),
}

struct Reader {
    client: Client,
    events: Arc<Mutex<Vec<Event>>>,
    id: ObjectId,
    seen: watch::Sender<i64>,
}

impl Reader {
    /// Reads for ever; ends only with an error.
    async fn read(&mut self, mut stream: Cursor<Document>, mut from: From) -> anyhow::Result<()> {
        let mut last_answer = Instant::now();
        loop {
            match stream.try_next().await {
                Ok(Some(document)) => {
                    last_answer = Instant::now();
                    from = From::Event(document.get_document("_id")?.clone());
                    self.take(document).await?;
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "the truth reopens its stream");
                    // What the server says of the stream itself does not pass by.
                    if matches!(*error.kind, ErrorKind::Command(ref command) if [280, 286].contains(&command.code))
                    {
                        return Err(error.into());
                    }
                }
            }
            let broken = Instant::now();
            stream = loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                match open(&self.client, &from).await {
                    Ok(stream) => break stream,
                    Err(error) if broken.elapsed() > SERVER_DEADLINE => {
                        let silence = last_answer.elapsed();
                        return Err(error).context(format!("silent for {} s", silence.as_secs()));
                    }
                    Err(error) => tracing::debug!(%error, "the server is away"),
                }
            };
        }
    }

    async fn take(&mut self, document: Document) -> anyhow::Result<()> {
        let event = Event::of(document)?;
        if event.database == MARKERS {
            // Others read this server too, and their markers would hide ours.
            let marker = event.document.get_document("fullDocument");
            if let Ok(marker) = marker
                && marker.get_object_id("reader")? == self.id
            {
                self.seen.send_replace(marker.get_i64("number")?);
            }
        } else {
            self.events.lock().await.push(event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Mongod;

    #[tokio::test(flavor = "multi_thread")]
    async fn truths_of_one_server_do_not_wait_for_each_others_markers() {
        let Some(mongod) = Mongod::start().await.unwrap() else { return };
        let client = mongod.client().await.unwrap();
        let read = async || {
            let mut truth = Truth::start(&client).await.unwrap();
            for _ in 0..200 {
                truth.up_to_now().await.unwrap();
            }
        };
        futures_util::join!(read(), read(), read(), read());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_truth_holds_every_change_also_after_a_restart_of_the_server() {
        let Some(mut mongod) = Mongod::start().await.unwrap() else { return };
        let client = mongod.client().await.unwrap();
        let mut truth = Truth::start(&client).await.unwrap();
        let things = client.database("d").collection::<Document>("things");
        things.insert_one(doc! { "_id": 1 }).await.unwrap();
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let add_one = doc! { "$inc": { "n": 1 } };
        for _ in 0..2 {
            things
                .update_one(doc! { "_id": 1 }, add_one.clone())
                .session(&mut session)
                .await
                .unwrap();
        }
        session.commit_transaction().await.unwrap();
        mongod.kill().unwrap();
        mongod.start_again().await.unwrap();
        things.delete_one(doc! { "_id": 1 }).await.unwrap();

        let events = truth.up_to_now().await.unwrap();
        let operations: Vec<&str> = events.iter().map(|event| event.operation.as_str()).collect();
        assert_eq!(operations, ["create", "insert", "update", "update", "delete"]);
        assert!(events.iter().all(|event| event.namespace() == "d.things"));
        assert!(events[1..].iter().all(|event| event.doc_id == "1"));
        assert!(events.is_sorted_by(|one, other| one.version < other.version));
        assert_eq!(events[3].key, format!("{}.1", events[2].key), "the second of a transaction");
    }
}
