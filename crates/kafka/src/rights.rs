//! Rights: what the cluster says that we may do, and who is in a group. It is asked; nothing is tried.
//!
//! One of the modules here with `unsafe` code: the `rdkafka` crate does not wrap
//! `DescribeConsumerGroups`.

#![expect(unsafe_code, reason = "calls of librdkafka that have no safe wrapper")]

use std::ffi::CString;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tailwater_core::grants::Operation;

/// What we may do with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u32);

/// A consumer group as its broker has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Members {
    /// How many there are; none in a group that is not there.
    pub count: usize,
    /// Whether there is such a group.
    pub is_there: bool,
    /// What we may do with the group, where the broker tells.
    pub rights: Option<Rights>,
}

impl Rights {
    /// Whether we may do this.
    pub const fn may(self, operation: Operation) -> bool {
        self.0 & 1 << number(operation) as u32 != 0
    }

    /// Those of a list of librdkafka's; `None` where there is none.
    ///
    /// # Safety
    /// `list` must be null or hold `count` operations.
    pub(crate) unsafe fn read(
        list: *const rd::rd_kafka_AclOperation_t,
        count: usize,
    ) -> Option<Self> {
        if list.is_null() {
            return None;
        }
        // SAFETY: as the function's.
        let list = unsafe { std::slice::from_raw_parts(list, count) };
        Some(Self(list.iter().fold(0, |bits, operation| bits | 1 << *operation as u32)))
    }
}

const fn number(operation: Operation) -> rd::rd_kafka_AclOperation_t {
    use rd::rd_kafka_AclOperation_t as of;
    match operation {
        Operation::Read => of::RD_KAFKA_ACL_OPERATION_READ,
        Operation::Write => of::RD_KAFKA_ACL_OPERATION_WRITE,
        Operation::Create => of::RD_KAFKA_ACL_OPERATION_CREATE,
        Operation::Delete => of::RD_KAFKA_ACL_OPERATION_DELETE,
        Operation::Describe => of::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        Operation::DescribeConfigs => of::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
    }
}

/// Lets a request ask for our rights too.
///
/// # Safety
/// `options` must be alive, of a request that can.
pub(crate) unsafe fn ask(options: *mut rd::rd_kafka_AdminOptions_t) {
    // SAFETY: as the function's. An error is ours to destroy, and means that nothing is told.
    unsafe {
        let refused = rd::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            rd::rd_kafka_error_destroy(refused);
        }
    }
}

/// Asks who is in a group. Blocks, at most `patience`.
pub(crate) fn members<C: ClientContext>(
    admin: &AdminClient<C>,
    group: &str,
    patience: Duration,
) -> Result<Members, KafkaError> {
    let name = CString::new(group).map_err(KafkaError::Nul)?;
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    let client = admin.inner().native_ptr();
    // SAFETY: `client` lives as long as `admin`. librdkafka copies the name before the call returns.
    // Every pointer is destroyed once, below, after the last use of what was taken from it: groups and
    // their errors belong to the event. An error of the option means that it is not taken.
    unsafe {
        let options = rd::rd_kafka_AdminOptions_new(
            client,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
        );
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, std::ptr::null_mut(), 0);
        ask(options);
        let queue = rd::rd_kafka_queue_new(client);
        rd::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), 1, options, queue);
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
        answer
    }
}

/// What an answer says.
///
/// # Safety
/// `event` must be one that librdkafka gave for `DescribeConsumerGroups`, not yet destroyed.
unsafe fn read(event: *mut rd::rd_kafka_event_t) -> Result<Members, KafkaError> {
    const FINE: rd::rd_kafka_resp_err_t = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    const NONE: rd::rd_kafka_resp_err_t =
        rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND;
    // SAFETY: as the function's; null is checked where librdkafka may give it.
    unsafe {
        let error = rd::rd_kafka_event_error(event);
        if error != FINE {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        let mut count = 0;
        let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        let group = *groups;
        let error = rd::rd_kafka_ConsumerGroupDescription_error(group);
        let code = if error.is_null() { FINE } else { rd::rd_kafka_error_code(error) };
        if code != FINE && code != NONE {
            return Err(KafkaError::AdminOp(code.into()));
        }
        let mut count = 0;
        let list =
            rd::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
        // Brokers say of a group that is not there that it is dead, or that they do not find it.
        let state = rd::rd_kafka_ConsumerGroupDescription_state(group);
        let is_dead =
            state == rd::rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD;
        Ok(Members {
            count: rd::rd_kafka_ConsumerGroupDescription_member_count(group),
            is_there: code != NONE && !is_dead,
            rights: Rights::read(list, count),
        })
    }
}
