//! MongoDB as a source: one change stream per lane, read in the server's own replies, resumed by
//! us.
//!
//! ```text
//!   reader task (one a stream) ──Reply──▶ Streams::read ──Part per lane──▶ the loop
//!   aggregate, getMore, reopen            gathers until a limit
//! ```
//!
//! Nothing here decides that an event is done: a stream goes on from where the loop seeks it.
//!
//! | file | what |
//! |---|---|
//! | `connect` | a server that can be used |
//! | `bookmark` | where a stream goes on: the cursor of a position |
//! | `request` | what a stream asks of the server, and how its events are read |
//! | `reply` | an answer taken apart; fragments of large events joined |
//! | `reader` | one stream: opened, read, reopened |
//! | `repair` | going on where the server refuses the resume token |
//! | `history` | whether a place lies in this cluster's history; what to say where it does not |
//! | `classify` | what an error means |
//! | `streams` | all of them as one source |
//! | `probe` | looks as a run would find it |

pub mod bookmark;
pub mod classify;
pub mod connect;
mod history;
pub mod probe;
mod reader;
mod repair;
mod reply;
mod request;
pub mod streams;

pub use connect::Server;
pub use streams::{Events, Start, Streams};
