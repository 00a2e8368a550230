//! Upgrades servers of older versions, which all ran as user left4me-game.
//!
//! A server that runs during the upgrade keeps that user, and so does its restart after a crash:
//! its files cannot change owner while they are in use. A drop-in below /run sets that user for
//! server@ and overlay@. When the server stops, the drop-in is removed and its files are given to
//! its own user. systemd reloads its units at the next `enable` or `disable`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{fchown, geteuid};

use super::commands::overlay_unit;
use super::directory::{Directory, Opened, unusable};
use super::runtime::Runtime;
use super::{environment, runtime, settings, user};
use crate::base::names::{InstanceName, server_unit};
use crate::base::{Error, Result, users};
use crate::process::mounts;

/// Where drop-ins are that do not survive a reboot.
const UNITS: &str = "/run/systemd/system";

/// The name of the drop-in. It sorts after the generator's 50-user.conf, so its user wins.
const DROP_IN: &str = "60-before-upgrade.conf";

/// Prepares every instance, including those that run. A problem with one does not stop the others.
pub(super) fn upgrade(root: &Path) -> Result<()> {
    let directory = match Directory::root(root) {
        Err(_) if matches!(root.try_exists(), Ok(false)) => return Ok(()),
        opened => opened?,
    };

    let opened = open_instances(&directory);

    let mut results = vec![opened];
    for server in servers(&directory)? {
        results.push(
            prepare(&directory, &server).map_err(|error| error.within(format!("server {server}"))),
        );
    }

    let mut last = Ok(());
    for error in results.into_iter().filter_map(Result::err) {
        if let Err(told) = std::mem::replace(&mut last, Err(error)) {
            tracing::error!("{told}");
        }
    }

    last
}

/// Gives the files that a server wrote as left4me-game to its own user. Nothing may be mounted.
///
/// Fails if a file belongs to neither user.
pub(super) fn take_over(root: &Directory, server: &InstanceName) -> Result<()> {
    for unit in [server_unit(server), overlay_unit(server)] {
        remove_drop_in(&unit)?;
    }

    let former: Vec<_> = user::former().into_iter().collect();
    match runtime::upper_owner(root, server)? {
        Some(owner) if former.contains(&owner) => {
            Runtime::ensure(root, server, user::ensure(server)?, &former).map(drop)
        }
        _ => Ok(()),
    }
}

/// The instances that have a directory below runtime/.
fn servers(root: &Directory) -> Result<Vec<InstanceName>> {
    let entries = match fs_err::read_dir(root.path.join("runtime")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };

    let names: std::io::Result<Vec<_>> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    Ok(names?
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

fn prepare(root: &Directory, server: &InstanceName) -> Result<()> {
    let former: Vec<_> = user::former().into_iter().collect();
    runtime::close(root, server, &former)?;
    if mounts::at(&runtime::merged(root, server))?.is_empty() {
        return take_over(root, server);
    }

    // It is running: its files keep their owner until it stops.
    if runtime::upper_owner(root, server)?.is_some_and(|owner| former.contains(&owner)) {
        write_drop_ins(server)?;
    }

    environment::write(server, &settings::read(root, server)?)
}

/// Lets all users pass through the directories of instances; the modes of their contents protect
/// those. With the group that older versions set, left4me-helper@ could not see whether a server is
/// initialized.
fn open_instances(root: &Directory) -> Result<()> {
    let Opened::Open(instances) = root.find("instances")? else {
        return Ok(());
    };
    let found = fstat(&instances).map_err(|errno| unusable(&instances.path, errno))?;

    let entries = fs_err::read_dir(&instances.path)?;
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name
            .to_str()
            .filter(|name| name.parse::<InstanceName>().is_ok())
        else {
            continue;
        };

        let Ok(Opened::Open(instance)) = instances.find(name) else {
            continue;
        };

        let inner = fstat(&instance).map_err(|errno| unusable(&instance.path, errno))?;
        if inner.st_uid != found.st_uid || !geteuid().is_root() {
            continue;
        }

        let group = nix::unistd::Gid::from_raw(found.st_gid);
        fchown(&instance, None, Some(group))
            .and_then(|()| fchmod(&instance, Mode::from_bits_truncate(0o711)))
            .map_err(|errno| unusable(&instance.path, errno))?;
    }

    Ok(())
}

/// Writes the drop-ins that keep the former user of all servers for this server.
pub(super) fn write_drop_ins(server: &InstanceName) -> Result<()> {
    let game = users::GAME;
    let why = "# Written by left4me-helper upgrade: \
               this server runs since before it had a user of its own.\n";
    let texts = [
        (
            server_unit(server),
            format!("{why}[Service]\nUser={game}\nGroup={game}\n"),
        ),
        (
            overlay_unit(server),
            format!("{why}[Service]\nEnvironment={}={game}\n", user::SETTING),
        ),
    ];

    for (unit, text) in texts {
        let path = drop_in(&unit);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(path, text)?;
    }

    Ok(())
}

fn remove_drop_in(unit: &str) -> Result<()> {
    let path = drop_in(unit);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::from(error).within(path.display())),
    }

    if let Some(parent) = path.parent() {
        // An administrator's own drop-in may be in the same directory.
        let _ = std::fs::remove_dir(parent);
    }

    Ok(())
}

fn drop_in(unit: &str) -> PathBuf {
    Path::new(UNITS).join(format!("{unit}.d")).join(DROP_IN)
}
