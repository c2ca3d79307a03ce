//! The demo with a Kafka in the middle: topic offsets, group lag and rows side by side, and at the end
//! the judges of every topic and table.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tailwater_testkit::kafka::Ends;
use tailwater_testkit::kafka_rig::{KafkaRig, NORMALIZED, PIPELINE, Records, Role, Setup};
use tailwater_testkit::watch::Watch;
use tokio_util::sync::CancellationToken;

use super::files;
use crate::{print, tailwater};

const TOPIC: &str = "events.mongo.ingest.files";
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// How long the first row may take, on the slowest machine.
const FIRST_ROW: Duration = Duration::from_secs(120);

/// Shows it until `interrupted`, or for `period`; then judges.
pub(super) async fn show(
    period: Option<Duration>,
    interrupted: &CancellationToken,
) -> anyhow::Result<()> {
    print(
        "starting MongoDB, a Kafka broker, ClickHouse, and source, normalize and sink in one process ...\n",
    );
    let watch = Watch::Collections(vec!["ingest.files".to_owned()]);
    let setup = Setup { records: Records::Topic, ..Setup::new(watch) };
    let rig = KafkaRig::start(&tailwater()?, setup).await?;
    let mut rig = rig.context("a server is missing: run `cargo xtask setup`")?;
    rig.add(Role::All)?;
    print(&format!(
        "\n  MongoDB      {}\n  Kafka        {}   kcat -b {} -C -t {TOPIC} -X isolation.level=read_committed\n  \
         ClickHouse   http://{}\n\n",
        rig.mongod.uri(),
        rig.kafka.bootstrap(),
        rig.kafka.bootstrap(),
        rig.engine.address()
    ));
    let stop = CancellationToken::new();
    let writer = tokio::spawn(files::write(rig.client.clone(), stop.clone()));
    let shown = watch_it(&mut rig, period, interrupted).await;
    stop.cancel();
    writer.await?.context("the workload")?;
    let judged = match shown {
        Ok(()) if period.is_some() && !interrupted.is_cancelled() => {
            print(
                "\nstopped writing; comparing topics and tables with an independent change stream ...\n",
            );
            rig.judge().await.and_then(|verdict| verdict.into_result()).map(|verdict| {
                print(&format!(
                    "{verdict}\nevery change is in Kafka and in ClickHouse exactly once\n"
                ));
            })
        }
        shown => shown,
    };
    let settled = rig.settle().await;
    judged.and(settled).with_context(|| format!("see `{}`", rig.keep().display()))
}

/// Prints what is where until the time is over.
async fn watch_it(
    rig: &mut KafkaRig,
    period: Option<Duration>,
    interrupted: &CancellationToken,
) -> anyhow::Result<()> {
    let waited = Instant::now();
    while rig.checker.keys().await == 0 {
        rig.expect_running()?;
        ensure!(waited.elapsed() < FIRST_ROW, "no row:\n{}", rig.log_tails());
        if interrupted.run_until_cancelled(tokio::time::sleep(LOOK / 10)).await.is_none() {
            return Ok(());
        }
    }
    let started = Instant::now();
    loop {
        rig.expect_running()?;
        print(&line(rig, started.elapsed()).await?);
        if period.is_some_and(|period| started.elapsed() >= period)
            || interrupted.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none()
        {
            return Ok(());
        }
    }
}

/// One moment: what MongoDB has, where the topics end, how far the groups are behind, what the table has.
async fn line(rig: &KafkaRig, elapsed: Duration) -> anyhow::Result<String> {
    let (raw, normalized) = (rig.cluster.ends(TOPIC).await?, rig.cluster.ends(NORMALIZED).await?);
    let normalize = behind(rig, "normalize", TOPIC, &raw).await?;
    let sink = behind(rig, "sink", TOPIC, &raw).await?
        + behind(rig, "sink", NORMALIZED, &normalized).await?;
    let (changes, rows) = (rig.truth.len().await, rig.checker.keys().await);
    let mut text = format!("{:>4} s   MongoDB {changes:>7} changes", elapsed.as_secs());
    for (name, ends) in [("raw", raw), ("normalized", normalized)] {
        let ends = ends.iter().map(|ends| ends.stable.to_string());
        let written = write!(text, "   {name} {}", ends.collect::<Vec<_>>().join(" "));
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    Ok(format!(
        "{text}   normalize {normalize}, sink {sink} offsets behind   ClickHouse {rows:>7} rows\n"
    ))
}

/// By how many offsets a part's group is behind a topic's committed ends.
async fn behind(rig: &KafkaRig, part: &str, topic: &str, ends: &[Ends]) -> anyhow::Result<u64> {
    let committed = rig.cluster.committed(&format!("{PIPELINE}.{part}"), topic).await?;
    let of_partition = |(partition, ends): (u32, &Ends)| {
        let done = committed.iter().find(|done| done.partition == partition);
        ends.stable.saturating_sub(done.map_or(ends.first, |done| done.offset))
    };
    Ok((0..).zip(ends).map(of_partition).sum())
}
