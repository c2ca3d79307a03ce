//! Security: how connections are made, who signs in and how, and with which certificates.

use secrecy::SecretString;

use super::msk::{self, Msk};
use super::servers::Server;
use super::{OAuthBearer, PasswordMechanism, Sasl, SecurityProtocol, Tls};
use crate::config::section::{At, Reader, Section};
use crate::config::tree::Place;

/// What `sasl.mechanism` may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
    AwsMskIam,
}

impl Mechanism {
    const ALL: [(&'static str, Self); 5] = [
        ("PLAIN", Self::Plain),
        ("SCRAM-SHA-256", Self::ScramSha256),
        ("SCRAM-SHA-512", Self::ScramSha512),
        ("OAUTHBEARER", Self::OAuthBearer),
        ("AWS_MSK_IAM", Self::AwsMskIam),
    ];

    pub(super) const fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// The mechanism, if it takes user and password.
    const fn of_password(self) -> Option<PasswordMechanism> {
        match self {
            Self::Plain => Some(PasswordMechanism::Plain),
            Self::ScramSha256 => Some(PasswordMechanism::ScramSha256),
            Self::ScramSha512 => Some(PasswordMechanism::ScramSha512),
            Self::OAuthBearer | Self::AwsMskIam => None,
        }
    }
}

/// How a broker is to be talked to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) protocol: SecurityProtocol,
    pub(super) mechanism: Option<Mechanism>,
}

/// What the keys of security say together.
pub(super) struct Security {
    pub(super) protocol: SecurityProtocol,
    pub(super) sasl: Option<Sasl>,
    pub(super) tls: Tls,
}

/// `None` where something is wrong, which is told.
pub(super) fn read(
    section: &mut Section<'_>,
    servers: &[At<Server>],
    reader: &Reader<'_>,
) -> Option<Security> {
    let words = SecurityProtocol::ALL.map(|protocol| (protocol.name(), protocol));
    let given = section.choice("security_protocol", &words);
    let unclear = given.is_none() && !section.is_absent("security_protocol");
    let tls = read_tls(section, reader);
    let sasl_place = section.given("sasl").map(|(key, _)| key.place.clone());
    let mechanism_and_sasl = section.section("sasl").map(|sasl| read_sasl(sasl, servers, reader));
    let mechanism = mechanism_and_sasl.as_ref().and_then(|(mechanism, _)| *mechanism);
    if unclear || (sasl_place.is_some() && mechanism.is_none()) {
        return None;
    }
    // Without a word, a password never goes over an open line.
    let usual = match (&sasl_place, &tls) {
        (Some(_), _) => SecurityProtocol::SaslSsl,
        (None, Some(_)) => SecurityProtocol::Ssl,
        (None, None) => SecurityProtocol::Plaintext,
    };
    let protocol = given.as_ref().map_or(usual, |at| at.value);
    match (&given, &sasl_place) {
        (Some(At { place, value }), None) if value.has_sasl() => reader.complain(
            place,
            format!("`{}` needs to know who signs in", value.name()),
            "add `sasl: { mechanism: …, … }`",
        ),
        (Some(At { value, .. }), Some(place)) if !value.has_sasl() => reader.complain(
            place,
            format!("nobody signs in under `security_protocol: {}`", value.name()),
            "write SASL_SSL there, or remove `sasl`",
        ),
        (Some(At { place, value: SecurityProtocol::SaslPlaintext }), Some(_))
            if mechanism == Some(Mechanism::AwsMskIam) =>
        {
            reader.complain(place, "AWS_MSK_IAM goes over TLS only", "write `SASL_SSL`");
        }
        _ => {}
    }
    if let (Some(At { place, .. }), false) = (&tls, protocol.has_tls()) {
        let what = format!("`tls` is for SSL and SASL_SSL, not for {}", protocol.name());
        reader.complain(place, what, "change `security_protocol`, or remove it");
    }
    for At { place, value } in servers {
        if let Some((what, mend)) = msk::mistake(value, Wanted { protocol, mechanism }) {
            reader.complain(place, what, mend);
        }
    }
    let sasl = mechanism_and_sasl.map(|(_, sasl)| sasl);
    let sasl = match sasl {
        Some(sasl) => Some(sasl?),
        None => None,
    };
    Some(Security { protocol, sasl, tls: tls.map(|at| at.value).unwrap_or_default() })
}

/// The keys that each mechanism takes; all but those of `AWS_MSK_IAM` must be there, one of several
/// for `OAUTHBEARER`.
const fn keys(mechanism: Mechanism) -> &'static [&'static str] {
    match mechanism {
        Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            &["username", "password"]
        }
        Mechanism::OAuthBearer => &["token", "token_file", "unsecured"],
        Mechanism::AwsMskIam => &["region"],
    }
}

/// The keys of OpenID Connect, as people write them.
const OIDC: [&str; 5] = ["method", "token_endpoint_url", "client_id", "client_secret", "scope"];

fn read_sasl(
    mut section: Section<'_>,
    servers: &[At<Server>],
    reader: &Reader<'_>,
) -> (Option<Mechanism>, Option<Sasl>) {
    let at_sasl = section.place.clone();
    let mechanism = section.choice("mechanism", &Mechanism::ALL);
    let username = section.text("username");
    let password = section.secret("password");
    let token = section.secret("token");
    let token_file = section.text("token_file");
    let unsecured = section.text("unsecured");
    let region = section.text("region");
    let oidc = OIDC.map(|name| section.given(name));
    oidc.iter().flatten().for_each(|(_, node)| reader.hide(node));
    let oidc = oidc.into_iter().flatten().next();
    if let Some((key, _)) = oidc {
        let what = "OpenID Connect needs a librdkafka with curl, and this one has none";
        let mend = "let another program fetch the token, and name its file: `token_file`";
        reader.complain(&key.place, what, mend);
    }
    let Some(At { value: mechanism, .. }) = mechanism else {
        if section.is_absent("mechanism") {
            section.lacks("mechanism", "mechanism: SCRAM-SHA-512");
        }
        section.end();
        return (None, None);
    };
    let taken = keys(mechanism);
    for other in Mechanism::ALL.into_iter().flat_map(|(_, other)| keys(other)) {
        if let (false, Some((key, _))) = (taken.contains(other), section.given(other)) {
            let what = format!("`{other}` is not for {}", mechanism.name());
            let mend = match mechanism {
                Mechanism::AwsMskIam => "remove it: AWS's usual chain finds the credentials",
                _ => "remove it, or change `mechanism`",
            };
            reader.complain(&key.place, what, mend);
        }
    }
    let given = taken.iter().filter(|name| !section.is_absent(name)).count();
    let sasl = match mechanism {
        Mechanism::AwsMskIam => {
            let region = read_region(&section, region, servers, reader);
            region.map(|region| Sasl::AwsMskIam { region })
        }
        Mechanism::OAuthBearer => {
            if given > 1 || (given == 0 && oidc.is_none()) {
                let what = "OAUTHBEARER takes one of `token`, `token_file` and `unsecured`";
                reader.complain(&at_sasl, what, "write one of them");
            }
            let token = token.map(|at| OAuthBearer::Token(at.value));
            let file = token_file.map(|at| OAuthBearer::TokenFile(at.value));
            let unsecured = unsecured.map(|at| OAuthBearer::Unsecured(at.value));
            token.or(file).or(unsecured).map(Sasl::OAuthBearer)
        }
        _ => {
            for (name, example) in
                [("username", "username: tailwater"), ("password", "password: { env: NAME }")]
            {
                if section.is_absent(name) {
                    section.lacks(name, example);
                }
            }
            let mechanism = mechanism.of_password();
            mechanism.zip(username.zip(password)).map(|(mechanism, (username, password))| {
                Sasl::Password { mechanism, username: username.value, password: password.value }
            })
        }
    };
    section.end();
    (Some(mechanism), sasl)
}

/// The region: the one that is given, or that of the brokers' names.
fn read_region(
    section: &Section<'_>,
    given: Option<At<String>>,
    servers: &[At<Server>],
    reader: &Reader<'_>,
) -> Option<String> {
    let of_names = servers.iter().find_map(|at| Msk::of_host(&at.value.host)).map(|msk| msk.region);
    match (given, of_names) {
        (Some(At { place, value }), Some(region)) if value != region => {
            let what = format!("the brokers are in `{region}`, by their names");
            reader.complain(&place, what, "remove `region`");
            None
        }
        (Some(At { value, .. }), _) => Some(value),
        (None, Some(region)) => Some(region.to_owned()),
        (None, None) => {
            if section.is_absent("region") {
                section.lacks("region", "region: eu-west-1");
            }
            None
        }
    }
}

/// Certificates, and where they are named.
fn read_tls(section: &mut Section<'_>, reader: &Reader<'_>) -> Option<At<Tls>> {
    let mut tls = section.section("tls")?;
    let at = tls.place.clone();
    let mut place = |name| tls.given(name).map(|(_, node)| node.place.clone());
    let places = ["ca", "certificate", "key"].map(&mut place);
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(|name| tls.contents(name));
    let key_password = tls.secret("key_password");
    let pem = |place: &Option<Place>, contents: &Option<String>, what: &str| {
        if let (Some(place), Some(contents)) = (place, contents)
            && !(contents.contains("-----BEGIN ") && contents.contains(what))
        {
            let what = format!("this file holds no {} as PEM", what.to_lowercase());
            reader.complain(place, what, "`openssl` turns other forms into PEM");
        }
    };
    pem(&places[0], &ca, "CERTIFICATE");
    pem(&places[1], &certificate, "CERTIFICATE");
    pem(&places[2], &key, "PRIVATE KEY");
    for (name, other, example) in [
        ("key", "certificate", "certificate: FILE"),
        ("certificate", "key", "key: FILE"),
        ("key_password", "key", "key: FILE"),
    ] {
        if let (Some(_), true) = (tls.given(name), tls.is_absent(other)) {
            tls.lacks(other, example);
        }
    }
    if let (Some(place), Some(key)) = (&places[2], &key)
        && key.contains("ENCRYPTED")
        && tls.is_absent("key_password")
    {
        reader.complain(place, "this key is encrypted", "add `key_password`");
    }
    tls.end();
    let key = key.map(SecretString::from);
    let key_password = key_password.map(|at| at.value);
    Some(At { place: at, value: Tls { ca, certificate, key, key_password } })
}
