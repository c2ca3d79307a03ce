//! The smallest host of an engine, for tests: takes `tailwater engine serve`'s arguments, and
//! `parent STATE`, which starts an engine as `tailwater run` does and then waits to be killed.

use std::path::PathBuf;
use std::process::ExitCode;

use tailwater_embedded::{EngineOptions, EngineProcess, PASSWORD_VARIABLE, ServeOptions, serve};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["engine", "serve", "--state", state, "--listen", listen, "--child"] => {
            let Ok(listen) = listen.parse() else { return ExitCode::from(2) };
            let password = std::env::var(PASSWORD_VARIABLE).ok();
            serve(ServeOptions { state: PathBuf::from(state), listen, password, child: true }).await
        }
        ["parent", state] => parent(PathBuf::from(state)).await,
        _ => return ExitCode::from(2),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn parent(state: PathBuf) -> tailwater_core::Result<()> {
    let Ok(program) = std::env::current_exe() else { return Ok(()) };
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let engine = EngineProcess::start(EngineOptions {
        program,
        state: state.clone(),
        listen,
        password: None,
    })
    .await?;
    // The test waits for this file.
    let told = std::fs::write(state.join("address"), engine.address().to_string());
    if told.is_ok() {
        std::future::pending::<()>().await;
    }
    Ok(())
}
