//! `left4me backup`: a copy of the database while everything runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::Context;
use crate::base::{Error, Result, clock, output};
use crate::db::{error::opening, upkeep};

/// Save the database while everything runs: a checked copy of one moment
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where to; an existing file is not overwritten [default: backups/left4me-DATE-TIME.db in LEFT4ME_ROOT]
    file: Option<PathBuf>,
    /// Afterwards keep only the N newest left4me-*.db in backups/
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  left4me backup /srv/save/left4me.db
  left4me backup --keep 7
  systemctl enable --now left4me-backup.timer      every night

To restore: stop left4me.target and left4me-worker.service, remove left4me.db-wal and left4me.db-shm, copy the backup
over left4me.db (owner left4me, mode 0660), start left4me.target. A backup of an older left4me is migrated then.";

pub(super) fn run(context: &Context, args: &Args) -> Result<()> {
    let source = context.paths.database();
    if let Err(error) = fs_err::metadata(&source) {
        return Err(opening(&source, &error));
    }
    let dir = context.paths.root.join("backups");
    let file = match &args.file {
        Some(file) => std::path::absolute(file)?,
        None => {
            make_dir(&dir)?;
            unused(&dir, context.now)
        }
    };
    save(&source, &file)?;
    let size = fs_err::metadata(&file)?.len();
    output::line(&format!("{} ({} KiB), checked", file.display(), size.div_ceil(1024)))?;
    match args.keep {
        Some(keep) => prune(&dir, keep),
        None => Ok(()),
    }
}

/// A name with the date in it. Of two backups within a second, the later one has the next second's.
fn unused(dir: &Path, now: i64) -> PathBuf {
    let name = |second: i64| dir.join(format!("left4me-{}.db", clock::stamp(now + second * 1000)));
    (0..60).map(name).find(|file| file.symlink_metadata().is_err()).unwrap_or_else(|| name(0))
}

/// Copies beside the file's final place, checks, and gives it its name in one step, unless the name is taken.
fn save(source: &Path, file: &Path) -> Result<()> {
    let (Some(dir), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(Error::usage(format!("{} cannot be a file", file.display())));
    };
    if file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    let beside = dir.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let saved = copy(source, &beside).and_then(|()| name_it(&beside, file));
    if saved.is_err() {
        // Not there any more when only the directory could not be synced.
        std::fs::remove_file(&beside).ok();
    }
    saved?;
    Ok(fs_err::File::open(dir)?.sync_all()?)
}

fn copy(source: &Path, beside: &Path) -> Result<()> {
    let made = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o640).open(beside)?;
    made.set_permissions(std::fs::Permissions::from_mode(0o640))?;
    give_away(made.file(), beside)?;
    upkeep::copy(source, beside)?;
    Ok(made.sync_all()?)
}

/// What root saves belongs to whom the directory belongs to: left4me's own backups prune it later.
fn give_away(made: &impl std::os::fd::AsFd, path: &Path) -> Result<()> {
    if let (true, Some(dir)) = (nix::unistd::geteuid().is_root(), path.parent()) {
        let owner = fs_err::metadata(dir)?;
        std::os::unix::fs::fchown(made, Some(owner.uid()), Some(owner.gid()))
            .map_err(|error| Error::from(error).within(path.display()))?;
    }
    Ok(())
}

fn name_it(beside: &Path, file: &Path) -> Result<()> {
    match renameat2(AT_FDCWD, beside, AT_FDCWD, file, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => Err(exists(file)),
        // A file system that cannot do that can still link, which does not overwrite either.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            fs_err::hard_link(beside, file)?;
            Ok(fs_err::remove_file(beside)?)
        }
        Err(errno) => Err(Error::from(std::io::Error::from(errno)).within(file.display())),
    }
}

fn exists(file: &Path) -> Error {
    Error::conflict(format!("{} exists and is not overwritten: name another file", file.display()))
}

fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::DirBuilder::new().mode(0o750).create(dir) {
        Ok(()) => give_away(&fs_err::File::open(dir)?.file(), dir),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::from(error).within(dir.display())),
    }
}

/// Removes all but the newest. The date is in the name, so names sort by age.
fn prune(dir: &Path, keep: u32) -> Result<()> {
    let mut saved: Vec<PathBuf> = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_ours) {
            saved.push(path);
        }
    }
    saved.sort_unstable();
    let old = saved.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    for path in &saved[..old] {
        fs_err::remove_file(path)?;
        output::line(&format!("{} removed", path.display()))?;
    }
    Ok(())
}

/// `left4me-20261120-214407.db`
fn is_ours(name: &str) -> bool {
    let Some(stamp) = name.strip_prefix("left4me-").and_then(|rest| rest.strip_suffix(".db")) else { return false };
    stamp.len() == 15
        && stamp.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'-' } else { byte.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_files_that_backup_itself_names_are_ever_removed() {
        assert!(is_ours("left4me-20261120-214407.db"));
        for other in
            ["left4me-precious.db", "left4me-20261120-214407.db.gz", "left4me-20261120x214407.db", "left4me.db", ""]
        {
            assert!(!is_ours(other), "{other}");
        }
    }
}
