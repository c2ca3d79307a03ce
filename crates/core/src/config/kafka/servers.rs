//! Servers: the brokers to ask first.

use crate::config::section::{At, Reader, Section};

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// In lower case.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// The brokers, each where it stands, and all of them as librdkafka takes them.
pub(super) fn read(section: &mut Section<'_>, reader: &Reader<'_>) -> (String, Vec<At<Server>>) {
    let Some(texts) = section.texts("bootstrap_servers") else {
        if section.is_absent("bootstrap_servers") {
            section.lacks("bootstrap_servers", "bootstrap_servers: host:9092");
        }
        return (String::new(), Vec::new());
    };
    let mut servers = Vec::new();
    let mut joined: Vec<String> = Vec::new();
    for At { place, value } in texts.value {
        for entry in value.split(',').map(str::trim) {
            match parse(entry) {
                Ok(server) => servers.push(At { place: place.clone(), value: server }),
                Err(why) => reader.complain(&place, why, "write `host:port`, each"),
            }
            joined.push(entry.to_owned());
        }
    }
    (joined.join(","), servers)
}

pub(super) fn parse(entry: &str) -> Result<Server, &'static str> {
    if entry.contains("://") {
        return Err("a broker has no scheme: `security_protocol` says how to talk to it");
    }
    if entry.contains('@') {
        return Err("a broker has no user: `sasl` says who signs in");
    }
    // The colons of an IPv6 address are in brackets.
    let at_port = entry.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match entry[at_port..].split_once(':') {
        Some((rest, port)) => (&entry[..at_port + rest.len()], Some(port)),
        None => (entry, None),
    };
    let of_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(of_name),
    };
    if !sound {
        return Err("this names no broker");
    }
    let port = match port.map(str::parse) {
        Some(Ok(0) | Err(_)) => return Err("this names no port of a broker"),
        Some(Ok(port)) => Some(port),
        None => None,
    };
    Ok(Server { host: host.to_ascii_lowercase(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_perhaps_a_port() {
        let server = |host: &str, port| Ok(Server { host: host.to_owned(), port });
        assert_eq!(parse("B-1.example:9096"), server("b-1.example", Some(9096)));
        assert_eq!(parse("kafka_1"), server("kafka_1", None));
        assert_eq!(parse("[::1]:9092"), server("[::1]", Some(9092)));
        for wrong in [
            "",
            ":9092",
            "a b:1",
            "a:",
            "a:x",
            "a:0",
            "a:65536",
            "::1",
            "[x]:1",
            "SSL://a:1",
            "u@a:1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
