//! What a check found, and what to do about it. Advice that is a command is kept as one, so that tests run it as it
//! is printed.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Not checked: the finding says why.
    Skip,
    /// To look at.
    Warn,
    /// Something does not work.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub check: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The command in the advice, for a shell: what root runs to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The unit whose journal has the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// What to do: text for a person, and the command in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    text: String,
    command: Option<String>,
}

impl From<&str> for Advice {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), command: None }
    }
}

impl From<String> for Advice {
    fn from(text: String) -> Self {
        Self { text, command: None }
    }
}

impl Advice {
    /// A command for root.
    pub(super) fn root(command: impl Into<String>) -> Self {
        let command = command.into();
        Self { text: format!("as root: {command}"), command: Some(command) }
    }

    /// A command for each member of the group.
    pub(super) fn run(command: impl Into<String>) -> Self {
        let command = command.into();
        Self { text: format!("run `{command}`"), command: Some(command) }
    }

    /// The same after what a person does first, or instead.
    pub(super) fn after(self, text: impl std::fmt::Display) -> Self {
        Self { text: format!("{text}; {}", self.text), ..self }
    }

    /// The same with more to know.
    pub(super) fn and(self, text: impl std::fmt::Display) -> Self {
        Self { text: format!("{} ({text})", self.text), ..self }
    }
}

impl Finding {
    fn new(severity: Severity, check: impl Into<String>, found: impl Into<String>, advice: Option<Advice>) -> Self {
        let (check, found) = (check.into(), found.into());
        let (advice, command) = advice.map_or((None, None), |advice| (Some(advice.text), advice.command));
        Self { severity, check, found, advice, command, unit: None }
    }

    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Ok, check, found, None)
    }

    /// Not checked, and why.
    pub(super) fn skip(check: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::new(Severity::Skip, check, format!("not checked: {why}"), None)
    }

    pub(super) fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<Advice>) -> Self {
        Self::new(Severity::Warn, check, found, Some(advice.into()))
    }

    pub(super) fn fail(check: impl Into<String>, found: impl Into<String>, advice: impl Into<Advice>) -> Self {
        Self::new(Severity::Fail, check, found, Some(advice.into()))
    }

    /// The journal of this unit has the cause.
    pub(super) fn told_by(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }
}

/// A name as a shell takes it, for advice: it stays one word whatever is in it, and is no option. What cannot be shown is
/// written as bash writes it.
pub(super) fn quoted(name: impl AsRef<std::ffi::OsStr>) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let bytes = name.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut quoted = "$'".to_owned();
            for &byte in bytes {
                match byte {
                    byte if is_plain(byte) => quoted.push(char::from(byte)),
                    // Writing into a String does not fail.
                    _ => drop(write!(quoted, "\\x{byte:02x}")),
                }
            }

            quoted + "'"
        }
    }
}

/// Whether a byte means nothing to a shell.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_advice_is_one_word_of_a_shell_whatever_is_in_it() {
        for (name, word) in [
            ("/var/lib/left4me/db", "/var/lib/left4me/db"),
            ("/a b;rm -rf ~", "'/a b;rm -rf ~'"),
            ("/it's $(id) `id`", r"'/it'\''s $(id) `id`'"),
            ("/a\nid\u{1b}[0m", r"$'/a\x0aid\x1b\x5b0m'"),
            ("--reference", "'--reference'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(name), word);
        }
    }

    #[test]
    fn the_command_of_an_advice_is_in_its_text() {
        let finding =
            Finding::fail("x", "y", Advice::root("touch /x").after("see who took it away").and("it is small"));
        assert_eq!(finding.advice.unwrap(), "see who took it away; as root: touch /x (it is small)");
        assert_eq!(finding.command.unwrap(), "touch /x");
        assert_eq!(Finding::skip("x", "needs root").found, "not checked: needs root");
    }
}
