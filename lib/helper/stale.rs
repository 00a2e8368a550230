//! `stale N` and `purge-stale N`: find and drop the stale files of a server's upper layer, in units
//! that run as the layer's owner. Their output goes to runtime/N/stale, which systemd opens for
//! them: in the journal, lines may come late or not at all.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::commands::{purge_stale_unit, stale_unit};
use super::directory::{Directory, Opened, unusable};
use super::{mounted_layers, purge};
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::domain::stale::{Line, MOST_DROPPED};
use crate::process::{Outcome, Supervisor};
use crate::wire::{EndedBy, Stream, Tree};

/// The file's name, also in the units.
const NAME: &str = "stale";

/// The largest output that is read, in bytes: LimitFSIZE= of the units.
const OUTPUT_LIMIT: u64 = 4 * 1024 * 1024;

/// Runs left4me-stale@N.service, and gives its output as lines of JSON.
pub(super) fn find(
    supervisor: &mut Supervisor,
    root: &Path,
    server: &InstanceName,
) -> Result<Outcome> {
    run(supervisor, root, server, &stale_unit(server))
}

/// Runs left4me-purge-stale@N.service, and gives its output as lines of JSON.
///
/// Fails with 4 while the server or its overlay is active.
pub(super) fn drop_them(
    supervisor: &mut Supervisor,
    root: &Path,
    server: &InstanceName,
) -> Result<Outcome> {
    if let Some(ended) = purge::refuse_while_active(supervisor, server)? {
        return Ok(ended);
    }
    run(supervisor, root, server, &purge_stale_unit(server))
}

fn run(
    supervisor: &mut Supervisor,
    root: &Path,
    server: &InstanceName,
    unit: &str,
) -> Result<Outcome> {
    let root = Directory::root(root)?;
    let Some(runtime) = mounted_layers::runtime_of(&root, server)? else {
        return none(supervisor);
    };
    if !matches!(runtime.find("upper")?, Opened::Open(_)) {
        return none(supervisor);
    }
    if !mounted_layers::is_there(&runtime) {
        return unknown(supervisor, server);
    }

    // What an earlier run printed must not pass for the output of one that does not start.
    match unlinkat(&runtime, NAME, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(unusable(&runtime.path.join(NAME), errno)),
    }

    let ended = purge::start(supervisor, unit)?;
    if ended.ended_by != EndedBy::Exit || ended.tree == Tree::Left {
        return Ok(ended);
    }

    // Also after a failure: what was dropped before it is gone.
    for line in output(&runtime)? {
        supervisor.write_line(Stream::Stdout, &line);
    }
    Ok(ended)
}

/// The answer for a server without stale files.
fn none(supervisor: &mut Supervisor) -> Result<Outcome> {
    nothing(supervisor, true)
}

/// The answer for a server that has not started since the upgrade to this version: it has no list of
/// its layers.
fn unknown(supervisor: &mut Supervisor, server: &InstanceName) -> Result<Outcome> {
    let why = format!(
        "server {server}: it is not known until its next start whether its files hide newer game \
         files"
    );
    supervisor.write_line(Stream::Stderr, &why);
    nothing(supervisor, false)
}

fn nothing(supervisor: &mut Supervisor, is_whole: bool) -> Result<Outcome> {
    let end = Line::End {
        count: 0,
        size: 0,
        is_whole,
    };
    supervisor.write_line(Stream::Stdout, &json(&end)?);
    Ok(Outcome::exit(0))
}

/// The lines of the unit that has ended. The program that wrote them read what a game wrote: only
/// its own kind of lines is passed on.
fn output(runtime: &Directory) -> Result<Vec<String>> {
    let path = runtime.path.join(NAME);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(runtime, NAME, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(unusable(&path, errno)),
    };
    let found = fstat(&file).map_err(|errno| unusable(&path, errno))?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Error::failed(format!("{} is no file", path.display())));
    }

    let mut bytes = Vec::new();
    File::from(file)
        .take(OUTPUT_LIMIT)
        .read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter_map(Line::parse).take(MOST_DROPPED + 1);
    lines.map(|line| json(&line)).collect()
}

fn json(line: &Line) -> Result<String> {
    serde_json::to_string(line).map_err(|error| Error::failed(error.to_string()))
}
