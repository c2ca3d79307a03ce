//! Dev only: real servers, workloads, kill loops and the checker that judges them.
//!
//! ```text
//! workload ─▶ mongod ─▶ tailwater run ─▶ ClickHouse ─▶ checker ◀─ truth ◀─ mongod
//! ```
//!
//! The judge (`contract`, `json_column`, `kafka`, `tree`, `truth`, `checker`) never calls the
//! product's crates: it implements the contract of the columns a second time. See
//! `docs/checker.md`.

pub mod checker;
pub mod clickhouse;
pub mod contract;
pub mod fault_loop;
pub mod json_column;
pub mod kafka;
pub mod kafka_loop;
pub mod kafka_rig;
pub mod kill_loop;
pub mod latency;
pub mod mapped;
pub mod outage;
pub mod rig;
pub mod servers;
pub mod throughput;
pub mod topics;
pub mod tree;
pub mod truth;
pub mod watch;
pub mod weighing;
pub mod workload;
