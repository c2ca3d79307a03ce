//! What only the user can mend: the exit code is 1, and the message says what to do.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use tailwater_testkit::servers::{Engine, Mongod, Needed, Tailwater, free_port};
use tokio::process::Command;

use crate::stage::Stage;
use crate::{DEADLINE, binary};

/// No server answers there, and the driver says so soon.
const NOBODY: &str = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300";

/// Runs the product until it ends by itself.
async fn output(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(DEADLINE, output).await.expect("it ends by itself").unwrap()
}

/// `tailwater run` with these flags, over a state folder.
fn run(source: &str, state: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["run", "--collections", "ingest.files", "--source", source]).args(flags);
    command.arg("--state").arg(state);
    command
}

/// Asserts that the product ends with 1 and says all of this.
async fn refuses(command: Command, texts: &[&str]) {
    let output = output(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for text in texts {
        assert!(said.contains(text), "no `{text}` in:\n{said}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_named() {
    let home = tempfile::tempdir().unwrap();
    let hint = "it looks like mongodb://";
    let wrong = ["cannot use the MongoDB connection string", hint];
    refuses(run("mongo://me:hunter2@host", home.path(), &[]), &wrong).await;
    let unreachable = ["cannot connect to MongoDB at `127.0.0.1:1`", "check that the server runs"];
    refuses(run(NOBODY, home.path(), &[]), &unreachable).await;
    let target = ["--target", "http://127.0.0.1:9000/db"];
    let wrong = ["cannot use the ClickHouse target", "hint: it looks like http://"];
    refuses(run(NOBODY, home.path(), &target), &wrong).await;
}

#[tokio::test]
async fn a_torn_state_file_ends_the_run_and_stays_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let torn = b"tailwater-checkpoints 1 00000000\n[]";
    let file = home.path().join("checkpoints");
    std::fs::write(&file, torn).unwrap();
    let texts = ["its checksum does not match", "hint: restore the file from a backup"];
    refuses(run(NOBODY, home.path(), &[]), &texts).await;
    assert_eq!(std::fs::read(&file).unwrap(), torn);
}

#[tokio::test]
async fn a_state_folder_has_one_run() {
    let home = tempfile::tempdir().unwrap();
    // It owns the folder while it looks for its MongoDB.
    let mut first =
        run("mongodb://127.0.0.1:1", home.path(), &[]).kill_on_drop(true).spawn().unwrap();
    let lock = home.path().join("lock");
    let owner = format!("{}\n", first.id().unwrap());
    let started = Instant::now();
    while std::fs::read_to_string(&lock).unwrap_or_default() != owner {
        assert!(started.elapsed() < DEADLINE, "nobody owns the folder");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let owner = format!("in use by another tailwater (process {})", owner.trim());
    let texts = [owner.as_str(), "hint: stop the other process"];
    refuses(run(NOBODY, home.path(), &[]), &texts).await;
    first.kill().await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--listen"] {
        let command = run(&mongod.uri(), home.path(), &[flag, &address]);
        refuses(command, &[&address, "hint: ", flag]).await;
    }
}

#[tokio::test]
async fn a_standalone_mongod_gets_the_lines_that_make_it_a_replica_set() {
    let Some(mongod) = Mongod::start_standalone().await.unwrap() else { return };
    let home = tempfile::tempdir().unwrap();
    let texts = ["is a standalone server", "--replSet rs0", "rs.initiate()"];
    refuses(run(&mongod.uri(), home.path(), &[]), &texts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_does_not_fit_is_named() {
    let Some(mongod) = Mongod::start().await.unwrap() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::start(binary(), &home.path().join("engine")).await.unwrap().unwrap();
    let target = format!("http://{}/nowhere", engine.address());
    let command = run(&mongod.uri(), home.path(), &["--target", &target]);
    refuses(command, &["Code: 81", "hint: create the database first"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told_which_role_it_needs() {
    let Some(program) = Needed::Mongod.find().unwrap() else { return };
    let home = tempfile::tempdir().unwrap();
    let (port, _server) = start_with_users(&program, home.path()).await;
    let uri = |user: &str, password: &str| {
        format!("mongodb://{user}:{password}@127.0.0.1:{port}/?replicaSet=tw&authSource=admin")
    };
    let state = home.path().join("state");
    let wrong = ["cannot connect to MongoDB", "hint: check the user name, the password"];
    let command = run(&uri("stranger", "wrong"), &state, &["--listen", "127.0.0.1:0"]);
    refuses(command, &wrong).await;
    let texts = ["not authorized", "hint: give the user the role `read`"];
    let command = run(&uri("stranger", "pw"), &state, &["--listen", "127.0.0.1:0"]);
    refuses(command, &texts).await;
}

/// Starts a replica set with access control and a user who may read another database only.
async fn start_with_users(program: &Path, home: &Path) -> (u16, Tailwater) {
    use std::os::unix::fs::PermissionsExt as _;

    let port = free_port().unwrap();
    let key: PathBuf = home.join("key");
    std::fs::write(&key, "c2VjcmV0c2VjcmV0").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
    let data = home.join("data");
    std::fs::create_dir(&data).unwrap();
    let text = |path: &Path| path.display().to_string();
    let arguments = [
        "--bind_ip=127.0.0.1".to_owned(),
        "--nounixsocket".to_owned(),
        "--wiredTigerCacheSizeGB=0.25".to_owned(),
        "--replSet=tw".to_owned(),
        format!("--port={port}"),
        format!("--dbpath={}", text(&data)),
        format!("--keyFile={}", text(&key)),
    ];
    let server = Tailwater::start(program, &arguments, &home.join("mongod.log")).unwrap();
    // A server without users lets a local client make the first one.
    let local = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let admin = Client::with_uri_str(&local).await.unwrap().database("admin");
    let member = doc! { "_id": 0, "host": format!("127.0.0.1:{port}") };
    let set = doc! { "_id": "tw", "members": [member] };
    admin.run_command(doc! { "replSetInitiate": set }).await.unwrap();
    let root = doc! { "createUser": "root", "pwd": "pw", "roles": ["root"] };
    until_done(&admin, root).await;
    let known = format!("mongodb://root:pw@127.0.0.1:{port}/?directConnection=true");
    let admin = Client::with_uri_str(&known).await.unwrap().database("admin");
    let roles = [doc! { "role": "read", "db": "elsewhere" }];
    until_done(&admin, doc! { "createUser": "stranger", "pwd": "pw", "roles": roles }).await;
    (port, server)
}

/// Runs a command until the server, which elects itself, does it.
async fn until_done(admin: &mongodb::Database, command: Document) {
    let started = Instant::now();
    while let Err(error) = admin.run_command(command.clone()).await {
        assert!(started.elapsed() < DEADLINE, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A limit on the size of files stands for a full disk: both refuse a write.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_run_and_loses_nothing() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.rig.tailwater.kill().unwrap();
    let mut command = Command::new("env");
    command.args(["--ignore-signal=XFSZ", "prlimit", "--fsize=64", "--"]).arg(binary());
    command.args(stage.rig.arguments.to_vec());
    let refused =
        refuses(command, &["cannot write the state folder", "hint: free or enlarge the disk"]);
    tokio::join!(refused, stage.write(5));
    stage.rig.start_again().unwrap();
    stage.judge().await;
}
