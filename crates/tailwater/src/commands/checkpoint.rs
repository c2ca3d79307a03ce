//! `tailwater checkpoint`: shows how far streams and groups are, and sets them back.

use clap::{Args, Subcommand, ValueEnum};
use tailwater_core::config::{Config, Given, Parts};
use tailwater_core::position::Millis;

use crate::checkpoints::Checkpoints;
use crate::checkpoints::rewind::{self, Plan, To};
use crate::cli::{Format, Global};
use crate::{config_file, console};

/// List, show or set back how far streams and groups are.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Checkpoint {
    /// How far all streams and groups are
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// What is known of one stream, topic or topic-partition, with the earlier checkpoints of a stream
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The entry of a stream (`ingest.files`), a topic, or a topic-partition (`topic-0`)
        name: String,
    },
    /// Set a part back, so that it reads again what it has read
    #[command(after_help = REWIND_EXAMPLES)]
    Rewind(Rewind),
}

const EXAMPLES: &str = "\
Streams have their checkpoints in the topic `<pipeline>.checkpoints`, or in the state folder; the
topic-partitions of normalize and sink have theirs as offsets of their groups. How far normalize is
stands in that topic, too, and the greater one counts.

Examples:
  tailwater checkpoint list -c tailwater.yaml
  tailwater checkpoint show -c tailwater.yaml ingest.files
  tailwater checkpoint rewind -c tailwater.yaml sink --to 2026-01-31T12:00:00Z";

const LIST_EXAMPLES: &str = "\
Examples:
  tailwater checkpoint list -c tailwater.yaml
  tailwater checkpoint list -c tailwater.yaml --format json";

const SHOW_EXAMPLES: &str = "\
Examples:
  tailwater checkpoint show -c tailwater.yaml ingest.files
  tailwater checkpoint show -c tailwater.yaml events.mongo.ingest.files-3";

const REWIND_EXAMPLES: &str = "\
What it means:
  sink       reads again and compares with the rows that are there: what is missing is written, and
             nothing comes twice
  normalize  normalizes again: the normalized topic and the event table get those events a second time
  source     publishes again: raw topics and event table get those events a second time. Without a
             Kafka it compares, as the sink does

The part must not run. The plan is shown first; `--yes` carries it out without asking.

Examples:
  The sink, all of it, to a moment:
    tailwater checkpoint rewind -c tailwater.yaml sink --to 2026-01-31T12:00:00Z
  One topic-partition to an offset:
    tailwater checkpoint rewind -c tailwater.yaml sink --to 1200 events.mongo.ingest.files-3
  A group whose topic has lost records that it had read:
    tailwater checkpoint rewind -c tailwater.yaml sink --to end events.mongo.ingest.files-3
  A stream to one of its last checkpoints, of which `checkpoint show` has the numbers:
    tailwater checkpoint rewind -c tailwater.yaml source --to 41 ingest.files";

/// Set a part back.
#[derive(Debug, Args)]
pub(crate) struct Rewind {
    /// The part
    #[arg(value_enum)]
    part: Part,
    /// Where to: a time such as 2026-01-31T12:00:00Z; an offset, `beginning` or `end` of a group; the
    /// number of a checkpoint of a stream
    #[arg(long, value_name = "WHERE", value_parser = parse_to)]
    to: To,
    /// Only these streams, topics or topic-partitions
    #[arg(value_name = "NAME")]
    only: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The streams.
    Source,
    /// The group `<pipeline>.normalize`.
    Normalize,
    /// The group `<pipeline>.sink`.
    Sink,
}

fn parse_to(text: &str) -> Result<To, String> {
    match text {
        "beginning" => return Ok(To::Beginning),
        "end" => return Ok(To::End),
        _ => {}
    }
    if let Ok(number) = text.parse() {
        return Ok(To::Number(number));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        "expected `beginning`, `end`, a number, or a time such as 2026-01-31T12:00:00Z".to_owned()
    })?;
    Ok(To::Time(Millis(time.as_millisecond())))
}

impl Checkpoint {
    pub(crate) async fn execute(self, global: &Global) -> anyhow::Result<()> {
        let file = config_file::require(global.config.as_deref())?;
        let given = Given { parts: Some(Parts::default()), ..Given::default() };
        let config = config_file::read(&file, &given)?;
        let found = match self {
            Self::List => checkpoints(&config).await?.newest(),
            Self::Show { name } => checkpoints(&config).await?.of(&name)?,
            Self::Rewind(rewind) => return rewind.execute(&config, global).await,
        };
        match global.format {
            Format::Text => console::print(found.to_text().as_bytes()),
            Format::Json => console::print_json(&found)?,
        }
        Ok(())
    }
}

async fn checkpoints(config: &Config) -> anyhow::Result<Checkpoints> {
    match &config.kafka {
        Some(kafka) => Checkpoints::of_kafka(config, kafka).await,
        None => Checkpoints::of_folder(config),
    }
}

impl Rewind {
    async fn execute(self, config: &Config, global: &Global) -> anyhow::Result<()> {
        let Self { part, to, only } = self;
        let plan: Plan = match (part, &config.kafka) {
            (Part::Source, Some(kafka)) => rewind::of_topic(config, kafka, to, &only).await?,
            (Part::Source, None) => rewind::of_folder(config, to, &only)?,
            (Part::Normalize, _) => {
                rewind::of_group(config, config.require_kafka()?, "normalize", to, &only).await?
            }
            (Part::Sink, _) => {
                rewind::of_group(config, config.require_kafka()?, "sink", to, &only).await?
            }
        };
        match global.format {
            Format::Text => console::print(plan.to_text().as_bytes()),
            Format::Json => console::print_json(&plan)?,
        }
        if plan.moves.is_empty() {
            console::note("nothing is to be set back");
        } else if console::confirm("Set it back?", global.yes)? {
            plan.carry_out().await?;
            console::note("set back");
        }
        Ok(())
    }
}
