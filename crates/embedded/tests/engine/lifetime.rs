//! Lives and deaths of the process: locks, ports, passwords, kills.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tailwater_core::ErrorKind;
use tailwater_embedded::{EngineOptions, EngineProcess};

use crate::host::{Engine, PROGRAM, present, wait_until};
use crate::http::Ask;

fn options(state: &Path, listen: std::net::SocketAddr) -> EngineOptions {
    EngineOptions { program: PROGRAM.into(), state: state.to_owned(), listen, password: None }
}

fn anywhere() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// The engines whose arguments name `state`.
fn engine_pids(state: &Path) -> Vec<u32> {
    let name = state.to_str().unwrap();
    let engines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let arguments = std::fs::read(path.join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let ours = arguments.contains("\0engine\0serve\0") && arguments.contains(name);
        path.file_name()?.to_str()?.parse().ok().filter(|_| ours)
    });
    engines.collect()
}

fn sigkill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn acknowledged_inserts_survive_sigkill() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(folder.path());
    engine.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a").ok();
    let mut acknowledged = 0_u64;
    let mut sent = 0_u64;
    for round in 0..4_u64 {
        let address = engine.address;
        let writer = std::thread::spawn(move || {
            let (mut sent, mut acknowledged) = (0, 0);
            loop {
                let rows: String = (0..500).map(|n| format!("{n}\n")).collect();
                sent += 500;
                let insert = Ask::post(address, rows).with("query", "INSERT INTO t FORMAT TSV");
                match insert.try_send() {
                    Ok(answer) if answer.status == 200 => acknowledged += 500,
                    _ => return (sent, acknowledged),
                }
            }
        });
        // Not a wait for a condition: the moment of the kill is what varies.
        std::thread::sleep(Duration::from_millis(50 + 37 * round));
        engine.kill();
        let (more_sent, more_acknowledged) = writer.join().unwrap();
        sent += more_sent;
        acknowledged += more_acknowledged;
        engine = Engine::start(folder.path());
        let rows: u64 = engine.sql("SELECT count() FROM t").ok().trim().parse().unwrap();
        assert!(rows >= acknowledged && rows <= sent, "{acknowledged} <= {rows} <= {sent}");
        assert_eq!(rows % 500, 0, "half a block is there");
    }
    assert!(acknowledged > 0);
}

#[test]
fn a_folder_and_a_port_have_one_engine() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder_taken =
            EngineProcess::start(options(folder.path(), anywhere())).await.unwrap_err();
        assert_eq!(folder_taken.kind(), ErrorKind::InUse);
        assert!(folder_taken.to_string().contains(folder.path().to_str().unwrap()));
        let port_taken =
            EngineProcess::start(options(other.path(), engine.address)).await.unwrap_err();
        assert_eq!(port_taken.kind(), ErrorKind::InUse);
        assert!(port_taken.to_string().contains(&engine.address.to_string()));
        assert!(port_taken.hint().contains("--listen"));
    });
}

#[test]
fn a_child_waits_for_a_predecessor_that_is_about_to_die() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dying = Engine::start(folder.path());
    let lock = folder.path().join("engine/lock");
    let waits = |pid: u32| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut open| {
            open.any(|fd| {
                fd.is_ok_and(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == lock))
            })
        })
    };
    std::thread::scope(|scope| {
        let next = scope.spawn(|| Engine::try_start(folder.path(), "127.0.0.1:0", ""));
        wait_until("the next one waits for the lock", || {
            engine_pids(folder.path()).into_iter().any(|pid| pid != dying.pid() && waits(pid))
        });
        dying.kill();
        next.join().unwrap().unwrap().sql("SELECT 1").ok();
    });
}

#[test]
fn other_addresses_than_loopback_need_a_password() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = Engine::try_start(folder.path(), "0.0.0.0:0", "").unwrap_err();
    assert!(report.contains("Config") && report.contains("password"), "{report}");

    let engine = Engine::try_start(folder.path(), "127.0.0.1:0", "geheim").unwrap();
    let ask = || Ask::post(engine.address, "SELECT 1");
    assert_eq!(ask().send().refusal(), (194, 401));
    assert_eq!(ask().header("X-ClickHouse-Key", "other").send().refusal(), (516, 403));
    ask().header("X-ClickHouse-User", "default").header("X-ClickHouse-Key", "geheim").send().ok();
    ask().header("Authorization", "Basic ZGVmYXVsdDpnZWhlaW0=").send().ok();
    ask().with("user", "default").with("password", "geheim").send().ok();
}

#[test]
fn an_engine_that_dies_comes_back_on_its_address() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let process =
        runtime.block_on(EngineProcess::start(options(folder.path(), anywhere()))).unwrap();
    let ask = |sql: &str| Ask::post(process.address(), sql).try_send();
    ask("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a").unwrap().ok();
    ask("INSERT INTO t VALUES (1)").unwrap().ok();
    sigkill(engine_pids(folder.path())[0]);
    wait_until("the engine is back", || {
        ask("SELECT count() FROM t")
            .is_ok_and(|answer| answer.status == 200 && answer.text() == "1\n")
    });
    runtime.block_on(process.shutdown());
    assert!(engine_pids(folder.path()).is_empty());
}

#[test]
fn an_engine_ends_with_its_parent_even_when_busy() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut parent = Command::new(PROGRAM).arg("parent").arg(folder.path()).spawn().unwrap();
    let file = folder.path().join("address");
    let address = || std::fs::read_to_string(&file).ok()?.parse().ok();
    wait_until("the engine runs", || address().is_some());
    let busy = Ask::post(
        address().unwrap(),
        "CREATE TABLE t ENGINE = Memory AS SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1",
    )
    .open(0);
    wait_until("the engine is busy", || {
        let running = "SELECT count() FROM system.processes WHERE query LIKE 'CREATE TABLE t%'";
        Ask::post(address().unwrap(), running).send().text() == "1\n"
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the engine is gone", || engine_pids(folder.path()).is_empty());
    drop(busy);
    // Its folder is free for the next one.
    Engine::start(folder.path()).sql("SELECT 1").ok();
}
