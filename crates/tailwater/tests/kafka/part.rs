//! A process of the product: one part of a pipeline, or several.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tailwater_pipeline::failpoint;
use tailwater_testkit::servers::{Exit, Tailwater};

use crate::{DEADLINE, LOOK, binary};

/// A running `tailwater run`, with a log of its own.
#[derive(Debug)]
pub(crate) struct Part(Tailwater);

impl Part {
    /// Starts these parts by a config file; what there is to come begins at `start`.
    pub(crate) fn start(parts: &[&str], config: &Path, start: &str, order: Option<&str>) -> Self {
        let mut arguments = Vec::new();
        arguments.extend(order.map(|order| format!("{}={order}", failpoint::VARIABLE)));
        arguments.push(binary().display().to_string());
        arguments.push("run".to_owned());
        arguments.extend(parts.iter().map(|part| (*part).to_owned()));
        let config_file = config.display().to_string();
        arguments.extend(["-c".to_owned(), config_file, format!("--start={start}")]);
        let log = config.with_extension("log");
        Self(Tailwater::start(Path::new("env"), &arguments, &log).unwrap())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.0.log()
    }

    /// Fails if it has ended.
    pub(crate) fn expect_running(&mut self) {
        if let Err(error) = self.0.expect_running() {
            panic!("{error:#}\n{}", self.log());
        }
    }

    /// Waits until its log, from `offset` on, holds this text.
    pub(crate) async fn says_from(&mut self, offset: usize, text: &str) {
        let started = Instant::now();
        while !self.log()[offset..].contains(text) {
            self.expect_running();
            assert!(started.elapsed() < DEADLINE, "no `{text}` in:\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until its log holds this text.
    pub(crate) async fn says(&mut self, text: &str) {
        self.says_from(0, text).await;
    }

    /// Whether it has ended, however that was.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.ended().unwrap().is_some()
    }

    /// Waits until it has died by its failpoint.
    pub(crate) async fn dies(mut self) {
        match self.0.wait(DEADLINE).await {
            Ok(Exit::Signal) => {}
            other => panic!("{other:?}, it does not die:\n{}", self.log()),
        }
    }

    /// Waits for its end by an error that an operator must mend; it says all of this. Gives all it said.
    pub(crate) async fn refuses(self, texts: &[&str]) -> String {
        self.refuses_within(DEADLINE, texts).await
    }

    /// As [`Part::refuses`], within another time.
    pub(crate) async fn refuses_within(mut self, deadline: Duration, texts: &[&str]) -> String {
        match self.0.wait(deadline).await {
            Ok(Exit::Code(1)) => {}
            other => panic!("{other:?}, it does not refuse:\n{}", self.log()),
        }
        for text in texts {
            assert!(self.log().contains(text), "no `{text}` in:\n{}", self.log());
        }
        self.log()
    }

    /// Ends it, in order.
    pub(crate) async fn stop(mut self) -> String {
        let exit = self.0.terminate(DEADLINE).await;
        assert!(matches!(exit, Ok(Exit::Code(0))), "{exit:?}:\n{}", self.log());
        self.log()
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
    }

    /// Whether it has stopped itself by its failpoint.
    pub(crate) fn is_still(&mut self) -> bool {
        self.expect_running();
        // `pid (name) state …`
        std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap().contains(") T ")
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
    }
}
