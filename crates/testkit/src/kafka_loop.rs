//! Kills the parts of the chain, the broker and the servers at seeded moments under load, lets members
//! come and go, then judges every topic and table.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::kafka_rig::{KafkaRig, Records, Role, Setup, Verdict};
use crate::kill_loop;
use crate::watch::Watch;
use crate::workload::{Tally, Workload};

/// How long a chain of which nothing is missing may take for one more row, on the slowest machine.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// More members of a part than this bring nothing new.
const MOST_MEMBERS: usize = 3;
/// So many times as long as in a loop without topics are the pauses of the writers: each part takes its
/// share of the machine.
const SLOWER: u64 = 4;
/// So many writes go with each kill. What piles up behind them would lengthen the loop, and prove nothing
/// more.
const WRITES: usize = 500;
/// So many more with each second without a row: there may be none under way.
const MORE_WRITES: usize = 20;
/// Small enough that some changes of the workload go in chunks.
const MAX_MESSAGE_BYTES: u64 = 100_000;

/// What to kill, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many kills.
    pub kills: u32,
    /// What the rows are made of.
    pub records: Records,
    /// Whether there is a ledger.
    pub raw_cdc: bool,
    /// What is watched.
    pub watch: Watch,
}

impl Plan {
    /// The whole chain, `normalize` too. What is watched, and whether there is a ledger, by the seed.
    pub fn new(seed: u64, kills: u32) -> Self {
        let watch = kill_loop::Plan::new(seed, kills).watch;
        Self { seed, kills, records: Records::Topic, raw_cdc: seed.is_multiple_of(2), watch }
    }

    /// The same, with rows made of this.
    #[must_use]
    pub fn with_records(self, records: Records) -> Self {
        Self { records, ..self }
    }

    fn setup(&self) -> Setup {
        Setup {
            records: self.records,
            raw_cdc: self.raw_cdc,
            // What the dead had is taken over before anybody waits for it.
            session_ms: Some(2000),
            max_message_bytes: Some(MAX_MESSAGE_BYTES),
            ..Setup::new(self.watch.clone())
        }
    }

    fn roles(&self) -> Vec<Role> {
        match self.records {
            Records::Topic => vec![Role::Source, Role::Normalize, Role::Sink],
            Records::AsTheyAre | Records::Inline => vec![Role::Source, Role::Sink],
        }
    }
}

/// What a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Member(Role),
    /// All members of a part at once.
    Part(Role),
    Kafka,
    Mongod,
    Engine,
}

/// What the loop did, and the verdict.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Kills of a `source`.
    pub source: u32,
    /// Kills of a `normalize`.
    pub normalize: u32,
    /// Kills of a `sink`.
    pub sink: u32,
    /// Kills of all members of a part at once.
    pub parts: u32,
    /// Kills of the broker.
    pub kafka: u32,
    /// Kills of `mongod`.
    pub mongod: u32,
    /// Kills of the engine.
    pub engine: u32,
    /// Members that came, or were told to go.
    pub moved: u32,
    /// Ranges that were found pending, and read back.
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
        let Self { source, normalize, sink, parts, kafka, mongod, engine, .. } = self;
        let Self { moved, read_back, already_there, written, verdict, .. } = self;
        writeln!(
            f,
            "killed: source {source}, normalize {normalize}, sink {sink}, whole parts {parts}, \
             broker {kafka}, mongod {mongod}, engine {engine}; came or went: {moved}"
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
/// When the product ends without being killed, a server fails, or a promise is broken; then the logs
/// are kept, and the message says where.
pub async fn run(
    binary: &Path,
    plan: &Plan,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Option<Report>> {
    let Some(rig) = KafkaRig::start(binary, plan.setup()).await? else { return Ok(None) };
    let random = StdRng::seed_from_u64(plan.seed);
    let mut play = Play { rig, plan, random, report: Report::default() };
    let result = play.kill_and_judge(&mut tell).await;
    match result {
        Ok(report) if report.verdict.is_clean() => Ok(Some(report)),
        Ok(report) => {
            let folder = play.rig.keep();
            bail!("seed {}, see `{}`\n{report}", plan.seed, folder.display())
        }
        Err(error) => {
            let tails = play.rig.log_tails();
            let folder = play.rig.keep();
            Err(error).with_context(|| {
                format!("seed {}, see `{}`; the logs end:\n{tails}", plan.seed, folder.display())
            })
        }
    }
}

struct Play<'p> {
    rig: KafkaRig,
    plan: &'p Plan,
    random: StdRng,
    report: Report,
}

impl Play<'_> {
    async fn kill_and_judge(&mut self, tell: &mut impl FnMut(&str)) -> anyhow::Result<Report> {
        let mut workload = kill_loop::Plan::new(self.plan.seed, self.plan.kills).workload();
        workload.max_pause_ms *= SLOWER;
        workload.paced = true;
        if let Some(ddl) = &mut workload.ddl {
            ddl.max_pause_ms *= SLOWER;
        }
        for role in self.plan.roles().into_iter().cycle().take(2 * self.plan.roles().len()) {
            self.rig.add(role)?;
        }
        let load = Workload::start(&self.rig.client, &workload)?;
        let mut most = 0;
        for number in 1..=self.plan.kills {
            // Some kills fall into the start and its recovery, most into the work.
            let changes = if self.random.random_ratio(1, 4) { 0 } else { most + 1 };
            load.allow(WRITES);
            most = self.wait_for(changes, &load).await?.max(most);
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..1000))).await;
            if self.random.random_ratio(1, 5) {
                self.come_or_go().await?;
            }
            let victim = self.kill().await?;
            if self.random.random_bool(0.5) {
                self.revive()?;
            }
            let rows = self.rig.checker.rows().await;
            tell(&format!(
                "kill {number}/{}: {victim:?}; {} changes, {rows} rows in ClickHouse when it answers",
                self.plan.kills,
                self.rig.truth.len().await
            ));
        }
        self.revive()?;
        self.report.written = load.stop().await.context("the workload")?;
        tell(&format!("stopped writing: {}; catching up", self.report.written));
        self.report.verdict = self.rig.judge().await?;
        self.rig.settle().await?;
        let log = self.rig.logs(Role::Sink);
        let read_back = log.lines().filter(|line| line.contains("read back"));
        self.report.read_back = read_back.clone().count();
        self.report.already_there = read_back.filter(|line| line.contains("missing=0")).count();
        Ok(self.report.clone())
    }

    /// Waits until so many rows have arrived, and tells how many it saw.
    async fn wait_for(&mut self, changes: u64, load: &Workload) -> anyhow::Result<u64> {
        let started = Instant::now();
        let mut allowed = started;
        loop {
            let rows = self.rig.checker.rows().await;
            self.rig.expect_running()?;
            if rows >= changes {
                return Ok(rows);
            }
            self.staff()?;
            ensure!(started.elapsed() < PROGRESS_DEADLINE, "{rows} rows arrive, not {changes}");
            if allowed.elapsed() > Duration::from_secs(1) {
                load.allow(MORE_WRITES);
                allowed = Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts a member of each part of which none runs.
    fn staff(&mut self) -> anyhow::Result<()> {
        for role in self.plan.roles() {
            let of_role = || self.rig.members.iter().filter(|member| member.role == role);
            if of_role().any(|member| member.is_started()) {
                continue;
            }
            if let Some(member) = self.rig.members.iter_mut().find(|member| member.role == role) {
                member.start()?;
            }
        }
        Ok(())
    }

    /// Starts all that were killed or told to go.
    fn revive(&mut self) -> anyhow::Result<()> {
        self.rig.members.iter_mut().try_for_each(|member| member.start())
    }

    /// Lets a member go in order, or a further one come.
    async fn come_or_go(&mut self) -> anyhow::Result<()> {
        let role = *self.plan.roles().choose(&mut self.random).context("no roles")?;
        let of_role = self.rig.members.iter().filter(|member| member.role == role).count();
        if of_role < MOST_MEMBERS && self.random.random_bool(0.3) {
            self.rig.add(role)?;
        } else if let Some(member) = self.any_member(role) {
            member.stop().await?;
        }
        self.report.moved += 1;
        Ok(())
    }

    /// A member of the part that runs.
    fn any_member(&mut self, role: Role) -> Option<&mut crate::kafka_rig::Member> {
        let members = self.rig.members.iter_mut();
        let mut running: Vec<_> =
            members.filter(|member| member.role == role && member.is_started()).collect();
        (!running.is_empty()).then(|| {
            let chosen = self.random.random_range(0..running.len());
            running.swap_remove(chosen)
        })
    }

    async fn kill(&mut self) -> anyhow::Result<Victim> {
        let role = *self.plan.roles().choose(&mut self.random).context("no roles")?;
        let victim = match self.random.random_range(0..20) {
            0..12 => Victim::Member(role),
            12..14 => Victim::Part(role),
            14..17 => Victim::Kafka,
            17 => Victim::Mongod,
            _ => Victim::Engine,
        };
        // There is somebody to kill.
        self.staff()?;
        match victim {
            Victim::Member(role) => {
                if let Some(member) = self.any_member(role) {
                    member.kill()?;
                }
                *match role {
                    Role::Source => &mut self.report.source,
                    Role::Normalize => &mut self.report.normalize,
                    Role::Sink | Role::All => &mut self.report.sink,
                } += 1;
            }
            Victim::Part(role) => {
                for member in self.rig.members.iter_mut().filter(|member| member.role == role) {
                    member.kill()?;
                }
                self.report.parts += 1;
            }
            Victim::Kafka => {
                self.rig.kafka.kill()?;
                self.rig.kafka.start_again().await?;
                self.report.kafka += 1;
            }
            Victim::Mongod => {
                self.rig.mongod.kill()?;
                self.rig.mongod.start_again().await?;
                self.report.mongod += 1;
            }
            Victim::Engine => {
                self.rig.engine.kill()?;
                self.rig.engine.start_again().await?;
                self.report.engine += 1;
            }
        }
        Ok(victim)
    }
}
