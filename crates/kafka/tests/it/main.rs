//! Kafka as a source and a delivery, against the real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod config;
mod settings;
