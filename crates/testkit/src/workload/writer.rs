//! One writer: picks what to do next, does it, and knows which answers are part of the game.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::action::Action as _;
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::{Client, ClientSession, Collection};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::{Leave, Tally, documents};

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) collections: Vec<Collection<Document>>,
    pub(super) ids: Vec<Bson>,
    pub(super) random: StdRng,
    pub(super) max_pause_ms: u64,
    pub(super) tally: Tally,
}

/// What became of a write.
pub(super) enum Outcome {
    Done,
    /// Nothing matched, or the document was there already, or another writer was first, or the
    /// collection is just now something else.
    Nothing,
    /// The server was away.
    Unknown,
}

pub(super) fn judge<T>(result: mongodb::error::Result<T>) -> mongodb::error::Result<Outcome> {
    match result {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if lost_a_race(&error) => Ok(Outcome::Nothing),
        Err(error) if server_away(&error) => Ok(Outcome::Unknown),
        Err(error) => Err(error),
    }
}

fn lost_a_race(error: &Error) -> bool {
    const DUPLICATE_KEY: i32 = 11_000;
    const WRITE_CONFLICT: i32 = 112;
    const NO_SUCH_TRANSACTION: i32 = 251;
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(failure)) => {
            failure.code == DUPLICATE_KEY || is_under_change(failure.code)
        }
        ErrorKind::Command(failure) => {
            [DUPLICATE_KEY, WRITE_CONFLICT, NO_SUCH_TRANSACTION].contains(&failure.code)
                || is_under_change(failure.code)
        }
        _ => false,
    }
}

/// What the server says while collections come, go, and change their names.
fn is_under_change(code: i32) -> bool {
    const ILLEGAL_OPERATION: i32 = 20;
    const NAMESPACE_NOT_FOUND: i32 = 26;
    const INDEX_NOT_FOUND: i32 = 27;
    const NAMESPACE_EXISTS: i32 = 48;
    const COMMAND_FAILED: i32 = 125;
    const QUERY_PLAN_KILLED: i32 = 175;
    const DATABASE_DROP_PENDING: i32 = 215;
    const OPERATION_NOT_SUPPORTED_IN_TRANSACTION: i32 = 263;
    const INDEX_BUILD_ABORTED: i32 = 276;
    const BACKGROUND_OPERATION_IN_DATABASE: i32 = 12_586;
    const BACKGROUND_OPERATION_IN_COLLECTION: i32 = 12_587;
    [
        ILLEGAL_OPERATION,
        NAMESPACE_NOT_FOUND,
        INDEX_NOT_FOUND,
        NAMESPACE_EXISTS,
        COMMAND_FAILED,
        QUERY_PLAN_KILLED,
        DATABASE_DROP_PENDING,
        OPERATION_NOT_SUPPORTED_IN_TRANSACTION,
        INDEX_BUILD_ABORTED,
        BACKGROUND_OPERATION_IN_DATABASE,
        BACKGROUND_OPERATION_IN_COLLECTION,
    ]
    .contains(&code)
}

fn server_away(error: &Error) -> bool {
    use mongodb::error::{
        RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
    };
    let lost = match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. } => true,
        ErrorKind::Write(WriteFailure::WriteConcernError(failure)) => is_changing(failure.code),
        ErrorKind::Command(failure) => is_changing(failure.code),
        _ => false,
    };
    lost || [RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT]
        .iter()
        .any(|label| error.contains_label(label))
}

/// What a server says that shuts down, or is no longer the primary.
fn is_changing(code: i32) -> bool {
    const SHUTDOWN_IN_PROGRESS: i32 = 91;
    const PRIMARY_STEPPED_DOWN: i32 = 189;
    const NOT_WRITABLE_PRIMARY: i32 = 10_107;
    const INTERRUPTED_AT_SHUTDOWN: i32 = 11_600;
    const INTERRUPTED_DUE_TO_REPL_STATE_CHANGE: i32 = 11_602;
    [
        SHUTDOWN_IN_PROGRESS,
        PRIMARY_STEPPED_DOWN,
        NOT_WRITABLE_PRIMARY,
        INTERRUPTED_AT_SHUTDOWN,
        INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
    ]
    .contains(&code)
}

impl Writer {
    pub(super) async fn run(mut self, writes: u64, leave: Leave) -> anyhow::Result<Tally> {
        let mut left_in_burst = 0_u32;
        for _ in 0..writes {
            if !leave.is_given(1).await {
                break;
            }
            if left_in_burst == 0 {
                left_in_burst = self.random.random_range(1..80);
                let pause = Duration::from_millis(self.random.random_range(0..=self.max_pause_ms));
                tokio::time::sleep(pause).await;
            }
            left_in_burst -= 1;
            let outcome = if self.random.random_ratio(1, 14) {
                self.transaction().await?
            } else {
                let collection = self.any_collection();
                judge(self.write(&collection, None).await)?
            };
            match outcome {
                Outcome::Done => self.tally.writes += 1,
                Outcome::Nothing => {}
                Outcome::Unknown => self.tally.unknown += 1,
            }
        }
        Ok(self.tally)
    }

    fn any_collection(&mut self) -> Collection<Document> {
        self.collections.choose(&mut self.random).expect("a plan has collections").clone()
    }

    fn any_id(&mut self) -> Bson {
        self.ids.choose(&mut self.random).expect("a plan has documents").clone()
    }

    /// Several writes at once, half of the time all on one document.
    async fn transaction(&mut self) -> anyhow::Result<Outcome> {
        let Ok(mut session) = self.client.start_session().await else {
            return Ok(Outcome::Unknown);
        };
        let writes =
            if self.random.random_ratio(1, 20) { 60 } else { self.random.random_range(2..7) };
        let one = self.random.random_bool(0.5).then(|| (self.any_collection(), self.any_id()));
        let on_purpose = self.random.random_ratio(1, 10);
        session.start_transaction().await?;
        for _ in 0..writes {
            let (collection, id) = match &one {
                Some((collection, id)) => (collection.clone(), id.clone()),
                None => (self.any_collection(), self.any_id()),
            };
            match judge(self.write_one(&collection, &id, Some(&mut session)).await)? {
                Outcome::Done => {}
                outcome => {
                    self.tally.aborted += 1;
                    // The server has aborted it already, or will when the session ends.
                    drop(session.abort_transaction().await);
                    return Ok(match outcome {
                        Outcome::Unknown => Outcome::Unknown,
                        _ => Outcome::Nothing,
                    });
                }
            }
        }
        if on_purpose {
            self.tally.aborted += 1;
            drop(session.abort_transaction().await);
            return Ok(Outcome::Nothing);
        }
        let outcome = judge(session.commit_transaction().await)?;
        if matches!(outcome, Outcome::Done) {
            self.tally.committed += 1;
        }
        Ok(match outcome {
            Outcome::Done => Outcome::Nothing,
            other => other,
        })
    }

    async fn write(
        &mut self,
        collection: &Collection<Document>,
        session: Option<&mut ClientSession>,
    ) -> mongodb::error::Result<()> {
        let id = self.any_id();
        self.write_one(collection, &id, session).await
    }

    async fn write_one(
        &mut self,
        collection: &Collection<Document>,
        id: &Bson,
        session: Option<&mut ClientSession>,
    ) -> mongodb::error::Result<()> {
        let this = doc! { "_id": id.clone() };
        let random = &mut self.random;
        let choice = random.random_range(0..100);
        // A failed insert aborts a transaction: inside one, a missing document is made by an upsert.
        let in_transaction = session.is_some();
        let update = match choice {
            0..22 if !in_transaction => {
                let document = documents::document(random, id);
                return collection
                    .insert_one(document)
                    .optional(session, |action, session| action.session(session))
                    .await
                    .map(drop);
            }
            0..34 => {
                let document = documents::document(random, id);
                let replace = collection.replace_one(this, document).upsert(choice % 2 == 0);
                return replace
                    .optional(session, |action, session| action.session(session))
                    .await
                    .map(drop);
            }
            34..44 => {
                return collection
                    .delete_one(this)
                    .optional(session, |action, session| action.session(session))
                    .await
                    .map(drop);
            }
            44..48 => return self.replace_by_hand(collection, id, session).await,
            48..50 if !in_transaction => {
                let update = doc! { "$inc": { "n": 1 } };
                return collection
                    .update_many(doc! { "n": random.random_range(0..20) }, update)
                    .await
                    .map(drop);
            }
            50..72 => {
                let mut fields = Document::new();
                for _ in 0..random.random_range(1..4) {
                    fields.insert(documents::settable_key(random), documents::value(random, 2));
                }
                doc! { "$set": fields, "$inc": { "n": 1 } }
            }
            72..80 => doc! { "$unset": { documents::settable_key(random): "" } },
            80..90 => {
                let values: Vec<Bson> = (0..3).map(|_| documents::value(random, 1)).collect();
                doc! { "$push": { "history": { "$each": values, "$slice": -12 } } }
            }
            90..94 => doc! { "$pop": { "history": 1 } },
            _ => doc! { "$inc": { "n": 1 } },
        };
        collection
            .update_one(this, update)
            .upsert(choice % 10 == 0)
            .optional(session, |action, session| action.session(session))
            .await
            .map(drop)
    }

    /// Deletes a document and inserts it anew: the same `_id` begins a second life.
    async fn replace_by_hand(
        &mut self,
        collection: &Collection<Document>,
        id: &Bson,
        session: Option<&mut ClientSession>,
    ) -> mongodb::error::Result<()> {
        let this = doc! { "_id": id.clone() };
        let document = documents::document(&mut self.random, id);
        match session {
            None => {
                collection.delete_one(this).await?;
                collection.insert_one(document).await.map(drop)
            }
            Some(session) => {
                collection.delete_one(this).session(&mut *session).await?;
                collection.insert_one(document).session(session).await.map(drop)
            }
        }
    }
}
