//! /run/left4me-servers/ID.env: port and arguments of a server whose overlay is mounted. It is the
//! only file that systemd reads before it starts the server. Only root can write there, so no other
//! user can replace it with a pipe, a link or other content.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};

use super::directory::{Directory, Opened, unusable};
use super::settings::Settings;
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::domain::{env_file, launch};

/// The directory's name in /run; tmpfiles.d/left4me.conf creates it.
const DIRECTORY: &str = "left4me-servers";

/// Writes the file of a server atomically.
pub(super) fn write(server: &InstanceName, settings: &Settings) -> Result<()> {
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    let directory =
        Directory::root(Path::new("/run"))?.ensure(DIRECTORY, Mode::S_IRWXU, root, &[])?;
    let path = directory.path.join(format!("{server}.env"));
    let failed = |errno| unusable(&path, errno);
    let arguments = env_file::words(launch::words(&settings.arguments));
    let text = format!(
        "L4D2_PORT={}\n{}",
        settings.port,
        env_file::assignment("L4D2_ARGS", &arguments)?
    );

    let (name, beside) = (name(server, "env")?, name(server, "new")?);
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let new: OwnedFd = openat(
        &directory,
        beside.as_c_str(),
        flags,
        Mode::from_bits_truncate(0o600),
    )
    .map_err(failed)?;

    std::fs::File::from(new)
        .write_all(text.as_bytes())
        .map_err(|error| Error::from(error).within(path.display()))?;
    renameat(&directory, beside.as_c_str(), &directory, name.as_c_str()).map_err(failed)
}

/// Removes the file of a server. Succeeds if there is none.
pub(super) fn remove(server: &InstanceName) -> Result<()> {
    let run = Directory::root(Path::new("/run"))?;
    let Opened::Open(directory) = run.find(DIRECTORY)? else {
        return Ok(());
    };
    match unlinkat(
        directory.as_fd(),
        name(server, "env")?.as_c_str(),
        UnlinkatFlags::NoRemoveDir,
    ) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(unusable(&directory.path, errno)),
    }
}

fn name(server: &InstanceName, end: &str) -> Result<CString> {
    CString::new(format!("{server}.{end}")).map_err(|error| Error::failed(error.to_string()))
}
