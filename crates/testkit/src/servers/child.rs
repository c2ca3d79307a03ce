//! A child process that dies with this one, even when this one is killed.
//!
//! The kernel sends the death signal when the *thread* that started the child ends, so every child
//! is started from one thread that lives as long as the process. `setpriv` sets the signal and then
//! becomes the program: the process id is the program's own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By a signal.
    Signal,
}

/// A running child and the file that holds its output.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
}

type Order = (Command, mpsc::Sender<io::Result<std::process::Child>>);

/// Starts the command on the thread that never ends.
fn spawn_from_lasting_thread(command: Command) -> anyhow::Result<std::process::Child> {
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // The asker waits for the answer, so it cannot be gone.
                drop(answer.send(command.spawn()));
            }
        });
        sender
    });
    let (answer, answered) = mpsc::channel();
    orders.send((command, answer)).ok().context("the thread that starts processes is gone")?;
    Ok(answered.recv()??)
}

impl Child {
    /// Starts `program`; its standard output and error are appended to `log`.
    pub(crate) fn start(program: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open `{}`", log.display()))?;
        let mut command = Command::new("setpriv");
        // A group of its own: Ctrl-C in a terminal is for the program that started all this.
        command
            .process_group(0)
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = spawn_from_lasting_thread(command)
            .with_context(|| format!("cannot start `{name}` through `setpriv` (util-linux)"))?;
        Ok(Self { name, process, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything that the process has written.
    pub(crate) fn output(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the output, for messages.
    pub(crate) fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<Exit>> {
        Ok(self.process.try_wait()?.map(|status| status.code().map_or(Exit::Signal, Exit::Code)))
    }

    /// Sends a signal to the process, if it still runs.
    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            signal_process(self.id(), signal)?;
        }
        Ok(())
    }

    /// Kills it at once and takes its exit status.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            self.process.kill()?;
            self.process.wait()?;
        }
        Ok(())
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> anyhow::Result<Exit> {
        let started = Instant::now();
        loop {
            if let Some(exit) = self.ended()? {
                return Ok(exit);
            }
            if started.elapsed() > deadline {
                bail!("`{}` did not end within {deadline:?}:\n{}", self.name, self.tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fails if the process has ended, with the end of its output.
    pub(crate) fn expect_running(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(exit) => bail!("`{}` ended with {exit:?}:\n{}", self.name, self.tail()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(name = %self.name, %error, "cannot kill a child process");
        }
    }
}

/// Sends a signal to a process that is known to be ours.
pub(crate) fn signal_process(id: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("no such process id")?;
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {id}")),
    }
}

/// The processes that `parent` has started and that still run.
pub(crate) fn children_of(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list `/proc`")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at: then it is nobody's child.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        // `pid (name) state ppid …`; the name may hold blanks and brackets.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let (state, ppid) = (fields.next(), fields.next());
        if state != Some("Z") && ppid.and_then(|text| text.parse().ok()) == Some(parent) {
            children.push(id);
        }
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_found_under_its_parent_and_ends_when_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = Child::start(Path::new("sleep"), &["60".into()], &log).unwrap();
        assert!(children_of(std::process::id()).unwrap().contains(&child.id()));
        child.expect_running().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait(Duration::from_secs(10)).await.unwrap(), Exit::Signal);
    }
}
