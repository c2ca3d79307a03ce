//! The engine: one plain loop that serves every mode, write-ahead delivery, the state folder, the
//! memory budget.
//!
//! ```text
//!   Source ──read──▶ Transform ──apply──▶ Delivery
//!     ▲                                      │
//!     └──────────── seek(checkpoint) ◀─claim─┘
//! ```
//!
//! This crate knows neither MongoDB nor ClickHouse. It may touch the state folder's files, and
//! nothing else outside the process.

pub mod bisect;
pub mod budget;
pub mod clock;
pub mod failpoint;
pub mod part;
pub mod recall;
pub mod retry;
pub mod state_folder;
pub mod vitals;
pub mod worker;
pub mod write_ahead;

pub use part::{Batch, BatchLimits, Delivery, Part, Read, Source, Transform};
