//! Blueprints: overlays, launch arguments and server.cfg lines of a server. A server always uses
//! the current content of its blueprint; there are no overrides per server.

use serde::{Deserialize, Serialize};

use crate::base::encoding::BOM;
use crate::base::names::{BadName, OverlayRef, shown};
use crate::domain::launch;
pub use crate::domain::launch::Argument;

/// The most overlays of a blueprint. The kernel and the helper's mount take 500 lower layers; the
/// game files and the instance's own layer are the other two.
pub const MAX_OVERLAYS: usize = 498;

/// The most lines of server.cfg.
pub const MAX_CONFIG_LINES: usize = 2000;

/// The longest line of server.cfg, in bytes.
pub const MAX_TEXT: usize = 1024;

/// What one server's files are generated from: its port, and its blueprint's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Game UDP and RCON TCP.
    pub port: u16,
    /// Overlays, topmost first.
    pub overlays: Vec<OverlayRef>,
    /// Launch arguments after left4me's own.
    pub arguments: Vec<Argument>,
    /// Lines of server.cfg.
    pub config: Vec<ConfigLine>,
}

/// One line of server.cfg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigLine(String);

impl ConfigLine {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ConfigLine {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ConfigLine {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        // A file from Windows begins with a byte order mark, and its lines end with a carriage
        // return. The game would take both as text.
        let text = text
            .strip_prefix(BOM)
            .unwrap_or(&text)
            .trim_end_matches('\r')
            .to_owned();

        let bad = |why: &str| {
            Err(BadName::new(format!(
                "config line '{}' is refused: {why}",
                shown(&text)
            )))
        };

        if text.len() > MAX_TEXT {
            return bad("at most 1024 bytes are allowed");
        }

        if text.contains(|c: char| c.is_control() && c != '\t') {
            return bad("it has a control character or a line break");
        }

        Ok(Self(text))
    }
}

impl From<ConfigLine> for String {
    fn from(line: ConfigLine) -> String {
        line.0
    }
}

/// Refuses a blueprint that is too large or names an overlay twice.
pub fn check<O: PartialEq + std::fmt::Display>(
    overlays: &[O],
    arguments: &[Argument],
    config: &[ConfigLine],
) -> Result<(), BadName> {
    let too_many = |what: &str, most: usize| {
        Err(BadName::new(format!(
            "too many {what}: at most {most} are allowed"
        )))
    };

    if overlays.len() > MAX_OVERLAYS {
        return too_many("overlays", MAX_OVERLAYS);
    }

    launch::check(arguments)?;
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
    fn a_config_line_is_one_line() {
        assert!("sv_tags \"a\" // x\tb".parse::<ConfigLine>().is_ok());
        assert!("x\nrcon_password y".parse::<ConfigLine>().is_err());
        assert_eq!(
            "\u{feff}hostname x\r"
                .parse::<ConfigLine>()
                .unwrap()
                .as_str(),
            "hostname x"
        );

        assert!("a\rb".parse::<ConfigLine>().is_err());
    }

    #[test]
    fn an_overlay_twice_is_refused() {
        assert!(check(&["a", "b", "a"], &[], &[]).is_err());
        assert!(check(&["a", "b"], &[], &[]).is_ok());
    }
}
