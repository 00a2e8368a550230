//! One steamcmd at a time: what its runs have in common, whatever they are for.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::client_library::Needed;
use super::installation::Installation;
use super::retry::RetryPolicy;
use super::{RunnerSettings, account, client_library};
use crate::base::{Error, Exit, Result, files, untrusted_file};
use crate::domain::steam::{self, Cause, Heard, Retry};
use crate::process::{Outcome, Relay, Silence, Spec, Supervisor, Terminal};
use crate::wire::{EndedBy, LINE_LIMIT, Stream, Tree};

/// steamcmd with its account and its lock.
pub(super) struct Steamcmd<'a> {
    pub(super) supervisor: &'a mut Supervisor,
    pub(super) root: &'a Path,
    pub(super) installation: Installation,
    pub(super) program: PathBuf,
    /// The Steam account; none for the anonymous one.
    pub(super) account: Option<String>,
    /// How long steamcmd may be silent.
    pub(super) silence: Duration,
    _lock: Flock<File>,
}

/// The result of [`open`].
pub(super) enum Opened<'a> {
    Ready(Steamcmd<'a>),
    /// The request was cancelled while another steamcmd ran.
    Cancelled(Outcome),
}

/// How much longer than the grace a dying steamcmd may hold the lock.
const LOCK_MARGIN: Duration = Duration::from_secs(6);

/// The pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// steamcmd's exit code when it has updated itself and has to be started again. Its script does
/// that; the program alone does not.
const RESTART: i32 = 42;

/// How many such restarts one pass makes.
const RESTARTS: u32 = 2;

/// Makes steamcmd ready to run.
///
/// Fails if it is missing, its account's name is not one, or another steamcmd runs.
pub(super) fn open<'a>(
    supervisor: &'a mut Supervisor,
    settings: &'a RunnerSettings,
) -> Result<Opened<'a>> {
    let root = settings.paths.root.as_path();
    let account = steam::account(&settings.steam.steam_account).map_err(Error::usage)?;
    let program = settings
        .place
        .steamcmd
        .clone()
        .unwrap_or_else(|| root.join("steam/steamcmd.sh"));
    check_executable(&program)?;

    let lock = match lock(supervisor, root, settings.grace.duration() + LOCK_MARGIN)? {
        Locking::Acquired(lock) => lock,
        Locking::Cancelled(outcome) => return Ok(Opened::Cancelled(outcome)),
    };

    if account.is_some() {
        account::make_private(&root.join("steam"))?;
    }

    Ok(Opened::Ready(Steamcmd {
        supervisor,
        root,
        installation: Installation {
            directory: root.join("installation"),
        },
        program,
        account: account.map(str::to_owned),
        silence: Duration::from_secs(settings.steam.steam_silence_seconds.into()),
        _lock: lock,
    }))
}

impl Steamcmd<'_> {
    /// One run of steamcmd, or more when it updates itself. `each` gets every line; true keeps it
    /// from the log. `heard` gets the others.
    pub(super) fn run(
        &mut self,
        arguments: &[OsString],
        silence: Duration,
        activity: &dyn Fn(&Installation) -> u64,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(Outcome, Heard)> {
        let mut result = self.run_once(arguments, silence, activity, each)?;
        for _ in 0..RESTARTS {
            if ended(result.0) || result.0.code != RESTART || result.1 != Heard::default() {
                break;
            }
            result = self.run_once(arguments, silence, activity, each)?;
        }

        Ok(result)
    }

    fn run_once(
        &mut self,
        arguments: &[OsString],
        limit: Duration,
        activity: &dyn Fn(&Installation) -> u64,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(Outcome, Heard)> {
        let home = self.root.join("steam");
        let mut argv = vec![self.program.clone().into_os_string()];
        argv.extend_from_slice(arguments);
        let environment = [
            ("HOME", home.as_os_str()),
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ref(),
            ),
            ("LANG", "C.UTF-8".as_ref()),
            ("TERM", "dumb".as_ref()),
        ];

        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).to_owned()));
        let spec = Spec {
            argv,
            env: environment.collect(),
            cwd: home.clone(),
            terminal: Terminal::Pty,
            first_signal: Signal::SIGTERM,
            line_limit: LINE_LIMIT,
        };

        let mut heard = Heard::default();
        let installation = &self.installation;
        let silence = Silence {
            limit,
            activity: &mut || activity(installation),
        };

        let result = self.supervisor.run_watched(&spec, silence, &mut |_, line| {
            if each(line) {
                return Relay::Drop;
            }
            heard.line(line);
            Relay::AsIs
        });

        let (mut outcome, hung) =
            result.map_err(|error| Error::unavailable(format!("{error}; set LEFT4ME_STEAMCMD")))?;

        if hung && outcome.tree == Tree::Empty {
            heard.hung(limit.as_secs());
            // The retries treat it as a normal end: the request itself was not cancelled.
            outcome.ended_by = EndedBy::Exit;
        }

        Ok((outcome, heard))
    }

    /// The cause, what to do about it, and steamcmd's own message.
    pub(super) fn explain(&self, cause: Cause, detail: &str) -> String {
        let advice = cause.advice(self.account.is_some());
        let meaning = match cause {
            Cause::DiskFull => format!("the disk is full: {}", self.free_space()),
            cause => cause.meaning().to_owned(),
        };
        format!("{meaning}: {advice} ({detail})")
    }

    /// Waits for the next attempt, if `policy` allows one after a failure with `cause`. `Ok` has the
    /// outcome of a cancellation during the wait.
    ///
    /// Fails with `code`, or 1, if no attempt is left.
    pub(super) fn wait(
        &mut self,
        policy: &mut RetryPolicy,
        cause: Cause,
        why: &str,
        code: i32,
    ) -> Result<Option<Outcome>> {
        let Some(wait) = policy.failed(cause) else {
            let message = match policy.count() {
                1 => why.to_owned(),
                count => format!("given up after {count} attempts: {why}"),
            };

            return Err(Error::new(foreign(code), message));
        };

        let of = match cause.retry() {
            Retry::AfterTheLimit => String::new(),
            _ => format!(" of {}", policy.attempts()),
        };

        let (count, wait_s) = (policy.count(), wait.as_secs());
        let message = format!("attempt {count}{of} failed: {why}; the next one in {wait_s} s");
        self.say(&message);
        Ok(self.supervisor.pause(wait))
    }

    /// Makes Steam's client library available to servers, as far as this steamcmd has it.
    pub(super) fn provide_library(&mut self, needed: Needed) -> Result<()> {
        let home = self.root.join("steam");
        client_library::provide(self.supervisor, &home, &self.program, needed)
    }

    /// A line of the runner itself.
    pub(super) fn say(&mut self, line: &str) {
        self.supervisor.write_line(Stream::Stderr, line);
    }

    /// How much disk space is free, and where.
    fn free_space(&self) -> String {
        let directory = &self.installation.directory;
        let disk = statvfs(directory).or_else(|_| statvfs(self.root));
        let free = disk.map_or_else(
            |errno| errno.desc().to_owned(),
            |disk| {
                let bytes = disk.blocks_available().saturating_mul(disk.fragment_size());
                format!("{} MiB free", bytes / (1024 * 1024))
            },
        );

        format!("{free} in {}", directory.display())
    }
}

/// Whether `outcome` forbids to start anything more.
pub(super) fn ended(outcome: Outcome) -> bool {
    outcome.ended_by != EndedBy::Exit || outcome.tree == Tree::Left
}

/// A failing steamcmd's own code; 1 where that is 0 or no exit code.
fn foreign(code: i32) -> Exit {
    match u8::try_from(code) {
        Ok(0) | Err(_) => Exit::Failed,
        Ok(code) => Exit::Foreign(code),
    }
}

fn check_executable(steamcmd: &Path) -> Result<()> {
    let why = match fs::metadata(steamcmd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist",
        Err(_) => "cannot be accessed",
        Ok(found) if !found.is_file() => "is not a file",
        Ok(_) if access(steamcmd, AccessFlags::X_OK).is_err() => "is not executable",
        Ok(_) => return Ok(()),
    };

    let path = steamcmd.display();
    Err(Error::unavailable(format!(
        "steamcmd: {path} {why}: install it there or set LEFT4ME_STEAMCMD"
    )))
}

/// The result of [`lock`].
enum Locking {
    Acquired(Flock<File>),
    /// The request was cancelled during the wait.
    Cancelled(Outcome),
}

/// Takes the lock for one steamcmd at a time: two of the same user damage each other's state. After
/// the death of a worker its steamcmd may still be ending; this waits for it, up to `limit`.
fn lock(supervisor: &mut Supervisor, root: &Path, limit: Duration) -> Result<Locking> {
    let path = root.join("steam/.left4me-install.lock");
    // steamcmd can replace the file: to wait for a FIFO would block this process and the queue.
    let flags = files::NO_FOLLOW.bits();
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .custom_flags(flags)
        .open(&path)?;
    let file = untrusted_file::require_regular(file.into_parts().0);
    let mut file = file.map_err(|error| Error::from(error).within(path.display()))?;

    let until = Instant::now() + limit;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Locking::Acquired(lock)),
            Err((file, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < until => file,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let path = path.display();
                return Err(Error::conflict(format!(
                    "another installation is under way: it holds {path}"
                )));
            }
            Err((_, errno)) => {
                let path = path.display();
                return Err(Error::failed(format!(
                    "cannot lock {path}: {}",
                    errno.desc()
                )));
            }
        };

        if let Some(outcome) = supervisor.pause(LOCK_PAUSE) {
            return Ok(Locking::Cancelled(outcome));
        }
    }
}
