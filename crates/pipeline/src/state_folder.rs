//! The state folder: the checkpoints of direct mode, in one file that is replaced as a whole.
//!
//! ```text
//!   DIR/lock          held by the process that owns the folder
//!   DIR/checkpoints   tailwater-checkpoints 1 <crc32 of the rest>\n<JSON>
//! ```
//!
//! A save returns when the new file survives a power cut. The old file is never written into.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tailwater_core::position::{Checkpoint, Epoch, Intent, LaneId, Position, Seq};
use tailwater_core::{Error, ErrorKind, Result};

use crate::failpoint;
use crate::write_ahead::CheckpointStore;

const LOCK: &str = "lock";
const CHECKPOINTS: &str = "checkpoints";
const MAGIC: &str = "tailwater-checkpoints";
const VERSION: u32 = 1;

/// An open state folder, owned by this process until dropped.
#[derive(Debug)]
pub struct StateFolder {
    directory: Arc<Path>,
    lanes: BTreeMap<LaneId, Checkpoint>,
    _lock: File,
}

impl StateFolder {
    /// Opens a folder, making it when it is missing, and reads its checkpoints.
    ///
    /// # Errors
    /// `InUse` when another process owns it, `Corrupt` when its file is not what was written,
    /// `Storage` when the disk refuses.
    pub fn open(directory: &Path) -> Result<Self> {
        let refused = |error: io::Error| storage(directory, "open", error);
        fs::create_dir_all(directory).map_err(refused)?;
        let lock = lock(directory)?;
        let lanes = match fs::read(directory.join(CHECKPOINTS)) {
            Ok(bytes) => decode(&bytes).map_err(|why| corrupt(directory, &why))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(refused(error)),
        };
        Ok(Self { directory: directory.into(), lanes, _lock: lock })
    }

    /// Reads the checkpoints of a folder that another process may own, as they were last saved; `None`
    /// where there are none. The file is replaced as a whole, so that it is always one state.
    ///
    /// # Errors
    /// `Corrupt` when the file is not what was written, `Storage` when the disk refuses.
    pub fn look(directory: &Path) -> Result<Option<BTreeMap<LaneId, Checkpoint>>> {
        match fs::read(directory.join(CHECKPOINTS)) {
            Ok(bytes) => decode(&bytes).map(Some).map_err(|why| corrupt(directory, &why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage(directory, "read", error)),
        }
    }

    /// The checkpoints of all lanes, as they were last saved.
    pub fn checkpoints(&self) -> &BTreeMap<LaneId, Checkpoint> {
        &self.lanes
    }

    /// The checkpoint of a lane, as it was last saved.
    pub fn checkpoint(&self, lane: &LaneId) -> Option<&Checkpoint> {
        self.lanes.get(lane)
    }
}

impl CheckpointStore for StateFolder {
    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<Option<Checkpoint>>> {
        Ok(lanes.iter().map(|lane| self.checkpoint(lane).cloned()).collect())
    }

    async fn save(&mut self, changes: Vec<(LaneId, Checkpoint)>) -> Result<()> {
        self.lanes.extend(changes);
        let bytes = encode(&self.lanes);
        let directory = Arc::clone(&self.directory);
        tokio::task::spawn_blocking(move || {
            replace(&directory, &bytes).map_err(|error| storage(&directory, "write", error))
        })
        .await
        .map_err(|panic| {
            Error::new(ErrorKind::Bug, "writing the state folder panicked").with_source(panic)
        })?
    }
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    let refused = |error: io::Error| storage(directory, "lock", error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let named = file.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
            let owner = if named { format!(" (process {})", owner.trim()) } else { String::new() };
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "the state folder `{}` is in use by another tailwater{owner}",
                    directory.display()
                ),
            )
            .with_hint("stop the other process, or give this one another folder with `--state`"));
        }
        Err(TryLockError::Error(error)) => return Err(refused(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(refused)?;
    Ok(file)
}

/// Writes a new file beside the old one and renames it into place; both the file and the folder's
/// entry reach the disk before it returns.
fn replace(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let new: PathBuf = directory.join("checkpoints.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    failpoint::reach(failpoint::CHECKPOINT_WRITTEN);
    fs::rename(&new, directory.join(CHECKPOINTS))?;
    failpoint::reach(failpoint::CHECKPOINT_PLACED);
    File::open(directory)?.sync_all()
}

/// A lane as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLane {
    stream: String,
    epoch: String,
    seq: Seq,
    cursor: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pending: Option<Intent>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    renumbered: bool,
}

fn encode(lanes: &BTreeMap<LaneId, Checkpoint>) -> Vec<u8> {
    let stored: Vec<StoredLane> = lanes
        .iter()
        .map(|(lane, checkpoint)| StoredLane {
            stream: lane.topic().to_owned(),
            epoch: checkpoint.epoch.to_string(),
            seq: checkpoint.next.seq,
            cursor: hex::encode(&checkpoint.next.cursor),
            pending: checkpoint.pending.clone(),
            renumbered: checkpoint.renumbered,
        })
        .collect();
    let body = serde_json::to_vec_pretty(&stored).expect("strings and numbers become JSON");
    let mut bytes = format!("{MAGIC} {VERSION} {:08x}\n", crc32fast::hash(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> std::result::Result<BTreeMap<LaneId, Checkpoint>, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (header, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let header = std::str::from_utf8(header).map_err(|_| "its first line is no text")?;
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err("it does not begin like a checkpoint file".to_owned());
    }
    let version = words.next().unwrap_or_default();
    if version != VERSION.to_string() {
        return Err(format!("it has format `{version}`, this tailwater reads `{VERSION}`"));
    }
    let sum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
    if sum != Some(crc32fast::hash(body)) {
        return Err("its checksum does not match: it was cut or changed".to_owned());
    }
    let stored: Vec<StoredLane> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    stored
        .into_iter()
        .map(|lane| {
            let id = LaneId::stream(&lane.stream);
            let epoch = Epoch::parse(&lane.epoch).ok_or("an epoch is not 32 hex digits")?;
            let cursor = hex::decode(&lane.cursor).map_err(|_| "a cursor is not hex")?;
            let next = Position { seq: lane.seq, cursor: Bytes::from(cursor) };
            let StoredLane { pending, renumbered, .. } = lane;
            Ok((id, Checkpoint { epoch, next, pending, renumbered }))
        })
        .collect()
}

fn corrupt(directory: &Path, why: &str) -> Error {
    let path = directory.join(CHECKPOINTS);
    Error::new(
        ErrorKind::Corrupt,
        format!("cannot read the checkpoints in `{}`: {why}", path.display()),
    )
}

fn storage(directory: &Path, what: &str, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Storage,
        format!("cannot {what} the state folder `{}`", directory.display()),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_core::position::{Millis, Plan, SeqRange};

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            epoch: Epoch::new([7; 16]),
            next: Position { seq: Seq(41), cursor: Bytes::from_static(b"\x00\xffcursor") },
            pending: Some(Intent {
                range: SeqRange { first: Seq(41), last: Seq(50) },
                plan: Plan {
                    ts_min: Millis(-5),
                    ts_max: Millis(1_700_000_000_000),
                    rows: BTreeMap::from([("record_raw".to_owned(), 10)]),
                    digest: u64::MAX,
                    mapping: Some("0123456789abcdef".to_owned()),
                },
                declared_at: Millis(12),
                foreign: true,
            }),
            renumbered: true,
        }
    }

    #[tokio::test]
    async fn a_reopened_folder_has_what_was_saved_last() {
        let folder = tempfile::tempdir().unwrap();
        let lane = LaneId::stream("ingest.files");
        let mut open = StateFolder::open(folder.path()).unwrap();
        assert!(open.checkpoint(&lane).is_none());
        open.save(vec![(LaneId::stream("a.b"), checkpoint())]).await.unwrap();
        open.save(vec![(lane.clone(), checkpoint())]).await.unwrap();
        drop(open);
        let open = StateFolder::open(folder.path()).unwrap();
        assert_eq!(open.checkpoint(&lane), Some(&checkpoint()));
        assert_eq!(open.checkpoint(&LaneId::stream("a.b")), Some(&checkpoint()));
        // Who only looks needs no lock.
        let seen = StateFolder::look(folder.path()).unwrap().unwrap();
        assert_eq!(&seen, open.checkpoints());
        assert!(StateFolder::look(&folder.path().join("nowhere")).unwrap().is_none());
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let _owner = StateFolder::open(folder.path()).unwrap();
        let error = StateFolder::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }

    #[tokio::test]
    async fn every_cut_and_every_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = StateFolder::open(folder.path()).unwrap();
        open.save(vec![(LaneId::stream("a.b"), checkpoint())]).await.unwrap();
        drop(open);
        let path = folder.path().join(CHECKPOINTS);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(decode(&flipped).is_err(), "flipped at {at}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = StateFolder::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_newer_format_is_named() {
        let why = decode(b"tailwater-checkpoints 2 00000000\n[]").unwrap_err();
        assert!(why.contains("`2`"), "{why}");
    }
}
