//! Runs systemctl for a program that a person started, and returns its output.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Peer, Relay, Spec, Supervisor, Terminal};
use crate::base::Result;
use crate::wire::{LINE_LIMIT, Stream};

/// The time between SIGTERM and SIGKILL when this program is interrupted.
const GRACE: Duration = Duration::from_secs(5);

/// Runs systemctl with `arguments`, for the program `name`. Returns its exit code and all lines
/// that it printed.
pub fn systemctl<'a>(
    name: &'static str,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<(i32, String)> {
    ask(
        name,
        &["/usr/bin/systemctl", "--no-pager"],
        arguments,
        |_| true,
    )
}

/// Runs journalctl with `arguments`, for the program `name`. Gives all lines that it printed.
///
/// Fails with 69 when it cannot be started.
pub fn journalctl<'a>(
    name: &'static str,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<String> {
    let output = |stream| stream == Stream::Stdout;
    ask(
        name,
        &["/usr/bin/journalctl", "--no-pager", "--quiet"],
        arguments,
        output,
    )
    .map(|(_, text)| text)
}

fn ask<'a>(
    name: &'static str,
    program: &[&str],
    arguments: impl IntoIterator<Item = &'a str>,
    keeps: impl Fn(Stream) -> bool,
) -> Result<(i32, String)> {
    let mut argv: Vec<_> = program.iter().map(Into::into).collect();
    argv.extend(arguments.into_iter().map(Into::into));
    let spec = Spec {
        argv,
        env: vec![("LANG".into(), "C.UTF-8".into())],
        cwd: PathBuf::from("/"),
        terminal: Terminal::Pipes,
        first_signal: Signal::SIGTERM,
        line_limit: LINE_LIMIT,
    };

    let mut text = String::new();
    let ended = Supervisor::new(Peer::person(name), GRACE)?.run(&spec, &mut |stream, line| {
        if keeps(stream) {
            text.push_str(line);
            text.push('\n');
        }

        Relay::Drop
    })?;

    Ok((ended.code, text))
}
