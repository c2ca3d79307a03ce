//! MSK: what the names and ports of Amazon's brokers say, so that a wrong port is told before
//! anybody waits for it.

use super::security::{Mechanism, Wanted};
use super::servers::{Server, parse};
use crate::config::{Kafka, Sasl, SecurityProtocol};

/// A broker of MSK, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Msk<'h> {
    pub(super) region: &'h str,
    serverless: bool,
    public: bool,
}

/// Each broker has a port of its own for clients in other networks, by whatever sign-in.
const PRIVATE_LINK: std::ops::RangeInclusive<u16> = 14_001..=14_999;

impl<'h> Msk<'h> {
    /// Reads a name such as `b-1.x.c2.kafka.eu-west-1.amazonaws.com`.
    pub(super) fn of_host(host: &'h str) -> Option<Self> {
        let labels = host.strip_suffix(".amazonaws.com.cn");
        let labels = labels.or_else(|| host.strip_suffix(".amazonaws.com"))?;
        let (cluster, region) = labels.rsplit_once('.')?;
        let (first, kind) = cluster.rsplit_once('.')?;
        let serverless = match kind {
            "kafka" => false,
            "kafka-serverless" => true,
            _ => return None,
        };
        let public = first.split('.').next().is_some_and(|broker| broker.ends_with("-public"));
        Some(Self { region, serverless, public })
    }
}

/// What is wrong with signing in so at a broker, and what to write instead.
pub(super) fn mistake(server: &Server, wanted: Wanted) -> Option<(String, String)> {
    let msk = Msk::of_host(&server.host)?;
    let Wanted { protocol, mechanism } = wanted;
    let iam = mechanism == Some(Mechanism::AwsMskIam);
    if msk.serverless && !iam {
        let mend = "write `security_protocol: SASL_SSL` and `sasl: { mechanism: AWS_MSK_IAM }`";
        return Some(("MSK Serverless takes AWS_MSK_IAM only".to_owned(), mend.to_owned()));
    }
    let (private, public) = match (protocol, mechanism) {
        (SecurityProtocol::Plaintext, _) => (9092, None),
        (SecurityProtocol::Ssl, _) => (9094, Some(9194)),
        (SecurityProtocol::SaslSsl, Some(Mechanism::ScramSha512)) => (9096, Some(9196)),
        (SecurityProtocol::SaslSsl, Some(Mechanism::AwsMskIam)) => (9098, Some(9198)),
        // What is wrong without a mechanism is told elsewhere.
        (_, None) => return None,
        (SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl, Some(_)) => {
            let what = "MSK signs nobody in so: it takes SCRAM-SHA-512 and AWS_MSK_IAM, over TLS";
            let mend = "write `security_protocol: SASL_SSL`, and one of these as `mechanism`";
            return Some((what.to_owned(), mend.to_owned()));
        }
    };
    let by = match mechanism {
        Some(mechanism) if protocol.has_sasl() => mechanism.name(),
        _ => protocol.name(),
    };
    let Some(right) = (if msk.public { public } else { Some(private) }) else {
        let what = format!("MSK takes no {by} from the outside");
        return Some((what, "sign in over TLS".to_owned()));
    };
    let change = "or change `security_protocol` and `sasl`";
    let Some(port) = server.port else {
        if protocol == SecurityProtocol::Plaintext {
            return None;
        }
        return Some((
            format!("without a port it is 9092, which is not {by}"),
            mend(right, change),
        ));
    };
    if port == right || (!msk.public && PRIVATE_LINK.contains(&port)) {
        return None;
    }
    let what = match speaks(port) {
        Some(other) if other != by => format!("port {port} of MSK is for {other}, not for {by}"),
        Some(_) if msk.public => format!("port {port} of MSK is not public"),
        Some(_) => format!("port {port} of MSK is for public addresses, and this is none"),
        None => format!("no broker of MSK listens on port {port}"),
    };
    Some((what, mend(right, change)))
}

impl Kafka {
    /// What to think of when no connection is made: ports that brokers of MSK have for other ways to
    /// sign in. A name may hide that the brokers are MSK's; where it shows it, the config is refused.
    pub fn suspicious_ports(&self) -> Option<String> {
        let mechanism = self.sasl.as_ref().map(|sasl| match sasl {
            Sasl::AwsMskIam { .. } => "AWS_MSK_IAM",
            sasl => sasl.mechanism(),
        });
        let by = mechanism.unwrap_or(self.security_protocol.name());
        let right = match by {
            "PLAINTEXT" => "9092",
            "SSL" => "9094 (public 9194)",
            "SCRAM-SHA-512" => "9096 (public 9196)",
            "AWS_MSK_IAM" => "9098 (public 9198)",
            _ => return None,
        };
        let servers = self.bootstrap_servers.split(',').filter_map(|server| parse(server).ok());
        let other = servers.into_iter().find_map(|Server { port, .. }| {
            let port = port.unwrap_or(9092);
            speaks(port).filter(|speaks| *speaks != by).map(|speaks| (port, speaks))
        });
        let (port, speaks) = other?;
        Some(format!("port {port} of MSK is for {speaks}; for {by} it is {right}"))
    }
}

fn mend(right: u16, change: &str) -> String {
    format!("write {right}, {change}")
}

/// What a port of MSK is for.
const fn speaks(port: u16) -> Option<&'static str> {
    Some(match port {
        9092 => "PLAINTEXT",
        9094 | 9194 => "SSL",
        9096 | 9196 => "SCRAM-SHA-512",
        9098 | 9198 => "AWS_MSK_IAM",
        2181 | 2182 => "ZooKeeper",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "b-1.x.abc123.c2.kafka.eu-west-1.amazonaws.com";
    const PUBLIC: &str = "b-1-public.x.abc123.c2.kafka.eu-west-1.amazonaws.com";
    const SERVERLESS: &str = "boot-abc.c3.kafka-serverless.us-east-1.amazonaws.com";

    #[test]
    fn a_name_tells_the_region() {
        let region = |host| Msk::of_host(host).map(|msk| msk.region);
        assert_eq!(region(CLUSTER), Some("eu-west-1"));
        assert_eq!(region(SERVERLESS), Some("us-east-1"));
        assert_eq!(region("b-1.x.kafka.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        for other in ["kafka.example", "x.elb.eu-west-1.amazonaws.com", "amazonaws.com", ""] {
            assert_eq!(region(other), None, "{other}");
        }
    }

    #[test]
    fn each_way_in_has_its_ports() {
        use Mechanism::{AwsMskIam, OAuthBearer, Plain, ScramSha256, ScramSha512};
        use SecurityProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
        for (protocol, mechanism, private, public) in [
            (Plaintext, None, Some(9092), None),
            (Ssl, None, Some(9094), Some(9194)),
            (SaslSsl, Some(ScramSha512), Some(9096), Some(9196)),
            (SaslSsl, Some(AwsMskIam), Some(9098), Some(9198)),
            (SaslSsl, Some(Plain), None, None),
            (SaslSsl, Some(ScramSha256), None, None),
            (SaslSsl, Some(OAuthBearer), None, None),
            (SaslPlaintext, Some(ScramSha512), None, None),
        ] {
            for (host, right) in [(CLUSTER, private), (PUBLIC, public)] {
                for port in [9092, 9094, 9096, 9098, 9194, 9196, 9198, 9093, 2181] {
                    let server = Server { host: host.to_owned(), port: Some(port) };
                    let mistake = mistake(&server, Wanted { protocol, mechanism });
                    assert_eq!(mistake.is_none(), Some(port) == right, "{port} {mistake:?}");
                    if let (Some(right), Some((_, mend))) = (right, mistake) {
                        assert!(mend.starts_with(&format!("write {right},")), "{mend}");
                    }
                }
            }
        }
    }

    #[test]
    fn serverless_takes_iam_alone() {
        let server = Server { host: SERVERLESS.to_owned(), port: Some(9098) };
        let wanted = |protocol, mechanism| Wanted { protocol, mechanism };
        let iam = wanted(SecurityProtocol::SaslSsl, Some(Mechanism::AwsMskIam));
        assert_eq!(mistake(&server, iam), None);
        let scram = wanted(SecurityProtocol::SaslSsl, Some(Mechanism::ScramSha512));
        assert!(mistake(&server, scram).unwrap().0.contains("Serverless"));
        assert!(mistake(&server, wanted(SecurityProtocol::Ssl, None)).is_some());
    }

    #[test]
    fn other_brokers_and_private_links_have_any_port() {
        let iam =
            Wanted { protocol: SecurityProtocol::SaslSsl, mechanism: Some(Mechanism::AwsMskIam) };
        for (host, port) in [("kafka.example", Some(9092)), ("x", None), (CLUSTER, Some(14_001))] {
            let server = Server { host: host.to_owned(), port };
            assert_eq!(mistake(&server, iam), None, "{host}");
        }
        let none = Server { host: CLUSTER.to_owned(), port: None };
        assert!(mistake(&none, iam).unwrap().0.contains("9092"));
    }
}
