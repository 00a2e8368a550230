//! `left4me backup`: copies the database while left4me runs.
//!
//! The database's owner makes the copy. If only root can write to the destination, root opens the
//! destination and runs this program again as the owner for the copy itself; see [`as_root`].

mod destination;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{Gid, Uid};

use self::destination::{Backups, Destination};
use super::Context;
use crate::base::{Error, Exit, Result, clock, output, users, walk};
use crate::db::{error::opening, maintenance};
use crate::process::reexec_as;

/// Save a consistent, checked copy of the database; left4me keeps running
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BackupArgs {
    /// File to write; never overwritten [default: LEFT4ME_ROOT/backups/left4me-DATE-TIME-N.db]
    file: Option<PathBuf>,
    /// Afterwards, keep only the N newest left4me-*.db in backups/
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Write the copy to standard output; a backup by root uses it
    #[arg(long, hide = true, conflicts_with_all = ["file", "keep"])]
    to_output: bool,
}

/// How often another backup may take the number first.
const TRIES: u32 = 10;

const EXAMPLES: &str = "\
Examples:
  left4me backup /srv/save/left4me.db
  left4me backup --keep 7
  systemctl enable --now left4me-backup.timer      back up every night

To restore a backup: sudo left4me restore FILE";

pub(super) fn run(context: &Context, args: &BackupArgs) -> Result<()> {
    let source = context.paths.database();
    // Report a missing database before any other error.
    if let Err(error) = fs_err::symlink_metadata(&source) {
        return Err(opening(&source, &error));
    }
    if args.to_output {
        return to_output(context, &source);
    }

    let (destination, size) = match &args.file {
        Some(file) => {
            let destination = Destination::named(file)?;
            let size = save(&source, &destination)?;
            (destination, size)
        }
        None => save_numbered(context, &source)?,
    };

    report(&destination, size)?;
    match args.keep {
        Some(keep) => destination.prune(keep),
        None => Ok(()),
    }
}

/// What left4me-backup.service does: a backup, and the removal of all but the seven newest.
pub(super) fn nightly(context: &Context) -> Result<()> {
    let args = BackupArgs {
        file: None,
        keep: Some(7),
        to_output: false,
    };
    run(context, &args)
}

/// The backup by root of a database that belongs to `owner`. Root only opens the directory, creates
/// an empty file in it and renames the file at the end, all by descriptor and without following
/// links. A child process that runs as `owner` makes and checks the copy, and writes it to the one
/// descriptor it gets.
pub(super) fn as_root(context: &Context, file: &Path, owner: (Uid, Gid)) -> Result<ExitCode> {
    let destination = Destination::walked(file)?;
    destination.must_be_free()?;
    let partial = destination.create()?;
    if destination.belongs_to(owner.0)? {
        partial.give_to(owner)?;
    }

    let mut arguments: Vec<OsString> = vec!["--root".into(), context.paths.root.clone().into()];
    arguments.extend([
        "--db".into(),
        context.paths.database().into(),
        "backup".into(),
        "--to-output".into(),
    ]);

    match reexec_as(owner, &arguments, partial.file().try_clone()?)? {
        0 => {}
        failed => return Ok(ExitCode::from(failed)),
    }

    report(&destination, partial.publish()?)?;
    Ok(ExitCode::SUCCESS)
}

/// The part of [`as_root`] that runs as the owner: makes a checked copy in backups/, where no other
/// user can replace it, and writes it to standard output.
fn to_output(context: &Context, source: &Path) -> Result<()> {
    if std::io::stdout().is_terminal() {
        return Err(Error::usage(
            "standard output is a terminal: the copy is binary",
        ));
    }

    let destination = backups(context)?.unused(".root-", context.now)?;
    let mut partial = destination.create()?;
    maintenance::copy(source, &partial.path())?;
    partial.must_be_unchanged()?;

    let mut copy = partial.file().try_clone()?;
    copy.rewind()?;
    let mut out = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    std::io::copy(&mut copy, &mut out)?;
    partial.discard();

    Ok(())
}

/// Copies to a temporary file beside the destination, checks it, and renames it in one step unless
/// the name is taken. Returns the size.
fn save(source: &Path, destination: &Destination) -> Result<u64> {
    destination.must_be_free()?;
    let partial = destination.create()?;
    maintenance::copy(source, &partial.path())?;
    partial.publish()
}

/// Saves to backups/ with the next number. A concurrent backup may take the number first.
fn save_numbered(context: &Context, source: &Path) -> Result<(Destination, u64)> {
    let mut tries = 1;
    loop {
        let destination = backups(context)?.unused("", context.now)?;
        match save(source, &destination) {
            Err(error) if error.exit == Exit::Conflict && tries < TRIES => tries += 1,
            saved => return saved.map(|size| (destination, size)),
        }
    }
}

fn report(destination: &Destination, size: u64) -> Result<()> {
    output::line(&format!(
        "{} ({} KiB), checked",
        destination.path().display(),
        size.div_ceil(1024)
    ))
}

fn backups(context: &Context) -> Result<Backups> {
    Backups::in_root(&context.paths.root)
}

/// The file, and the owner of the database, if root has to create the file itself.
pub(super) fn owner_besides_root<'a>(
    context: &Context,
    args: &'a BackupArgs,
) -> Option<(&'a Path, (Uid, Gid))> {
    let file = args.file.as_deref()?;
    let database = context.paths.database();
    Some((
        file,
        users::unprivileged_user(database.parent().unwrap_or(&database))?,
    ))
}

/// The name of a numbered backup. The date is for people; the number gives the order.
fn dated(prefix: &str, now: i64, number: u64) -> String {
    format!("{prefix}left4me-{}-{number}.db", clock::stamp(now))
}

/// Describes why a directory cannot be used.
fn unusable(directory: &Path, error: std::io::Error) -> Error {
    let error = match error.kind() {
        std::io::ErrorKind::InvalidInput => {
            let message = format!("{error}, and root follows no links: name the real path");
            std::io::Error::new(error.kind(), message)
        }
        _ => error,
    };

    Error::from(error).within(directory.display())
}

/// Opens a directory as root, without following links.
fn walk(directory: &Path) -> Result<std::os::fd::OwnedFd> {
    walk::walk(directory)
        .map(|walked| walked.fd)
        .map_err(|error| unusable(directory, error))
}
