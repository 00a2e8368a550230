//! The keys that say who may use the engine, in NATS' notation. An operator's key (`O`) signs
//! accounts; an account's key (`A`) signs its users, which are hosts. Hosts have none of them.

use std::fmt;

use nkeys::{KeyPair, KeyPairType};

use super::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    Operator,
    Account,
}

/// The secret key of an operator or an account.
pub struct IssuerKey(KeyPair);

impl IssuerKey {
    pub fn generate(kind: Issuer) -> Self {
        Self(match kind {
            Issuer::Operator => KeyPair::new_operator(),
            Issuer::Account => KeyPair::new_account(),
        })
    }

    /// Fails with 2 when the text is no such key; the message does not repeat it.
    pub fn from_seed(kind: Issuer, seed: &str) -> Result<Self> {
        let pair = KeyPair::from_seed(seed.trim_end()).ok();
        let fits = |pair: &KeyPair| {
            matches!(
                (pair.key_pair_type(), kind),
                (KeyPairType::Operator, Issuer::Operator) | (KeyPairType::Account, Issuer::Account)
            )
        };
        pair.filter(fits).map(Self).ok_or_else(|| {
            Error::usage(match kind {
                Issuer::Operator => "not an operator's key: a line that begins with SO is needed",
                Issuer::Account => "not an account's key: a line that begins with SA is needed",
            })
        })
    }

    /// The secret, as it is kept in a file.
    pub fn seed(&self) -> Result<String> {
        self.0
            .seed()
            .map_err(|error| Error::failed(format!("the secret key: {error}")))
    }

    pub fn public(&self) -> String {
        self.0.public_key()
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.0
            .sign(message)
            .map_err(|error| Error::failed(format!("the secret key cannot sign: {error}")))
    }
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerKey of {}", self.0.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_kind_is_refused_without_telling_it() {
        let account = IssuerKey::generate(Issuer::Account);
        let seed = account.seed().unwrap();
        let again = IssuerKey::from_seed(Issuer::Account, &(seed.clone() + "\n")).unwrap();
        assert_eq!(again.public(), account.public());
        let refused = IssuerKey::from_seed(Issuer::Operator, &seed).unwrap_err();
        assert!(!refused.to_string().contains(&seed), "{refused}");
    }
}
