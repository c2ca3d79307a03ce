//! Plan: what `schema apply` makes of topics, and what `schema teardown` deletes. A topic that is there
//! is looked at and never altered.

use std::sync::Arc;

use rdkafka::admin::AdminOptions;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tailwater_core::plan::{Action, NewTopic, Step};
use tailwater_core::{Error, ErrorKind, Result};
use tracing::info;

use super::{Facts, NewTopics, Topics};
use crate::classify;
use crate::client::PATIENCE;
use crate::topic_id::Description;

const MILLIS_OF_AN_HOUR: u128 = 3_600_000;

/// What a topic is like, as far as the config says it.
struct Like {
    partitions: u32,
    replicas: u32,
    compacted: bool,
    /// Below zero: for ever.
    retention_ms: i64,
    max_message_bytes: usize,
}

impl Like {
    fn new(new: &NewTopics, checkpoints: bool) -> Self {
        Self {
            partitions: if checkpoints { 1 } else { new.partitions.get() },
            replicas: new.replication_factor.into(),
            compacted: checkpoints,
            retention_ms: i64::try_from(new.retention.as_millis()).unwrap_or(i64::MAX),
            max_message_bytes: new.max_message_bytes as usize,
        }
    }

    /// Each thing that it is, in words.
    fn words(&self) -> [String; 4] {
        let partitions = match self.partitions {
            1 => "1 partition".to_owned(),
            count => format!("{count} partitions"),
        };
        let kept = match (self.compacted, u128::try_from(self.retention_ms)) {
            (true, _) => "compacted".to_owned(),
            (false, Err(_)) => "kept for ever".to_owned(),
            (false, Ok(millis)) if millis % MILLIS_OF_AN_HOUR == 0 => {
                format!("kept for {} h", millis / MILLIS_OF_AN_HOUR)
            }
            (false, Ok(millis)) => format!("kept for {millis} ms"),
        };
        let replicas = match self.replicas {
            1 => "1 replica".to_owned(),
            count => format!("{count} replicas"),
        };
        [partitions, replicas, kept, format!("messages of {} bytes", self.max_message_bytes)]
    }
}

impl Topics {
    /// What is there of topics that hold records and of the one that holds checkpoints, and what is to be
    /// made.
    ///
    /// # Errors
    /// Those of asking.
    pub async fn plan(
        &self,
        records: &[Arc<str>],
        checkpoints: Option<&Arc<str>>,
    ) -> Result<Vec<Step>> {
        let names = records.iter().map(|name| (name, false));
        let names: Vec<_> = names.chain(checkpoints.map(|name| (name, true))).collect();
        let found = self.describe_all(names.iter().map(|(name, _)| name.to_string()).collect());
        let found = found.await?;
        let mut steps = Vec::new();
        for (name, checkpoints) in names {
            let thing = format!("topic `{name}`");
            let wanted = Like::new(&self.new, checkpoints);
            steps.push(match found.get(&**name) {
                None => {
                    let like = wanted.words().join(", ");
                    let topic = NewTopic { name: name.to_string(), checkpoints, like };
                    Step::make(thing, Action::Topic(topic))
                }
                Some(description) => self.look(thing, name, description, &wanted).await?,
            });
        }
        Ok(steps)
    }

    async fn look(
        &self,
        thing: String,
        name: &str,
        description: &Description,
        wanted: &Like,
    ) -> Result<Step> {
        let Facts { compacted, max_message_bytes, retention_ms } = self.facts(name).await?;
        let found = Like {
            partitions: description.partitions,
            replicas: description.replicas,
            compacted,
            retention_ms: retention_ms.unwrap_or(-1),
            max_message_bytes,
        };
        let is_checkpoints = wanted.compacted;
        let wrong = match (found.compacted, found.partitions) {
            (true, _) if !is_checkpoints => Some("it is compacted: changes would vanish from it"),
            (false, _) if is_checkpoints => {
                Some("it is not compacted: checkpoints would vanish from it")
            }
            (_, count) if is_checkpoints && count != 1 => Some("it has more than one partition"),
            _ => None,
        };
        if let Some(why) = wrong {
            let policy = if is_checkpoints { "compact" } else { "delete" };
            let mend = format!(
                "set its `cleanup.policy` to `{policy}`, or name another topic in `kafka.topics`"
            );
            return Ok(Step::wrong(thing, why, mend));
        }
        let (is, meant) = (found.words(), wanted.words());
        let differs = |(is, meant): &(&String, &String)| is != meant;
        let differs: Vec<String> = is
            .iter()
            .zip(&meant)
            .filter(differs)
            .map(|(is, meant)| format!("{is}, and `kafka.topics` says {meant}"))
            .collect();
        Ok(match differs.is_empty() {
            true => Step::there(thing, is.join(", ")),
            false => Step::stays(thing, differs.join("; ")),
        })
    }

    /// Makes a topic, or deletes a topic or a group, as a plan says.
    ///
    /// # Errors
    /// Those of the cluster; `InUse` for a group with members.
    pub async fn carry_out(&self, action: &Action) -> Result<()> {
        match action {
            Action::Statements(_) => Err(Error::new(ErrorKind::Bug, "Kafka takes no statements")),
            Action::Topic(topic) if topic.checkpoints => {
                self.ensure_checkpoints(&topic.name).await.map(drop)
            }
            Action::Topic(topic) => self.ensure(&topic.name.as_str().into(), None).await.map(drop),
            Action::DeleteTopic(name) => {
                let what = || format!("cannot delete topic `{name}`");
                let options = AdminOptions::new()
                    .request_timeout(Some(PATIENCE))
                    .operation_timeout(Some(PATIENCE));
                let answers = self.admin.delete_topics(&[name.as_str()], &options).await;
                for answer in answers.map_err(|error| self.client.explain(error, what()))? {
                    match answer {
                        Ok(_) => info!(topic = name, "topic deleted"),
                        Err((_, Code::UnknownTopicOrPartition)) => {}
                        Err((_, code)) => {
                            return Err(classify::error(KafkaError::AdminOp(code), what()));
                        }
                    }
                }
                Ok(())
            }
            Action::DeleteGroup(name) => {
                let what = || format!("cannot delete the group `{name}`");
                let options = AdminOptions::new().request_timeout(Some(PATIENCE));
                let answers = self.admin.delete_groups(&[name.as_str()], &options).await;
                for answer in answers.map_err(|error| self.client.explain(error, what()))? {
                    match answer {
                        Ok(_) => info!(group = name, "group deleted"),
                        Err((_, Code::GroupIdNotFound)) => {}
                        Err((_, Code::NonEmptyGroup)) => {
                            return Err(Error::new(ErrorKind::InUse, what())
                                .with_hint("stop what reads in it, then try again"));
                        }
                        Err((_, code)) => {
                            return Err(classify::error(KafkaError::AdminOp(code), what()));
                        }
                    }
                }
                Ok(())
            }
        }
    }
}
