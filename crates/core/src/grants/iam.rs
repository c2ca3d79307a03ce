//! A policy for MSK, whose brokers ask IAM instead of Kafka's own rights.
//!
//! IAM takes no right to be in another: who may read must be told that it may describe, too.

use serde_json::{Value, json};

use super::{Grant, Names, Operation, Resource};
use crate::{Error, ErrorKind, Result};

/// A cluster by its ARN, `arn:aws:kafka:<region>:<account>:cluster/<name>/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `arn:aws:kafka:<region>:<account>`.
    front: String,
    /// `<name>/<id>`.
    cluster: String,
}

impl Cluster {
    /// Reads an ARN.
    ///
    /// # Errors
    /// `Config` for what is none of a cluster.
    pub fn parse(arn: &str) -> Result<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let cluster = match parts.as_slice() {
            ["arn", partition, "kafka", region, account, name]
                if [partition, region, account].iter().all(|part| !part.is_empty()) =>
            {
                name.strip_prefix("cluster/").filter(|name| name.split('/').count() == 2)
            }
            _ => None,
        };
        let cluster = cluster.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("`{arn}` is no ARN of an MSK cluster")).with_hint(
                "it looks like arn:aws:kafka:eu-west-1:123456789012:cluster/name/id; \
                 `aws kafka list-clusters-v2` shows it",
            )
        })?;
        Ok(Self { front: parts[..5].join(":"), cluster: cluster.to_owned() })
    }

    /// One that is still to be filled in, but for the region where that is known.
    pub fn unknown(region: Option<&str>) -> Self {
        let front = format!("arn:aws:kafka:{}:ACCOUNT", region.unwrap_or("REGION"));
        Self { front, cluster: "CLUSTER/ID".to_owned() }
    }

    fn arn(&self) -> String {
        format!("{}:cluster/{}", self.front, self.cluster)
    }

    fn of(&self, resource: Resource, names: &Names) -> String {
        let kind = match resource {
            Resource::Topic => "topic",
            Resource::Group => "group",
            Resource::TransactionalId => "transactional-id",
        };
        let (name, star) = match names {
            Names::Literal(name) => (name, ""),
            Names::Prefixed(start) => (start, "*"),
        };
        format!("{}:{kind}/{}/{name}{star}", self.front, self.cluster)
    }
}

/// The policy that holds these rights.
pub fn policy(grants: &[Grant], cluster: &Cluster) -> Value {
    let mut of_cluster = vec!["kafka-cluster:Connect"];
    if grants.iter().any(|grant| grant.operations.contains(&Operation::Write)) {
        of_cluster.push("kafka-cluster:WriteDataIdempotently");
    }
    let mut statements = vec![json!({
        "Sid": "Cluster",
        "Effect": "Allow",
        "Action": of_cluster,
        "Resource": cluster.arn(),
    })];
    for (at, grant) in grants.iter().enumerate() {
        let before = &grants[..at];
        let same = |it: &&Grant| (it.part, it.resource) == (grant.part, grant.resource);
        let number = before.iter().filter(same).count() + 1;
        let resources: Vec<String> =
            grant.names.iter().map(|names| cluster.of(grant.resource, names)).collect();
        statements.push(json!({
            "Sid": sid(grant, number),
            "Effect": "Allow",
            "Action": actions(grant),
            "Resource": resources,
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Letters and digits, as IAM wants it.
fn sid(grant: &Grant, number: usize) -> String {
    let mut part = grant.part.name().to_owned();
    part[..1].make_ascii_uppercase();
    let what = match grant.resource {
        Resource::Topic => "Topics",
        Resource::Group => "Groups",
        Resource::TransactionalId => "Transactions",
    };
    match number {
        1 => format!("{part}{what}"),
        _ => format!("{part}{what}{number}"),
    }
}

fn actions(grant: &Grant) -> Vec<&'static str> {
    let (describe, of): (&str, fn(Operation) -> Option<&'static str>) = match grant.resource {
        Resource::Topic => ("kafka-cluster:DescribeTopic", |operation| {
            Some(match operation {
                Operation::Read => "kafka-cluster:ReadData",
                Operation::Write => "kafka-cluster:WriteData",
                Operation::Create => "kafka-cluster:CreateTopic",
                Operation::Delete => "kafka-cluster:DeleteTopic",
                Operation::DescribeConfigs => "kafka-cluster:DescribeTopicDynamicConfiguration",
                Operation::Describe => return None,
            })
        }),
        Resource::Group => ("kafka-cluster:DescribeGroup", |operation| {
            (operation == Operation::Read).then_some("kafka-cluster:AlterGroup")
        }),
        Resource::TransactionalId => ("kafka-cluster:DescribeTransactionalId", |operation| {
            (operation == Operation::Write).then_some("kafka-cluster:AlterTransactionalId")
        }),
    };
    let mut all = vec![describe];
    all.extend(grant.operations.iter().filter_map(|operation| of(*operation)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_a_cluster_and_nothing_else() {
        let arn = "arn:aws-cn:kafka:cn-north-1:1234:cluster/one/abc-1";
        assert_eq!(Cluster::parse(arn).unwrap().arn(), arn);
        for wrong in [
            "",
            "one",
            "arn:aws:kafka:eu-west-1:1234:topic/one/abc/t",
            "arn:aws:kafka:eu-west-1:1234:cluster/one",
            "arn:aws:kafka::1234:cluster/one/abc",
            "arn:aws:s3:eu-west-1:1234:cluster/one/abc",
        ] {
            assert!(Cluster::parse(wrong).is_err(), "{wrong}");
        }
    }
}
