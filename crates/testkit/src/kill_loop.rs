//! Kills the product, its engine or the server at seeded moments under load, then judges.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::TcpStream;

use crate::checker::Verdict;
use crate::rig::Rig;
use crate::servers::Exit;
use crate::watch::Watch;
use crate::workload::{self, Ddl, Tally, Workload};

/// How long a settling product may take.
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);

/// How long a product that nobody kills may take to catch up, on the slowest machine.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(300);

/// More changes than a rig writes before its first rows.
const WARM_UP: u64 = 200;

/// What to kill, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many kills.
    pub kills: u32,
    /// What `run` watches.
    pub watch: Watch,
}

impl Plan {
    /// Watches collections, two databases or everything, by the seed.
    pub fn new(seed: u64, kills: u32) -> Self {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let watch = match seed % 3 {
            0 => Watch::Databases(text(&["ingest", "scratch"])),
            1 => Watch::Collections(text(&[
                "ingest.files",
                "ingest.jobs",
                "ingest.step_*",
                "scratch.*",
            ])),
            _ => Watch::Deployment,
        };
        Self { seed, kills, watch }
    }

    /// Documents in collections of two databases, which are dropped and renamed meanwhile.
    pub(crate) fn workload(&self) -> workload::Plan {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = [
            "ingest.files",
            "ingest.jobs",
            "ingest.step_a",
            "ingest.step_b",
            "scratch.one",
            "scratch.two",
        ];
        let mut plan = workload::Plan::new(self.seed, text(&names));
        plan.writers = 3;
        plan.ddl = Some(Ddl {
            renames: vec![
                text(&["ingest.step_a", "ingest.step_b", "ingest.step_c"]),
                text(&["scratch.one", "scratch.two", "scratch.one"]),
                // From one database to another: the server copies it to a name of its own first.
                text(&["scratch.one", "ingest.step_c"]),
                // Two streams of some runs: both hear of it, and one of them tells.
                text(&["ingest.files", "ingest.jobs"]),
                // Nobody writes to the second, and some streams do not watch it.
                text(&["ingest.files", "ingest.away"]),
            ],
            dropped_databases: vec!["scratch".into()],
            max_pause_ms: 600,
        });
        plan
    }
}

/// What a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Run,
    Engine,
    Both,
    Mongod,
}

/// What the loop did, and the verdict.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Kills of `run`, alone.
    pub run: u32,
    /// Kills of the engine, alone.
    pub engine: u32,
    /// Kills of both at once.
    pub both: u32,
    /// Kills of `mongod`.
    pub mongod: u32,
    /// How often `run` ended by itself after its engine had been killed.
    pub gave_up: u32,
    /// Ranges that were found pending after a kill, and read back.
    pub read_back: usize,
    /// Of these, the ones that were there already: the kill came between insert and checkpoint.
    pub already_there: usize,
    /// What was written.
    pub written: Tally,
    /// The judgement.
    pub verdict: Verdict,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, engine, both, mongod, gave_up, read_back, already_there, .. } = self;
        let Self { written, verdict, .. } = self;
        writeln!(
            f,
            "killed: run {run}, engine {engine}, both {both}, mongod {mongod}; \
             ended after its engine: {gave_up}"
        )?;
        writeln!(f, "read back: {read_back} ranges, {already_there} were there already")?;
        writeln!(f, "written: {written}")?;
        write!(f, "{verdict}")
    }
}

/// Runs the loop; `tell` hears of each kill. `None`: a server is missing here, skip.
///
/// # Errors
///
/// When the product ends without being killed, a server fails, or a promise is broken; then the
/// state folder and the log are kept, and the message says where.
pub async fn run(
    binary: &Path,
    plan: &Plan,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Option<Report>> {
    let Some(mut rig) = Rig::start(binary, plan.watch.clone()).await? else { return Ok(None) };
    let result = kill_and_judge(&mut rig, plan, &mut tell).await;
    match result {
        Ok(report) if report.verdict.is_clean() => Ok(Some(report)),
        Ok(report) => {
            let folder = rig.keep();
            anyhow::bail!("seed {}, see `{}`\n{report}", plan.seed, folder.display())
        }
        Err(error) => {
            let tail = rig.tailwater.log_tail();
            let folder = rig.keep();
            Err(error).with_context(|| {
                format!("seed {}, see `{}`; the log ends:\n{tail}", plan.seed, folder.display())
            })
        }
    }
}

async fn kill_and_judge(
    rig: &mut Rig,
    plan: &Plan,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Report> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut report = Report::default();
    let load = Workload::start(&rig.client, &plan.workload())?;
    let mut engine_killed = false;
    let mut most = 0;

    for number in 1..=plan.kills {
        // Some kills fall into the start and its recovery, most into the work, and some into the
        // work of a run that has caught up, also with what waits behind others.
        let changes = match random.random_range(0..15) {
            0..5 => 0,
            5..14 => most + 1,
            // What came before the first rows never arrives.
            _ => rig.truth.len_of(&plan.watch).await.saturating_sub(WARM_UP),
        };
        most = wait_for(rig, changes, &mut engine_killed, &mut report).await?.max(most);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
        revive(rig, &mut engine_killed, &mut report)?;

        let victim = match random.random_range(0..20) {
            0..13 => Victim::Run,
            13..17 => Victim::Engine,
            17..19 => Victim::Both,
            _ => Victim::Mongod,
        };
        match victim {
            Victim::Run => {
                rig.tailwater.kill()?;
                report.run += 1;
            }
            Victim::Engine => {
                engine_killed |= rig.tailwater.kill_engine()?;
                report.engine += 1;
            }
            Victim::Both => {
                rig.tailwater.kill_engine()?;
                rig.tailwater.kill()?;
                report.both += 1;
            }
            Victim::Mongod => {
                rig.mongod.kill()?;
                rig.mongod.start_again().await?;
                report.mongod += 1;
            }
        }
        if matches!(victim, Victim::Run | Victim::Both) {
            rig.start_again()?;
            engine_killed = false;
        }
        let rows = rig.checker.rows().await;
        tell(&format!(
            "kill {number}/{}: {victim:?}; {} changes, {rows} rows in ClickHouse when it answers",
            plan.kills,
            rig.truth.len().await
        ));
    }

    report.written = load.stop().await.context("the workload")?;
    tell(&format!("stopped writing: {}; catching up", report.written));
    let events = rig.truth.up_to_now().await?;
    // An engine that has just been killed may still take `run` with it.
    let checker = rig.checker.clone();
    let caught_up = checker.check(events);
    tokio::pin!(caught_up);
    report.verdict = loop {
        tokio::select! {
            verdict = &mut caught_up => break verdict?,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        if rig.tailwater.ended()?.is_some() {
            revive(rig, &mut engine_killed, &mut report)?;
        }
    };
    settle(rig).await?;
    let log = rig.tailwater.log();
    let read_back = log.lines().filter(|line| line.contains("read back"));
    report.read_back = read_back.clone().count();
    report.already_there = read_back.filter(|line| line.contains("missing=0")).count();
    Ok(report)
}

/// Waits until so many rows have arrived, and tells how many it saw.
async fn wait_for(
    rig: &mut Rig,
    changes: u64,
    engine_killed: &mut bool,
    report: &mut Report,
) -> anyhow::Result<u64> {
    let started = Instant::now();
    loop {
        let rows = rig.checker.rows().await;
        if rows >= changes {
            return Ok(rows);
        }
        revive(rig, engine_killed, report)?;
        ensure!(started.elapsed() < PROGRESS_DEADLINE, "{rows} rows arrive, not {changes}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts `run` again if it has ended, which it may only because its engine was killed.
fn revive(rig: &mut Rig, engine_killed: &mut bool, report: &mut Report) -> anyhow::Result<()> {
    if let Some(exit) = rig.tailwater.ended()? {
        ensure!(*engine_killed, "`run` ended by itself with {exit:?}");
        report.gave_up += 1;
        rig.start_again()?;
        *engine_killed = false;
    }
    Ok(())
}

/// Terminates `run`: it must end with 0 and take its engine along.
async fn settle(rig: &mut Rig) -> anyhow::Result<()> {
    let exit = rig.tailwater.terminate(SETTLE_DEADLINE).await?;
    ensure!(exit == Exit::Code(0), "`run` ended with {exit:?} after SIGTERM");
    let listen = rig.arguments.target.address();
    let gone = async {
        while TcpStream::connect(listen).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SETTLE_DEADLINE, gone).await.context("the engine has outlived `run`")
}
