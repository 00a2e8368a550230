//! The verb `install`: runs steamcmd on a terminal, the first time with a windows pass before the
//! linux pass. It retries where that may help, and succeeds only when steamcmd reports success and
//! the manifest confirms it.

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

use super::installation::Installation;
use super::retry::RetryPolicy;
use super::{RunnerSettings, account, client_library};
use crate::base::names::InstanceName;
use crate::base::overlay_check::Checked;
use crate::base::{Error, Exit, Result, files, filesystem, untrusted_file};
use crate::domain::steam::{self, Cause, Failure, Heard, Pass, Retry, Success, Verdict, after};
use crate::process::{self, Outcome, Silence, Spec, Supervisor, Terminal, overlay_mounts};
use crate::wire::{EndedBy, LINE_LIMIT, Stream, Tree};

struct Install<'a> {
    supervisor: &'a mut Supervisor,
    root: &'a Path,
    installation: Installation,
    steamcmd: PathBuf,
    /// The Steam account; none for the anonymous one.
    account: Option<String>,
    /// How long steamcmd may be silent.
    silence: Duration,
}

/// The result of one attempt.
enum Attempt {
    Installed(u64),
    /// The request was cancelled, or a process is left that cannot be killed.
    Cancelled(Outcome),
    Failed(Failure, i32),
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

/// Installs or updates the game in ROOT/installation.
///
/// Fails if steamcmd is missing, an overlay is mounted, another steamcmd runs, or every attempt
/// failed; the last one has steamcmd's own exit code, or 1.
pub(super) fn run(supervisor: &mut Supervisor, settings: &RunnerSettings) -> Result<Outcome> {
    let root = settings.paths.root.as_path();
    let account = steam::account(&settings.steam.steam_account).map_err(Error::usage)?;
    let steamcmd = settings
        .place
        .steamcmd
        .clone()
        .unwrap_or_else(|| root.join("steam/steamcmd.sh"));
    check_executable(&steamcmd)?;

    let _lock = match lock(supervisor, root, settings.grace.duration() + LOCK_MARGIN)? {
        Locking::Acquired(lock) => lock,
        Locking::Cancelled(outcome) => return Ok(outcome),
    };

    refuse_while_mounted(root)?;
    refuse_without_overlays(supervisor, root)?;

    let installation = Installation {
        directory: root.join("installation"),
    };
    let silence = Duration::from_secs(settings.steam.steam_silence_seconds.into());
    if account.is_some() {
        account::make_private(&root.join("steam"))?;
    }

    let account = account.map(str::to_owned);
    let mut install = Install {
        supervisor,
        root,
        installation,
        steamcmd,
        account,
        silence,
    };

    let base = Duration::from_secs(settings.steam.steam_retry_seconds.into());
    let limit = Duration::from_secs(settings.steam.steam_rate_limit_seconds.into());
    let outcome = install.retry(RetryPolicy::new(base, limit));

    // A windows pass that changed nothing has left the Linux server intact.
    if install.installation.is_unfinished() {
        if install.installation.verify().is_ok() {
            install.installation.mark_finished()?;
        } else {
            let warning = "no linux pass followed the windows pass, and no server starts with \
                           Windows files: correct the cause above, then install again";
            install.supervisor.write_line(Stream::Stderr, warning);
        }
    }

    outcome
}

/// A game that no server could start is not worth some 9 GB. left4me-overlay-check.service ran just
/// before this program; where it could not, the file system's type has to do.
fn refuse_without_overlays(supervisor: &mut Supervisor, root: &Path) -> Result<()> {
    let why = match Checked::recent(root) {
        Some(checked) => {
            if let Some(message) = checked.limits() {
                supervisor.write_line(
                    Stream::Stderr,
                    &format!("{message}; `sudo left4me doctor` says what to do"),
                );
            }

            checked.refusal()
        }
        None => filesystem::unfit(&root.join("installation")).map(|kind| {
            format!(
                "{} is on {kind}, where no server's overlay can be mounted",
                root.display()
            )
        }),
    };

    let refused = |why| {
        Error::failed(format!(
            "nothing was downloaded: {why}; `sudo left4me doctor` says what to do"
        ))
    };

    why.map_or(Ok(()), |why| Err(refused(why)))
}

impl Install<'_> {
    /// Attempts the installation until it succeeds or the policy allows no retry.
    fn retry(&mut self, mut policy: RetryPolicy) -> Result<Outcome> {
        let mut from = if self.installation.is_begun() {
            Pass::Linux
        } else {
            Pass::Prime
        };

        loop {
            let (failure, code) = match self.attempt(from)? {
                Attempt::Installed(build) => {
                    self.installation.mark_finished()?;
                    client_library::link(
                        self.supervisor,
                        &self.root.join("steam"),
                        &self.steamcmd,
                    )?;

                    let directory = self.installation.directory.display();
                    let message = format!("installed: build {build} in {directory}");
                    self.supervisor.write_line(Stream::Stderr, &message);
                    return Ok(Outcome::exit(0));
                }
                Attempt::Cancelled(outcome) => return Ok(outcome),
                Attempt::Failed(failure, code) => (failure, code),
            };

            let why = self.explain(&failure);
            let Some(wait) = policy.failed(failure.cause) else {
                let message = match policy.count() {
                    1 => why,
                    count => format!("given up after {count} attempts: {why}"),
                };

                return Err(Error::new(foreign(code), message));
            };

            if failure.cause == Cause::Corrupt {
                self.clear()?;
            }
            let limited = failure.cause.retry() == Retry::AfterTheLimit;
            let of = if limited {
                String::new()
            } else {
                format!(" of {}", steam::ATTEMPTS)
            };

            let (count, wait_s) = (policy.count(), wait.as_secs());
            let message = format!("attempt {count}{of} failed: {why}; the next one in {wait_s} s");
            self.supervisor.write_line(Stream::Stderr, &message);

            from = failure.from;
            if let Some(outcome) = self.supervisor.pause(wait) {
                return Ok(outcome);
            }
        }
    }

    /// The cause, what to do about it, and steamcmd's own message.
    fn explain(&self, failure: &Failure) -> String {
        let advice = failure.cause.advice(self.account.is_some());
        let meaning = match failure.cause {
            Cause::DiskFull => format!("the disk is full: {}", self.free_space()),
            cause => cause.meaning().to_owned(),
        };
        format!("{meaning}: {advice} ({})", failure.detail)
    }

    /// Runs the passes from `from` on, then verifies the installation.
    fn attempt(&mut self, from: Pass) -> Result<Attempt> {
        let mut is_new = false;
        for &pass in from.and_later() {
            if pass == Pass::Windows && from == Pass::Prime && self.installation.is_begun() {
                // A Linux server gets no Windows files, unless Steam insists.
                continue;
            }

            let before = self.installation.stamp();
            let (outcome, heard) = match self.marked_pass(pass)? {
                (outcome, _) if ended(outcome) => return Ok(Attempt::Cancelled(outcome)),
                result => result,
            };

            match after(pass, outcome.code, &heard) {
                Verdict::Good(success) => {
                    let changed = self.installation.stamp() != before;
                    is_new = success == Some(Success::UpToDate) || changed;
                    if success.is_some() && outcome.code != 0 {
                        let code = outcome.code;
                        let message = format!(
                            "{pass}: exit code {code} after its success; the manifest decides"
                        );
                        self.supervisor.write_line(Stream::Stderr, &message);
                    }
                }
                Verdict::Failed(failure) => return Ok(Attempt::Failed(failure, outcome.code)),
            }
        }

        let verified = self.installation.verify().and_then(|build| match is_new {
            true => Ok(build),
            false => Err(format!(
                "{} is older than this run",
                self.installation.manifest().display()
            )),
        });

        Ok(match verified {
            Ok(build) => Attempt::Installed(build),
            Err(detail) => {
                let failure = Failure {
                    cause: Cause::NoProof,
                    detail,
                    from: Pass::Linux,
                };

                Attempt::Failed(failure, 1)
            }
        })
    }

    /// One pass. A mark says that Windows files may be in the installation; a windows pass that
    /// changed nothing removes it.
    fn marked_pass(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let is_new = pass == Pass::Windows && self.installation.mark_unfinished()?;
        let before = is_new.then(|| self.installation.change_sum());

        let result = self.pass(pass)?;
        if before.is_some_and(|before| self.installation.change_sum() == before) {
            self.installation.mark_finished()?;
        }
        Ok(result)
    }

    /// One run of steamcmd, or more when it updates itself.
    fn pass(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let mut result = self.steamcmd(pass)?;
        for _ in 0..RESTARTS {
            if ended(result.0) || result.0.code != RESTART || result.1 != Heard::default() {
                break;
            }
            result = self.steamcmd(pass)?;
        }

        Ok(result)
    }

    /// One run of steamcmd. Relays each line.
    fn steamcmd(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let home = self.root.join("steam");
        let mut argv = vec![self.steamcmd.clone().into_os_string()];
        argv.extend(pass.arguments(&self.installation.directory, self.account.as_deref()));
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
            .map(|(name, value)| (name.into(), (*value).to_owned()));
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
            limit: self.silence,
            activity: &mut || installation.change_sum(),
        };

        let result = self.supervisor.run_watched(&spec, silence, &mut |_, line| {
            heard.line(line);
            process::Relay::AsIs
        });

        let (mut outcome, hung) =
            result.map_err(|error| Error::unavailable(format!("{error}; set LEFT4ME_STEAMCMD")))?;

        if hung && outcome.tree == Tree::Empty {
            heard.hung(self.silence.as_secs());
            // The retries treat it as a normal end: the installation itself was not cancelled.
            outcome.ended_by = EndedBy::Exit;
        }

        Ok((outcome, heard))
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

    /// Removes the partial downloads that steamcmd would resume.
    fn clear(&mut self) -> Result<()> {
        for name in ["downloading", "temp"] {
            let path = self.installation.directory.join("steamapps").join(name);
            match fs::remove_dir_all(&path) {
                Ok(()) => {
                    self.supervisor
                        .write_line(Stream::Stderr, &format!("removed {}", path.display()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }

        Ok(())
    }
}

/// Whether `outcome` forbids to start anything more.
fn ended(outcome: Outcome) -> bool {
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

/// Refuses while an overlay is mounted: changing the lower layer of a mounted overlay is undefined
/// behaviour (the kernel's overlayfs documentation).
fn refuse_while_mounted(root: &Path) -> Result<()> {
    let mounted = overlay_mounts::mounted(root)?;
    if mounted.is_empty() {
        return Ok(());
    }

    let names: Vec<&str> = mounted.iter().map(InstanceName::as_str).collect();
    Err(Error::conflict(format!(
        "the game is in use by server {}: stop it first, or use update",
        names.join(", ")
    )))
}
