//! The ClickHouse of a config or of a state folder, for commands that ask it something.

use std::path::Path;

use anyhow::Context as _;
use secrecy::SecretString;
use tailwater_clickhouse::{Connection, Endpoint};
use tailwater_core::config::Target;
use tailwater_core::{Error, ErrorKind};
use tailwater_embedded::{EngineOptions, EngineProcess, PASSWORD_VARIABLE, last_address};

/// The server to ask; an embedded engine that does not run is started for as long as what is given
/// beside it lives.
pub(crate) async fn reach(
    target: &Target,
    state: &Path,
) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
    match target {
        Target::Server(endpoint) => Ok((endpoint.clone(), None)),
        Target::Embedded { password, .. } => embedded(state, password.clone()).await,
    }
}

/// The engine of a state folder: the one that runs, or one for this question alone.
pub(crate) async fn embedded(
    state: &Path,
    password: Option<SecretString>,
) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
    let Some(running) = last(state, password)? else {
        let what = format!("the state folder `{}` has no embedded engine", state.display());
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("name the folder of `tailwater run` with `--state`, or a ClickHouse with `--target`")
            .into());
    };
    if Connection::new(running.clone())?.ping().await.is_ok() {
        return Ok((running, None));
    }
    start(state).await
}

/// The server to make tables in: as [`reach`], and an embedded engine that never ran is made.
pub(crate) async fn reach_or_make(
    target: &Target,
    state: &Path,
) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
    match target {
        Target::Embedded { .. } if last_address(state).is_none() => start(state).await,
        target => reach(target, state).await,
    }
}

/// An engine for as long as what is given beside it lives.
async fn start(state: &Path) -> anyhow::Result<(Endpoint, Option<EngineProcess>)> {
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let listen = ([127, 0, 0, 1], 0).into();
    let options = EngineOptions { program, state: state.to_owned(), listen, password: None };
    let engine = EngineProcess::start(options).await?;
    Ok((Endpoint::parse(&engine.url())?, Some(engine)))
}

/// The server to ask, without starting anything; `None` where there never was one.
pub(crate) fn running(target: &Target, state: &Path) -> anyhow::Result<Option<Connection>> {
    let endpoint = match target {
        Target::Server(endpoint) => Some(endpoint.clone()),
        Target::Embedded { password, .. } => last(state, password.clone())?,
    };
    Ok(endpoint.map(Connection::new).transpose()?)
}

/// Where the engine of a state folder listened last.
fn last(state: &Path, password: Option<SecretString>) -> anyhow::Result<Option<Endpoint>> {
    let Some(address) = last_address(state) else { return Ok(None) };
    let of_environment = || std::env::var(PASSWORD_VARIABLE).ok().map(SecretString::from);
    let mut running = Endpoint::parse(&format!("http://{address}"))?;
    running.password = password.or_else(of_environment).unwrap_or_default();
    Ok(Some(running))
}
