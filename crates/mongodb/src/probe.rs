//! Probe: looks at a server as a run would find it, and reads nothing of what is in it.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use mongodb::results::CollectionType;
use tailwater_core::check::flow::Oplog;
use tailwater_core::scope::{Scope, is_pattern};
use tailwater_core::token::ClusterTime;
use tailwater_core::watch::Watch;
use tailwater_core::{Error, ErrorKind, Result};

use crate::Server;
use crate::bookmark::Place;
use crate::classify::{IMAGES_HINT, Phase, classify};
use crate::reader;
use crate::request::{Pace, Request};

/// Databases that no stream tells of.
const INTERNAL: [&str; 3] = ["admin", "config", "local"];

impl Server {
    /// Opens each change stream where the cluster is now, as a run does, and closes it again.
    ///
    /// # Errors
    /// Those of opening the first that cannot be opened.
    pub async fn try_streams(&self, scopes: &[Scope], watch: &Watch) -> Result<()> {
        let place = Place::At(self.now().await?);
        let all: Arc<[Scope]> = scopes.into();
        for scope in scopes {
            let request = Request::new(scope.clone(), &all, watch, &Arc::default());
            let opened = reader::open(self, &request, &place, Pace::Full, Phase::Open).await;
            opened.map_err(|failure| failure.error)?;
        }
        Ok(())
    }

    /// What the oplog holds; `None` behind a `mongos`, where each shard has its own.
    ///
    /// # Errors
    /// Those of asking: it takes the right to read `local`.
    pub async fn oplog(&self) -> Result<Option<Oplog>> {
        if self.about().replica_set.is_none() {
            return Ok(None);
        }
        let first = self.first_entry().await?.unwrap_or_default();
        let Ok(time) = first.get_timestamp("ts") else { return Ok(None) };
        // The first thing that a replica set ever does.
        let message = first.get_document("o").and_then(|entry| entry.get_str("msg"));
        let is_whole = message.is_ok_and(|message| message == "initiating set");
        let first = ClusterTime { seconds: time.time, increment: time.increment };
        Ok(Some(Oplog { first, is_whole }))
    }

    /// The watched collections that are there and record no images.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn without_images(&self, scopes: &[Scope]) -> Result<Vec<String>> {
        let what = "cannot ask MongoDB for its collections";
        let failed = |error| classify(&error, Phase::Connect, what);
        let named = |scope: &Scope| match scope {
            Scope::Collection { db, .. } | Scope::Database(db) => Some(db.clone()),
            Scope::Pattern { db, .. } if !is_pattern(db) => Some(db.clone()),
            Scope::Pattern { .. } | Scope::Deployment => None,
        };
        let named: Option<Vec<String>> = scopes.iter().map(named).collect();
        let mut databases = match named {
            Some(named) => named,
            None => self.client.list_database_names().await.map_err(failed)?,
        };
        databases.sort();
        databases.dedup();
        let mut found = Vec::new();
        for db in databases.iter().filter(|db| !INTERNAL.contains(&db.as_str())) {
            let list = self.client.database(db).list_collections().await.map_err(failed)?;
            let list: Vec<_> = list.try_collect().await.map_err(failed)?;
            for collection in list {
                let is_plain = matches!(collection.collection_type, CollectionType::Collection);
                let images = collection.options.change_stream_pre_and_post_images;
                let records = images.is_some_and(|images| images.enabled);
                let watched = scopes.iter().any(|scope| scope.covers(db, &collection.name));
                if is_plain && watched && !records && !collection.name.starts_with("system.") {
                    found.push(format!("{db}.{}", collection.name));
                }
            }
        }
        Ok(found)
    }
}

/// The error of collections whose images a run needs.
pub fn no_images(collections: &[String]) -> Error {
    let names = collections.join("`, `");
    Error::new(ErrorKind::Unsuitable, format!("`{names}`: no images are recorded"))
        .with_hint(IMAGES_HINT)
}
