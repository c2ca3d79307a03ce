//! A believable life in `ingest.files`: files arrive, are validated, loaded or fail, are deleted.

use std::collections::VecDeque;
use std::time::Duration;

use bson::{DateTime, Document, doc, oid::ObjectId};
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

const CONSUMERS: [&str; 6] = ["acme", "globex", "initech", "umbrella", "stark", "wayne"];
const FILE_TYPES: [&str; 4] = ["orders", "invoices", "inventory", "clicks"];

/// Files that are loaded are kept for a while, then deleted.
const KEPT: usize = 400;

/// A file that has just arrived.
pub(crate) fn arrived(random: &mut StdRng) -> Document {
    let sent_ago = random.random_range(200..9_000);
    let now = DateTime::now();
    let consumer = *CONSUMERS.choose(random).expect("it is not empty");
    let file_type = *FILE_TYPES.choose(random).expect("it is not empty");
    doc! {
        "_id": ObjectId::new(),
        "consumer_id": consumer,
        "file_type": file_type,
        "status": "arrived",
        "path": format!("s3://landing/{consumer}/{file_type}-{:08x}.csv", random.random::<u32>()),
        "size_bytes": random.random_range(2_000_i64..40_000_000),
        "expected_count": random.random_range(10..50_000),
        "checksum": format!("{:032x}", random.random::<u128>()),
        "sent_at": DateTime::from_millis(now.timestamp_millis() - sent_ago),
        "arrived_at": now,
        "latency_sec": f64::from(i32::try_from(sent_ago).unwrap_or(i32::MAX)) / 1000.0,
        "source": { "host": format!("edge-{}", random.random_range(1..9)), "retries": random.random_range(0..3) },
    }
}

/// Writes until told to stop.
pub(crate) async fn write(client: Client, stop: CancellationToken) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(2025);
    let files: Collection<Document> = client.database("ingest").collection("files");
    let mut open: VecDeque<(ObjectId, u8)> = VecDeque::new();
    let mut done: VecDeque<ObjectId> = VecDeque::new();
    while !stop.is_cancelled() {
        for _ in 0..random.random_range(1..12) {
            let file = arrived(&mut random);
            open.push_back((file.get_object_id("_id")?, 0));
            files.insert_one(file).await?;
        }
        for _ in 0..random.random_range(0..open.len().min(24)) {
            let Some((id, step)) = open.pop_front() else { break };
            match step {
                0 => {
                    set(
                        &files,
                        id,
                        doc! { "status": "validated", "validated_at": DateTime::now() },
                    )
                    .await?;
                    open.push_back((id, 1));
                }
                _ if random.random_ratio(1, 30) => {
                    let failed = doc! { "status": "failed", "error": "row count differs from expected_count" };
                    set(&files, id, failed).await?;
                    done.push_back(id);
                }
                _ => {
                    set(&files, id, doc! { "status": "loaded", "loaded_at": DateTime::now() })
                        .await?;
                    done.push_back(id);
                }
            }
        }
        if done.len() > KEPT {
            archive(&client, &files, done.drain(..20).collect()).await?;
        }
        let pause = Duration::from_millis(random.random_range(20..220));
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(())
}

async fn set(files: &Collection<Document>, id: ObjectId, fields: Document) -> anyhow::Result<()> {
    files.update_one(doc! { "_id": id }, doc! { "$set": fields }).await?;
    Ok(())
}

/// Deletes old files, all of them or none.
async fn archive(
    client: &Client,
    files: &Collection<Document>,
    ids: Vec<ObjectId>,
) -> anyhow::Result<()> {
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    files.delete_many(doc! { "_id": { "$in": ids } }).session(&mut session).await?;
    session.commit_transaction().await?;
    Ok(())
}
