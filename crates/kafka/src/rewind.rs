//! Rewind: sets a group's offsets back, with nothing beside them. Whoever takes a lane then compares
//! what it reads with what is there.

use std::collections::BTreeMap;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tailwater_core::position::{LaneId, Seq};
use tailwater_core::{Error, ErrorKind, Result};

use crate::classify;
use crate::client::{Isolation, blocking};
use crate::observer::{Observer, partition};

impl Observer {
    /// Commits these offsets for a group without members; the brokers refuse it for one that has some.
    ///
    /// # Errors
    /// `InUse` while the group has members; those of committing.
    pub async fn rewind(&self, group: &str, to: &BTreeMap<LaneId, Seq>) -> Result<()> {
        let reader = self.client.reader(Isolation::Committed, group)?;
        let what = format!("cannot set back the offsets of the group `{group}`");
        let mut list = TopicPartitionList::with_capacity(to.len());
        for (lane, seq) in to {
            let offset = Offset::Offset(i64::try_from(seq.0).unwrap_or(i64::MAX));
            list.add_partition_offset(lane.topic(), partition(lane), offset)
                .map_err(|error| classify::error(error, what.clone()))?;
        }
        let client = self.client.clone();
        blocking(move || {
            let Err(error) = reader.commit(&list, CommitMode::Sync) else { return Ok(()) };
            let is_ours = matches!(
                classify::code(&error),
                Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress)
            );
            Err(match is_ours {
                true => has_members(what).with_source(error),
                false => client.explain(error, what),
            })
        })
        .await
    }

    /// Refuses a group that has members.
    ///
    /// # Errors
    /// `InUse` for one that has; those of asking.
    pub async fn refuse_members(&self, group: &str) -> Result<()> {
        match self.members(group).await?.count {
            0 => Ok(()),
            count => {
                let what = match count {
                    1 => format!("the group `{group}` has a member"),
                    _ => format!("the group `{group}` has {count} members"),
                };
                Err(has_members(what))
            }
        }
    }
}

fn has_members(what: String) -> Error {
    Error::new(ErrorKind::InUse, what).with_hint(
        "stop every process of that part first; one that was killed is forgotten when its session \
         ends, by default after 10 s",
    )
}
