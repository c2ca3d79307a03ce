//! What Kafka's and librdkafka's errors mean, by code.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tailwater_core::{Action, Error, ErrorKind};

/// What to do about a transaction that stays open.
pub(crate) const HANGING: &str = "find it with `kafka-transactions.sh find-hanging`, and abort it with \
                                  `kafka-transactions.sh abort`";

/// Whether a reader that goes on would skip something: librdkafka steps over a batch that is damaged.
pub(crate) fn is_damaged(error: &KafkaError) -> bool {
    matches!(code(error), Some(Code::BadMessage | Code::BadCompression))
}

/// Whether a reader that has met this may go on where it is.
pub(crate) fn may_read_on(error: &KafkaError) -> bool {
    kind(error).action() == Action::Retry && !is_damaged(error)
}

/// The kind of an error.
pub fn kind(error: &KafkaError) -> ErrorKind {
    if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) {
        return ErrorKind::Config;
    }
    code(error).map_or(ErrorKind::Unreachable, of_code)
}

/// The code of an error. The crate tells none of those of admin requests.
pub(crate) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether an error may be one of making or keeping a connection, which does not tell why.
pub(crate) fn is_of_connection(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::SSL
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::RequestTimedOut
                | Code::MessageTimedOut
                | Code::NetworkException
        )
    )
}

/// The kind of a code. What is not listed is retried: Kafka's own clients retry most of it, and
/// nothing is lost by waiting.
pub const fn of_code(code: Code) -> ErrorKind {
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed => ErrorKind::Unauthorized,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => ErrorKind::InUse,
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::OffsetMetadataTooLarge
        | Code::InvalidTopic
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedSASLMechanism
        | Code::InvalidTransactionTimeout
        | Code::InconsistentGroupProtocol => ErrorKind::Unsuitable,
        Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::ConcurrentTransactions
        | Code::RebalanceInProgress => ErrorKind::Busy,
        _ => ErrorKind::Unreachable,
    }
}

/// An error of ours for one of librdkafka's.
pub fn error(error: KafkaError, what: impl Into<String>) -> Error {
    let kind = kind(&error);
    let code = code(&error);
    let made = match error {
        // Its own text shows the value, which may be a secret.
        KafkaError::ClientConfig(_, why, name, value) => {
            let why = if value.is_empty() { why } else { why.replace(&value, "…") };
            Error::new(kind, what)
                .with_source(format!("librdkafka does not take `{name}`: {why}"))
                .with_hint("check `kafka.properties`, and librdkafka's CONFIGURATION.md")
        }
        KafkaError::ClientCreation(why) => {
            let hint = hint_of_creation(&why);
            Error::new(kind, what).with_source(why).with_hint(hint)
        }
        error => Error::new(kind, what).with_source(error),
    };
    match code.and_then(hint) {
        Some(hint) => made.with_hint(hint),
        None => made,
    }
}

/// What to do when librdkafka makes no client, by its text.
fn hint_of_creation(why: &str) -> &'static str {
    const HINTS: [(&str, &str); 5] = [
        ("ssl.ca.", "`kafka.tls.ca` names a file of certificates as PEM, all of them sound"),
        (
            "ssl.certificate.",
            "`kafka.tls.certificate` names a file with a certificate as PEM, and its chain",
        ),
        (
            "key values mismatch",
            "`kafka.tls.key` is not the private key of `kafka.tls.certificate`",
        ),
        (
            "ssl.key.",
            "`kafka.tls.key` names the private key of `certificate` as PEM; is it encrypted, `key_password` opens it",
        ),
        ("SASL", "check `kafka.sasl`"),
    ];
    let found = HINTS.iter().find(|(word, _)| why.contains(word));
    found.map_or("check `kafka.properties`, and librdkafka's CONFIGURATION.md", |(_, hint)| hint)
}

/// The next step, where the code tells more than the kind.
const fn hint(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "check `kafka.sasl` (mechanism, user, password), and that the port is the listener of that mechanism"
        }
        Code::TopicAuthorizationFailed => {
            "an ACL is missing on the topic: `tailwater grants kafka-acl` prints what each part needs"
        }
        Code::GroupAuthorizationFailed => {
            "an ACL is missing: allow this user Read on the groups that begin with the pipeline's name"
        }
        Code::TransactionalIdAuthorizationFailed => {
            "an ACL is missing: allow this user Write and Describe on the transactional ids that begin with the pipeline's name"
        }
        Code::ClusterAuthorizationFailed => {
            "an ACL is missing: allow this user IdempotentWrite on the cluster"
        }
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
            "another process runs this pipeline's part and has taken over; one of them is enough"
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            "raise the topic's `max.message.bytes`, and the broker's `message.max.bytes` with it"
        }
        Code::OffsetMetadataTooLarge => {
            "raise the broker's `offset.metadata.max.bytes` to its default, 4096"
        }
        Code::BadMessage | Code::BadCompression => {
            "nothing is skipped: if it comes again, look at the log with `kafka-dump-log.sh --deep-iteration`"
        }
        Code::InvalidReplicationFactor => {
            "the cluster has fewer brokers than `kafka.topics.replication_factor`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_leads_to_what_helps() {
        for (code, action) in [
            (Code::BrokerTransportFailure, Action::Retry),
            (Code::AllBrokersDown, Action::Retry),
            (Code::NotEnoughReplicas, Action::Retry),
            (Code::UnknownTopicOrPartition, Action::Retry),
            (Code::RebalanceInProgress, Action::Retry),
            (Code::SaslAuthenticationFailed, Action::Stop),
            (Code::TopicAuthorizationFailed, Action::Stop),
            (Code::ProducerFenced, Action::Stop),
            (Code::MessageSizeTooLarge, Action::Stop),
            (Code::OffsetMetadataTooLarge, Action::Stop),
        ] {
            assert_eq!(of_code(code).action(), action, "{code:?}");
            assert_eq!(kind(&KafkaError::AdminOp(code)), of_code(code));
            assert_eq!(kind(&KafkaError::MessageConsumption(code)), of_code(code));
        }
    }

    #[test]
    fn a_reader_goes_on_past_no_damaged_batch() {
        let met = |code| may_read_on(&KafkaError::MessageConsumption(code));
        assert!(met(Code::BrokerTransportFailure));
        assert!(!met(Code::BadMessage) && !met(Code::BadCompression));
        assert!(!met(Code::TopicAuthorizationFailed));
    }

    #[test]
    fn a_property_that_is_not_taken_is_told_without_its_value() {
        for name in ["linger.ms", "compression.type"] {
            let mut config = rdkafka::ClientConfig::new();
            config.set(name, "hunter2");
            let made: Result<rdkafka::producer::BaseProducer, _> = config.create();
            let error = error(made.err().expect("no such value"), "cannot make a client");
            let cause = std::error::Error::source(&error).expect("a cause").to_string();
            assert!(cause.contains(&format!("`{name}`")), "{cause}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}
