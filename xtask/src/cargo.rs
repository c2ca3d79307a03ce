//! Calls `cargo`, and the testkit's binary that it has built.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::say;

/// The `cargo` that runs this program.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `cargo` with these arguments and fails when it fails.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    succeed(cargo().args(arguments), &format!("cargo {}", arguments.join(" ")))
}

/// As [`run`], with one variable set.
pub(crate) fn run_with(variable: (&str, &str), arguments: &[&str]) -> anyhow::Result<()> {
    let (name, value) = variable;
    let line = format!("{name}={value:?} cargo {}", arguments.join(" "));
    succeed(cargo().args(arguments).env(name, value), &line)
}

fn succeed(command: &mut Command, line: &str) -> anyhow::Result<()> {
    say(&format!("> {line}"));
    let status = command.status().context("cannot run `cargo`")?;
    ensure!(status.success(), "`{line}` failed");
    Ok(())
}

/// Builds the documentation; a warning is a failure.
pub(crate) fn document() -> anyhow::Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    run_with(("RUSTDOCFLAGS", "-D warnings"), &arguments)
}

/// Runs all tests.
pub(crate) fn test() -> anyhow::Result<()> {
    count(cargo().args(TEST))
}

/// Runs all tests where a missing server is a failure.
pub(crate) fn test_in_ci() -> anyhow::Result<()> {
    count(cargo().args(TEST).env("CI", "true"))
}

const TEST: [&str; 3] = ["test", "--workspace", "--no-fail-fast"];

/// Hands the output of `cargo test` on, and ends with the total.
fn count(command: &mut Command) -> anyhow::Result<()> {
    say(&format!("> cargo {}", TEST.join(" ")));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run `cargo`")?;
    let output = child.stdout.take().context("`cargo test` has no output")?;
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if line.starts_with("test result: ") {
            passed += figure(&line, " passed");
            failed += figure(&line, " failed");
            ignored += figure(&line, " ignored");
        }
        say(&line);
    }
    let status = child.wait()?;
    let result = if status.success() { "ok" } else { "FAILED" };
    say(&format!("total: {result}. {passed} passed; {failed} failed; {ignored} ignored"));
    if !status.success() {
        bail!("`cargo test` failed");
    }
    Ok(())
}

/// The number before `name` in `test result: ok. 3 passed; 0 failed; …`.
fn figure(line: &str, name: &str) -> u64 {
    let before = line.split(name).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// A program that was built with this one and stands beside it.
fn beside(program: &str) -> anyhow::Result<Command> {
    let here = std::env::current_exe().context("cannot find this program's folder")?;
    Ok(Command::new(here.with_file_name(program)))
}

/// Runs a program that was built with this one, and fails when it fails.
pub(crate) fn run_beside(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    say(&format!("> {line}"));
    let status = beside(program)?.args(arguments).status();
    let status = status.with_context(|| format!("cannot run `{program}`"))?;
    ensure!(status.success(), "`{line}` failed");
    Ok(())
}

/// Replaces this process by the testkit's binary, so that Ctrl-C reaches it and its exit code is
/// ours.
pub(crate) fn become_testkit(command: &[&str], arguments: &[String]) -> anyhow::Result<()> {
    let error = beside("tailwater-testkit")?.args(command).args(arguments).exec();
    Err(error).context("cannot run `tailwater-testkit`")
}

/// As [`become_testkit`], with what was built in release.
pub(crate) fn become_release_testkit(command: &[&str], arguments: &[String]) -> anyhow::Result<()> {
    let debug = PathBuf::from(beside("tailwater-testkit")?.get_program());
    let target = debug.parent().and_then(Path::parent).context("it stands in no target folder")?;
    let testkit = target.join("release/tailwater-testkit");
    let error = Command::new(testkit).args(command).args(arguments).exec();
    Err(error).context("cannot run `tailwater-testkit`")
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn the_figures_of_a_test_run_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(figure(line, " passed"), 12);
        assert_eq!(figure(line, " failed"), 3);
        assert_eq!(figure(line, " ignored"), 1);
    }
}
