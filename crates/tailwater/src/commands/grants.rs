//! `tailwater grants`: prints the least rights that a config needs.

use clap::{Args, Subcommand, ValueEnum};
use tailwater_core::config::{Config, Sasl};
use tailwater_core::grants::{self, Grant, Part, acl, iam};

use crate::cli::{Format, Global};
use crate::{config_file, console};

/// Print the least rights that a config needs.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true)]
pub(crate) struct Grants {
    #[command(subcommand)]
    of: Of,
}

const EXAMPLES: &str = "\
Nothing is asked of any server, and secrets of the config need not be there.

Examples:
  Kafka's own rights, as lines for an administrator to run:
    tailwater grants kafka-acl -c tailwater.yaml --principal User:tailwater
  A policy for the role of the sinks alone, on MSK:
    tailwater grants msk-iam -c tailwater.yaml --part sink \\
      --cluster arn:aws:kafka:eu-west-1:123456789012:cluster/name/id";

/// Where rights are.
#[derive(Debug, Subcommand)]
enum Of {
    /// Lines of `kafka-acls.sh`
    #[command(after_help = ACL_EXAMPLES)]
    KafkaAcl(KafkaAcl),
    /// A policy for the clients of an MSK cluster that asks IAM
    #[command(after_help = IAM_EXAMPLES)]
    MskIam(MskIam),
}

const ACL_EXAMPLES: &str = "\
The lines name a file `admin.properties`: how the administrator signs in.

Examples:
  tailwater grants kafka-acl -c tailwater.yaml
  tailwater grants kafka-acl -c tailwater.yaml --part source --principal User:CN=source
  tailwater grants kafka-acl -c tailwater.yaml --format json";

const IAM_EXAMPLES: &str = "\
Examples:
  tailwater grants msk-iam -c tailwater.yaml --part sink > sink-policy.json
  tailwater grants msk-iam -c tailwater.yaml --cluster arn:aws:kafka:eu-west-1:123456789012:cluster/name/id";

/// Lines of `kafka-acls.sh`.
#[derive(Debug, Args)]
struct KafkaAcl {
    /// Who gets the rights [default: the user of `kafka.sasl`]
    #[arg(long, value_name = "TYPE:NAME")]
    principal: Option<String>,
    #[command(flatten)]
    parts: Parts,
}

/// A policy for MSK.
#[derive(Debug, Args)]
struct MskIam {
    /// The cluster; without it the policy has REGION, ACCOUNT and CLUSTER/ID to be filled in
    #[arg(long, value_name = "ARN")]
    cluster: Option<String>,
    #[command(flatten)]
    parts: Parts,
}

/// Whose rights.
#[derive(Debug, Args)]
struct Parts {
    /// Whose rights: of parts of `tailwater run`, or of who operates it. By default all
    #[arg(long = "part", value_enum, value_name = "PART")]
    only: Vec<Whose>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// `tailwater run source`.
    Source,
    /// `tailwater run normalize`.
    Normalize,
    /// `tailwater run sink`.
    Sink,
    /// `tailwater check`, `status`, `dlq` and `checkpoint`.
    Operator,
}

impl Parts {
    fn of(&self, config: &Config) -> anyhow::Result<Vec<Grant>> {
        let mut all = grants::of_kafka(config)?;
        let wanted = |part| {
            self.only.iter().any(|whose| match whose {
                Whose::Source => part == Part::Source,
                Whose::Normalize => part == Part::Normalize,
                Whose::Sink => part == Part::Sink,
                Whose::Operator => part == Part::Operator,
            })
        };
        all.retain(|grant| self.only.is_empty() || wanted(grant.part));
        Ok(all)
    }
}

impl Grants {
    pub(crate) fn execute(self, global: &Global) -> anyhow::Result<()> {
        let config = config_file::read_names(&config_file::require(global.config.as_deref())?)?;
        let kafka = config.require_kafka()?;
        match self.of {
            Of::KafkaAcl(KafkaAcl { principal, parts }) => {
                let grants = parts.of(&config)?;
                let principal = principal.unwrap_or_else(|| match &kafka.sasl {
                    Some(Sasl::Password { username, .. }) => format!("User:{username}"),
                    _ => "User:tailwater".to_owned(),
                });
                match global.format {
                    Format::Json => console::print_json(&grants)?,
                    Format::Text => {
                        let text = acl::lines(&grants, &kafka.bootstrap_servers, &principal);
                        console::print(text.as_bytes());
                    }
                }
            }
            Of::MskIam(MskIam { cluster, parts }) => {
                let region = match &kafka.sasl {
                    Some(Sasl::AwsMskIam { region }) => Some(region.as_str()),
                    _ => None,
                };
                let cluster = match cluster {
                    Some(arn) => iam::Cluster::parse(&arn)?,
                    None => iam::Cluster::unknown(region),
                };
                console::print_json(&iam::policy(&parts.of(&config)?, &cluster))?;
            }
        }
        Ok(())
    }
}
