//! The result of a check and the advice for it. Advice keeps its command separately, so that tests
//! run exactly what is printed.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Not checked; the finding says why.
    Skip,
    /// Worth a look.
    Warn,
    /// Something does not work.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// The name of what was checked.
    pub check: String,
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The shell command in the advice, which root runs to fix the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The unit whose journal has the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Advice: text for a person, and the command in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    text: String,
    command: Option<String>,
}

impl From<&str> for Advice {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            command: None,
        }
    }
}

impl From<String> for Advice {
    fn from(text: String) -> Self {
        Self {
            text,
            command: None,
        }
    }
}

impl Advice {
    /// A command that root runs.
    pub(super) fn root(command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            text: format!("as root: {command}"),
            command: Some(command),
        }
    }

    /// A command that each member of the group can run.
    pub(super) fn run(command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            text: format!("run `{command}`"),
            command: Some(command),
        }
    }

    /// Adds a text before the command: what to do first, or instead.
    pub(super) fn after(self, text: impl std::fmt::Display) -> Self {
        Self {
            text: format!("{text}; {}", self.text),
            ..self
        }
    }

    /// Adds a text after the command.
    pub(super) fn and(self, text: impl std::fmt::Display) -> Self {
        Self {
            text: format!("{} ({text})", self.text),
            ..self
        }
    }
}

impl Finding {
    fn new(
        severity: Severity,
        check: impl Into<String>,
        found: impl Into<String>,
        advice: Option<Advice>,
    ) -> Self {
        let (check, found) = (check.into(), found.into());
        let (advice, command) =
            advice.map_or((None, None), |advice| (Some(advice.text), advice.command));
        Self {
            severity,
            check,
            found,
            advice,
            command,
            unit: None,
        }
    }

    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Ok, check, found, None)
    }

    /// A finding for what was not checked, with the reason.
    pub(super) fn skip(check: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::new(Severity::Skip, check, format!("not checked: {why}"), None)
    }

    pub(super) fn warn(
        check: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<Advice>,
    ) -> Self {
        Self::new(Severity::Warn, check, found, Some(advice.into()))
    }

    pub(super) fn fail(
        check: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<Advice>,
    ) -> Self {
        Self::new(Severity::Fail, check, found, Some(advice.into()))
    }

    /// Names the unit whose journal has the cause.
    pub(super) fn unit_of(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }
}

/// Quotes a name for a shell command in advice: it stays one word, whatever it contains, and is
/// never an option. Bytes that cannot be printed are written as bash writes them.
pub(super) fn quoted(name: impl AsRef<std::ffi::OsStr>) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let bytes = name.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain) => {
            text.to_owned()
        }
        Ok(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let mut quoted = "$'".to_owned();
            for &byte in bytes {
                match byte {
                    byte if is_plain(byte) => quoted.push(char::from(byte)),
                    // Writing into a String cannot fail.
                    _ => drop(write!(quoted, "\\x{byte:02x}")),
                }
            }

            quoted + "'"
        }
    }
}

/// Whether a byte has no special meaning to a shell.
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
        let finding = Finding::fail(
            "x",
            "y",
            Advice::root("touch /x")
                .after("see who took it away")
                .and("it is small"),
        );

        assert_eq!(
            finding.advice.unwrap(),
            "see who took it away; as root: touch /x (it is small)"
        );

        assert_eq!(finding.command.unwrap(), "touch /x");
        assert_eq!(
            Finding::skip("x", "needs root").found,
            "not checked: needs root"
        );
    }
}
