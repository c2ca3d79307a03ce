//! Probes of MongoDB: what a run asks of it before it begins.

use secrecy::ExposeSecret as _;
use tailwater_core::check::flow::Oplog;
use tailwater_core::check::{End, Probe, Verdict};
use tailwater_core::config::{Config, MongoDb};
use tailwater_core::watch::{BeforeChange, FullDocument};
use tailwater_mongodb::{Server, connect, probe as look};

use super::failed;

const END: End = End::MongoDb;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) probes: Vec<Probe>,
    pub(super) oplog: Option<Oplog>,
}

pub(super) async fn probe(config: &Config) -> Found {
    let mut found = Found::default();
    let Some(mongodb) = &config.mongodb else { return found };
    let MongoDb { uri, scopes, watch } = mongodb;
    let probes = &mut found.probes;
    let patience = connect::DEFAULT_FIRST_CONNECTION;
    let server = match Server::connect(uri.expose_secret(), scopes.len(), patience).await {
        Ok(server) => server,
        Err(error) => {
            probes.push(failed(END, "server", &error));
            return found;
        }
    };
    let connect::About { hosts, replica_set, version } = server.about();
    let kind = match replica_set {
        Some(name) => format!("the replica set `{name}`"),
        None => "a sharded cluster".to_owned(),
    };
    probes.push(Probe::ok(END, "server", format!("MongoDB {version}, {kind} at `{hosts}`")));
    probes.push(match server.try_streams(scopes, watch).await {
        Ok(()) => {
            let entries: Vec<String> =
                scopes.iter().map(|it| format!("`{}`", it.entry())).collect();
            Probe::ok(END, "change streams", format!("{} can be opened", entries.join(", ")))
        }
        Err(error) => failed(END, "change streams", &error),
    });
    let must = watch.full_document == FullDocument::Required
        || watch.before_change == BeforeChange::Required;
    let may = watch.full_document == FullDocument::WhenAvailable
        || watch.before_change == BeforeChange::WhenAvailable;
    if must || may {
        let what = "recorded images";
        probes.push(match server.without_images(scopes).await {
            Ok(none) if none.is_empty() => {
                Probe::ok(END, what, "every watched collection records them")
            }
            Ok(some) => {
                let verdict = if must { Verdict::Fail } else { Verdict::Warn };
                Probe::of_error(END, what, verdict, &look::no_images(&some))
            }
            Err(error) => Probe::of_error(END, what, Verdict::Warn, &error),
        });
    }
    match server.oplog().await {
        Ok(oplog) => found.oplog = oplog,
        // A run needs no right to it.
        Err(error) => {
            let text = tailwater_core::check::told(&error);
            let mend =
                "to know how long a run may be away, give the user the role `read` on `local`";
            found.probes.push(Probe::warn(END, "oplog", format!("unknown: {text}"), mend));
        }
    }
    found
}
