//! The first connection: a server that can be reached, that lets us in, and that has change
//! streams.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, Timestamp, doc};
use mongodb::Client;
use mongodb::options::{ClientOptions, ReadConcern};
use tailwater_core::position::{Position, Seq};
use tailwater_core::{Error, ErrorKind, Result};
use tracing::info;

use crate::bookmark::{Bookmark, Place};
use crate::classify::{Phase, STANDALONE_HINT, classify};
use crate::history::Clock;
use crate::streams::Start;

/// A MongoDB that answered once.
#[derive(Debug, Clone)]
pub struct Server {
    pub(crate) client: Client,
    /// It cuts events that are too large into fragments.
    pub(crate) splits: bool,
    sharded: bool,
    about: Arc<About>,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Where it is, `host:port` each, with commas between.
    pub hosts: String,
    /// The name of its replica set; `None` behind a `mongos`.
    pub replica_set: Option<String>,
    /// Its version.
    pub version: String,
}

/// No first connection within this time ends the run.
pub const DEFAULT_FIRST_CONNECTION: Duration = Duration::from_secs(30);

impl Server {
    /// Connects, with room for so many streams, and checks that change streams are to be had.
    ///
    /// # Errors
    /// `Config` for a URI that cannot be used, `Unreachable` after `patience`, `Unauthorized`,
    /// and `Unsuitable` for a standalone server, with the lines that make it a replica set.
    pub async fn connect(uri: &str, streams: usize, patience: Duration) -> Result<Self> {
        let mut options = ClientOptions::parse(uri).await.map_err(|error| {
            Error::new(ErrorKind::Config, "cannot use the MongoDB connection string")
                .with_source(without_credentials(error.kind.to_string(), uri))
                .with_hint(
                    "it looks like mongodb://user:password@host:27017/?replicaSet=rs0, with \
                     special characters of the password percent-encoded",
                )
        })?;
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let hosts = hosts.join(",");
        options.app_name.get_or_insert_with(|| "tailwater".to_owned());
        options.server_selection_timeout.get_or_insert(patience);
        // A quiet stream holds a connection while the server waits for news.
        let connections = u32::try_from(streams).unwrap_or(u32::MAX).saturating_add(8);
        options.max_pool_size = Some(options.max_pool_size.unwrap_or(0).max(connections));
        options.connect_timeout.get_or_insert(Duration::from_secs(10));
        // What a change stream reads is committed by a majority, whatever the URI says.
        options.read_concern = Some(ReadConcern::majority());
        let what = format!("cannot connect to MongoDB at `{hosts}`");
        let client = Client::with_options(options)
            .map_err(|error| classify(&error, Phase::Connect, &what))?;
        let hello: Document = tokio::time::timeout(patience, async {
            client.database("admin").run_command(doc! { "hello": 1 }).await
        })
        .await
        .map_err(|_| {
            let seconds = patience.as_secs();
            Error::new(ErrorKind::Unreachable, format!("{what}: no answer within {seconds} s"))
        })?
        .map_err(|error| classify(&error, Phase::Connect, &what))?;
        let set = hello.get_str("setName").ok();
        let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        if set.is_none() && !sharded {
            let why = format!("MongoDB at `{hosts}` is a standalone server");
            return Err(Error::new(ErrorKind::Unsuitable, why).with_hint(STANDALONE_HINT));
        }
        let build: Document = client
            .database("admin")
            .run_command(doc! { "buildInfo": 1 })
            .await
            .map_err(|error| classify(&error, Phase::Connect, &what))?;
        let version = build.get_str("version").unwrap_or_default();
        info!(hosts, replica_set = set, sharded, version, "connected to mongodb");
        let splits = splits_large_events(version);
        let (replica_set, version) = (set.map(str::to_owned), version.to_owned());
        let about = Arc::new(About { hosts, replica_set, version });
        Ok(Self { client, splits, sharded, about })
    }

    /// What it said of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// A server that was asked nothing yet.
    #[cfg(test)]
    pub(crate) fn unasked(client: Client) -> Self {
        Self { client, splits: false, sharded: false, about: Arc::default() }
    }

    /// What the cluster says of itself now.
    pub(crate) async fn clock(&self, phase: Phase) -> Result<Clock> {
        let what = "cannot ask MongoDB for its time";
        let mut command = doc! { "hello": 1 };
        if !self.sharded {
            // Adds the replica set's id, which `replSetGetConfig` tells only to an administrator.
            command.insert("$replData", 1);
        }
        let admin = self.client.database("admin");
        let asked = admin.run_command(command);
        let reply = tokio::time::timeout(DEFAULT_FIRST_CONNECTION, async { asked.await })
            .await
            .map_err(|_| Error::new(ErrorKind::Unreachable, format!("{what}: no answer")))?
            .map_err(|error| classify(&error, phase, what))?;
        let replica_set =
            reply.get_document("$replData").and_then(|set| set.get_object_id("replicaSetId"));
        // A `mongos` that has just started knows of no time yet.
        let time = reply.get_timestamp("operationTime").ok().filter(|_| !self.sharded);
        Ok(Clock { time, replica_set: replica_set.ok() })
    }

    /// Where streams without a checkpoint begin.
    ///
    /// # Errors
    /// Those of asking the server; `Unsuitable` when it cannot tell.
    pub async fn origin(&self, start: Start) -> Result<Position> {
        let time = match start {
            Start::Now => self.now().await?,
            Start::Oldest => self.oldest().await?,
            Start::At(seconds) => Timestamp { time: seconds, increment: 0 },
        };
        let replica_set = self.clock(Phase::Connect).await?.replica_set;
        let place = Place::At(time);
        let bookmark = Bookmark { place, operations: None, reading: None, replica_set };
        Ok(Position { seq: Seq::ZERO, cursor: bookmark.encode() })
    }

    /// The moment just behind everything that has happened so far.
    pub(crate) async fn now(&self) -> Result<Timestamp> {
        let what = "cannot ask MongoDB for its time";
        let reply = self
            .client
            .database("admin")
            .run_command(doc! { "hello": 1 })
            .await
            .map_err(|error| classify(&error, Phase::Connect, what))?;
        let time = reply.get_timestamp("operationTime").map_err(|error| {
            Error::new(ErrorKind::Unsuitable, format!("{what}: it tells no operation time"))
                .with_source(error)
        })?;
        Ok(match time.increment.checked_add(1) {
            Some(increment) => Timestamp { time: time.time, increment },
            None => Timestamp { time: time.time + 1, increment: 0 },
        })
    }

    /// The oldest moment that the oplog still holds.
    pub(crate) async fn oldest(&self) -> Result<Timestamp> {
        let first = self.first_entry().await?;
        first.and_then(|entry| entry.get_timestamp("ts").ok()).ok_or_else(|| {
            let what = format!("{OPLOG}: it holds no entry with a time");
            Error::new(ErrorKind::Unsuitable, what)
                .with_hint("give the start as a time, `--start 2026-01-31T12:00:00Z`")
        })
    }

    /// When the oldest entry of the oplog was made, and what it says where it is a message.
    pub(crate) async fn first_entry(&self) -> Result<Option<Document>> {
        let oplog = self.client.database("local").collection::<Document>("oplog.rs");
        oplog
            .find_one(doc! {})
            .sort(doc! { "$natural": 1 })
            .projection(doc! { "ts": 1, "o.msg": 1 })
            .read_concern(ReadConcern::local())
            .await
            .map_err(|error| classify(&error, Phase::Connect, OPLOG))
    }
}

const OPLOG: &str = "cannot read the start of the oplog";

/// `$changeStreamSplitLargeEvent` came with 7.0, and was put into 6.0.9; not into what lies between.
fn splits_large_events(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().unwrap_or(0_u32));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (6, 0, patch) => patch >= 9,
        (major, _, _) => major >= 7,
    }
}

/// The driver quotes what it cannot parse, and that may be a part of the password.
fn without_credentials(mut text: String, uri: &str) -> String {
    let Some((credentials, _)) =
        uri.split_once("://").map_or(uri, |(_, rest)| rest).rsplit_once('@')
    else {
        return text;
    };
    let password = credentials.split_once(':').map_or(credentials, |(_, password)| password);
    let mut parts: Vec<&str> = password.split([':', '@', '/', '?', '#']).collect();
    parts.extend([credentials, password]);
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        text = text.replace(part, "…");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_events_are_split_from_6_0_9_and_7_0_on() {
        for (version, splits) in [
            ("5.0.30", false),
            ("6.0.5", false),
            ("6.0.9", true),
            ("6.0.19-rc1", true),
            ("6.3.2", false),
            ("7.0.0", true),
            ("8.2.1", true),
            ("", false),
        ] {
            assert_eq!(splits_large_events(version), splits, "{version}");
        }
    }

    #[tokio::test]
    async fn a_wrong_uri_is_refused_without_its_password() {
        for uri in [
            "mongodb://me:hunter2:x@host/",
            "mongodb://me:hunt@er2@host/",
            "mongodb://me:hunter2/x@host:port/",
            "mongo://me:hunter2@host/",
            "mongodb://me:hunter2@host:99999/?x=1",
            "hunter2",
        ] {
            let error = Server::connect(uri, 1, Duration::from_secs(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{uri}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            for secret in ["hunter2", "hunt", "er2"] {
                assert!(uri == "hunter2" || !cause.contains(secret), "{uri}: {cause}");
            }
        }
    }
}
