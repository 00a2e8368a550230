//! The keys of a fleet, in NATS' notation: a public key begins with `U` (signing) or `X` (sealing), its secret half with
//! `SU` or `SX`. The same signing key opens a host's connection to the engine and signs what the host says.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nkeys::{KeyPair, KeyPairType, XKey};
use serde::{Deserialize, Serialize};

use super::names::{BadName, shown};
use super::{Error, Result};

/// What a signature is for. It is part of what is signed, so that a signed event is never an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Order,
    Event,
    Status,
    Roster,
    Question,
    Answer,
    Rollout,
}

impl Purpose {
    fn message(self, body: &[u8]) -> Vec<u8> {
        let context = match self {
            Purpose::Order => "left4me order 1\n",
            Purpose::Event => "left4me event 1\n",
            Purpose::Status => "left4me status 1\n",
            Purpose::Roster => "left4me roster 1\n",
            Purpose::Question => "left4me question 1\n",
            Purpose::Answer => "left4me answer 1\n",
            Purpose::Rollout => "left4me rollout 1\n",
        };
        [context.as_bytes(), body].concat()
    }
}

/// A public key for signatures.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(String);

impl PublicKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `signature` is that of `body`, made for this purpose.
    pub fn verifies(&self, purpose: Purpose, body: &[u8], signature: &[u8]) -> bool {
        KeyPair::from_public_key(&self.0)
            .is_ok_and(|pair| pair.verify(&purpose.message(body), signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicKey {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let is_one = text.starts_with('U') && KeyPair::from_public_key(text).is_ok();
        match is_one {
            true => Ok(Self(text.to_owned())),
            false => Err(BadName::new(format!(
                "'{}' is not a public key: 56 letters and digits that begin with U are needed",
                shown(text)
            ))),
        }
    }
}

/// A public key for sealing: only its host can open what is sealed to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey(String);

impl SealKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Seals `plain` to the owner of this key, in base64, and gives the key that it opens it with. The
    /// key that seals is used once: a signature of what holds both says whose they are.
    pub fn seal_once(&self, plain: &[u8]) -> Result<(String, SealKey)> {
        let key = OpeningKey::generate();
        Ok((STANDARD.encode(key.seal(plain, self)?), key.public()))
    }
}

impl fmt::Display for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SealKey {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let is_one = text.starts_with('X') && XKey::from_public_key(text).is_ok();
        match is_one {
            true => Ok(Self(text.to_owned())),
            false => Err(BadName::new(format!(
                "'{}' is not a public key for sealing: 56 letters and digits that begin with X \
                 are needed",
                shown(text)
            ))),
        }
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(PublicKey);
as_text!(SealKey);

/// A secret key for signatures.
pub struct SigningKey(KeyPair);

impl SigningKey {
    pub fn generate() -> Self {
        Self(KeyPair::new_user())
    }

    /// Fails with 2 when the text is no secret key; the message does not repeat it.
    pub fn from_seed(seed: &str) -> Result<Self> {
        let pair = KeyPair::from_seed(seed.trim_end()).ok();
        let user = pair.filter(|pair| matches!(pair.key_pair_type(), KeyPairType::User));
        user.map(Self)
            .ok_or_else(|| Error::usage("not a secret key: a line that begins with SU is needed"))
    }

    /// The secret, as it is kept in a file.
    pub fn seed(&self) -> Result<String> {
        self.0
            .seed()
            .map_err(|error| Error::failed(format!("the secret key: {error}")))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }

    pub fn sign(&self, purpose: Purpose, body: &[u8]) -> Result<Vec<u8>> {
        self.sign_raw(&purpose.message(body))
    }

    /// Signs the engine's challenge, or a JWT: texts of others, which no [`Purpose`] precedes.
    pub fn sign_raw(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.0
            .sign(message)
            .map_err(|error| Error::failed(format!("the secret key cannot sign: {error}")))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {}", self.0.public_key())
    }
}

/// A secret key for sealing.
pub struct OpeningKey(XKey);

impl OpeningKey {
    pub fn generate() -> Self {
        Self(XKey::new())
    }

    /// Fails with 2 when the text is no secret key; the message does not repeat it.
    pub fn from_seed(seed: &str) -> Result<Self> {
        XKey::from_seed(seed.trim_end())
            .map(Self)
            .map_err(|_| Error::usage("not a secret key: a line that begins with SX is needed"))
    }

    pub fn seed(&self) -> Result<String> {
        self.0
            .seed()
            .map_err(|error| Error::failed(format!("the secret key: {error}")))
    }

    pub fn public(&self) -> SealKey {
        SealKey(self.0.public_key())
    }

    /// Seals `plain` so that only the owner of `to` can open it, and knows that this key sealed it.
    pub fn seal(&self, plain: &[u8], to: &SealKey) -> Result<Vec<u8>> {
        let to = XKey::from_public_key(&to.0);
        to.and_then(|to| self.0.seal(plain, &to))
            .map_err(|error| Error::failed(format!("cannot be sealed: {error}")))
    }

    pub fn open(&self, sealed: &[u8], from: &SealKey) -> Result<Vec<u8>> {
        let from = XKey::from_public_key(&from.0);
        from.and_then(|from| self.0.open(sealed, &from))
            .map_err(|error| Error::failed(format!("cannot be opened: {error}")))
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey of {}", self.0.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_key_its_purpose_and_its_bytes_alone() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let signature = key.sign(Purpose::Order, b"{}").unwrap();
        assert!(key.public().verifies(Purpose::Order, b"{}", &signature));
        assert!(!key.public().verifies(Purpose::Event, b"{}", &signature));
        assert!(!key.public().verifies(Purpose::Order, b"{} ", &signature));
        assert!(!other.public().verifies(Purpose::Order, b"{}", &signature));
        assert!(!key.public().verifies(Purpose::Order, b"{}", b"short"));
    }

    #[test]
    fn what_is_sealed_opens_for_its_host_alone() {
        let (from, to, other) = (
            OpeningKey::generate(),
            OpeningKey::generate(),
            OpeningKey::generate(),
        );
        let sealed = from.seal(b"rcon", &to.public()).unwrap();
        assert_eq!(to.open(&sealed, &from.public()).unwrap(), b"rcon");
        assert!(other.open(&sealed, &from.public()).is_err());
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_a_refusal_tells_no_secret() {
        let key = SigningKey::generate();
        let again = SigningKey::from_seed(&(key.seed().unwrap() + "\n")).unwrap();
        assert_eq!(again.public(), key.public());
        let public: PublicKey = key.public().as_str().parse().unwrap();
        assert_eq!(public, key.public());

        let seal = OpeningKey::generate();
        let again = OpeningKey::from_seed(&seal.seed().unwrap()).unwrap();
        assert_eq!(again.public(), seal.public());
        assert!(seal.public().as_str().parse::<PublicKey>().is_err());

        let wrong = SigningKey::from_seed("SUSECRET").unwrap_err().to_string();
        assert!(!wrong.contains("SUSECRET"), "{wrong}");
    }
}
