//! The lines of `server.properties`.

use std::fmt::Write as _;
use std::path::Path;

use super::{Kafka, Options};
use crate::servers::free_port;

/// The file's name in the broker's folder.
pub(super) const FILE: &str = "server.properties";
/// The data's folder in it.
pub(super) const DATA: &str = "data";
/// The id of every cluster: sixteen bytes as base64.
pub(super) const CLUSTER: &str = "dGFpbHdhdGVyLXRlc3QtMQ";
/// A file in the broker's folder: who signs.
pub(super) const CA: &str = "ca.pem";
/// A file in the broker's folder: its key, its certificate.
pub(super) const BROKER: &str = "broker.pem";

/// Where the broker listens, on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    controller: u16,
    pub(super) open: u16,
    pub(super) secured: Option<SecuredPorts>,
}

/// Where it listens for those who sign in.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecuredPorts {
    pub(super) password: u16,
    pub(super) certificate: u16,
    pub(super) token: u16,
}

impl Ports {
    pub(super) fn free(options: &Options) -> anyhow::Result<Self> {
        let controller = free_port()?;
        let open = options.open.map_or_else(free_port, Ok)?;
        let secured = if options.secured {
            let (password, certificate, token) = (free_port()?, free_port()?, free_port()?);
            Some(SecuredPorts { password, certificate, token })
        } else {
            None
        };
        Ok(Self { controller, open, secured })
    }

    /// Those for clients.
    pub(super) fn clients(&self) -> Vec<u16> {
        let mut ports = vec![self.open];
        if let Some(SecuredPorts { password, certificate, token }) = self.secured {
            ports.extend([password, certificate, token]);
        }
        ports
    }
}

/// What every broker of the rig has.
const ALL: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Until this is over a killed broker cannot come back: its former life is not dead yet.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
# Clients decide, and some must die quickly.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.coordinator.rebalance.protocols=classic,consumer
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=300
group.consumer.heartbeat.interval.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# Few threads and small buffers: several brokers share two cores.
num.network.threads=2
num.io.threads=4
group.coordinator.threads=1
share.coordinator.threads=1
log.cleaner.dedupe.buffer.size=4194304
";

/// What those with sign-in have too. The files of `ssl.*` are added by [`server`].
const SECURED: &str = "\
ssl.keystore.type=PEM
ssl.truststore.type=PEM
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.sasl.enabled.mechanisms=OAUTHBEARER,PLAIN
listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
";

/// The open listener and the controller are used by nobody but the rig.
const AUTHORIZED: &str = "\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
";

/// All lines for a broker in the folder `home`. Of equal names the last wins.
pub(super) fn server(home: &Path, ports: &Ports, options: &Options) -> String {
    let mut text = ALL.to_owned();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name}={value}").expect("a string takes all text");
    };
    let home = home.display();
    line("log.dirs", &format!("{home}/{DATA}"));
    let controller = ports.controller;
    line("controller.quorum.voters", &format!("1@127.0.0.1:{controller}"));
    let mut listeners =
        format!("CONTROLLER://127.0.0.1:{controller},PLAINTEXT://127.0.0.1:{}", ports.open);
    if let Some(SecuredPorts { password, certificate, token }) = ports.secured {
        for (name, port) in
            [("SASL_SSL", password), ("SSL", certificate), ("SASL_PLAINTEXT", token)]
        {
            write!(listeners, ",{name}://127.0.0.1:{port}").expect("a string takes all text");
        }
        line("ssl.keystore.location", &format!("{home}/{BROKER}"));
        line("ssl.truststore.location", &format!("{home}/{CA}"));
        let plain = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_{}=\"{}\";",
            Kafka::USER,
            Kafka::PASSWORD
        );
        for listener in ["sasl_ssl", "sasl_plaintext"] {
            line(&format!("listener.name.{listener}.plain.sasl.jaas.config"), &plain);
        }
    }
    line("listeners", &listeners);
    if ports.secured.is_some() {
        text.push_str(SECURED);
    }
    if options.authorized {
        text.push_str(AUTHORIZED);
    }
    for (name, value) in &options.properties {
        writeln!(text, "{name}={value}").expect("a string takes all text");
    }
    text
}
