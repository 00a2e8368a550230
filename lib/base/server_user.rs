//! The Unix user of one server. `left4me-server@.service` and `left4me-purge@.service` name it as
//! `left4me_%i`; `left4me-helper mount` makes it before the server's first start.
//!
//! A name and not a bare number, because systemd looks every `User=` up: a number without an entry in
//! the user database is refused (status 217, systemd 252 and 257). An underscore and not a dash, so that
//! no instance's user can be `left4me-steam` or `left4me-game`.

use sha2::{Digest as _, Sha256};

use super::names::InstanceName;
use super::{Error, Result};

/// The first id of servers whose instance is their number. Free of systemd's own ranges (its UIDS-GIDS
/// document), of Debian's subordinate ids and of those that SSSD and FreeIPA take (up to
/// 2,000,200,000), and below 2^31, which NFS and old tools need.
const NUMBERED: u32 = 2_100_000_000;

/// The first id of instances that `l4d2ctl` named.
const NAMED: u32 = 2_120_000_000;

/// How many ids each of the two has.
const EACH: u32 = 20_000_000;

/// The longest name of a user that sysusers.d takes, in bytes.
const LONGEST: usize = 31;

/// What a server's user is called, up to its instance.
const PREFIX: &str = "left4me_";

/// The user that a server should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUser {
    /// Its name, and its group's.
    pub name: String,
    /// Its number, and its group's, unless another user has it already.
    pub id: u32,
}

impl ServerUser {
    /// The user of an instance. The same instance has the same user on every host.
    ///
    /// # Errors
    /// Exit 4 for an instance whose name is too long to be part of a user's.
    pub fn of(server: &InstanceName) -> Result<Self> {
        let name = format!("{PREFIX}{server}");
        if name.len() > LONGEST {
            let most = LONGEST - PREFIX.len();
            let why = format!("instance {server} cannot have a user of its own: a name has at most {most} characters");
            return Err(Error::conflict(format!("{why}; initialize it again with a shorter name")));
        }
        Ok(Self { name, id: id(server.as_str()) })
    }
}

fn id(instance: &str) -> u32 {
    let number = instance.parse::<u32>().ok().filter(|number| number.to_string() == instance);
    if let Some(number) = number.filter(|number| (1..EACH).contains(number)) {
        return NUMBERED + number;
    }
    let hash = Sha256::digest(instance);
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    NAMED + u32::try_from(number % u64::from(EACH)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_has_its_number_in_its_uid_and_a_name_is_hashed() {
        let of = |instance: &str| ServerUser::of(&instance.parse().unwrap()).unwrap();
        assert_eq!(of("7"), ServerUser { name: "left4me_7".to_owned(), id: 2_100_000_007 });
        assert_eq!(of("19999999").id, 2_119_999_999);
        for hashed in ["20000000", "007", "test", "steam", "4294967303"] {
            assert!((NAMED..NAMED + EACH).contains(&of(hashed).id), "{hashed}");
        }
        // Numbers that were given out once stay: trees on disk have them.
        assert_eq!(of("test").id, 2_125_842_533);
        assert!(ServerUser::of(&"x".repeat(24).parse().unwrap()).is_err());
    }

    #[test]
    fn the_units_name_the_same_user() {
        for unit in [
            include_str!("../../systemd/left4me-server@.service"),
            include_str!("../../systemd/left4me-purge@.service"),
        ] {
            for key in ["User", "Group"] {
                assert!(unit.lines().any(|line| line == format!("{key}={PREFIX}%i")), "{key}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_id_is_in_the_range_and_servers_never_share_one(a in 1_u32..EACH, b in 1_u32..EACH, name in "[a-z][a-z0-9_-]{0,22}") {
            prop_assert_eq!(id(&a.to_string()) == id(&b.to_string()), a == b);
            prop_assert!((2_100_000_000..2_140_000_000).contains(&id(&name)));
            prop_assert_ne!(id(&a.to_string()), id(&name));
        }
    }
}
