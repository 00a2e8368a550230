//! The keys that make a fleet: on one host, for root alone, in /etc/left4me/fleet/operator. A person who has
//! them can admit hosts; none of them can sign an order.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::files::{self, PUBLIC, SECRET};
use crate::base::issuer::{Issuer, IssuerKey};
use crate::base::keys::{PublicKey, Purpose, SigningKey};
use crate::base::{Error, Result, lock};
use crate::domain::fleet::jwt::{self, RoleKeys};
use crate::domain::fleet::permissions::Role;
use crate::domain::fleet::roster::Roster;
use crate::process;
use crate::wire::gate::SignedText;
use crate::wire::link::{Administer, Administered, Call};

/// What the operator knows, without its secrets: `operator/fleet.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Book {
    /// The engine's nodes: `tls://10.0.0.1:4222`.
    pub engine: Vec<String>,
    pub roster: Roster,
    /// Keys that count no more, with the time, unix s, up to which their JWTs do not.
    #[serde(default)]
    pub revoked: BTreeMap<PublicKey, i64>,
    /// When the account's newest JWT was made, unix s. The engine takes a newer one only.
    #[serde(default)]
    pub account_at: i64,
}

/// Up to when the JWTs of an expelled key do not count, unix s: no key comes back, whatever the clock
/// of its ticket was.
const FOR_EVER: i64 = 1 << 40;

impl Book {
    /// The account is another one from now on: its next JWT is newer than all before.
    pub fn renew(&mut self, now: i64) {
        self.account_at = (now / 1000).max(self.account_at + 1);
    }

    /// The roster is another one from now on. Hosts believe a newer version only; an older copy of this book
    /// must not repeat those that they know.
    pub fn renew_roster(&mut self, now: i64) {
        self.roster.version = now.max(self.roster.version + 1);
    }

    pub fn revoke(&mut self, key: PublicKey) {
        self.revoked.insert(key, FOR_EVER);
    }
}

pub(super) struct Operator {
    /// /etc/left4me/fleet
    fleet: PathBuf,
    directory: PathBuf,
    pub book: Book,
    pub operator: IssuerKey,
    pub system: IssuerKey,
    pub account: IssuerKey,
    pub roles: BTreeMap<Role, IssuerKey>,
    /// From reading to saving: two that admit at once would forget each other's host. None if it is only looked at.
    _lock: Option<Flock<File>>,
}

impl Operator {
    /// Whether this host has made a fleet.
    pub fn exists(fleet: &Path) -> bool {
        fleet.join("operator/fleet.json").exists()
    }

    /// Makes the keys of a new fleet.
    pub fn generate(fleet: &Path, book: Book) -> Result<Self> {
        let directory = fleet.join("operator");
        files::directory(fleet, 0o755)?;
        files::directory(&directory, 0o700)?;
        let lock = lock::directory(&directory)?;
        if Self::exists(fleet) {
            return Err(Error::conflict(
                "another `left4me fleet init` has just made a fleet",
            ));
        }
        let account = || IssuerKey::generate(Issuer::Account);
        let made = Self {
            fleet: fleet.to_owned(),
            directory,
            book,
            operator: IssuerKey::generate(Issuer::Operator),
            system: account(),
            account: account(),
            roles: Role::ALL
                .into_iter()
                .map(|role| (role, account()))
                .collect(),
            _lock: Some(lock),
        };
        for (name, key) in made.seeds() {
            let path = made.directory.join(format!("{name}.seed"));
            files::write(&path, SECRET, &format!("{}\n", key.seed()?))?;
        }
        Ok(made)
    }

    fn seeds(&self) -> Vec<(&'static str, &IssuerKey)> {
        let mut all = vec![
            ("operator", &self.operator),
            ("system", &self.system),
            ("account", &self.account),
        ];
        all.extend(self.roles.iter().map(|(role, key)| (role.as_str(), key)));
        all
    }

    /// Reads what [`Self::generate`] has made, to change it. Waits for another command that does.
    ///
    /// Fails with 3 on a host that has made no fleet.
    pub fn read(fleet: &Path) -> Result<Self> {
        // First without the lock: the error of a user without permission names the file.
        let directory = Self::look(fleet)?.directory;
        let lock = lock::directory(&directory)?;
        Ok(Self {
            _lock: Some(lock),
            ..Self::look(fleet)?
        })
    }

    /// The same, to look at it only.
    pub fn look(fleet: &Path) -> Result<Self> {
        let directory = fleet.join("operator");
        let path = directory.join("fleet.json");
        let text = files::read(&path)?.ok_or_else(|| {
            Error::not_found(
                "this host has not made a fleet: run it on the host where `left4me fleet init` was run",
            )
        })?;
        let book = serde_json::from_str(&text)
            .map_err(|error| Error::usage(format!("{}: {error}", path.display())))?;
        let seed = |kind, name: &str| {
            let path = directory.join(format!("{name}.seed"));
            let text = files::read(&path)?.unwrap_or_default();
            IssuerKey::from_seed(kind, &text).map_err(|error| error.within(path.display()))
        };
        let roles = Role::ALL
            .into_iter()
            .map(|role| Ok((role, seed(Issuer::Account, role.as_str())?)));
        let roles = roles.collect::<Result<_>>()?;
        Ok(Self {
            operator: seed(Issuer::Operator, "operator")?,
            system: seed(Issuer::Account, "system")?,
            account: seed(Issuer::Account, "account")?,
            roles,
            fleet: fleet.to_owned(),
            directory,
            book,
            _lock: None,
        })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps who belongs to the fleet, and signs it as this controller: left4me-link hands it to the
    /// engine.
    pub fn save(&self, controller: &SigningKey) -> Result<()> {
        let bad = |error: serde_json::Error| Error::failed(format!("the roster: {error}"));
        let text = serde_json::to_string_pretty(&self.book).map_err(bad)?;
        files::write(&self.directory.join("fleet.json"), SECRET, &(text + "\n"))?;

        let body = serde_json::to_string(&self.book.roster).map_err(bad)?;
        let signature = controller.sign(Purpose::Roster, body.as_bytes())?;
        let signed = SignedText {
            key: controller.public().to_string(),
            signature: STANDARD.encode(signature),
            body,
        };
        let text = serde_json::to_string(&signed).map_err(bad)?;
        files::write(&self.fleet.join("roster.json"), PUBLIC, &(text + "\n"))
    }

    /// The JWT of the account FLEET, as it is from now on.
    pub fn account_jwt(&self, now: i64) -> Result<String> {
        let roles: RoleKeys = self
            .roles
            .iter()
            .map(|(role, key)| (*role, key.public()))
            .collect();
        jwt::account(
            &self.operator,
            &self.account.public(),
            &roles,
            &self.book.revoked,
            now.max(self.book.account_at.saturating_mul(1000)),
        )
    }

    /// Has the engine changed, by a key that is good for minutes, in one of the two accounts.
    pub fn call(&self, call: Call, now: i64) -> Result<Administered> {
        let issuer = match call {
            Call::PushAccount { .. } | Call::Nodes {} => &self.system,
            Call::Make { .. } | Call::Look { .. } => &self.account,
        };
        let key = SigningKey::generate();
        let ca = self.fleet.join("ca.pem");
        process::link::administer(&Administer {
            engine: self.book.engine.clone(),
            ca: ca.exists().then_some(ca),
            jwt: jwt::administrator(issuer, &key.public(), now)?,
            seed: key.seed()?,
            call,
        })
    }

    /// Tells all nodes what each role may, and who was expelled.
    pub fn push_account(&self, now: i64) -> Result<()> {
        let jwt = self.account_jwt(now)?;
        self.call(Call::PushAccount { jwt }, now).map(drop)
    }

    /// How often the engine keeps each stream: three times if it has three nodes.
    pub fn replicas(&self) -> u8 {
        if self.book.engine.len() >= 3 { 3 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_is_newer_than_the_one_before_and_no_expelled_key_comes_back() {
        let roster = Roster {
            v: 1,
            version: 1,
            fleet: "home".to_owned(),
            hosts: Vec::new(),
        };
        let text = serde_json::json!({"engine": [], "roster": roster}).to_string();
        let mut book: Book = serde_json::from_str(&text).unwrap();
        book.renew_roster(7_000);
        assert_eq!(book.roster.version, 7_000);
        book.renew_roster(5_000);
        assert_eq!(book.roster.version, 7_001, "the clock was set back");
        book.renew(9_000);
        assert_eq!(book.account_at, 9);
        book.renew(5_000);
        assert_eq!(book.account_at, 10, "the clock was set back");

        let key = SigningKey::generate().public();
        book.revoke(key.clone());
        let year_9999 = 253_402_300_799;
        assert!(book.revoked[&key] > year_9999);
    }
}
