//! `left4me backup`: a copy of the database while everything runs.
//!
//! A copy is made by the user to whom the database belongs. Root alone can put it where only root may write: then root
//! opens the place, and runs this program once more as that user for the copy itself; see [`as_root`].

mod place;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{Gid, Uid};

use self::place::Place;
use super::Context;
use crate::base::{Error, Exit, Result, clock, output, users, walk};
use crate::db::{error::opening, upkeep};
use crate::process::reexec_as;

/// Save the database while everything runs: a checked copy of one moment
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where to; an existing file is not overwritten [default: backups/left4me-DATE-TIME-N.db in LEFT4ME_ROOT]
    file: Option<PathBuf>,
    /// Afterwards keep only the N newest left4me-*.db in backups/
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Write the copy to standard output; what root's own backup runs
    #[arg(long, hide = true, conflicts_with_all = ["file", "keep"])]
    to_output: bool,
}

/// How many backups may take a number before this one.
const TRIES: u32 = 10;

const EXAMPLES: &str = "\
Examples:
  left4me backup /srv/save/left4me.db
  left4me backup --keep 7
  systemctl enable --now left4me-backup.timer      every night

To put one back: sudo left4me restore FILE";

pub(super) fn run(context: &Context, args: &Args) -> Result<()> {
    let source = context.paths.database();
    // A missing database is the first thing to say.
    if let Err(error) = fs_err::symlink_metadata(&source) {
        return Err(opening(&source, &error));
    }
    if args.to_output {
        return to_output(context, &source);
    }
    let (place, size) = match &args.file {
        Some(file) => {
            let place = Place::named(file)?;
            let size = save(&source, &place)?;
            (place, size)
        }
        None => save_numbered(context, &source)?,
    };
    tell(&place, size)?;
    match args.keep {
        Some(keep) => place.prune(keep),
        None => Ok(()),
    }
}

/// For root, when the database belongs to `owner`: root only opens the directory, makes an empty file in it and gives
/// it its name at the end, all by descriptor and through no link. The copy is made and checked as `owner`, and comes
/// through the one descriptor that it is given.
pub(super) fn as_root(context: &Context, file: &Path, owner: (Uid, Gid)) -> Result<ExitCode> {
    let place = Place::walked(file)?;
    place.must_be_free()?;
    let part = place.part()?;
    if place.belongs_to(owner.0)? {
        part.give_to(owner)?;
    }
    let mut arguments: Vec<OsString> = vec!["--root".into(), context.paths.root.clone().into()];
    arguments.extend(["--db".into(), context.paths.database().into(), "backup".into(), "--to-output".into()]);
    match reexec_as(owner, &arguments, part.file().try_clone()?)? {
        0 => {}
        failed => return Ok(ExitCode::from(failed)),
    }
    tell(&place, part.settle()?)?;
    Ok(ExitCode::SUCCESS)
}

/// What the user does to whom the database belongs: a checked copy in backups/, where no other user can exchange it,
/// and from there to standard output.
fn to_output(context: &Context, source: &Path) -> Result<()> {
    if std::io::stdout().is_terminal() {
        return Err(Error::usage("a database is no text for a terminal"));
    }
    let place = backups(context)?.unused(".root-", context.now)?;
    let mut part = place.part()?;
    upkeep::copy(source, &part.path())?;
    part.must_be_itself()?;

    let mut copy = part.file().try_clone()?;
    copy.rewind()?;
    let mut out = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    std::io::copy(&mut copy, &mut out)?;
    part.discard();
    Ok(())
}

/// Copies beside the file's final place, checks, and gives it its name in one step, unless the name is taken. Gives its
/// size.
fn save(source: &Path, place: &Place) -> Result<u64> {
    place.must_be_free()?;
    let part = place.part()?;
    upkeep::copy(source, &part.path())?;
    part.settle()
}

/// In backups/, under the next number. Another backup that runs at the same time may take it first.
fn save_numbered(context: &Context, source: &Path) -> Result<(Place, u64)> {
    let mut tries = 1;
    loop {
        let place = backups(context)?.unused("", context.now)?;
        match save(source, &place) {
            Err(error) if error.exit == Exit::Conflict && tries < TRIES => tries += 1,
            saved => return saved.map(|size| (place, size)),
        }
    }
}

fn tell(place: &Place, size: u64) -> Result<()> {
    output::line(&format!("{} ({} KiB), checked", place.path().display(), size.div_ceil(1024)))
}

/// The directory of backups without a name of their own.
fn backups(context: &Context) -> Result<place::Backups> {
    place::Backups::in_root(&context.paths.root)
}

/// Whether root has to make the file itself: as whom the copy is made then.
pub(super) fn owner_besides_root<'a>(context: &Context, args: &'a Args) -> Option<(&'a Path, (Uid, Gid))> {
    let file = args.file.as_deref()?;
    let database = context.paths.database();
    Some((file, users::successor(database.parent().unwrap_or(&database))?))
}

/// A backup's name: the date is for people, the number says which is newer.
fn dated(prefix: &str, now: i64, number: u64) -> String {
    format!("{prefix}left4me-{}-{number}.db", clock::stamp(now))
}

/// In words, what is in the way of a directory that was named.
fn unusable(directory: &Path, error: std::io::Error) -> Error {
    let error = match error.kind() {
        std::io::ErrorKind::InvalidInput => {
            let words = format!("{error}, and root follows none: name the real path");
            std::io::Error::new(error.kind(), words)
        }
        _ => error,
    };
    Error::from(error).within(directory.display())
}

/// A directory that root has reached.
fn walk(directory: &Path) -> Result<std::os::fd::OwnedFd> {
    walk::walk(directory).map(|walked| walked.fd).map_err(|error| unusable(directory, error))
}
