//! One request over a socket, its lines printed as they come, its exit code passed on.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::PROGRAM;
use crate::base::output::{line, printable};
use crate::base::{Error, Exit, Result};
use crate::wire::client::Connection;
use crate::wire::{Stream, Tree};

/// Sends `request` and prints what comes back.
///
/// # Errors
/// The command's own exit code when it failed; 69 or 77 when nobody serves the socket.
pub(super) fn run(socket: &Path, request: &impl Serialize, what: &str) -> Result<()> {
    ask(socket, request, what, &mut |stream, text| match stream {
        Stream::Stdout => line(&printable(text)),
        Stream::Stderr => {
            aside(text);
            Ok(())
        }
    })
}

/// Sends `request` and hands over each line that comes back.
///
/// # Errors
/// As [`run`].
pub(super) fn ask(
    socket: &Path,
    request: &impl Serialize,
    what: &str,
    take: &mut dyn FnMut(Stream, &str) -> Result<()>,
) -> Result<()> {
    let mut connection = Connection::open(socket, request)?;
    let mut refused = None;
    while let Some(answer) = connection.next_answer()? {
        if let Some(text) = &answer.stdout {
            take(Stream::Stdout, text)?;
        } else if let Some(text) = &answer.stderr {
            take(Stream::Stderr, text)?;
        } else if let Some(error) = answer.error {
            refused = Some(error.into_owned());
        } else if let Some(code) = answer.exit {
            if answer.tree == Some(Tree::Left) {
                aside(&format!("{PROGRAM}: warning: a process of it could not be ended"));
            }
            return ended(code, refused, what);
        }
    }
    Err(Error::failed(format!("{what}: its end was not told")))
}

/// A line on standard error. When nobody reads that any more, there is nobody to tell.
pub(super) fn aside(text: &str) {
    writeln!(std::io::stderr(), "{}", printable(text)).ok();
}

fn ended(code: i32, refused: Option<String>, what: &str) -> Result<()> {
    if code == 0 && refused.is_none() {
        return Ok(());
    }
    let exit = u8::try_from(code).ok().filter(|&code| code != 0).map_or(Exit::Failed, Exit::Foreign);
    let why = refused.unwrap_or_else(|| format!("failed with exit code {code}; its own words stand above"));
    Err(Error::new(exit, format!("{what}: {why}")))
}
