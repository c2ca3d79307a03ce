//! Pseudonym: what stands in the place of a personal value, the same for the same value.

use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::bson::{BsonError, Value};
use crate::{doc_id, ejson};

/// Makes pseudonyms: 64 hex digits.
#[derive(Debug, Clone)]
pub(super) enum Pseudonyms {
    /// HMAC-SHA-256. Who has no key cannot try values out.
    Keyed(Hmac<Sha256>),
    /// SHA-256.
    Plain,
}

impl Pseudonyms {
    pub(super) fn new(key: Option<&SecretString>) -> Self {
        // It takes keys of any length.
        match key.and_then(|key| Hmac::new_from_slice(key.expose_secret().as_bytes()).ok()) {
            Some(keyed) => Self::Keyed(keyed),
            None => Self::Plain,
        }
    }

    /// Appends the pseudonym of a value: of a string's bytes, or of the text that `doc_id` has for
    /// any other value.
    ///
    /// # Errors
    /// When the value is not BSON.
    pub(super) fn write(&self, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), BsonError> {
        if let Value::String(text) = value {
            ejson::hex(&self.digest(text), out);
            return Ok(());
        }
        let mut text = Vec::new();
        doc_id::write_id(value, &mut text)?;
        ejson::hex(&self.digest(&text), out);
        Ok(())
    }

    /// The digest by which a key is known, without telling the key.
    pub(super) fn digest(&self, text: &[u8]) -> [u8; 32] {
        match self {
            Self::Keyed(keyed) => keyed.clone().chain_update(text).finalize().into_bytes().into(),
            Self::Plain => Sha256::digest(text).into(),
        }
    }
}
