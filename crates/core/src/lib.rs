//! What Tailwater knows without touching the world: events, BSON bytes, Extended JSON, positions,
//! column values, Native blocks, tables and errors.
//!
//! Everything here is pure and synchronous. This crate must never open a socket or a file, read a
//! clock or the environment, or spawn a task; its dependency list enforces it.

pub mod bson;
pub mod check;
pub mod config;
pub mod connector;
pub mod dead_letter;
pub mod decode;
pub mod doc_id;
pub mod ejson;
pub mod error;
pub mod event;
pub mod exclude;
pub mod gap;
pub mod grants;
pub mod json_column;
pub mod kafka_engine;
pub mod mapping;
pub mod message;
pub mod names;
pub mod native;
pub mod normalized;
pub mod plan;
pub mod position;
pub mod producing;
pub mod reading;
pub mod record;
pub mod rows;
pub mod scope;
pub mod spoken;
pub mod sql;
pub mod status;
pub mod table;
pub mod token;
pub mod topics;
pub mod watch;

pub use error::{Action, Error, ErrorKind, Result};
