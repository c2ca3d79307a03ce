//! `tailwater schema`: shows, makes and drops the tables and topics of a config.

use clap::{Args, Subcommand, ValueEnum};
use tailwater_core::config::{Config, Given, Parts};
use tailwater_core::plan::Plan;
use tailwater_core::{Error, ErrorKind};

use crate::cli::{Format, Global};
use crate::schema::{self, Servers};
use crate::{config_file, console};

/// Show, make or drop the tables and topics of a config.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Schema {
    /// Show what is there, and what `apply` would make or change
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Filling),
    /// Make what is missing, and change what does not fit, after it was shown
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(Filling),
    /// Drop what the pipeline has made, after it was shown
    #[command(after_help = TEARDOWN_EXAMPLES)]
    Teardown(Teardown),
}

const EXAMPLES: &str = "\
`run` makes what is missing by itself and changes nothing; `apply` does it ahead, and changes too.

Examples:
  tailwater schema plan -c tailwater.yaml
  tailwater schema apply -c tailwater.yaml --yes
  tailwater schema teardown -c tailwater.yaml --data";

const PLAN_EXAMPLES: &str = "\
Passwords are not shown. An embedded engine that does not run is started for the question.

Examples:
  tailwater schema plan -c tailwater.yaml
  tailwater schema plan -c tailwater.yaml --ingest kafka-engine
  tailwater schema plan -c tailwater.yaml --format json";

const APPLY_EXAMPLES: &str = "\
It makes tables and topics, adds columns, and sets the time to live (older rows go) and the
deduplication window. A topic that is there is looked at and left as it is.

Examples:
  Ask, then do it:
    tailwater schema apply -c tailwater.yaml
  Let ClickHouse read the topics itself, instead of the sink (docs/option-a.md):
    tailwater schema apply -c tailwater.yaml --ingest kafka-engine --yes";

const TEARDOWN_EXAMPLES: &str = "\
Without `--data` it drops only what holds no data: the Kafka engine's table and views. With it go the
tables, topics and groups of this pipeline, which must not run; the plan says what is lost with each.
Tables and views of others stay. A topic that is listed goes for all who read it.

Examples:
  tailwater schema teardown -c tailwater.yaml
  tailwater schema teardown -c tailwater.yaml --data --yes";

/// Who fills the tables.
#[derive(Debug, Args)]
pub(crate) struct Filling {
    /// Who fills the event table
    #[arg(long, value_enum, value_name = "WHO", default_value = "sink")]
    ingest: Ingest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ingest {
    /// `tailwater run`: exactly once, with the current state.
    Sink,
    /// ClickHouse itself, by its Kafka engine: at least once, and the event table alone.
    KafkaEngine,
}

/// What goes.
#[derive(Debug, Args)]
pub(crate) struct Teardown {
    /// Drop the tables and topics too, with all that is in them, and the consumer groups
    #[arg(long)]
    data: bool,
}

impl Schema {
    pub(crate) async fn execute(self, global: &Global) -> anyhow::Result<()> {
        let file = config_file::require(global.config.as_deref())?;
        // What a secret of the source leads to need not be there.
        let parts = Some(Parts { sink: true, ..Parts::default() });
        let config = config_file::read(&file, &Given { parts, ..Given::default() })?;
        if let Self::Plan(filling) | Self::Apply(filling) = &self
            && filling.ingest == Ingest::KafkaEngine
        {
            schema::expect_readable(&config)?;
        }
        let servers = Servers::reach(&config).await?;
        let result = self.execute_on(&servers, &config, global).await;
        servers.leave().await;
        result
    }

    async fn execute_on(
        self,
        servers: &Servers,
        config: &Config,
        global: &Global,
    ) -> anyhow::Result<()> {
        let (plan, question) = match &self {
            Self::Plan(filling) => (servers.plan(config, filling.ingest.into()).await?, None),
            Self::Apply(filling) => {
                (servers.plan(config, filling.ingest.into()).await?, Some("Make this?"))
            }
            Self::Teardown(Teardown { data }) => {
                (servers.teardown(config, *data).await?, Some("Drop this for good?"))
            }
        };
        match global.format {
            Format::Text => console::print(plan.to_string().as_bytes()),
            Format::Json => console::print_json(&plan)?,
        }
        expect_sound(&plan)?;
        let Some(question) = question.filter(|_| plan.work().next().is_some()) else {
            return Ok(());
        };
        if console::confirm(question, global.yes)? {
            servers.carry_out(&plan).await?;
            console::note("done");
        }
        Ok(())
    }
}

impl From<Ingest> for schema::Ingest {
    fn from(ingest: Ingest) -> Self {
        match ingest {
            Ingest::Sink => Self::Sink,
            Ingest::KafkaEngine => Self::KafkaEngine,
        }
    }
}

fn expect_sound(plan: &Plan) -> anyhow::Result<()> {
    let wrong: Vec<String> = plan.wrong().map(|step| step.thing.clone()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let what = format!("nothing was done: this must be mended by hand: {}", wrong.join(", "));
    Err(Error::new(ErrorKind::Unsuitable, what).with_hint("the plan says what to do").into())
}
