//! Election: of several processes of one part, which one works; the others stand by.
//!
//! Whoever has the one partition of the checkpoint topic, in the group, works. It is no fence: the
//! transactional id is. It only keeps the others from taking over while one works.

use tailwater_core::{Error, ErrorKind, Result};
use tailwater_pipeline::recall::Release;
use tracing::info;

use crate::client::Client;
use crate::member::{Member, Rebalance};

/// A candidate.
#[derive(Debug)]
pub struct Election {
    member: Member,
}

impl Election {
    /// Stands for election, in the group `<pipeline>.source`.
    ///
    /// # Errors
    /// Those of joining the group.
    pub fn stand(client: &Client, pipeline: &str, checkpoints: &str) -> Result<Self> {
        let member =
            Member::join(client, &format!("{pipeline}.source"), &[checkpoints.to_owned()])?;
        Ok(Self { member })
    }

    /// Waits until it is our turn.
    ///
    /// # Errors
    /// When the membership ended.
    pub async fn won(&mut self) -> Result<()> {
        info!("standing by until it is our turn");
        loop {
            match self.next().await? {
                Rebalance::Assigned(lanes) if !lanes.is_empty() => return Ok(()),
                Rebalance::Failed(error) => return Err(error),
                Rebalance::Assigned(_) => {}
                Rebalance::Revoked(_, release) => release.done(),
            }
        }
    }

    /// Waits until somebody else is to work, who waits for the release.
    ///
    /// # Errors
    /// When the membership ended.
    pub async fn lost(&mut self) -> Result<Release> {
        loop {
            match self.next().await? {
                Rebalance::Revoked(lanes, release) if !lanes.is_empty() => return Ok(release),
                Rebalance::Failed(error) => return Err(error),
                Rebalance::Assigned(_) => {}
                Rebalance::Revoked(_, release) => release.done(),
            }
        }
    }

    async fn next(&mut self) -> Result<Rebalance> {
        let said = self.member.rebalances.recv().await;
        said.ok_or_else(|| Error::new(ErrorKind::Bug, "the group's channel closed"))
    }
}
