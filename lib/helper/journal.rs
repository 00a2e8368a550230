//! `journal N`: the server's console, and what systemd says about it and its overlay.

use super::commands::{journalctl, overlay_unit, server_unit};
use crate::base::names::InstanceName;
use crate::base::{Error, Exit, Result};
use crate::process::{Outcome, Pass, Stage};
use crate::wire::REFUSED;

/// So many lines, unless told otherwise.
pub(super) const DEFAULT: u32 = 100;

/// The most lines that can be asked for.
pub(super) const MOST: u32 = 10_000;

/// Prints the last `lines` lines and, with `follow`, new ones until the peer goes away.
///
/// # Errors
/// Exit 64 when more than [`MOST`] lines are asked for.
pub(super) fn run(stage: &mut Stage, server: &InstanceName, lines: Option<u32>, follow: bool) -> Result<Outcome> {
    let lines = lines.unwrap_or(DEFAULT);
    if lines > MOST {
        let exit = Exit::Foreign(u8::try_from(REFUSED).unwrap_or(2));
        return Err(Error::new(exit, format!("not a request: {lines} lines, at most {MOST} are possible")));
    }
    let (unit, overlay, lines) = (server_unit(server), overlay_unit(server), lines.to_string());
    // --merge: without it journalctl asks for this boot's id, which a sandbox with its own /proc does not have.
    let mut arguments = vec!["--quiet", "--merge", "-u", &unit, "-u", &overlay, "-n", &lines, "-o", "short-iso"];
    if follow {
        arguments.push("-f");
    }
    journalctl(stage, &arguments, &mut |_, _| Pass::On)
}
