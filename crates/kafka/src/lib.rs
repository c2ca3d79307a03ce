//! Kafka as a source and as a delivery.
//!
//! ```text
//!   Transaction    records and the checkpoint in one transaction        (source, normalize)
//!   Group          the partitions of a consumer group as lanes          (normalize, sink)
//!   GroupProgress  how far that group is, by the same transactions      (normalize)
//!   GroupOffsets   checkpoints as offsets and metadata of that group    (sink)
//! ```
//!
//! It must never move an offset or a checkpoint by itself: the loop and the deliveries do. Nothing
//! but `topic_id.rs`, `rights.rs` and `native.rs` has `unsafe` code.

mod aws;
pub mod checkpoints;
pub mod classify;
pub mod client;
pub mod election;
pub mod group;
pub mod group_progress;
mod iam;
pub mod lag;
pub mod letters;
mod losses;
mod member;
mod metadata;
mod native;
pub mod observer;
pub mod offsets;
mod producer;
mod reader;
pub mod replay;
mod rewind;
pub mod rights;
mod said;
pub mod scratch;
mod sending;
mod settings;
pub mod to_messages;
pub mod to_normalized;
mod token;
pub mod tokens;
mod topic_id;
pub mod topics;
pub mod transaction;

pub use checkpoints::CheckpointTopic;
pub use client::Client;
pub use election::Election;
pub use group::Group;
pub use observer::Observer;
pub use offsets::GroupOffsets;
pub use to_messages::ToMessages;
pub use to_normalized::ToNormalized;
pub use tokens::{Tokens, tokens};
pub use topics::Topics;
pub use transaction::Transaction;
