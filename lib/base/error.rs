//! One error for people: a line that says what failed, on what, and what to do; and the exit code it ends with.
//!
//! This module imports nothing of the library but how text is shown, so that everything may import
//! it.

use std::fmt;
use std::process::ExitCode;

use super::visible::visible;

/// How a command-line program ends. The numbers are part of the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: the job or operation failed, or was cancelled.
    Failed,
    /// 2: the call itself is wrong (clap uses the same code).
    Usage,
    /// 3: no such job, server, user, overlay, blueprint, token.
    NotFound,
    /// 4: not possible in this state: already finished, in use, taken.
    Conflict,
    /// 69 (EX_UNAVAILABLE): the database or a service that is needed cannot be used.
    Unavailable,
    /// 77 (EX_NOPERM): not permitted.
    NotPermitted,
    /// A failing subprocess's own code, passed on.
    Foreign(u8),
}

impl Exit {
    /// The process exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Conflict => 4,
            Exit::Unavailable => 69,
            Exit::NotPermitted => 77,
            Exit::Foreign(code) => code,
        }
    }
}

/// What failed, on what, what to do next: one line, and the exit code that belongs to it.
#[derive(Debug, Clone)]
pub struct Error {
    /// The exit code a program ends with when nothing else is done about it.
    pub exit: Exit,
    message: String,
}

/// `Result` with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a given exit; line breaks and other control characters in `message` become
    /// spaces, and what [`visible`] knows becomes visible.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = if message.contains(char::is_control) {
            message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        } else {
            message
        };
        let message = if message.is_ascii() { message } else { visible(&message).into_owned() };
        Self { exit, message }
    }
    /// Exit 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }
    /// Exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
    /// Exit 3.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }
    /// Exit 4.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Exit::Conflict, message)
    }
    /// Exit 69.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message)
    }
    /// Exit 77.
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self::new(Exit::NotPermitted, message)
    }

    /// The same error with `what` before its message: "`what`: message".
    #[must_use]
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self::new(self.exit, format!("{what}: {}", self.message))
    }

    /// The same error with `why` after its message: "message (why)".
    #[must_use]
    pub fn because(self, why: impl fmt::Display) -> Self {
        Self::new(self.exit, format!("{} ({why})", self.message))
    }

    /// Prints `PROGRAM: message` on standard error and gives the exit code.
    #[must_use]
    pub fn report(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {}", self.message);
        ExitCode::from(self.exit.code())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// An I/O error's kind decides the exit: not permitted is 77, all else 1. `fs_err` already names the path.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self::new(exit, describe(&error))
    }
}

/// The error and its causes on one line. `fs_err` puts the operating system's words in `source()`.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_was_put_in() {
        assert_eq!(Error::failed("a\nb\tc\u{1b}[0m").to_string(), "a b c [0m");
    }

    #[test]
    fn permission_denied_becomes_exit_77() {
        let error = Error::from(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(error.exit.code(), 77);
    }
}
