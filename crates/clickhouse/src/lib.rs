//! ClickHouse as a target: a connection, tables made and checked, blocks inserted under tokens,
//! rows read back.
//!
//! It speaks HTTP to any ClickHouse; nothing in it knows the embedded engine.

pub mod classify;
pub mod connection;
mod endings;
pub mod gaps;
pub mod letters;
mod look;
mod of_records;
pub mod probe;
pub mod schema;
pub mod tables;
pub mod to_rows;

pub use connection::{Connection, Endpoint};
pub use endings::{TopicOf, Watched};
pub use of_records::OfRecords;
pub use tables::Tables;
pub use to_rows::{Mappings, ToRows};
