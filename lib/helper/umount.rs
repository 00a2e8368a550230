//! `umount N`: reverts `mount N`, never forced and never lazily.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::directory::{Directory, Opened};
use super::{empty, environment, former, runtime};
use crate::base::names::InstanceName;
use crate::base::{Error, Result};
use crate::process::mounts;

/// How long a mount may be busy. The last process of a server may still be exiting.
const BUSY_WAIT: Duration = Duration::from_secs(3);

/// How many of the processes that use a mount are named.
const NAMED: usize = 5;

/// Unmounts everything on the merged directory of the server. Then removes work/work, which the
/// kernel leaves behind as root's, and the file that systemd read. Files of a server that ran
/// during an upgrade are given to its own user. Succeeds if nothing is mounted.
///
/// Fails with 1 while a process uses the mount; the message names it.
pub(super) fn run(root: &Path, server: &InstanceName) -> Result<()> {
    let directory = match Directory::root(root) {
        Err(_) if matches!(root.try_exists(), Ok(false)) => return Ok(()),
        opened => opened?,
    };

    let merged = runtime::merged(&directory, server);
    // Mounts may be stacked. Mounts that are added while this runs are not waited for.
    for _ in mounts::at(&merged)? {
        unmount(&merged)?;
    }

    environment::remove(server)?;

    let Opened::Open(all) = directory.find("runtime")? else {
        return Ok(());
    };
    let Opened::Open(runtime) = all.find(server.as_str())? else {
        return Ok(());
    };
    if let Opened::Open(work) = runtime.find("work")? {
        empty::remove(&work, c"work")?;
    }

    former::take_over(&directory, server)
}

fn unmount(merged: &Path) -> Result<()> {
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match umount2(merged, MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: no longer mounted, another process was faster.
            Ok(()) | Err(Errno::EINVAL) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50))
            }
            Err(Errno::EBUSY) => {
                let users = users_of(merged);
                let who = if users.is_empty() {
                    "a process that cannot be seen".to_owned()
                } else {
                    users.join(", ")
                };

                return Err(Error::failed(format!(
                    "{} is in use by {who}: stop the server first",
                    merged.display()
                )));
            }
            Err(errno) => return Err(super::directory::unusable(merged, errno)),
        }
    }
}

/// The processes with a working directory, program or open file below `path`, as far as /proc shows
/// them: `4711 (srcds_linux)`.
fn users_of(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
    });

    let users = processes.filter(|process| {
        let process = process.path();
        let open = std::fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path());
        let mut links = ["cwd", "root", "exe"]
            .into_iter()
            .map(|name| process.join(name))
            .chain(open);
        links.any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(path)))
    });

    let told = users.map(|process| {
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        format!(
            "{} ({})",
            process.file_name().to_string_lossy(),
            name.trim_end()
        )
    });

    told.take(NAMED).collect()
}
