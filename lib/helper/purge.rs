//! `purge N`: empties the upper layer of a stopped server, in a unit that runs as the layer's
//! owner. If the instance is gone, it removes everything.

use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::commands::{
    journalctl, overlay_unit, purge_unit, serve_from, server_unit, stop_after_the_end, systemctl,
    systemctl_with,
};
use super::directory::{Directory, Opened, unusable};
use super::empty;
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::{EndedBy, Stream, Tree};

/// Runs left4me-purge@N.service. If it fails, its last log lines follow as error lines. Then
/// removes runtime/N if instances/N is gone.
///
/// Fails with 4 while the server or its overlay is active, because files would vanish under a
/// running game.
pub(super) fn run(
    supervisor: &mut Supervisor,
    root: &Path,
    server: &InstanceName,
) -> Result<Outcome> {
    if let Some(ended) = refuse_while_active(supervisor, server)? {
        return Ok(ended);
    }

    let root = Directory::root(root)?;
    let Opened::Open(all) = root.find("runtime")? else {
        return Ok(Outcome::exit(0));
    };
    let Opened::Open(runtime) = all.find(server.as_str())? else {
        return Ok(Outcome::exit(0));
    };
    let is_there = matches!(runtime.find("upper")?, Opened::Open(_));

    let purged = if is_there {
        start(supervisor, &purge_unit(server))?
    } else {
        Outcome::exit(0)
    };

    if !purged.succeeded() || !is_gone(&root, server)? {
        return Ok(purged);
    }

    // What is left is root's: empty directories, and what is known of the layers. Removing it needs
    // no privilege.
    let name = CString::new(server.as_str()).map_err(|error| Error::failed(error.to_string()))?;
    empty::remove(&all, &name)?;
    Ok(purged)
}

/// Fails with 4 while the server or its overlay is active. Gives how the question ended if it was
/// interrupted.
pub(super) fn refuse_while_active(
    supervisor: &mut Supervisor,
    server: &InstanceName,
) -> Result<Option<Outcome>> {
    let units = [server_unit(server), overlay_unit(server)];
    let mut states = Vec::new();
    let asked = systemctl_with(
        supervisor,
        &["is-active", &units[0], &units[1]],
        &mut |stream, line| {
            if stream == Stream::Stdout {
                states.push(line.to_owned());
                return Relay::Drop;
            }

            Relay::AsIs
        },
    )?;

    if asked.ended_by != EndedBy::Exit {
        return Ok(Some(asked));
    }

    if states.len() != units.len() {
        return Err(Error::unavailable(format!(
            "systemd did not say whether {} is active",
            units.join(" or ")
        )));
    }

    // The exit code of is-active is for both units together, so the states in its output are
    // compared.
    let at_rest = |state: &String| ["inactive", "failed", "unknown"].contains(&state.as_str());
    match units.iter().zip(&states).find(|(_, state)| !at_rest(state)) {
        Some((unit, state)) => Err(Error::conflict(format!(
            "server {server} cannot be purged: {unit} is {state}; stop it first"
        ))),
        None => Ok(None),
    }
}

/// Starts a unit that ends by itself, and waits for it. If it fails, its last log lines follow as
/// error lines.
pub(super) fn start(supervisor: &mut Supervisor, unit: &str) -> Result<Outcome> {
    let purged = systemctl(supervisor, &["start", unit])?;
    if purged.ended_by != EndedBy::Exit {
        // After this nothing is removed any more.
        if stop_after_the_end(supervisor, unit).is_ok_and(Outcome::succeeded) {
            return Ok(purged);
        }

        // The process that cannot be killed belongs to that unit. Callers that wait for its end
        // need to know its control group.
        if let Err(error) = serve_from(supervisor, unit) {
            tracing::error!("{error}");
        }

        return Ok(Outcome {
            tree: Tree::Left,
            ..purged
        });
    }

    if !purged.succeeded() {
        let _ = journalctl(
            supervisor,
            &["--quiet", "-u", unit, "-n", "10", "-o", "cat"],
            &mut |_, _| Relay::To(Stream::Stderr),
        )?;
    }

    Ok(purged)
}

/// Whether instances/N does not exist. A permission error does not prove that.
fn is_gone(root: &Directory, server: &InstanceName) -> Result<bool> {
    let path = Path::new("instances").join(server.as_str());
    match fstatat(root, &path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) | Err(Errno::EACCES) => Ok(false),
        Err(Errno::ENOENT) => Ok(true),
        Err(errno) => Err(unusable(&root.path.join(path), errno)),
    }
}
