//! The servers that all tests share.

use tailwater_testkit::servers::{Engine, Kafka, Mongod, lasting_folder};
use tokio::sync::OnceCell;

use crate::binary;

/// The servers; the first test that asks starts them, and they die with the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers {
    pub(crate) kafka: &'static Kafka,
    pub(crate) mongod: &'static Mongod,
    pub(crate) engine: &'static Engine,
}

impl Servers {
    /// `None`: a server is missing here, skip.
    pub(crate) async fn shared() -> Option<Self> {
        static ENGINE: OnceCell<Option<Engine>> = OnceCell::const_new();
        let engine = async || Engine::start(binary(), &lasting_folder().unwrap()).await.unwrap();
        let (kafka, mongod, engine) =
            tokio::join!(Kafka::shared(), Mongod::shared(), ENGINE.get_or_init(engine));
        let (kafka, mongod, engine) = (kafka.unwrap()?, mongod.unwrap()?, engine.as_ref()?);
        Some(Self { kafka, mongod, engine })
    }
}
