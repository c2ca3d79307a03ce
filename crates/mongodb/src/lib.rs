//! MongoDB as a source: one change stream per lane, read in the server's own replies, resumed by
//! us.
//!
//! ```text
//!   reader task (one a stream) ──Reply──▶ Streams::read ──Part per lane──▶ the loop
//!   aggregate, getMore, reopen            gathers until a limit
//! ```
//!
//! Nothing here decides that an event is done: a stream goes on from where the loop seeks it.

pub mod bookmark;
pub mod classify;
pub mod connect;
mod reader;
pub mod streams;

pub use connect::Server;
pub use streams::{Events, Start, Streams};
