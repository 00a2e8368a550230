//! A blueprint: what a server is made of. Servers are linked live to one: there are no overrides per server.

use serde::{Deserialize, Serialize};

use crate::base::names::{BadName, OverlayRef, shown};

/// The most lower layers that the kernel and our mount take; the installation and the instance's own layer are two more.
pub const MAX_OVERLAYS: usize = 498;

/// The most launch arguments, and lines of server.cfg.
const MAX_ARGUMENTS: usize = 200;
const MAX_CONFIG_LINES: usize = 2000;

/// The longest launch argument or line of server.cfg, in bytes.
const MAX_TEXT: usize = 1024;

/// Arguments that left4me gives itself (see `left4me-server@.service`): a blueprint's own would contradict them.
const RESERVED: [&str; 7] = ["-game", "-strictportbind", "-norestart", "+ip", "-ip", "+hostport", "-port"];

/// What one server's files are made from: its port, and its blueprint's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Game UDP and RCON TCP.
    pub port: u16,
    /// Overlays, the topmost first.
    pub overlays: Vec<OverlayRef>,
    /// Launch arguments after left4me's own.
    pub arguments: Vec<Argument>,
    /// Lines of server.cfg.
    pub config: Vec<ConfigLine>,
}

/// One launch argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Argument(String);

/// One line of server.cfg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigLine(String);

impl Argument {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ConfigLine {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Argument {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl std::str::FromStr for ConfigLine {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Argument {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let bad = |why: &str| Err(BadName::new(format!("argument '{}' is refused: {why}", shown(&text))));
        if text.is_empty() || text.len() > MAX_TEXT {
            return bad("1 to 1024 bytes are allowed");
        }
        if text.contains(char::is_control) {
            return bad("it has a control character or a line break");
        }
        // The game makes console commands of what begins with +, blanks and all: `+hostport 1` in one would be obeyed.
        let first = text.trim_start_matches(|c: char| c == '"' || c.is_whitespace());
        let first = first.split(|c: char| c == '"' || c.is_whitespace()).next().unwrap_or_default();
        if RESERVED.iter().any(|reserved| first.eq_ignore_ascii_case(reserved)) {
            return bad("left4me gives this one itself; the port is the server's own");
        }
        if text.trim_start().starts_with('+') && text.trim().contains(char::is_whitespace) {
            return bad("these are two arguments: put them on two lines, or give them one by one");
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for ConfigLine {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let bad = |why: &str| Err(BadName::new(format!("config line '{}' is refused: {why}", shown(&text))));
        if text.len() > MAX_TEXT {
            return bad("at most 1024 bytes are allowed");
        }
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return bad("it has a control character or a line break");
        }
        Ok(Self(text))
    }
}

impl From<Argument> for String {
    fn from(argument: Argument) -> String {
        argument.0
    }
}

impl From<ConfigLine> for String {
    fn from(line: ConfigLine) -> String {
        line.0
    }
}

/// Refuses a blueprint that is too large or names an overlay twice.
///
/// # Errors
/// One line that says what is too much.
pub fn check<O: PartialEq + std::fmt::Display>(
    overlays: &[O],
    arguments: &[Argument],
    config: &[ConfigLine],
) -> Result<(), BadName> {
    let too_many = |what: &str, most: usize| Err(BadName::new(format!("too many {what}: at most {most} are allowed")));
    if overlays.len() > MAX_OVERLAYS {
        return too_many("overlays", MAX_OVERLAYS);
    }
    if arguments.len() > MAX_ARGUMENTS {
        return too_many("arguments", MAX_ARGUMENTS);
    }
    if config.len() > MAX_CONFIG_LINES {
        return too_many("config lines", MAX_CONFIG_LINES);
    }
    for (index, overlay) in overlays.iter().enumerate() {
        if overlays[..index].contains(overlay) {
            return Err(BadName::new(format!("overlay '{overlay}' is named twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_left4me_gives_itself_and_control_characters_are_refused() {
        for bad in ["+hostport", "-PORT", "", "a\nb", "a\0b", &"x".repeat(2000)] {
            assert!(bad.parse::<Argument>().is_err(), "{bad:?}");
        }
        for bad in ["+hostport 99", "-Game left4dead2", " +HOSTPORT", "\"+hostport\" 99", "+map c1m1_hotel"] {
            assert!(bad.parse::<Argument>().is_err(), "{bad:?}");
        }
        for good in ["+map", "c1m1 \"hotel\"", "-x y", "+hostports", "- a +b"] {
            assert!(good.parse::<Argument>().is_ok(), "{good:?}");
        }
        assert!("sv_tags \"a\" // x\tb".parse::<ConfigLine>().is_ok());
        assert!("x\nrcon_password y".parse::<ConfigLine>().is_err());
    }

    #[test]
    fn an_overlay_twice_is_refused() {
        assert!(check(&["a", "b", "a"], &[], &[]).is_err());
        assert!(check(&["a", "b"], &[], &[]).is_ok());
    }
}
