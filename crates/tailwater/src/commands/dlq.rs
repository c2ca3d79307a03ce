//! `tailwater dlq`: lists and shows dead letters, and produces their records again.

use clap::{Args, Subcommand};
use tailwater_core::config::{Config, Given, Parts};
use tailwater_core::position::Millis;
use tailwater_core::{Error, ErrorKind};

use crate::cli::{Format, Global};
use crate::letters::{self, Filter, Letters, Shown, replay};
use crate::{config_file, console};

/// List, show or replay dead letters.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Dlq {
    /// The dead letters, the oldest first
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// One dead letter, with its record as it was
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Where its record was, as `list` prints it: `topic-partition@offset`
        id: String,
    },
    /// Produce records again that became dead letters
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
}

const EXAMPLES: &str = "\
A dead letter is a record that could not be processed, kept as it was with the reason beside it:
normalize keeps them in a topic, the sink in the table `tailwater_dead_letters`.

Examples:
  tailwater dlq list -c tailwater.yaml
  tailwater dlq show -c tailwater.yaml events.mongo.ingest.files-3@812
  tailwater dlq replay -c tailwater.yaml --reason unmapped";

const LIST_EXAMPLES: &str = "\
Examples:
  tailwater dlq list -c tailwater.yaml
  tailwater dlq list -c tailwater.yaml --reason not_json --since 2026-01-31T12:00:00Z
  tailwater dlq list -c tailwater.yaml --replayed --format json";

const SHOW_EXAMPLES: &str = "\
Bytes that are no UTF-8 are shown as hex digits.

Examples:
  tailwater dlq show -c tailwater.yaml events.mongo.ingest.files-3@812
  tailwater dlq show -c tailwater.yaml events.mongo.ingest.files-3@812 --format json";

const REPLAY_EXAMPLES: &str = "\
What it means: the record is produced again, as it was, into the topic and the partition that it
was in, with a mark beside the letters in the same transaction. It is then processed like any other,
by the mapping and the tables of then: so mend first what was wrong, or it becomes a dead letter
again. Nothing needs to be stopped.

Left out is what was replayed before, whose event has a row by now, or whose record is gone: letters
of the sink do not hold all of it, so it must still be in its topic.

The plan is shown first; `--yes` carries it out without asking.

Examples:
  tailwater dlq replay -c tailwater.yaml events.mongo.ingest.files-3@812
  tailwater dlq replay -c tailwater.yaml --reason unmapped --since 2026-01-31T12:00:00Z
  tailwater dlq replay -c tailwater.yaml --all --yes";

/// Which dead letters.
#[derive(Debug, Args)]
struct Which {
    /// Only those of this reason
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Only those of events since then, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Millis>,
}

/// The dead letters.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    which: Which,
    /// The last so many
    #[arg(long, value_name = "COUNT", default_value = "100")]
    limit: usize,
    /// Also those that were replayed
    #[arg(long)]
    replayed: bool,
}

/// Produce records again.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// These, as `list` prints them
    #[arg(value_name = "ID", conflicts_with_all = ["reason", "since", "limit"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "reason", "since"])]
    all: bool,
    /// Of these the last so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

fn parse_time(text: &str) -> Result<Millis, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "expected a time such as 2026-01-31T12:00:00Z".to_owned())?;
    Ok(Millis(time.as_millisecond()))
}

impl Dlq {
    pub(crate) async fn execute(self, global: &Global) -> anyhow::Result<()> {
        let file = config_file::require(global.config.as_deref())?;
        // Nothing of what says which events have rows may be left out.
        let parts = Parts { sink: true, ..Parts::default() };
        let given = Given { parts: Some(parts), ..Given::default() };
        let config = config_file::read(&file, &given)?;
        match self {
            Self::List(list) => list.execute(&config, global).await,
            Self::Show { id } => {
                let shown = Letters::open(&config).await?.show(&id).await?;
                let texts = || shown.iter().map(Shown::to_text).collect::<Vec<_>>();
                match global.format {
                    Format::Text => console::print(texts().join("\n").as_bytes()),
                    Format::Json => console::print_json(&shown)?,
                }
                Ok(())
            }
            Self::Replay(replay) => replay.execute(&config, global).await,
        }
    }
}

impl List {
    async fn execute(self, config: &Config, global: &Global) -> anyhow::Result<()> {
        let Self { which: Which { reason, since }, limit, replayed } = self;
        let filter = Filter { reason, since, replayed };
        let all = Letters::open(config).await?.list(&filter).await?;
        let more = all.len().saturating_sub(limit);
        match global.format {
            Format::Text => console::print(letters::to_text(&all[more..]).as_bytes()),
            Format::Json => console::print_json(&all[more..].to_vec())?,
        }
        if more > 0 {
            console::note(&format!("{more} earlier ones are not shown: `--limit` shows more"));
        }
        Ok(())
    }
}

impl Replay {
    async fn execute(self, config: &Config, global: &Global) -> anyhow::Result<()> {
        let Some(kafka) = &config.kafka else {
            let what = "there is no topic to produce records into again: the config has no `kafka`";
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("write the documents again in MongoDB: each change is a new event")
                .into());
        };
        let Self { ids, which: Which { reason, since }, all, limit } = self;
        if ids.is_empty() && reason.is_none() && since.is_none() && !all {
            let what = "nothing says which dead letters to replay";
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("name some by their ids, or give `--reason`, `--since` or `--all`")
                .into());
        }
        let letters = Letters::open(config).await?;
        let mut chosen = match ids.is_empty() {
            true => letters.list(&Filter { reason, since, replayed: false }).await?,
            false => letters.of_ids(&ids).await?,
        };
        chosen.drain(..chosen.len().saturating_sub(limit.unwrap_or(usize::MAX)));
        let plan = replay::plan(config, kafka, &letters, chosen).await?;
        match global.format {
            Format::Text => console::print(plan.to_text().as_bytes()),
            Format::Json => console::print_json(&plan)?,
        }
        if !plan.is_empty() && console::confirm("Produce them again?", global.yes)? {
            let count = plan.carry_out(config, kafka, &letters).await?;
            console::note(&format!("produced again: {count}"));
        }
        Ok(())
    }
}
