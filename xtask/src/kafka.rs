//! Fetches Apache Kafka with Maven into the cache folder: the broker and its tools with all that
//! they need to run, pinned by version and checked, every jar of it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{cache, say};

const VERSION: &str = "4.1.2";
const FOLDER: &str = "kafka-4.1.2";
const JARS: &str = "kafka-libs";
/// Of the lines that `sha256sum *.jar` prints, in the order of the names' bytes.
const SHA256: &str = "53ca609b31a38c5ada765cf1b5c646c7ec3af635926ee1ac4b5d01195c4961cf";
const VARIABLE: &str = "TAILWATER_KAFKA";
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
/// The oldest Java that this broker runs on.
const JAVA: u32 = 17;

/// Installs Kafka if it is not yet there, and proves that a Java is there that runs it.
pub(crate) fn install() -> anyhow::Result<()> {
    check_java()?;
    if let Some(named) = std::env::var_os(VARIABLE) {
        say(&format!("kafka: {} (from {VARIABLE})", Path::new(&named).display()));
        return Ok(());
    }
    let jars = cache::place(FOLDER)?.join(JARS);
    if !jars.is_dir() {
        cache::fill(FOLDER, |work, aside| {
            fetch(work, &aside.join(JARS))?;
            check(&aside.join(JARS))
        })?;
    }
    say(&format!("kafka: {}", jars.display()));
    Ok(())
}

/// Lets Maven put the jars into a folder.
fn fetch(work: &Path, jars: &Path) -> anyhow::Result<()> {
    say(&format!("kafka: fetching Apache Kafka {VERSION} with Maven (about 45 MB)"));
    fs::write(work.join("pom.xml"), project())?;
    let output = Command::new("mvn")
        .current_dir(work)
        .args(["--quiet", "--batch-mode", "--no-transfer-progress", "-Dstyle.color=never", COPY])
        .args(["-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .output()
        .with_context(|| {
            format!(
                "cannot run `mvn`, which fetches Kafka; install Maven (Debian: maven), \
                 or let {VARIABLE} name a folder with the jars of Kafka 4.1"
            )
        })?;
    cache::succeeded(&output).with_context(|| {
        format!(
            "Maven cannot fetch Kafka {VERSION}; mend that, \
             or let {VARIABLE} name a folder with the jars of Kafka 4.1"
        )
    })
}

/// The project whose dependencies are the broker, its tools and a plain logger.
fn project() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tailwater</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{VERSION}</version>
      <exclusions>
        <exclusion>
          <groupId>org.apache.kafka</groupId>
          <artifactId>connect-runtime</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"
    )
}

/// Compares all jars with what is pinned.
fn check(jars: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(jars).context("Maven has left no jars")? {
        names.push(entry?.file_name().into_string().ok().context("a jar with a broken name")?);
    }
    names.sort();
    let mut list = String::new();
    for name in &names {
        writeln!(list, "{}  {name}", cache::sha256(&jars.join(name))?)?;
    }
    let found = hex::encode(Sha256::digest(&list));
    ensure!(
        found == SHA256,
        "the sha256 of the {} jars is {found}, not the pinned {SHA256}: not installed; \
         empty Maven's local repository (`~/.m2/repository`) and try again",
        names.len()
    );
    Ok(())
}

/// Proves that a Java is there, and not too old.
fn check_java() -> anyhow::Result<()> {
    let java = std::env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map_or("java".into(), |home| Path::new(&home).join("bin/java"));
    let mend = format!("Kafka needs Java {JAVA} or later (Debian: openjdk-17-jre-headless)");
    let output = Command::new(&java).arg("-version").output();
    let output = output.with_context(|| format!("cannot run `{}`; {mend}", java.display()))?;
    cache::succeeded(&output)
        .with_context(|| format!("`{} -version` failed; {mend}", java.display()))?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    match major(&told) {
        Some(version) if version >= JAVA => Ok(()),
        Some(version) => bail!("`{}` is Java {version}; {mend}", java.display()),
        None => bail!("`{}` does not tell its version: {told}; {mend}", java.display()),
    }
}

/// The first number of the version in `openjdk version "17.0.15" 2025-04-15`; the `1` of Java 8.
fn major(told: &str) -> Option<u32> {
    let version = told.split('"').nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_version_of_a_java_is_read() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(major("java version \"1.8.0_402\""), Some(1));
        assert_eq!(major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(major("command not found"), None);
    }
}
