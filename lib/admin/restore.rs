//! `left4me restore`: another database in the place of the one that is there. Root opens the file,
//! stops and starts the units; all that reads or writes a database is done as its owner, by this
//! program once more.

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
use units::Units;

/// Put a backup in the database's place: stops left4me, exchanges the file, starts left4me again
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The backup
    file: Option<PathBuf>,
    /// Which part of it to do as the database's owner
    #[arg(long, hide = true, value_enum, conflicts_with = "file")]
    part: Option<Part>,
}

/// A part that runs as the database's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Copies standard input beside the database, checks and migrates it.
    Stage,
    /// Exchanges the two.
    Exchange,
}

const EXAMPLES: &str = "\
Needs root. The file is checked first: a damaged one, one of another program or of a newer left4me changes nothing. Jobs
that run are ended and servers go on running. The former database stays beside the new one, as
left4me.db.before-restore-DATE-TIME. Ended at any moment, also by a power loss, it leaves one whole database; run it
again then.

Examples:
  sudo left4me restore /var/lib/left4me/backups/left4me-20261120-232210-12.db
  sudo left4me restore /var/lib/left4me/db/left4me.db.before-restore-20261128-224500     takes it back";

/// Another restore that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The whole of it, as root; or one part, as the database's owner.
pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let database = context.paths.database();
    if let Some(part) = args.part {
        users::become_successor(&database)?;
        do_part(part, &database, context.now, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(file) = &args.file else { return Err(Error::usage("which file? See `left4me restore --help`")) };
    if !geteuid().is_root() {
        return Err(Error::not_permitted("only root can stop and start left4me: use `sudo left4me restore FILE`"));
    }
    let input = open(file)?;
    let owner = users::successor(database.parent().unwrap_or(&database));
    let run = |part, input| as_owner(context, owner, part, input);

    match run(Part::Stage, Some(input))? {
        0 => {}
        failed => return Ok(ExitCode::from(failed)),
    }
    let units = Units::stop()?;
    let done = holders::end(&database).and_then(|()| run(Part::Exchange, None));
    // Whatever happened, there is a whole database, and what ran before runs again.
    let started = units.start();
    match done? {
        0 => started?,
        failed => return Ok(ExitCode::from(failed)),
    }
    output::line("left4me runs with it; `left4me doctor` says whether all is well")?;
    Ok(ExitCode::SUCCESS)
}

/// Root opens the file through no link: who owns a directory on the way could lead it elsewhere.
fn open(file: &Path) -> Result<File> {
    let path = std::path::absolute(file)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::usage(format!("{} cannot be a file", file.display())));
    };
    let failed = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Error::new(exit, format!("{}: {error}; name the real path of a backup", path.display()))
    };
    let walked = walk::walk(directory).map_err(failed)?;
    let flags = nix::fcntl::OFlag::O_RDONLY | files::SAFELY;
    let opened = openat(&walked.fd, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let opened = File::from(opened);
    let found = opened.metadata()?;
    if found.is_file() {
        Ok(opened)
    } else {
        Err(Error::failed(format!("{}: {}", path.display(), files::not_regular(&found))))
    }
}

/// Gives its exit code; why it failed stands on standard error already.
fn as_owner(context: &Context, owner: Option<(Uid, Gid)>, part: Part, input: Option<File>) -> Result<u8> {
    let database = context.paths.database();
    let Some(owner) = owner else { return do_part(part, &database, context.now, input).map(|()| 0) };
    let part = if part == Part::Stage { "stage" } else { "exchange" };
    let mut arguments: Vec<OsString> = vec!["--root".into(), context.paths.root.clone().into()];
    arguments.extend(["--db".into(), database.into(), "restore".into(), "--part".into(), part.into()]);
    reexec_with_input(owner, &arguments, input)
}

fn do_part(part: Part, database: &Path, now: i64, input: Option<File>) -> Result<()> {
    // Two restores at once would exchange each other's copies.
    let _lock = lock::wait(database, "restore", PATIENCE)?;
    let staged = restore::staged(database);
    match part {
        Part::Stage => stage(database, &staged, input),
        Part::Exchange => exchange(database, &staged, now),
    }
}

fn stage(database: &Path, staged: &Path, input: Option<File>) -> Result<()> {
    restore::clean(staged, database)?;
    let mut input = match input {
        Some(input) => input,
        None => File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
    };
    input.rewind()?;
    // As the database itself, whatever the umask.
    let mut copy: File = fs_err::OpenOptions::new().write(true).create_new(true).open(staged)?.into();
    copy.set_permissions(std::fs::Permissions::from_mode(0o660))?;
    let done = std::io::copy(&mut input, &mut copy).and_then(|_| copy.sync_all());
    drop(copy);
    let done = done.map_err(Error::from).and_then(|()| restore::prepare(staged));
    if done.is_err() {
        // The reason counts, not what is left: the next restore removes it.
        restore::clean(staged, database).ok();
    }
    done
}

fn exchange(database: &Path, staged: &Path, now: i64) -> Result<()> {
    let kept = restore::kept(database, &clock::stamp(now));
    let kept = kept.ok_or_else(|| Error::failed("a hundred restores within a second"))?;
    if restore::exchange(staged, database, &kept)? {
        output::line(&format!("the former database is {}", kept.display()))?;
    }
    output::line(&format!("{} is restored", database.display()))
}
