//! Takes ClickHouse away under load until much more has piled up in MongoDB than `run` may hold,
//! gives it back, and looks whether memory stayed bounded and everything arrives once by itself.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::servers::Weather;
use crate::weighing::{ALLOWANCE, MIB, Way, Weighing, Written};

/// What happens.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How changes get to ClickHouse.
    pub way: Way,
    /// The budget of `run`.
    pub memory_bytes: u64,
    /// How many documents are changed, in turn.
    pub documents: u32,
    /// Their size.
    pub document_bytes: usize,
    /// A pause after each change.
    pub pause: Duration,
    /// ClickHouse stays away until changes of so many bytes were made,
    pub at_least_bytes: u64,
    /// and for so long.
    pub at_least_time: Duration,
}

impl Plan {
    /// Some seconds: the least budget, and changes of four times as much.
    pub const fn short(way: Way) -> Self {
        Self {
            way,
            memory_bytes: 64 * MIB,
            documents: 12,
            document_bytes: 4_000_000,
            pause: Duration::ZERO,
            at_least_bytes: 256 * MIB,
            at_least_time: Duration::ZERO,
        }
    }

    /// As long as that, with a budget of 128 MiB and 4 MB of changes a second.
    pub const fn long(way: Way, time: Duration) -> Self {
        Self {
            way,
            memory_bytes: 128 * MIB,
            documents: 200,
            document_bytes: 200_000,
            pause: Duration::from_millis(50),
            at_least_bytes: 512 * MIB,
            at_least_time: time,
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// The budget, in bytes.
    pub memory_bytes: u64,
    /// What was written.
    pub written: Written,
    /// How long ClickHouse was away.
    pub away: Duration,
    /// What `run` held when it took no more, in bytes.
    pub full: u64,
    /// What it held at most, from its start to the end, in bytes.
    pub most: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_bytes, written, away, full, most } = self;
        writeln!(f, "{written}; ClickHouse was away for {} s", away.as_secs())?;
        writeln!(
            f,
            "budget {} MiB: {} MiB resident when full, {} MiB at most, {} MiB allowed",
            memory_bytes / MIB,
            full / MIB,
            most / MIB,
            (memory_bytes + ALLOWANCE) / MIB,
        )?;
        write!(f, "verdict: bounded, and everything is there once")
    }
}

/// Runs it; `tell` hears of every few seconds. `None`: a server is missing here, skip.
///
/// # Errors
///
/// When memory was not bounded, or something is lost, twice or changed; the message says where the
/// log is.
pub async fn run(
    binary: &Path,
    plan: &Plan,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Option<Report>> {
    let Some(mut weighing) = Weighing::start(binary, plan.memory_bytes, plan.way).await? else {
        return Ok(None);
    };
    match play(&mut weighing, plan, &mut tell).await {
        Ok(report) => Ok(Some(report)),
        Err(error) => Err(error).with_context(|| format!("see `{}`", weighing.keep().display())),
    }
}

async fn play(
    weighing: &mut Weighing,
    plan: &Plan,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Report> {
    weighing.insert(plan.documents, plan.document_bytes).await?;
    weighing.settle().await?;
    weighing.proxy.turn(Weather::Broken);
    let (began, before) = (Instant::now(), weighing.written.bytes);
    let mut told = began;
    while weighing.written.bytes - before < plan.at_least_bytes
        || began.elapsed() < plan.at_least_time
    {
        weighing.update_next().await?;
        tokio::time::sleep(plan.pause).await;
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            tell(&state(weighing, began)?);
        }
    }
    let full = weighing.wait_until_full().await?.now;
    let away = began.elapsed();
    tell(&state(weighing, began)?);
    weighing.proxy.turn(Weather::Clear);
    weighing.settle().await?;
    tell(&state(weighing, began)?);
    let most = weighing.expect_bounded()?;
    let (memory_bytes, written) = (plan.memory_bytes, weighing.written);
    if written.bytes - before < 2 * memory_bytes {
        bail!("what piled up would have fitted into the budget");
    }
    Ok(Report { memory_bytes, written, away, full, most })
}

fn state(weighing: &mut Weighing, began: Instant) -> anyhow::Result<String> {
    let resident = weighing.resident()?.now / MIB;
    Ok(format!(
        "{:>4} s: {resident:>5} MiB resident; {}",
        began.elapsed().as_secs(),
        weighing.written
    ))
}
