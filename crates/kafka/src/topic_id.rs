//! What a topic is: its id, which outlives no deletion, and how many partitions it has.
//!
//! One of the modules here with `unsafe` code: the `rdkafka` crate does not wrap `DescribeTopics`.

#![expect(unsafe_code, reason = "calls of librdkafka that have no safe wrapper")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tailwater_core::position::Epoch;

use crate::rights::{self, Rights};

/// A topic as the cluster has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    /// The topic's id: another one means another topic of the same name.
    pub(crate) id: Epoch,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// On how many brokers the first of them is meant to be.
    pub(crate) replicas: u32,
    /// What we may do with it, where that was asked.
    pub(crate) rights: Option<Rights>,
}

/// The topics of some names, by their names.
pub(crate) type Descriptions = BTreeMap<String, Description>;

/// Asks for topics, and perhaps for our rights to them; those that are not there are left out. Blocks,
/// at most `patience`.
pub(crate) fn describe<C: ClientContext>(
    admin: &AdminClient<C>,
    topics: &[String],
    with_rights: bool,
    patience: Duration,
) -> Result<Descriptions, KafkaError> {
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let names = topics.iter().map(|topic| CString::new(topic.as_str()).map_err(KafkaError::Nul));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let client = admin.inner().native_ptr();
    // SAFETY: `client` lives as long as `admin`. librdkafka copies the names before the call returns.
    // Every pointer is destroyed once, below, after the last use of what was taken from it: topics,
    // their errors and ids belong to the event.
    unsafe {
        let collection =
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = rd::rd_kafka_AdminOptions_new(
            client,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, std::ptr::null_mut(), 0);
        if with_rights {
            rights::ask(options);
        }
        let queue = rd::rd_kafka_queue_new(client);
        rd::rd_kafka_DescribeTopics(client, collection, options, queue);
        // Longer than the request itself may take, so that its own answer comes first.
        let event = rd::rd_kafka_queue_poll(queue, millis.saturating_add(5000));
        let answer = if event.is_null() {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))
        } else {
            let answer = read(event);
            rd::rd_kafka_event_destroy(event);
            answer
        };
        rd::rd_kafka_queue_destroy(queue);
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(collection);
        answer
    }
}

/// What an answer says.
///
/// # Safety
/// `event` must be one that librdkafka gave for `DescribeTopics`, not yet destroyed.
unsafe fn read(event: *mut rd::rd_kafka_event_t) -> Result<Descriptions, KafkaError> {
    const FINE: rd::rd_kafka_resp_err_t = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    let mut found = Descriptions::new();
    // SAFETY: as the function's; null is checked where librdkafka may give it. `count` topics are
    // behind `topics`.
    unsafe {
        let error = rd::rd_kafka_event_error(event);
        if error != FINE {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        let mut count = 0;
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() {
            return Ok(found);
        }
        for index in 0..count {
            let topic = *topics.add(index);
            let error = rd::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() {
                let code = rd::rd_kafka_error_code(error);
                if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
                    continue;
                }
                if code != FINE {
                    return Err(KafkaError::AdminOp(code.into()));
                }
            }
            let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic));
            let mut partitions = 0;
            let list = rd::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
            let mut replicas = 0;
            if !list.is_null() && partitions > 0 {
                rd::rd_kafka_TopicPartitionInfo_replicas(*list, &raw mut replicas);
            }
            let mut count = 0;
            let operations =
                rd::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let half = |bits: i64| u128::from(bits.cast_unsigned());
            let most = half(rd::rd_kafka_Uuid_most_significant_bits(id));
            let least = half(rd::rd_kafka_Uuid_least_significant_bits(id));
            let id = Epoch::new((most << 64 | least).to_be_bytes());
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let (partitions, replicas) = (number(partitions), number(replicas));
            let rights = Rights::read(operations, count);
            let name = name.to_string_lossy().into_owned();
            found.insert(name, Description { id, partitions, replicas, rights });
        }
    }
    Ok(found)
}
