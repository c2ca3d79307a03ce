//! The demo: real servers, a live workload, the guide's queries, and at the end the judge.

mod chain;
mod files;
mod screen;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use tailwater_testkit::rig::Rig;
use tailwater_testkit::servers::{Exit, Target, free_port};
use tokio_util::sync::CancellationToken;

use crate::{print, tailwater};
use screen::{Moment, Screen};

/// Where the embedded engine listens by default, if nobody else does.
const USUAL_PORT: u16 = 8123;

/// The guide's queries, in the form that runs.
const QUERIES: [&str; 4] = [
    "SELECT count() FROM record_raw WHERE ts >= now() - INTERVAL 5 MINUTE",
    "SELECT round(quantileExact(0.95)(attrs.latency_sec::Nullable(Float64)), 3) FROM record_raw WHERE ts >= now() - INTERVAL 15 MINUTE",
    "SELECT op, count() FROM record_raw GROUP BY op ORDER BY op",
    "SELECT doc.status::String AS status, count(), sum(doc.size_bytes::Int64) FROM ingest__files_current GROUP BY status ORDER BY status",
];

/// Show it: a real MongoDB with live writes, Tailwater, a real ClickHouse.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// End by itself after this time, such as `20s`, and judge that every change arrived once
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    period: Option<Duration>,
    /// With a Kafka in the middle: topic offsets, group lag and rows side by side
    #[arg(long)]
    kafka: bool,
    /// Where ClickHouse answers HTTP
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let number: u64 = number.parse().context("a time is a number and `s` or `m`")?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => bail!("a time is a number and `s` or `m`"),
    }
}

impl Demo {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        // Registered before anything is started, so that no Ctrl-C is lost.
        let interrupted = CancellationToken::new();
        let on_interrupt = interrupted.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                on_interrupt.cancel();
            }
        });
        if self.kafka {
            return chain::show(self.period, &interrupted).await;
        }
        let listen = match self.listen {
            Some(listen) => listen,
            None => SocketAddr::from(([127, 0, 0, 1], usual_port()?)),
        };
        print("starting MongoDB (a replica set of one), Tailwater and its ClickHouse engine ...\n");
        let begin = self.begin(listen);
        let Some(mut rig) = interrupted.run_until_cancelled(begin).await.transpose()? else {
            return Ok(());
        };
        print(&introduction(&rig));

        let stop = CancellationToken::new();
        let writer = tokio::spawn(files::write(rig.client.clone(), stop.clone()));
        let result = self.show(&mut rig, &interrupted).await;
        stop.cancel();
        writer.await?.context("the workload")?;
        let judged = match (result, self.period) {
            (Ok(()), Some(_)) if !interrupted.is_cancelled() => judge(&mut rig).await,
            (result, _) => result,
        };
        let exit = rig.tailwater.terminate(Duration::from_secs(60)).await?;
        let settled = judged.and_then(|()| {
            ensure!(exit == Exit::Code(0), "`run` ended with {exit:?}");
            Ok(())
        });
        settled.with_context(|| format!("see `{}`", rig.keep().display()))
    }

    async fn begin(&self, listen: SocketAddr) -> anyhow::Result<Rig> {
        let namespaces = ["ingest.files".to_owned()];
        let mut rig = Rig::assemble(&tailwater()?, &namespaces, Target::Embedded(listen))
            .await?
            .context("a server is missing: run `cargo xtask setup`")?;
        let mut random = StdRng::seed_from_u64(1);
        rig.warm_up(|_| files::arrived(&mut random)).await?;
        Ok(rig)
    }

    /// Draws until the time is over.
    async fn show(&self, rig: &mut Rig, interrupted: &CancellationToken) -> anyhow::Result<()> {
        let mut screen = Screen::new();
        let started = Instant::now();
        let mut moment = Moment::default();
        loop {
            let over = self.period.is_some_and(|period| started.elapsed() >= period);
            if over || interrupted.is_cancelled() {
                screen.finish(&moment);
                return Ok(());
            }
            moment = look(rig, started.elapsed(), &moment).await?;
            screen.draw(&moment);
            interrupted.run_until_cancelled(tokio::time::sleep(screen.interval())).await;
        }
    }
}

fn usual_port() -> anyhow::Result<u16> {
    match std::net::TcpListener::bind(("127.0.0.1", USUAL_PORT)) {
        Ok(_) => Ok(USUAL_PORT),
        Err(_) => free_port(),
    }
}

fn introduction(rig: &Rig) -> String {
    let (listen, mongodb) = (rig.arguments.target.address(), &rig.arguments.source);
    format!(
        "\n  MongoDB      {mongodb}\n  \
         ClickHouse   http://{listen}   any client, user `default`, no password\n               \
         curl 'http://{listen}/?query=SELECT+op,count()+FROM+record_raw+GROUP+BY+op'\n  \
         metrics      http://127.0.0.1:{}/metrics\n\n",
        rig.arguments.http
    )
}

async fn look(rig: &mut Rig, elapsed: Duration, before: &Moment) -> anyhow::Result<Moment> {
    rig.tailwater.expect_running()?;
    let changes = u64::try_from(rig.truth.len().await)?;
    let rows = rig.checker.keys().await;
    let clickhouse = &rig.checker.clickhouse;
    let newest = "SELECT dateDiff('ms', max(ts), now64(3)) AS age FROM record_raw";
    let newest: Value = clickhouse.one(newest).await?;
    let mut answers = Vec::new();
    for query in QUERIES {
        let rows: Vec<Vec<Value>> = clickhouse.compact(query).await?;
        let lines = rows.iter().map(|row| row.iter().map(plain).collect::<Vec<_>>().join("   "));
        answers.push((query, lines.collect()));
    }
    let seconds = (elapsed - before.elapsed).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let rate = if before.rows > 0 && seconds > 0.0 {
        rows.saturating_sub(before.rows) as f64 / seconds
    } else {
        0.0
    };
    let lag = newest["age"].as_f64().map(|millis| millis / 1000.0);
    Ok(Moment { elapsed, changes, rows, rate, lag, answers })
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn judge(rig: &mut Rig) -> anyhow::Result<()> {
    print("\nstopped writing; comparing ClickHouse with an independent change stream ...\n");
    let verdict = rig.judge().await?.into_result()?;
    print(&format!("{verdict}\nevery change is in ClickHouse exactly once\n"));
    Ok(())
}
