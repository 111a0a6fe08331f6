//! Who vouches for a plugin: Ed25519 signatures (RFC 8032) and the key ring of an operator.

use std::collections::BTreeMap;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;

/// What is signed begins with this, so that a signature for anything else is none for a plugin.
const PURPOSE: &[u8] = b"forewright plugin signature v1\0";
/// Bytes of a public key.
const KEY_BYTES: usize = 32;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// A public key as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_BYTES]);

/// The text is no public key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 hexadecimal digits")]
pub struct NotAKey;

impl TryFrom<String> for PublicKey {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        let digits = text.as_bytes();
        if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NotAKey);
        }
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAKey)?;
        }
        Ok(Self(key))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        hex::digits(&key.0)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

/// The keys whose word an operator takes, by the names they know them under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyRing(pub BTreeMap<String, PublicKey>);

/// Why nobody known vouches for a plugin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is no signature.
    #[error("the plugin is not signed; an operator may allow unsigned plugins")]
    Unsigned,
    /// The section holds no signature.
    #[error("the signature is not {KEY_BYTES} bytes of key and {SIGNATURE_BYTES} of signature")]
    Malformed,
    /// Signed by somebody, whom the operator does not know.
    #[error("the plugin is signed by the unknown key {0}; to trust it, add it to the key ring")]
    UnknownKey(PublicKey),
    /// The key is known; what it signed is something else.
    #[error("the signature by `{0}` does not fit the plugin: it was changed after it was signed")]
    Forged(String),
}

impl TrustError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "plugin.unsigned",
            Self::Malformed | Self::Forged(_) => "plugin.signature",
            Self::UnknownKey(_) => "plugin.unknown-key",
        }
    }
}

impl KeyRing {
    /// The name of the one who signed these bytes.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if nobody known did.
    pub fn signer(&self, signed: &[u8], signature: Option<&[u8]>) -> Result<&str, TrustError> {
        let section = signature.ok_or(TrustError::Unsigned)?;
        let (key, signature) = section
            .split_first_chunk::<KEY_BYTES>()
            .ok_or(TrustError::Malformed)?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(TrustError::Malformed);
        }
        let known = self.0.iter().find(|(_, known)| known.0 == *key);
        let (name, _) = known.ok_or(TrustError::UnknownKey(PublicKey(*key)))?;
        let forged = |_| TrustError::Forged(name.clone());
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&message(signed), signature)
            .map_err(forged)?;
        Ok(name)
    }
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

/// The bytes are no key, or the machine has no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the signing key cannot be {0}: it is no PKCS#8 document of an Ed25519 key pair")]
pub struct KeyError(&'static str);

impl SigningKey {
    /// A new one, and its PKCS#8 document, which is all there is to keep.
    ///
    /// # Errors
    ///
    /// If the machine gives no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let document = document.map_err(|_| KeyError("made"))?.as_ref().to_vec();
        Ok((Self::from_pkcs8(&document)?, document))
    }

    /// The one of a PKCS#8 document.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document);
        pair.map(Self).map_err(|_| KeyError("read"))
    }

    /// What others know it by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// The content of the signature section for these bytes.
    #[must_use]
    pub fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&message(signed));
        [self.public().0.as_slice(), signature.as_ref()].concat()
    }
}

fn message(signed: &[u8]) -> Vec<u8> {
    [PURPOSE, Sha256::digest(signed).as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(name: &str, key: &SigningKey) -> KeyRing {
        KeyRing(BTreeMap::from([(name.to_owned(), key.public())]))
    }

    #[test]
    fn a_known_key_is_told_by_its_name() {
        let (key, document) = SigningKey::generate().unwrap();
        let signature = key.sign(b"plugin");
        assert_eq!(
            ring("acme", &key).signer(b"plugin", Some(&signature)),
            Ok("acme")
        );
        let again = SigningKey::from_pkcs8(&document).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.sign(b"plugin"), signature);
    }

    #[test]
    fn nobody_vouches_for_what_was_changed_or_signed_by_strangers() {
        let (key, _) = SigningKey::generate().unwrap();
        let (stranger, _) = SigningKey::generate().unwrap();
        let ring = ring("acme", &key);
        assert_eq!(ring.signer(b"plugin", None), Err(TrustError::Unsigned));
        assert_eq!(
            ring.signer(b"plugin", Some(b"short")),
            Err(TrustError::Malformed)
        );
        let signature = stranger.sign(b"plugin");
        let unknown = TrustError::UnknownKey(stranger.public());
        assert_eq!(ring.signer(b"plugin", Some(&signature)), Err(unknown));
        let signature = key.sign(b"plugin");
        let forged = Err(TrustError::Forged("acme".into()));
        assert_eq!(ring.signer(b"another", Some(&signature)), forged);
        // The stranger's signature under the known key.
        let mixed = [&key.sign(b"plugin")[..32], &stranger.sign(b"plugin")[32..]].concat();
        assert_eq!(ring.signer(b"plugin", Some(&mixed)), forged);
        for at in [0, 31, 32, 64, 95] {
            let mut bent = signature.clone();
            bent[at] ^= 1;
            assert!(ring.signer(b"plugin", Some(&bent)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_key_ring_is_read_from_what_it_is_written_as() {
        let (key, _) = SigningKey::generate().unwrap();
        let ring = ring("acme", &key);
        let text = toml::to_string(&ring).unwrap();
        assert_eq!(toml::from_str::<KeyRing>(&text).unwrap(), ring);
        assert!(toml::from_str::<KeyRing>("acme = \"12\"").is_err());
        let signed_digits = format!("acme = \"{}\"", "+1".repeat(32));
        assert!(
            toml::from_str::<KeyRing>(&signed_digits).is_err(),
            "`+1` is no byte"
        );
    }
}
