//! One file a command; each wires parts together and holds no logic.

pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod dlq;
pub(crate) mod engine;
pub(crate) mod grants;
pub(crate) mod query;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod status;

use crate::cli::{Cli, Command};

/// Runs the command that was asked for.
pub(crate) async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let config = cli.global.config.as_deref();
    match cli.command {
        Command::Run(run) => Box::pin(run.execute(config)).await,
        Command::Query(query) => query.execute(config).await,
        Command::Check(check) => Box::pin(check.execute(&cli.global)).await,
        Command::Schema(schema) => Box::pin(schema.execute(&cli.global)).await,
        Command::Status(status) => status.execute(&cli.global).await,
        Command::Dlq(dlq) => Box::pin(dlq.execute(&cli.global)).await,
        Command::Checkpoint(checkpoint) => Box::pin(checkpoint.execute(&cli.global)).await,
        Command::Grants(grants) => grants.execute(&cli.global),
        Command::Engine(engine) => engine.execute().await,
    }
}
