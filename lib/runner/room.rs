//! Asks whether the disk has room before steamcmd downloads anything. What the build takes is what
//! the last check found out; that is kept in steamcmd's home.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::RunnerSettings;
use super::installation::Installation;
use super::steamcmd::Steamcmd;
use crate::base::config::BuildMode;
use crate::base::{Error, Result, clock, untrusted_file};
use crate::domain::build::Size;
use crate::domain::steam::{Known, Room, Storage, judge};

/// Below steamcmd's home.
const FILE: &str = ".left4me-available.json";

const FILE_LIMIT: usize = 4096;

/// How long an answer counts as true, in ms: a check is the first task of its update.
const RECENT: i64 = 60 * 60 * 1000;

/// How many files are counted at most; the game has some thousands.
const WALK_LIMIT: u32 = 100_000;

/// The build that Steam published when it was last asked.
#[derive(Debug, Serialize, Deserialize)]
struct Available {
    build: u64,
    size: Size,
    /// Unix ms.
    asked_at: i64,
}

/// Keeps what a check found out, for the installation after it.
pub(super) fn remember(root: &Path, build: u64, size: Option<Size>) -> Result<()> {
    let file = root.join("steam").join(FILE);
    let Some(size) = size else {
        return match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    };

    let asked_at = clock::now_ms();
    let available = Available {
        build,
        size,
        asked_at,
    };
    let text = serde_json::to_string(&available)
        .map_err(|error| Error::failed(format!("{}: {error}", file.display())))?;
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, &file)?)
}

/// Refuses an installation for which there is certainly no room, and warns of one for which there
/// may be none. Says nothing if no check has found out what the build takes.
pub(super) fn ask(steam: &mut Steamcmd<'_>, settings: &RunnerSettings) -> Result<()> {
    let Some(known) = known(steam.root, &steam.installation, settings) else {
        return Ok(());
    };

    let place = steam.installation.directory.display().to_string();
    match judge(&known, &place) {
        Room::Enough => Ok(()),
        Room::Doubtful(words) => {
            steam.say(&format!("warning: {words}"));
            Ok(())
        }
        Room::Missing(why) => Err(Error::failed(format!(
            "nothing was downloaded or changed: {why}"
        ))),
    }
}

fn known(root: &Path, installation: &Installation, settings: &RunnerSettings) -> Option<Known> {
    let text = untrusted_file::read(&root.join("steam"), &[FILE], FILE_LIMIT).ok()?;
    let Available {
        build,
        size,
        asked_at,
    } = serde_json::from_slice(&text).ok()?;

    let place = if installation.directory.is_dir() {
        &installation.directory
    } else {
        root
    };
    let disk = statvfs(place).ok()?;
    let (present, is_whole) = usage(&installation.directory);
    Some(Known {
        build,
        size,
        is_recent: (0..RECENT).contains(&clock::now_ms().saturating_sub(asked_at)),
        present,
        is_first: !installation.is_begun(),
        is_copied: settings.builds.builds == BuildMode::Beside,
        free: disk.blocks_available().saturating_mul(disk.fragment_size()),
        storage: match is_whole {
            true => storage(place),
            false => Storage::Unknown,
        },
    })
}

/// The bytes that the files below a directory take, and whether all of them were counted.
fn usage(directory: &Path) -> (u64, bool) {
    let (mut left, mut sum) = (WALK_LIMIT, 0_u64);
    let mut waiting: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return (sum, false),
        };
        for entry in entries {
            let found = entry.and_then(|entry| Ok((entry.metadata()?, entry.path())));
            let (Ok((found, path)), Some(fewer)) = (found, left.checked_sub(1)) else {
                return (sum, false);
            };
            left = fewer;
            // A file may have less blocks than bytes, and then needs no more.
            sum = sum.saturating_add(found.size().max(found.blocks().saturating_mul(512)));
            if found.is_dir() {
                waiting.push(path);
            }
        }
    }

    (sum, true)
}

/// Magic numbers of linux/magic.h.
fn storage(path: &Path) -> Storage {
    let kind = statfs(path).map_or(0, |found| found.filesystem_type().0);
    match kind & 0xffff_ffff {
        0xef53 | 0x0102_1994 => Storage::Plain,
        0x5846_5342 => Storage::MayShare,
        _ => Storage::Unknown,
    }
}
