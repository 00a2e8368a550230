//! Sends one request over a socket, prints the output of its command, and passes on the exit code.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::PROGRAM;
use crate::base::output::{line, printable};
use crate::base::{Error, Exit, Result};
use crate::wire::client::Connection;
use crate::wire::{Stream, Tree};

/// Sends `request` and prints the output of its command.
///
/// Fails with the command's own exit code, or if the socket is not served.
pub(super) fn print(socket: &Path, request: &impl Serialize, what: &str) -> Result<()> {
    send(socket, request, what, &mut |stream, text| match stream {
        Stream::Stdout => line(&printable(text)),
        Stream::Stderr => {
            print_stderr(text);
            Ok(())
        }
    })
}

/// Sends `request` and calls `on_line` for each line of output.
pub(super) fn send(
    socket: &Path,
    request: &impl Serialize,
    what: &str,
    on_line: &mut dyn FnMut(Stream, &str) -> Result<()>,
) -> Result<()> {
    let mut connection = Connection::open(socket, request)?;
    let mut refused = None;
    while let Some(answer) = connection.next_answer()? {
        if let Some(text) = &answer.stdout {
            on_line(Stream::Stdout, text)?;
        } else if let Some(text) = &answer.stderr {
            on_line(Stream::Stderr, text)?;
        } else if let Some(error) = answer.error {
            refused = Some(error.into_owned());
        } else if let Some(code) = answer.exit {
            if answer.tree == Some(Tree::Left) {
                print_stderr(&format!(
                    "{PROGRAM}: warning: a process of the command could not be ended"
                ));
            }

            return finish(code, refused, what);
        }
    }

    Err(Error::failed(format!(
        "{what}: the connection ended before the result"
    )))
}

/// Prints a line on standard error. A failure cannot be reported anywhere.
pub(super) fn print_stderr(text: &str) {
    writeln!(std::io::stderr(), "{}", printable(text)).ok();
}

fn finish(code: i32, refused: Option<String>, what: &str) -> Result<()> {
    if code == 0 && refused.is_none() {
        return Ok(());
    }
    let exit = u8::try_from(code)
        .ok()
        .filter(|&code| code != 0)
        .map_or(Exit::Failed, Exit::Foreign);
    let why =
        refused.unwrap_or_else(|| format!("failed with exit code {code}; see its output above"));
    Err(Error::new(exit, format!("{what}: {why}")))
}
