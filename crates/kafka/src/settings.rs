//! Settings: what the config says of a cluster, as librdkafka's properties.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tailwater_core::config::{Kafka, OAuthBearer, Sasl};
use tailwater_core::config::KafkaTls as Tls;
use tailwater_core::Result;

use crate::client::{Client, Tokens};

impl Client {
    /// A client as it is configured; `tokens` where the sign-in takes some.
    pub fn of(kafka: &Kafka, tokens: Option<Arc<dyn Tokens>>) -> Self {
        Self::new(&kafka.bootstrap_servers, properties(kafka), tokens)
    }
}
