//! The only place that prints: results to stdout, errors to stderr.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use tailwater_core::{Error, ErrorKind};

/// Prints an error with its causes and its hint, and returns the exit code that it stands for.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let mut text = String::from("error: ");
    let mut seen = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let line = cause.to_string();
        // Drivers repeat their cause in their own text; once is enough.
        if depth > 0 && seen.contains(&line) {
            continue;
        }
        if depth > 0 {
            text.push_str("\n  caused by: ");
        }
        text.push_str(&line);
        seen.push_str(&line);
    }
    let known = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    if let Some(known) = known {
        text.push_str("\nhint: ");
        text.push_str(known.hint());
    }
    text.push('\n');
    write_to(&mut std::io::stderr(), text.as_bytes());
    ExitCode::from(if known.is_some_and(|known| known.kind() == ErrorKind::Bug) { 3 } else { 1 })
}

/// Writes a result to stdout as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).context("a result cannot be JSON")?;
    bytes.push(b'\n');
    print(&bytes);
    Ok(())
}

/// Asks whether to go on with a plan that was shown; `yes` has answered already.
///
/// # Errors
/// `Config` where there is nobody to ask.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        let what = "nothing was done: there is nobody to ask whether to go on";
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("read the plan, then add `--yes`")
            .into());
    }
    write_to(&mut std::io::stderr(), format!("{question} [y/N] ").as_bytes());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Says to whoever runs the command what has become of it, apart from its result.
pub(crate) fn note(text: &str) {
    write_to(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

/// Writes a result to stdout.
pub(crate) fn print(bytes: &[u8]) {
    write_to(&mut std::io::stdout(), bytes);
}

/// A reader that went away (`| head`) ends the output, not the program.
fn write_to(stream: &mut impl std::io::Write, bytes: &[u8]) {
    if let Err(error) = stream.write_all(bytes).and_then(|()| stream.flush()) {
        tracing::debug!(%error, "output closed");
    }
}
