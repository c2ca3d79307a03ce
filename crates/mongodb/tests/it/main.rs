//! Change streams of a real mongod, as a source.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod history;
mod images;
mod many;
mod operations;
mod watcher;
