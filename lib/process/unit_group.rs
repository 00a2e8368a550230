//! The control groups of the units that served connections, read by another process.
//!
//! Their paths come from rows of the database, which another program may have written. So each read
//! walks down from the root of the hierarchy by descriptors, follows no link, waits for no FIFO,
//! and reads only the kernel's own files.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::cgroup::hierarchy;
use crate::base::control_group::{ControlGroup, is_ours};
use crate::base::files::NO_FOLLOW;
use crate::base::untrusted_file::require_regular;
use crate::wire::Served;

/// The most that is read of a file, in bytes: cgroup.procs of a unit with thousands of processes.
const READ_LIMIT: u64 = 64 * 1024;

/// The control group of one of left4me's units.
#[derive(Debug, PartialEq, Eq)]
pub struct UnitGroup {
    /// Where the hierarchy is mounted.
    top: PathBuf,
    /// The parts of its path below that.
    parts: Vec<String>,
}

impl UnitGroup {
    /// The unit's group above a command's `group`. None without a unified hierarchy.
    pub fn above(group: &ControlGroup) -> Option<Self> {
        let mount = hierarchy()?;
        let root = mount
            .root
            .to_str()?
            .split('/')
            .filter(|part| !part.is_empty());
        let root = root.collect::<Vec<_>>();
        let parts: Vec<&str> = group.parts_to_unit().collect();

        // When only a part of the hierarchy is mounted, the path may begin with what is above it.
        let below = parts.strip_prefix(root.as_slice()).unwrap_or(&parts);
        let parts = below.iter().map(|&part| part.to_owned()).collect();
        Some(Self {
            top: mount.point,
            parts,
        })
    }

    /// The groups of all of left4me's units whose names begin with `prefix`, in any slice.
    pub fn all(prefix: &str) -> Vec<Self> {
        let Some(top) = hierarchy().map(|mount| mount.point) else {
            return Vec::new();
        };

        let mut found = Vec::new();
        let mut slices = vec![Vec::new()];
        while let Some(slice) = slices.pop() {
            let path = slice
                .iter()
                .fold(top.clone(), |path, part: &String| path.join(part));
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let parts = || {
                    slice
                        .iter()
                        .cloned()
                        .chain([name.clone()])
                        .collect::<Vec<_>>()
                };

                // Only slices are searched: the program that runs in a unit names what is below it.
                if name.ends_with(".slice") && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    slices.push(parts());
                } else if name.starts_with(prefix) && is_ours(&name) {
                    found.push(Self {
                        top: top.clone(),
                        parts: parts(),
                    });
                }
            }
        }

        found
    }

    /// Whether a process is in the group or below it.
    pub fn is_populated(&self) -> bool {
        self.read("cgroup.events")
            .is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
    }

    /// Whether the group exists: systemd removes it when the unit ends.
    pub fn exists(&self) -> bool {
        self.open().is_ok()
    }

    /// Whether the process is in the group itself, not below it.
    fn has(&self, pid: u32) -> bool {
        self.read("cgroup.procs")
            .is_ok_and(|text| text.lines().any(|line| line.parse() == Ok(pid)))
    }

    /// The first of its processes.
    fn first(&self) -> Option<u32> {
        self.read("cgroup.procs").ok()?.lines().next()?.parse().ok()
    }

    fn served(&self, pid: Option<u32>) -> Served {
        let group = format!("/{}", self.parts.join("/")).parse().ok();
        Served {
            unit: self.parts.last().cloned(),
            pid,
            group,
        }
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | NO_FOLLOW;
        let top = open(&self.top, flags, Mode::empty())?;

        let down = |dir: OwnedFd, part: &String| openat(&dir, part.as_str(), flags, Mode::empty());
        let dir = self.parts.iter().try_fold(top, down)?;
        is_hierarchy(&dir)?;
        Ok(dir)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let file = File::from(openat(
            &self.open()?,
            file,
            OFlag::O_RDONLY | NO_FOLLOW,
            Mode::empty(),
        )?);

        is_hierarchy(&file)?;

        let mut text = String::new();
        require_regular(file)?
            .take(READ_LIMIT)
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

/// What serves a connection: `pid`, the process that sent the first answer according to the kernel,
/// and the unit whose control group contains it. Nothing of this is what the other side claims. A
/// process that has ended since has no unit here.
///
/// SO_PEERCRED would name PID 1, which listens, and the worker's sandbox hides /proc/PID/cgroup of
/// other users. The groups' own lists of processes are visible. The unit's name, which contains our
/// own pid and uid, adds nothing: only PID 1 moves a process into the group of a runner's or
/// helper's unit.
pub fn served_by(pid: Option<u32>) -> Served {
    let Some(pid) = pid else {
        return Served::default();
    };
    let groups = ["left4me-runner@", "left4me-helper@"]
        .into_iter()
        .flat_map(UnitGroup::all);
    groups.into_iter().find(|group| group.has(pid)).map_or(
        Served {
            pid: Some(pid),
            ..Served::default()
        },
        |group| group.served(Some(pid)),
    )
}

/// The unit of this name with one of its processes, if it exists.
pub fn served_in(unit: &str) -> Option<Served> {
    let is_unit = |group: &UnitGroup| group.parts.last().is_some_and(|last| last == unit);
    let group = UnitGroup::all(unit).into_iter().find(is_unit)?;
    Some(group.served(group.first()))
}

fn is_hierarchy(file: &impl std::os::fd::AsFd) -> io::Result<()> {
    if fstatfs(file)?.filesystem_type() == CGROUP2_SUPER_MAGIC {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        "it is not in the hierarchy of control groups",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::mkfifo;

    const UNIT: &str = "left4me-runner@1.service";

    #[test]
    fn only_the_kernels_own_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(UNIT)).unwrap();
        mkfifo(&dir.path().join(UNIT).join("cgroup.events"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/sys/fs/cgroup", dir.path().join("away.slice")).unwrap();

        for parts in [
            vec![UNIT],
            vec!["away.slice", UNIT],
            vec!["gone.slice", UNIT],
        ] {
            let parts = parts.into_iter().map(str::to_owned).collect();
            let group = UnitGroup {
                top: dir.path().to_owned(),
                parts,
            };

            assert!(
                !group.exists() && !group.is_populated() && group.first().is_none(),
                "{group:?}"
            );
        }
    }

    #[test]
    fn a_process_outside_our_units_has_only_its_pid() {
        let pid = std::process::id();
        assert_eq!(
            served_by(Some(pid)),
            Served {
                pid: Some(pid),
                ..Served::default()
            }
        );

        assert_eq!(served_by(None), Served::default());
        assert_eq!(served_in("left4me-purge@7.service"), None);
    }
}
