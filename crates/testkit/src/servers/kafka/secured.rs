//! Where clients must sign in, and what they need for that, made anew for each broker.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rdkafka::ClientConfig;

use super::properties::{BROKER, CA, SecuredPorts};
use super::{Kafka, address};

/// Where a client must sign in, and what it needs for that.
///
/// Who signs in by password is [`Kafka::USER`] with [`Kafka::PASSWORD`], for which rights belong to
/// `User:tailwater`; those of the certificate belong to `User:CN=tailwater`.
#[derive(Debug)]
pub struct Secured {
    /// `SASL_SSL` with SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN.
    pub password: String,
    /// `SSL`; the client must show its certificate.
    pub certificate: String,
    /// `SASL_PLAINTEXT` with OAUTHBEARER, for which any unsigned token will do, and PLAIN.
    pub token: String,
    /// Who has signed the broker's certificate, as PEM.
    pub ca: PathBuf,
    /// The client's certificate, as PEM.
    pub client_certificate: PathBuf,
    /// Its key, as PEM.
    pub client_key: PathBuf,
    /// A certificate of the same name that somebody else has signed.
    pub stranger_certificate: PathBuf,
    /// Its key.
    pub stranger_key: PathBuf,
}

impl Secured {
    /// The properties of a client that signs in by password, over TLS.
    pub fn by_password(&self, mechanism: &str, user: &str, password: &str) -> ClientConfig {
        let mut config = client(&self.password, "SASL_SSL");
        config.set("ssl.ca.location", text(&self.ca)).set("sasl.mechanism", mechanism);
        config.set("sasl.username", user).set("sasl.password", password);
        config
    }

    /// The properties of a client that shows its certificate.
    pub fn by_certificate(&self) -> ClientConfig {
        let mut config = client(&self.certificate, "SSL");
        config.set("ssl.ca.location", text(&self.ca));
        config.set("ssl.certificate.location", text(&self.client_certificate));
        config.set("ssl.key.location", text(&self.client_key));
        config
    }

    /// The properties of a client that makes an unsigned token for [`Kafka::USER`].
    pub fn by_token(&self) -> ClientConfig {
        let mut config = client(&self.token, "SASL_PLAINTEXT");
        config.set("sasl.mechanism", "OAUTHBEARER");
        config.set("enable.sasl.oauthbearer.unsecure.jwt", "true");
        config.set("sasl.oauthbearer.config", format!("principal={}", Kafka::USER));
        config
    }
}

fn client(address: &str, protocol: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("security.protocol", protocol);
    config
}

/// A path as a property's value.
pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

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
