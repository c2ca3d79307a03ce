//! The value half of the crate against its oracles: the `bson` crate, an independent client's
//! output, and the ClickHouse engine.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod chunk;
mod config;
mod config_kafka;
mod connector;
mod dead_letter;
mod decode;
mod doc_id;
mod ejson;
mod engine;
mod fuzz;
mod grants;
mod json_column;
mod kafka_engine;
mod layout;
mod mapping;
mod message;
mod normalized;
mod producing;
mod reading;
mod rows;
mod sample;
mod status;
mod walker;
mod wide;
