//! Topic: whether a topic is fit for what it is for, and safe.

use std::collections::{BTreeMap, BTreeSet};

use super::{End, Findings, Probe, so_many};
use crate::grants::{Operation, Part};
use crate::position::Millis;
use crate::spoken::length;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// How far streams are: the last record of each key must stay.
    Checkpoints,
    /// Changes, one after another: none may vanish before it is read.
    Changes,
}

/// A topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Its partitions.
    pub partitions: u32,
    /// On how many brokers each is.
    pub replicas: u32,
    /// Among how many partitions the source chooses, where it has written there.
    pub pinned: Option<u32>,
    /// Its settings by Kafka's names.
    pub settings: BTreeMap<String, String>,
    /// What we may not do, and need to.
    pub lacking: BTreeMap<Part, BTreeSet<Operation>>,
}

/// What the config says of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How long records are kept.
    pub retention: Millis,
    /// The largest batch.
    pub max_message_bytes: u64,
}

/// Who comes back after less than a day finds everything.
const LEAST_RETENTION: i64 = 24 * 3_600_000;

const GRANT: &str = "`tailwater grants kafka-acl` prints the lines that are missing";

impl Facts {
    fn text(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.text(name).parse().ok()
    }
}

/// Judges a topic.
pub fn judge(name: &str, role: Role, facts: &Facts, wanted: &Wanted) -> Probe {
    let mut findings = Findings::default();
    let Facts { partitions, replicas, .. } = *facts;
    let copies = so_many(replicas.into(), "copy", "copies");
    findings.say(format!("{}, {copies}", so_many(partitions.into(), "partition", "partitions")));
    rights(facts, &mut findings);
    let compacted = facts.text("cleanup.policy").contains("compact");
    match role {
        Role::Checkpoints => checkpoints(facts, compacted, &mut findings),
        Role::Changes => changes(facts, compacted, wanted, &mut findings),
    }
    copies_in_step(facts, &mut findings);
    findings.probe(End::Kafka, format!("topic `{name}`"))
}

/// Judges a topic that is not there, on a cluster of so many brokers.
pub fn missing(name: &str, makes: Option<Part>, brokers: usize, replication: u16) -> Probe {
    let mut findings = Findings::default();
    match makes {
        Some(part) if usize::from(replication) > brokers => findings.fail(
            format!(
                "not there, and {} cannot make it: {replication} copies, {}",
                part.name(),
                so_many(brokers as u64, "broker", "brokers")
            ),
            "lower `kafka.topics.replication_factor`, or add brokers",
        ),
        Some(part) => findings.say(format!("not there yet: {} makes it", part.name())),
        None => findings.warn(
            "not there, and nobody here makes it",
            "make it, or name another one in `kafka.topics`",
        ),
    }
    findings.probe(End::Kafka, format!("topic `{name}`"))
}

/// Judges our rights to a group.
pub fn group(name: &str, lacking: &BTreeMap<Part, BTreeSet<Operation>>) -> Probe {
    let mut findings = Findings::default();
    if lacking.is_empty() {
        findings.say("may be used");
    }
    lack(lacking, &mut findings);
    findings.probe(End::Kafka, format!("group `{name}`"))
}

fn rights(facts: &Facts, findings: &mut Findings) {
    lack(&facts.lacking, findings);
}

fn lack(lacking: &BTreeMap<Part, BTreeSet<Operation>>, findings: &mut Findings) {
    for (part, operations) in lacking {
        let names: Vec<String> = operations.iter().map(|it| format!("{it:?}")).collect();
        findings.fail(format!("{} may not {}", part.name(), names.join(", ")), GRANT);
    }
}

fn checkpoints(facts: &Facts, compacted: bool, findings: &mut Findings) {
    if facts.partitions != 1 {
        findings.fail(
            "checkpoints need one partition",
            "name another topic in `kafka.topics.checkpoints`",
        );
    }
    if !facts.settings.is_empty() && !compacted {
        findings.fail(
            "not compacted: checkpoints would vanish from it",
            "set `cleanup.policy=compact`",
        );
    }
    if facts.number("segment.bytes").is_some_and(|bytes| bytes > LARGE_SEGMENT) {
        findings.warn(
            "segments of more than 256 MiB: who takes over reads as much as the last one holds",
            "set `segment.bytes=52428800`, where the cluster takes that",
        );
    }
}

/// A topic's segments that take seconds to be read.
const LARGE_SEGMENT: i64 = 256 << 20;

fn changes(facts: &Facts, compacted: bool, wanted: &Wanted, findings: &mut Findings) {
    match facts.pinned {
        Some(pinned) if pinned > facts.partitions => findings.fail(
            format!("it had {pinned} partitions when the source chose among them"),
            "restore the topic",
        ),
        Some(pinned) if pinned < facts.partitions => findings.warn(
            format!(
                "the source goes on with the first {pinned}, so that documents keep their order"
            ),
            "nothing, or drain the topic and make it anew",
        ),
        _ => {}
    }
    if compacted {
        findings.fail(
            "compacted: changes vanish from it before they are read",
            "set `cleanup.policy=delete`",
        );
    }
    if let Some(kept) = facts.number("retention.ms").filter(|kept| *kept >= 0) {
        if kept < wanted.retention.0 {
            findings.warn(
                format!("kept {}, the config says {}", length(kept), length(wanted.retention.0)),
                format!("set `retention.ms={}`", wanted.retention.0),
            );
        } else if kept < LEAST_RETENTION {
            findings.warn(
                format!("kept {}: who is away for longer loses changes", length(kept)),
                "raise `kafka.topics.retention_hours`, and the topic's retention.ms with it",
            );
        }
    }
    if let Some(bytes) = facts.number("retention.bytes").filter(|bytes| *bytes >= 0) {
        findings.warn(
            format!("no more than {bytes} bytes of a partition are kept, read or not"),
            "set `retention.bytes=-1`",
        );
    }
    if let Some(bytes) = facts.number("max.message.bytes")
        && bytes.unsigned_abs() < wanted.max_message_bytes
    {
        findings.warn(
            format!("larger messages than {bytes} bytes go in pieces, which only Tailwater joins"),
            format!("set `max.message.bytes={}`", wanted.max_message_bytes),
        );
    }
}

/// What is acknowledged must outlive a broker.
fn copies_in_step(facts: &Facts, findings: &mut Findings) {
    let replicas = i64::from(facts.replicas);
    match replicas {
        1 => findings.warn(
            "a broker that is lost takes it along, acknowledged or not",
            "make topics with `replication_factor: 3`; this one with `kafka-reassign-partitions.sh`",
        ),
        2 => findings.warn(
            "with 2 copies either one broker may be away or none may be lost",
            "3 copies, with `kafka-reassign-partitions.sh`",
        ),
        _ => {}
    }
    let in_step = facts.number("min.insync.replicas");
    match in_step {
        Some(least) if least > replicas => findings.fail(
            format!("min.insync.replicas is {least}: nothing can be written"),
            format!("set `min.insync.replicas={}`", (replicas - 1).max(1)),
        ),
        Some(1) if replicas > 1 => findings.warn(
            "min.insync.replicas is 1: what one broker alone has counts as safe",
            "set `min.insync.replicas=2`",
        ),
        Some(least) if least == replicas && replicas > 2 => findings.warn(
            format!("min.insync.replicas is {least}: with a broker away nothing can be written"),
            format!("set `min.insync.replicas={}`", replicas - 1),
        ),
        _ => {}
    }
    if facts.text("unclean.leader.election.enable") == "true" {
        findings.warn(
            "unclean.leader.election.enable: a broker that lags may lead, and what it lacks is lost",
            "set `unclean.leader.election.enable=false`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    const DAYS_3: i64 = 3 * LEAST_RETENTION;
    const WANTED: Wanted = Wanted { retention: Millis(DAYS_3), max_message_bytes: 8_388_608 };

    /// A sound topic, with one setting changed.
    fn sound(name: &str, value: &str) -> Facts {
        let usual = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "259200000"),
            ("retention.bytes", "-1"),
            ("max.message.bytes", "8388608"),
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
        ];
        let usual = usual.into_iter().chain([(name, value)]);
        let settings = usual.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Facts { partitions: 12, replicas: 3, settings, ..Facts::default() }
    }

    #[test]
    fn each_setting_of_a_topic_of_changes_is_judged() {
        use Verdict::{Fail, Ok, Warn};
        for (name, value, verdict, text) in [
            ("", "", Ok, "12 partitions, 3 copies"),
            ("cleanup.policy", "compact", Fail, "compacted"),
            ("cleanup.policy", "compact,delete", Fail, "compacted"),
            ("retention.ms", "-1", Ok, ""),
            ("retention.ms", "259199999", Warn, "the config says 3 d"),
            ("retention.ms", "604800000", Ok, ""),
            ("retention.bytes", "1073741824", Warn, "1073741824 bytes"),
            ("max.message.bytes", "1048588", Warn, "in pieces"),
            ("max.message.bytes", "10485760", Ok, ""),
            ("min.insync.replicas", "1", Warn, "one broker alone"),
            ("min.insync.replicas", "3", Warn, "with a broker away"),
            ("min.insync.replicas", "4", Fail, "nothing can be written"),
            ("unclean.leader.election.enable", "true", Warn, "may lead"),
        ] {
            let probe = judge("t", Role::Changes, &sound(name, value), &WANTED);
            assert_eq!(probe.verdict, verdict, "{name}={value}: {probe:?}");
            assert!(probe.found.contains(text), "{name}={value}: {probe:?}");
            assert_eq!(probe.mend.is_some(), verdict != Ok, "{name}={value}: {probe:?}");
        }
    }

    #[test]
    fn less_than_a_day_is_short_even_where_it_is_wanted() {
        let wanted = Wanted { retention: Millis(3_600_000), ..WANTED };
        let probe = judge("t", Role::Changes, &sound("retention.ms", "3600000"), &wanted);
        assert_eq!(probe.verdict, Verdict::Warn);
        assert!(probe.found.contains("who is away"), "{probe:?}");
    }

    #[test]
    fn few_copies_are_weak() {
        for (replicas, least, verdict) in
            [(1, "1", Verdict::Warn), (1, "2", Verdict::Fail), (2, "2", Verdict::Warn)]
        {
            let facts = Facts { replicas, ..sound("min.insync.replicas", least) };
            let probe = judge("t", Role::Changes, &facts, &WANTED);
            assert_eq!(probe.verdict, verdict, "{replicas} {least}: {probe:?}");
        }
    }

    #[test]
    fn checkpoints_want_one_compacted_partition() {
        for (partitions, policy, verdict) in [
            (1, "compact", Verdict::Ok),
            (1, "delete", Verdict::Fail),
            (2, "compact", Verdict::Fail),
        ] {
            let facts = Facts { partitions, ..sound("cleanup.policy", policy) };
            let probe = judge("t", Role::Checkpoints, &facts, &WANTED);
            assert_eq!(probe.verdict, verdict, "{partitions} {policy}: {probe:?}");
        }
    }

    #[test]
    fn partitions_may_come_and_must_not_go() {
        for (pinned, verdict) in [(12, Verdict::Ok), (6, Verdict::Warn), (24, Verdict::Fail)] {
            let facts = Facts { pinned: Some(pinned), ..sound("", "") };
            assert_eq!(judge("t", Role::Changes, &facts, &WANTED).verdict, verdict, "{pinned}");
        }
    }

    #[test]
    fn what_we_may_not_do_is_named_with_who_needs_it() {
        let operations = BTreeSet::from([Operation::Read, Operation::DescribeConfigs]);
        let lacking = BTreeMap::from([(Part::Sink, operations)]);
        let facts = Facts { lacking: lacking.clone(), ..sound("", "") };
        for probe in [judge("t", Role::Changes, &facts, &WANTED), group("g", &lacking)] {
            assert_eq!(probe.verdict, Verdict::Fail);
            assert!(probe.found.contains("sink may not Read, DescribeConfigs"), "{probe:?}");
        }
        assert_eq!(group("g", &BTreeMap::new()).verdict, Verdict::Ok);
    }

    #[test]
    fn a_topic_that_is_not_there_must_be_one_that_can_be_made() {
        for (makes, brokers, verdict) in [
            (Some(Part::Source), 3, Verdict::Ok),
            (Some(Part::Source), 2, Verdict::Fail),
            (None, 3, Verdict::Warn),
        ] {
            assert_eq!(missing("t", makes, brokers, 3).verdict, verdict, "{makes:?} {brokers}");
        }
    }
}
