//! Parses control group paths from outside: from the database or from another program.

use std::fmt;
use std::str::FromStr;

/// The name prefixes of the units that run our commands.
const UNITS: [&str; 6] = [
    "left4me-runner@",
    "left4me-publisher@",
    "left4me-helper@",
    "left4me-purge@",
    "left4me-purge-stale@",
    "left4me-stale@",
];

/// Maximum length of a path, in bytes.
const MAX_PATH: usize = 1024;

/// Maximum length of a unit name (UNIT_NAME_MAX of systemd), in bytes.
const MAX_UNIT_NAME: usize = 255;

/// The control group of a unit that runs our commands, or a group below it, as in /proc/PID/cgroup.
///
/// The path is absolute, has no parts such as `..`, and the first part that names a service or a
/// scope is one of our units. A user's service manager can create groups of any name, but only
/// below its own unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlGroup(String);

/// Why a text is not a [`ControlGroup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadGroup {
    /// Not absolute, too long, with parts such as `..`, or with characters other than printable
    /// ASCII.
    NoPath,
    /// Not in one of our units.
    Foreign,
}

impl fmt::Display for BadGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadGroup::NoPath => "is not a control group path",
            BadGroup::Foreign => "is not in a unit of left4me",
        })
    }
}

impl std::error::Error for BadGroup {}

impl FromStr for ControlGroup {
    type Err = BadGroup;

    fn from_str(text: &str) -> Result<Self, BadGroup> {
        let below = text
            .strip_prefix('/')
            .filter(|_| text.len() <= MAX_PATH)
            .ok_or(BadGroup::NoPath)?;
        if !below.split('/').all(is_part) {
            return Err(BadGroup::NoPath);
        }
        let group = Self(text.to_owned());
        let unit = below
            .split('/')
            .find(|part| is_unit(part))
            .ok_or(BadGroup::Foreign)?;
        if is_ours(unit) {
            Ok(group)
        } else {
            Err(BadGroup::Foreign)
        }
    }
}

impl ControlGroup {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts down to the unit's own group.
    pub fn parts_to_unit(&self) -> impl Iterator<Item = &str> {
        let mut ended = false;
        self.0
            .split('/')
            .skip(1)
            .take_while(move |part| !std::mem::replace(&mut ended, is_unit(part)))
    }

    pub fn unit(&self) -> &str {
        self.0
            .split('/')
            .find(|part| is_unit(part))
            .unwrap_or_default()
    }
}

/// Whether `name` is an instance of one of the units that run commands.
pub fn is_ours(name: &str) -> bool {
    let instance = UNITS
        .iter()
        .find_map(|begin| name.strip_prefix(begin))
        .and_then(|rest| rest.strip_suffix(".service"));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    name.len() <= MAX_UNIT_NAME
        && instance.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed))
}

fn is_unit(part: &str) -> bool {
    part.ends_with(".service") || part.ends_with(".scope")
}

fn is_part(part: &str) -> bool {
    !["", ".", ".."].contains(&part) && part.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUNNER: &str = "/l4d2.slice/l4d2-build.slice/left4me-runner@3-17-998.service";

    #[test]
    fn groups_of_our_units_and_below_are_accepted() {
        for text in [
            RUNNER,
            &format!("{RUNNER}/command"),
            "/system.slice/left4me-purge@7.service",
        ] {
            let group: ControlGroup = text.parse().unwrap();
            assert!(is_ours(group.unit()), "{text}");
            assert_eq!(group.parts_to_unit().last(), Some(group.unit()), "{text}");
        }

        let group: ControlGroup = RUNNER.parse().unwrap();
        assert_eq!(group.parts_to_unit().collect::<Vec<_>>().len(), 3);
    }

    #[test]
    fn other_paths_are_refused() {
        let below_a_session = format!("/user.slice/user@1000.service{RUNNER}");
        for (text, why) in [
            ("", BadGroup::NoPath),
            ("left4me-runner@1.service", BadGroup::NoPath),
            (
                "/../../var/lib/left4me/steam/left4me-runner@1.service",
                BadGroup::NoPath,
            ),
            ("/left4me-runner@1.service/../../fifo", BadGroup::NoPath),
            ("//left4me-runner@1.service", BadGroup::NoPath),
            ("/left4me-runner@1.service/", BadGroup::NoPath),
            ("/left4me-runner@1.service\n/x", BadGroup::NoPath),
            ("/system.slice/ssh.service", BadGroup::Foreign),
            ("/system.slice", BadGroup::Foreign),
            ("/left4me-runner@.service", BadGroup::Foreign),
            ("/left4me-server@1.service", BadGroup::Foreign),
            (below_a_session.as_str(), BadGroup::Foreign),
        ] {
            assert_eq!(text.parse::<ControlGroup>(), Err(why), "{text}");
        }

        assert!(
            format!("/{}", "x/".repeat(1000))
                .parse::<ControlGroup>()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_group_never_leads_upward(text in "(/[a-z.@/]{0,12}){0,4}/left4me-runner@1.service(/[a-z./]{0,12}){0,3}") {
            if let Ok(group) = text.parse::<ControlGroup>() {
                prop_assert!(!group.as_str().split('/').skip(1).any(|part| part.is_empty() || part == ".."));
            }
        }
    }
}
