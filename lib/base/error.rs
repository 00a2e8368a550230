//! The error type: one line that says what failed, on what, and what to do, with an exit code.
//!
//! This module imports only `visible`, so that every other module can import it.

use std::fmt;
use std::process::ExitCode;

use super::visible::visible;

/// The exit codes of the command-line programs. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: the job or operation failed, or was cancelled.
    Failed,
    /// 2: wrong usage (clap uses the same code).
    Usage,
    /// 3: no such job, server, user, overlay, blueprint, token.
    NotFound,
    /// 4: not possible in this state: already finished, in use, taken.
    Conflict,
    /// 69 (EX_UNAVAILABLE): the database or a required service is unavailable.
    Unavailable,
    /// 77 (EX_NOPERM): not permitted.
    NotPermitted,
    /// The exit code of a failing subprocess, passed on.
    Foreign(u8),
}

impl Exit {
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

/// What failed, on what, and what to do: one line and its exit code.
#[derive(Debug, Clone)]
pub struct Error {
    /// The exit code of a program that ends with this error.
    pub exit: Exit,
    message: String,
}

/// `Result` with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with the given exit code. Control characters in `message` become spaces, and
    /// deceptive characters become visible (see [`visible`]).
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = if message.contains(char::is_control) {
            message
                .trim()
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect()
        } else {
            message
        };

        let message = if message.is_ascii() {
            message
        } else {
            visible(&message).into_owned()
        };

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

    /// Prefixes the message: "`what`: message".
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self::new(self.exit, format!("{what}: {}", self.message))
    }

    /// Appends a reason to the message: "message (`why`)".
    pub fn because(self, why: impl fmt::Display) -> Self {
        Self::new(self.exit, format!("{} ({why})", self.message))
    }

    /// Prints `PROGRAM: message` on standard error and returns the exit code.
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

/// Permission denied becomes exit code 77, all other kinds 1. `fs_err` already names the path.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self::new(exit, describe(&error))
    }
}

/// Joins the error and its causes on one line. `fs_err` has the operating system's error in
/// `source()`.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }

        cause = next.source();
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_always_one_line() {
        assert_eq!(Error::failed("a\nb\tc\u{1b}[0m").to_string(), "a b c [0m");
    }

    #[test]
    fn permission_denied_becomes_exit_77() {
        let error = Error::from(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(error.exit.code(), 77);
    }
}
