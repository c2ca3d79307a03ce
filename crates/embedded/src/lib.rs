//! The ClickHouse engine in a process of its own, behind the ClickHouse HTTP protocol.
//!
//! ```text
//! tailwater run ── EngineProcess ── stdin held open ──▶ tailwater engine serve
//!      │                                                    │ lock, port, libchdb
//!      └────────────── HTTP, like any ClickHouse ──────────▶│ axum → thread → C calls
//! ```
//!
//! To everything else the engine is a ClickHouse at a URL. Nothing here knows Tailwater's tables.

mod compression;
mod engine;
mod exception;
mod execute;
mod ffi;
pub mod install;
mod library;
mod lock;
mod process;
mod report;
mod request;
mod respond;
mod serve;
mod server;
mod sql;

pub use library::{LIBRARY_VARIABLE, find_library};
pub use process::{EngineOptions, EngineProcess, PASSWORD_VARIABLE};
pub use serve::{ServeOptions, last_address, serve};
