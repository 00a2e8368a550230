//! The game's installation on disk: the mark of an unfinished one, and whether its files change.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use fs_err as fs;

use crate::base::Result;
use crate::domain::steam::{UNFINISHED, is_of_windows};
use crate::process::game_files;

/// How many files are checked for a change at most; the game has some thousands.
const WALK_LIMIT: u32 = 100_000;

/// ROOT/installation.
#[derive(Debug)]
pub(super) struct Installation {
    pub(super) directory: PathBuf,
}

/// Identifies one version of a file. It does not depend on the clock, which may be set meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, i64, i64, i64, i64)>);

impl Installation {
    pub(super) fn manifest(&self) -> PathBuf {
        game_files::manifest(&self.directory)
    }

    /// Whether steamcmd has installed here before.
    pub(super) fn is_begun(&self) -> bool {
        game_files::is_begun(&self.directory)
    }

    /// Whether the last successful run of steamcmd was a windows pass. A manifest that cannot be
    /// read says nothing about that.
    pub(super) fn is_of_windows(&self) -> bool {
        game_files::read_manifest(&self.directory).is_ok_and(|text| is_of_windows(&text))
    }

    pub(super) fn stamp(&self) -> Stamp {
        let stamp = |found: Metadata| {
            let (mtime, ctime) = (found.mtime(), found.ctime());
            (
                found.dev(),
                found.ino(),
                mtime,
                found.mtime_nsec(),
                ctime,
                found.ctime_nsec(),
            )
        };

        Stamp(self.manifest().symlink_metadata().ok().map(stamp))
    }

    /// The installed build, if a whole Linux server is here.
    pub(super) fn verify(&self) -> Result<u64, String> {
        game_files::verify(&self.directory)
    }

    /// Marks that Windows files may be here from now on. Returns whether the mark is new.
    pub(super) fn mark_unfinished(&self) -> Result<bool> {
        fs::create_dir_all(&self.directory)?;
        let text = "A windows pass of steamcmd started, \
                    and no linux pass has finished after it: no server starts.\n";
        let path = self.directory.join(UNFINISHED);

        match fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
        {
            Ok(mut file) => {
                io::Write::write_all(&mut file, text.as_bytes())?;
                file.sync_all()?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the mark: the installation is that of a Linux server.
    pub(super) fn mark_finished(&self) -> Result<()> {
        match fs::remove_file(self.directory.join(UNFINISHED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn is_unfinished(&self) -> bool {
        game_files::is_unfinished(&self.directory)
    }

    /// A number that changes when any file here changes.
    pub(super) fn change_sum(&self) -> u64 {
        let (mut left, mut sum, mut waiting) = (WALK_LIMIT, 0_u64, vec![self.directory.clone()]);

        while let Some(directory) = waiting.pop() {
            // When an entry disappears meanwhile, its directory's own times change the sum.
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                let Some(fewer) = left.checked_sub(1) else {
                    return sum;
                };
                left = fewer;

                let changed = found.mtime().wrapping_mul(1_000_000_007);
                let changed = changed.wrapping_add(found.mtime_nsec()).cast_unsigned();
                let size = found.size().wrapping_add(found.blocks().wrapping_mul(31));
                sum = sum.wrapping_add(found.ino().rotate_left(17) ^ changed.wrapping_add(size));
                if found.is_dir() {
                    waiting.push(entry.path());
                }
            }
        }

        sum
    }
}
