//! Breaks what lies between the product and ClickHouse at seeded moments, most often kills the
//! product in that very state, and judges.
//!
//! Each fault is one that only one of the defences meets, so that each of them can be seen to be
//! needed: the declaration, the read-back, the token.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::Deserialize;

use crate::checker::Verdict;
use crate::clickhouse::ClickHouse;
use crate::rig::Rig;
use crate::servers::{Caught, Engine, Exit, Fault, Proxy, Target};
use crate::workload::{self, Tally, Workload};

/// How long anything may take that needs a healthy product.
const DEADLINE: Duration = Duration::from_secs(120);

/// One collection: what is beyond the last offset belongs to the insert that was caught.
const COLLECTION: &str = "ingest.files";

/// What happens. All but the last two are followed by a kill of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// The rows are there, but the answer is lost.
    AnswerLost,
    /// The rows are there, but the server has forgotten the token, as when it dies between writing
    /// the two.
    TokenLost,
    /// The token is there, but the rows are not, as when it dies between writing the two.
    RowsLost,
    /// The insert is still under way; it arrives when the next life has long finished the Range.
    LateCopy,
    /// The same, but `run` lives: its connection broke, and it has finished the Range itself.
    LateCopyOfTheLiving,
    /// The insert is cut short and the connection breaks. `run` lives.
    BodyCut,
}

const SCENES: [Scene; 6] = [
    Scene::AnswerLost,
    Scene::TokenLost,
    Scene::RowsLost,
    Scene::LateCopy,
    Scene::LateCopyOfTheLiving,
    Scene::BodyCut,
];

/// How often, and from which seed.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many times each fault comes.
    pub rounds: u32,
}

/// What was done, and the verdict.
#[derive(Debug, Clone)]
pub struct Report {
    /// Faults that were met.
    pub faults: u32,
    /// What was written.
    pub written: Tally,
    /// The judgement.
    pub verdict: Verdict,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, written, verdict } = self;
        write!(f, "faults: {faults}\nwritten: {written}\n{verdict}")
    }
}

/// Runs the loop; `tell` hears of each fault. `None`: a server is missing here, skip.
///
/// # Errors
///
/// When the product ends by itself, a server fails, or a promise is broken; then the state folder
/// and the log are kept, and the message says where.
pub async fn run(
    binary: &Path,
    plan: Plan,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Option<Report>> {
    let home = tempfile::Builder::new().prefix("tailwater-engine-").tempdir()?;
    let Some(engine) = Engine::start(binary, &home.path().join("state")).await? else {
        return Ok(None);
    };
    let proxy = Proxy::start(engine.address()).await?;
    let target = Target::Server { through: proxy.address(), direct: engine.address() };
    let Some(mut rig) = Rig::assemble(binary, &[COLLECTION.into()], target).await? else {
        return Ok(None);
    };
    rig.warm_up(|number| bson::doc! { "_id": format!("warm-up {number}") }).await?;
    let mut stage = Stage { rig, engine, proxy };
    let result = stage.play(plan, &mut tell).await;
    let tail = stage.rig.tailwater.log_tail();
    match result {
        Ok(report) if report.verdict.is_clean() => Ok(Some(report)),
        Ok(report) => {
            let (run, engine) = (stage.rig.keep(), home.keep());
            let (run, engine) = (run.display(), engine.display());
            bail!("seed {}, see `{run}` and `{engine}`\n{report}", plan.seed)
        }
        Err(error) => {
            let folder = stage.rig.keep();
            Err(error).with_context(|| {
                format!("seed {}, see `{}`; the log ends:\n{tail}", plan.seed, folder.display())
            })
        }
    }
}

/// Everything that a scene needs.
struct Stage {
    rig: Rig,
    engine: Engine,
    proxy: Proxy,
}

#[derive(Deserialize)]
struct Last {
    offset: i64,
}

#[derive(Deserialize)]
struct Part {
    path: PathBuf,
    first: i64,
}

impl Stage {
    async fn play(&mut self, plan: Plan, tell: &mut impl FnMut(&str)) -> anyhow::Result<Report> {
        let mut random = StdRng::seed_from_u64(plan.seed);
        let mut scenes: Vec<Scene> = (0..plan.rounds).flat_map(|_| SCENES).collect();
        scenes.shuffle(&mut random);
        let mut workload = workload::Plan::new(plan.seed, vec![COLLECTION.into()]);
        workload.writers = 3;
        let load = Workload::start(&self.rig.client, &workload)?;
        let mut faults = 0;
        for scene in scenes {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..700))).await;
            let cut = random.random_range(1..20_000);
            self.perform(scene, cut).await.with_context(|| format!("scene {scene:?}"))?;
            faults += 1;
            tell(&format!("{scene:?}; {} changes", self.rig.truth.len().await));
        }
        let written = load.stop().await.context("the workload")?;
        tell(&format!("stopped writing: {written}; catching up"));
        let verdict = self.rig.judge().await?;
        let exit = self.rig.tailwater.terminate(DEADLINE).await?;
        ensure!(exit == Exit::Code(0), "`run` ended with {exit:?} after SIGTERM");
        Ok(Report { faults, written, verdict })
    }

    /// Performs a scene; `cut` is how much of an insert arrives where it is cut short.
    async fn perform(&mut self, scene: Scene, cut: usize) -> anyhow::Result<()> {
        let fault = match scene {
            Scene::AnswerLost | Scene::TokenLost | Scene::RowsLost => Fault::SwallowReply,
            Scene::LateCopy => Fault::HoldRequest,
            Scene::LateCopyOfTheLiving => Fault::HoldAndHangUp,
            Scene::BodyCut => Fault::CutRequest(cut),
        };
        let caught = self.proxy.arm(fault);
        let mut caught: Caught = tokio::time::timeout(DEADLINE, caught)
            .await
            .context("no insert was caught")?
            .context("the proxy has ended")?;
        let last = self.last_offset().await?;
        caught.go().await?;
        self.rig.tailwater.expect_running()?;
        if !matches!(scene, Scene::LateCopyOfTheLiving | Scene::BodyCut) {
            self.rig.tailwater.kill()?;
            match scene {
                Scene::TokenLost => self.lose(self.token_log().await?).await?,
                Scene::RowsLost => self.lose(self.parts_after(last).await?).await?,
                _ => {}
            }
            self.rig.start_again()?;
        }
        if matches!(scene, Scene::LateCopy | Scene::LateCopyOfTheLiving) {
            self.wait_for_rows_after(last).await?;
            caught.release().await?;
        }
        Ok(())
    }

    fn clickhouse(&self) -> &ClickHouse {
        &self.rig.checker.clickhouse
    }

    /// The greatest offset in the table.
    async fn last_offset(&self) -> anyhow::Result<i64> {
        let sql = "SELECT max(toInt64(_offset)) AS offset FROM record_raw";
        Ok(self.clickhouse().one::<Last>(sql).await?.offset)
    }

    async fn wait_for_rows_after(&mut self, last: i64) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.last_offset().await? <= last {
            self.rig.tailwater.expect_running()?;
            ensure!(started.elapsed() < DEADLINE, "no row beyond offset {last}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The folders of the parts that hold nothing but what came after this offset.
    async fn parts_after(&self, last: i64) -> anyhow::Result<Vec<PathBuf>> {
        let sql = "SELECT any(p.path) AS path, min(toInt64(r._offset)) AS first \
                   FROM record_raw AS r JOIN system.parts AS p ON p.name = r._part \
                   WHERE p.active AND p.database = currentDatabase() AND p.table = 'record_raw' \
                   GROUP BY p.name";
        let parts: Vec<Part> = self.clickhouse().all(sql).await?;
        Ok(parts.into_iter().filter(|part| part.first > last).map(|part| part.path).collect())
    }

    /// The folder in which the table keeps the tokens.
    async fn token_log(&self) -> anyhow::Result<Vec<PathBuf>> {
        #[derive(Deserialize)]
        struct Table {
            path: PathBuf,
        }
        let sql = "SELECT data_paths[1] AS path FROM system.tables \
                   WHERE database = currentDatabase() AND name = 'record_raw'";
        let path = self.clickhouse().one::<Table>(sql).await?.path.join("deduplication_logs");
        ensure!(path.is_dir(), "no token log at `{}`", path.display());
        Ok(vec![path])
    }

    /// Kills the engine, removes folders of its data, and starts it again.
    async fn lose(&mut self, folders: Vec<PathBuf>) -> anyhow::Result<()> {
        self.engine.kill()?;
        for folder in folders {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
        self.engine.start_again().await
    }
}
