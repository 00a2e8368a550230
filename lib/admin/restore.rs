//! `left4me restore`: replaces the database with a backup. Root opens the file, and stops and
//! starts the units. This program, run again as the database's owner, does all that reads or writes
//! a database.

mod holders;
mod units;

use std::ffi::OsString;
use std::fs::File;
use std::io::Seek as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::fcntl::openat;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, geteuid};

use super::Context;
use crate::base::{Error, Exit, Result, clock, files, lock, output, users, walk};
use crate::db::restore;
use crate::process::reexec_with_input;
use units::StoppedUnits;

/// Replace the database with a backup: stops left4me, swaps the files, starts left4me again
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RestoreArgs {
    /// The backup to restore
    file: Option<PathBuf>,
    /// The part that runs as the database's owner
    #[arg(long, hide = true, value_enum, conflicts_with = "file")]
    part: Option<RestorePhase>,
}

/// A phase that runs as the database's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RestorePhase {
    /// Copies standard input to a file beside the database, checks and migrates it.
    Stage,
    /// Swaps the two files.
    Exchange,
}

const EXAMPLES: &str = "\
Needs root. The backup is checked first: if it is damaged, or from another program or a newer
left4me, nothing changes. Running jobs are ended; servers keep running. The former database is kept
beside the new one, as left4me.db.before-restore-DATE-TIME. If the restore is interrupted, even by a
power loss, one complete database remains: run it again.

Examples:
  sudo left4me restore /var/lib/left4me/backups/left4me-20261120-232210-12.db
  sudo left4me restore /var/lib/left4me/db/left4me.db.before-restore-20261128-224500     undo it";

/// How long to wait for another restore.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the restore as root, or one part of it as the database's owner.
pub(super) fn run(context: &Context, args: &RestoreArgs) -> Result<ExitCode> {
    let database = context.paths.database();
    if let Some(part) = args.part {
        users::drop_root(&database)?;
        do_part(part, &database, context.now, None)?;
        return Ok(ExitCode::SUCCESS);
    }

    let Some(file) = &args.file else {
        return Err(Error::usage(
            "name the backup to restore: see `left4me restore --help`",
        ));
    };

    if !geteuid().is_root() {
        return Err(Error::not_permitted(
            "only root can stop and start left4me: use `sudo left4me restore FILE`",
        ));
    }

    // Check the backup before anything is stopped.
    let input = open(file)?;
    let owner = users::unprivileged_user(database.parent().unwrap_or(&database));
    let run = |part, input| as_owner(context, owner, part, input);
    match run(RestorePhase::Stage, Some(input))? {
        0 => {}
        failed => return Ok(ExitCode::from(failed)),
    }

    let units = StoppedUnits::stop()?;
    let done = holders::end(&database).and_then(|()| run(RestorePhase::Exchange, None));

    // Even after a failure there is a complete database, so start the units again.
    let started = units.start();
    match done? {
        0 => started?,
        failed => return Ok(ExitCode::from(failed)),
    }

    output::line("left4me runs with it; check it with `left4me doctor`")?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the backup without following links: the owner of a directory on the path could redirect
/// root.
fn open(file: &Path) -> Result<File> {
    let path = std::path::absolute(file)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::usage(format!("{} cannot be a file", file.display())));
    };
    let failed = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Failed
        };

        Error::new(
            exit,
            format!(
                "{}: {error}; name the real path of a backup",
                path.display()
            ),
        )
    };

    let walked = walk::walk(directory).map_err(failed)?;
    let flags = nix::fcntl::OFlag::O_RDONLY | files::NO_FOLLOW;
    let opened =
        openat(&walked.fd, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let opened = File::from(opened);
    let found = opened.metadata()?;

    if found.is_file() {
        Ok(opened)
    } else {
        Err(Error::failed(format!(
            "{}: {}",
            path.display(),
            files::not_regular(&found)
        )))
    }
}

/// Runs a part as the database's owner; returns its exit code. The part reports its own error.
fn as_owner(
    context: &Context,
    owner: Option<(Uid, Gid)>,
    part: RestorePhase,
    input: Option<File>,
) -> Result<u8> {
    let database = context.paths.database();
    let Some(owner) = owner else {
        return do_part(part, &database, context.now, input).map(|()| 0);
    };
    let part = if part == RestorePhase::Stage {
        "stage"
    } else {
        "exchange"
    };

    let mut arguments: Vec<OsString> = vec!["--root".into(), context.paths.root.clone().into()];
    arguments.extend([
        "--db".into(),
        database.into(),
        "restore".into(),
        "--part".into(),
        part.into(),
    ]);

    reexec_with_input(owner, &arguments, input)
}

fn do_part(part: RestorePhase, database: &Path, now: i64, input: Option<File>) -> Result<()> {
    // Two restores at once would swap each other's copies.
    let _lock = lock::wait(database, "restore", LOCK_TIMEOUT)?;
    let staged = restore::staged(database);
    match part {
        RestorePhase::Stage => stage(database, &staged, input),
        RestorePhase::Exchange => exchange(database, &staged, now),
    }
}

fn stage(database: &Path, staged: &Path, input: Option<File>) -> Result<()> {
    restore::clean(staged, database)?;
    let mut input = match input {
        Some(input) => input,
        None => File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
    };

    input.rewind()?;
    // The mode of the database, independent of the umask.
    let mut copy: File = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(staged)?
        .into();
    copy.set_permissions(std::fs::Permissions::from_mode(0o660))?;

    let done = std::io::copy(&mut input, &mut copy).and_then(|_| copy.sync_all());
    drop(copy);
    let done = done
        .map_err(Error::from)
        .and_then(|()| restore::prepare(staged));

    if done.is_err() {
        // Report the first error; the next restore removes a leftover file.
        restore::clean(staged, database).ok();
    }

    done
}

fn exchange(database: &Path, staged: &Path, now: i64) -> Result<()> {
    let kept = restore::kept(database, &clock::stamp(now));
    let kept = kept.ok_or_else(|| Error::failed("a hundred restores within a second"))?;
    if restore::exchange(staged, database, &kept)? {
        output::line(&format!(
            "the former database is kept as {}",
            kept.display()
        ))?;
    }

    output::line(&format!("{} is restored", database.display()))
}
