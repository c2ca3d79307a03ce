//! Certificates for one broker and its client, made anew each time.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::properties::{BROKER, CA, SecuredPorts};
use super::{Kafka, Secured, address};

/// Writes all files into the broker's folder.
pub(super) fn make(home: &Path, ports: SecuredPorts) -> anyhow::Result<Secured> {
    let (ca, authority) = authority("tailwater test authority")?;
    let (_, stranger) = self::authority("somebody else")?;
    let file = |name: &str, content: String| {
        let path = home.join(name);
        std::fs::write(&path, content)?;
        anyhow::Ok::<PathBuf>(path)
    };
    let broker = signed("broker", &authority)?;
    file(BROKER, broker.key + &broker.certificate)?;
    let (client, stranger) = (signed(Kafka::USER, &authority)?, signed(Kafka::USER, &stranger)?);
    Ok(Secured {
        password: address(ports.password),
        certificate: address(ports.certificate),
        token: address(ports.token),
        ca: file(CA, ca)?,
        client_certificate: file("client.pem", client.certificate)?,
        client_key: file("client.key", client.key)?,
        stranger_certificate: file("stranger.pem", stranger.certificate)?,
        stranger_key: file("stranger.key", stranger.key)?,
    })
}

/// A certificate and its key, as PEM.
struct Signed {
    certificate: String,
    key: String,
}

/// Somebody who signs, and the certificate of that.
fn authority(name: &str) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate()?;
    let mut parameters = named(name)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key)?.pem();
    Ok((certificate, Issuer::new(parameters, key)))
}

fn signed(name: &str, by: &Issuer<'static, KeyPair>) -> anyhow::Result<Signed> {
    let key = KeyPair::generate()?;
    let certificate = named(name)?.signed_by(&key, by)?.pem();
    Ok(Signed { certificate, key: key.serialize_pem() })
}

/// For this machine; the name is who it is.
fn named(name: &str) -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(["localhost", "127.0.0.1"].map(String::from))?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    Ok(parameters)
}
