//! The Java that runs the broker and its tools: a small heap and a quick start.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::servers::START_DEADLINE;
use crate::servers::child::{Child, Exit};

/// A test's broker lives for seconds: compiling well or collecting in parallel would not pay.
const FLAGS: [&str; 10] = [
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    // Who waits for whom in a group is told nowhere else.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];

/// Where the archive of the classes in a folder of jars is.
pub(super) fn archive(libs: &Path) -> PathBuf {
    libs.with_file_name("classes.jsa")
}

/// A Java over the jars of Kafka.
#[derive(Debug, Clone)]
pub(super) struct Java {
    program: PathBuf,
    libs: PathBuf,
    /// What it does with the archive of classes, which saves it half of its start.
    archive: Option<String>,
}

impl Java {
    pub(super) fn over(libs: PathBuf) -> Self {
        let program = std::env::var_os("JAVA_HOME")
            .filter(|home| !home.is_empty())
            .map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"));
        let archive = archive(&libs);
        // One of another Java or of other jars does no harm: Java sees it and goes without.
        let archive =
            archive.is_file().then(|| format!("-XX:SharedArchiveFile={}", archive.display()));
        Self { program, libs, archive }
    }

    /// Lets it write the archive when it ends in peace.
    pub(super) fn archiving(mut self, file: &Path) -> Self {
        self.archive = Some(format!("-XX:ArchiveClassesAtExit={}", file.display()));
        self
    }

    /// Starts the class `main`, its temporary files and its output in the folder `home`.
    pub(super) fn start(
        &self,
        main: &str,
        arguments: &[&str],
        home: &Path,
    ) -> anyhow::Result<Child> {
        let mut all: Vec<String> = FLAGS.map(String::from).into();
        all.extend(self.archive.clone());
        // Killed, it leaves behind the libraries that it has unpacked.
        all.push(format!("-Djava.io.tmpdir={}", home.display()));
        all.push(format!("-XX:ErrorFile={}/crash.log", home.display()));
        all.push("-cp".into());
        all.push(format!("{}/*", self.libs.display()));
        all.push(main.into());
        all.extend(arguments.iter().map(|argument| (*argument).into()));
        Child::start(&self.program, &all, &home.join(format!("{main}.log")))
    }

    /// Runs the class `main` to its end.
    pub(super) async fn run(
        &self,
        main: &str,
        arguments: &[&str],
        home: &Path,
    ) -> anyhow::Result<()> {
        let mut child = self.start(main, arguments, home)?;
        match child.wait(START_DEADLINE).await? {
            Exit::Code(0) => Ok(()),
            exit => bail!("`{main}` ended with {exit:?}:\n{}", child.tail()),
        }
    }
}
