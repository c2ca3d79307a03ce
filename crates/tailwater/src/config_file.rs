//! The config file of a run: found, read, and its secrets looked up. Nothing here prints a value.

use std::env;
use std::path::{Path, PathBuf};

use tailwater_core::config::{Config, Given, Parts, Secrets, Target};
use tailwater_core::{Error, ErrorKind};

/// The file that is taken where neither a flag nor the environment names one.
const DEFAULT_FILE: &str = "tailwater.yaml";

/// The file to read: the one that is named, or the default one where it exists and flags do not
/// stand for themselves.
pub(crate) fn find(named: Option<&Path>, flags_suffice: bool) -> Option<PathBuf> {
    let default = Path::new(DEFAULT_FILE);
    match named {
        Some(file) => Some(file.to_owned()),
        None => (!flags_suffice && default.exists()).then(|| default.to_owned()),
    }
}

/// The file to read, for a command that cannot do without one.
///
/// # Errors
/// `Config` where there is none.
pub(crate) fn require(named: Option<&Path>) -> Result<PathBuf, Error> {
    find(named, false).ok_or_else(|| {
        Error::new(ErrorKind::Config, "there is no config file")
            .with_hint("name it with `-c`; docs/config.md has one to begin with")
    })
}

/// Reads a config file for its names alone: what its secrets lead to need not be there.
///
/// # Errors
/// `Config`, with all that is wrong.
pub(crate) fn read_names(file: &Path) -> Result<Config, Error> {
    let given = Given { parts: Some(Parts::default()), ..Given::default() };
    Config::read(&file.display().to_string(), &text(file)?, &given, &Placeholders)
}

/// Reads a config file; what flags give stands above it.
///
/// # Errors
/// `Config`, with all that is wrong.
pub(crate) fn read(file: &Path, given: &Given) -> Result<Config, Error> {
    Config::read(&file.display().to_string(), &text(file)?, given, &Surroundings)
}

/// Reads of a config file only where its pipeline writes to, and its state folder.
///
/// # Errors
/// `Config`, with all that is wrong with these.
pub(crate) fn read_target(file: &Path, given: &Given) -> Result<(Target, PathBuf), Error> {
    Config::read_target(&file.display().to_string(), &text(file)?, given, &Surroundings)
}

fn text(file: &Path) -> Result<String, Error> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| {
        Error::new(ErrorKind::Config, format!("cannot read the config file `{name}`"))
            .with_source(error)
            .with_hint("name it with `-c`; docs/config.md has one to begin with")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        Error::new(ErrorKind::Config, format!("the config file `{name}` is not UTF-8"))
            .with_source(error.utf8_error())
            .with_hint("save it as UTF-8")
    })
}

/// The environment and the files of this host.
struct Surroundings;

impl Secrets for Surroundings {
    fn variable(&self, name: &str) -> Result<String, String> {
        env::var(name).map_err(|error| match error {
            env::VarError::NotPresent => format!("the environment variable `{name}` is not set"),
            env::VarError::NotUnicode(_) => {
                format!("the environment variable `{name}` is not UTF-8")
            }
        })
    }

    fn file(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"))
    }
}

/// The same, and for what is not there something that may stand in its place.
struct Placeholders;

impl Secrets for Placeholders {
    fn variable(&self, name: &str) -> Result<String, String> {
        Ok(Surroundings.variable(name).unwrap_or_else(|_| "mongodb://placeholder".to_owned()))
    }

    fn file(&self, path: &str) -> Result<String, String> {
        const PEM: &str = "-----BEGIN CERTIFICATE----------BEGIN PRIVATE KEY-----";
        Ok(Surroundings.file(path).unwrap_or_else(|_| PEM.to_owned()))
    }
}
