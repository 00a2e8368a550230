//! The Unix user of one server. `left4me-server@.service`, `left4me-purge@.service` and those of stale files name it as
//! `left4me_%i`; `left4me-helper mount` creates it before the server's first start.
//!
//! The units use a name, because systemd looks up every `User=` and refuses a number without an
//! entry in the user database (status 217, systemd 252 and 257). The separator is an underscore, so
//! that no instance's user can be `left4me-steam` or `left4me-game`.

use nix::unistd::{Uid, User};
use sha2::{Digest as _, Sha256};

use super::names::InstanceName;

/// The first user id of servers whose instance is a number. The range does not overlap systemd's
/// own ranges (its UIDS-GIDS document), Debian's subordinate ids, and those of SSSD and FreeIPA (up
/// to 2,000,200,000). It is below 2^31, which NFS and old tools need.
const NUMBERED: u32 = 2_100_000_000;

/// The first user id of instances that were named with `l4d2ctl`.
const NAMED: u32 = 2_120_000_000;

/// How many ids each of the two ranges has.
const EACH: u32 = 20_000_000;

/// Maximum length of a user name in sysusers.d, in bytes.
const MAX_NAME: usize = 31;

/// The prefix of a server's user name; the instance follows.
const PREFIX: &str = "left4me_";

/// The prefix of the comment in the user database; the instance follows.
pub const COMMENT: &str = "left4me server";

/// The user that a server should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUser {
    /// The name of the user and of its group.
    pub name: String,
    /// The id of the user and of its group, unless another user has it already.
    pub id: u32,
}

impl ServerUser {
    /// The user of an instance, the same on every host. If the instance's name is too long to be
    /// part of a user name, the name has a hash after a second underscore, which sets it apart from
    /// all others; the generator system-generators/left4me writes it into the units.
    pub fn of(server: &InstanceName) -> Self {
        let mut name = format!("{PREFIX}{server}");
        if name.len() > MAX_NAME {
            let hash = Sha256::digest(server.as_str());
            let hex: String = hash
                .iter()
                .take(10)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            name = format!("{PREFIX}_{hex}");
        }

        Self {
            name,
            id: id(server.as_str()),
        }
    }
}

/// Whether this is a server's user: by its id, or by its name if another user had the id.
pub fn is_server_user(uid: u32) -> bool {
    has_number(uid)
        || User::from_uid(Uid::from_raw(uid))
            .ok()
            .flatten()
            .is_some_and(|user| user.name.starts_with(PREFIX))
}

/// Whether left4me created this user: by its id, or by its comment if another user had the id.
pub fn is_managed(user: &User) -> bool {
    has_number(user.uid.as_raw()) || user.gecos.to_string_lossy().starts_with(COMMENT)
}

fn has_number(uid: u32) -> bool {
    (NUMBERED..NAMED + EACH).contains(&uid)
}

fn id(instance: &str) -> u32 {
    let number = instance
        .parse::<u32>()
        .ok()
        .filter(|number| number.to_string() == instance);
    if let Some(number) = number.filter(|number| (1..EACH).contains(number)) {
        return NUMBERED + number;
    }
    let hash = Sha256::digest(instance);
    let number = hash
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    NAMED + u32::try_from(number % u64::from(EACH)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_uid_contains_the_servers_number_or_a_hash_of_the_name() {
        let of = |instance: &str| ServerUser::of(&instance.parse().unwrap());
        assert_eq!(
            of("7"),
            ServerUser {
                name: "left4me_7".to_owned(),
                id: 2_100_000_007
            }
        );

        assert_eq!(of("19999999").id, 2_119_999_999);

        for hashed in ["20000000", "007", "test", "steam", "4294967303"] {
            assert!((NAMED..NAMED + EACH).contains(&of(hashed).id), "{hashed}");
        }

        // An id must never change: files on disk have it.
        assert_eq!(of("test").id, 2_125_842_533);
        assert_eq!(of(&"x".repeat(23)).name.len(), 31);

        let long = of(&"x".repeat(64)).name;
        assert!(
            long.len() <= 31 && long.starts_with("left4me__") && long != of(&"x".repeat(63)).name,
            "{long}"
        );
    }

    #[test]
    fn the_units_name_the_same_user() {
        for unit in [
            include_str!("../../systemd/left4me-server@.service"),
            include_str!("../../systemd/left4me-purge@.service"),
            include_str!("../../systemd/left4me-purge-stale@.service"),
            include_str!("../../systemd/left4me-stale@.service"),
        ] {
            for key in ["User", "Group"] {
                assert!(
                    unit.lines().any(|line| line == format!("{key}={PREFIX}%i")),
                    "{key}"
                );
            }
        }
    }

    /// Runs the generator as systemd does, in a temporary directory.
    #[test]
    fn the_generator_names_the_same_user_for_a_long_name() {
        let dir = tempfile::tempdir().unwrap();
        let long: [InstanceName; 2] =
            ["l".repeat(24), "a-name_".repeat(9)].map(|name| name.parse().unwrap());
        std::fs::create_dir_all(dir.path().join("multi-user.target.wants")).unwrap();
        for bad in [
            &"x".repeat(23),
            "7",
            "_",
            &"B".repeat(30),
            &format!("{};x", "x".repeat(30)),
            &"y".repeat(65),
        ] {
            std::fs::create_dir_all(dir.path().join("runtime").join(bad)).unwrap();
        }

        std::fs::create_dir_all(dir.path().join("runtime").join(long[0].as_str())).unwrap();
        let wanted = format!("multi-user.target.wants/left4me-server@{}.service", long[1]);
        std::os::unix::fs::symlink("/nonexistent", dir.path().join(wanted)).unwrap();

        let generator = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/systemd/system-generators/left4me"
        );

        #[expect(clippy::disallowed_methods, reason = "as systemd runs it")]
        let status = std::process::Command::new(generator)
            .arg(dir.path().join("out"))
            .env("LEFT4ME_ENV_FILE", "/nonexistent")
            .env("LEFT4ME_UNITS", dir.path())
            .env("LEFT4ME_ROOT", dir.path())
            .status();

        assert!(status.unwrap().success());
        assert_eq!(
            std::fs::read_dir(dir.path().join("out")).unwrap().count(),
            8
        );

        for name in long {
            let user = ServerUser::of(&name).name;
            for unit in ["server", "purge", "purge-stale", "stale"] {
                let drop_in = format!("out/left4me-{unit}@{name}.service.d/50-user.conf");
                let text = std::fs::read_to_string(dir.path().join(drop_in)).unwrap();
                assert_eq!(text, format!("[Service]\nUser={user}\nGroup={user}\n"));
            }
        }
    }

    proptest! {
        #[test]
        fn ids_are_in_range_and_numbered_servers_never_share_one(a in 1_u32..EACH, b in 1_u32..EACH, name in "[a-z][a-z0-9_-]{0,22}") {
            prop_assert_eq!(id(&a.to_string()) == id(&b.to_string()), a == b);
            prop_assert!((2_100_000_000..2_140_000_000).contains(&id(&name)));
            prop_assert_ne!(id(&a.to_string()), id(&name));
        }
    }
}
