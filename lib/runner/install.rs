//! The verb `install`: steamcmd on a terminal, the first time a windows pass before the linux pass, again where that may
//! help, and success only when it says so and the manifest proves it.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::game::Game;
use super::tries::Tries;
use super::{Settings, account, client};
use crate::base::overlay_check::Checked;
use crate::base::{Error, Exit, Result, files, filesystem, untrusted_file};
use crate::domain::steam::{self, Cause, Failure, Heard, Pass, Retry, Success, Verdict, after};
use crate::process::{self, Outcome, Silence, Spec, Stage, Terminal, mounts};
use crate::wire::{EndedBy, LINE_LIMIT, Stream, Tree};

/// One installation.
struct Install<'a> {
    stage: &'a mut Stage,
    root: &'a Path,
    game: Game,
    steamcmd: PathBuf,
    /// The Steam account; none for the anonymous one.
    account: Option<String>,
    /// How long steamcmd may be silent.
    silence: Duration,
}

/// What one attempt came to.
enum Attempt {
    Installed(u64),
    /// Somebody asked for the end, or something is left that cannot be ended.
    Ended(Outcome),
    Failed(Failure, i32),
}

/// How much longer than the grace a dying steamcmd may hold the lock.
const LOCK_MARGIN: Duration = Duration::from_secs(6);
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// What steamcmd ends with to be started again, when it has updated itself. Its script does that; the program alone does not.
const RESTART: i32 = 42;
/// How often that is believed in one pass.
const RESTARTS: u32 = 2;

/// Installs or updates the game in ROOT/installation.
///
/// # Errors
/// Exit 69 without steamcmd, 4 while an overlay is mounted or another steamcmd runs; steamcmd's own code, or 1, when
/// no attempt succeeded.
pub(super) fn run(stage: &mut Stage, settings: &Settings) -> Result<Outcome> {
    let root = settings.paths.root.as_path();
    let named = steam::account(&settings.steam.steam_account).map_err(Error::usage)?.map(str::to_owned);
    let steamcmd = settings.place.steamcmd.clone().unwrap_or_else(|| root.join("steam/steamcmd.sh"));
    executable(&steamcmd)?;
    let _lock = match lock(stage, root, settings.grace.duration() + LOCK_MARGIN)? {
        Turn::Mine(lock) => lock,
        Turn::Ended(outcome) => return Ok(outcome),
    };
    refuse_while_mounted(root)?;
    refuse_without_overlays(stage, root)?;

    let game = Game { directory: root.join("installation") };
    let silence = Duration::from_secs(settings.steam.steam_silence_seconds.into());
    if named.is_some() {
        account::close(&root.join("steam"))?;
    }
    let mut install = Install { stage, root, game, steamcmd, account: named, silence };
    let base = Duration::from_secs(settings.steam.steam_retry_seconds.into());
    let limit = Duration::from_secs(settings.steam.steam_rate_limit_seconds.into());
    let outcome = install.tries(Tries::new(base, limit));

    // A windows pass that did nothing has left the Linux server as it was.
    if install.game.is_unfinished() {
        if install.game.prove().is_ok() {
            install.game.mark_finished()?;
        } else {
            let words = "a windows pass came without a linux pass after it: no server starts over Windows files; \
                         install again once the cause above is mended";
            install.stage.say(Stream::Stderr, words);
        }
    }
    outcome
}

/// A game that no server could start is not worth some 9 GB. left4me-overlay-check.service ran just before this program;
/// where it could not, the file system's type has to do.
fn refuse_without_overlays(stage: &mut Stage, root: &Path) -> Result<()> {
    let why = match Checked::recent(root) {
        Some(checked) => {
            if let Some(words) = checked.limits() {
                stage.say(Stream::Stderr, &format!("{words}; `sudo left4me doctor` says what to do"));
            }
            checked.refusal()
        }
        None => filesystem::unfit(&root.join("installation"))
            .map(|kind| format!("{} is on {kind}, where no server's overlay can be mounted", root.display())),
    };
    let refused = |why| Error::failed(format!("nothing was downloaded: {why}; `sudo left4me doctor` says what to do"));
    why.map_or(Ok(()), |why| Err(refused(why)))
}

impl Install<'_> {
    /// Tries until one succeeds or none may.
    fn tries(&mut self, mut tries: Tries) -> Result<Outcome> {
        let mut from = if self.game.is_begun() { Pass::Linux } else { Pass::Prime };
        loop {
            let (failure, code) = match self.attempt(from)? {
                Attempt::Installed(build) => {
                    self.game.mark_finished()?;
                    client::link(self.stage, &self.root.join("steam"), &self.steamcmd)?;
                    let words = format!("installed: build {build} in {}", self.game.directory.display());
                    self.stage.say(Stream::Stderr, &words);
                    return Ok(Outcome::exit(0));
                }
                Attempt::Ended(outcome) => return Ok(outcome),
                Attempt::Failed(failure, code) => (failure, code),
            };
            let why = self.sentence(&failure);
            let Some(wait) = tries.failed(failure.cause) else {
                let words = match tries.count() {
                    1 => why,
                    count => format!("given up after {count} attempts: {why}"),
                };
                return Err(Error::new(foreign(code), words));
            };
            if failure.cause == Cause::Corrupt {
                self.clear()?;
            }
            let limited = failure.cause.retry() == Retry::AfterTheLimit;
            let most = if limited { String::new() } else { format!(" of {}", steam::ATTEMPTS) };
            let words = format!("attempt {}{most} failed: {why}; the next one in {} s", tries.count(), wait.as_secs());
            self.stage.say(Stream::Stderr, &words);
            from = failure.from;
            if let Some(outcome) = self.stage.pause(wait) {
                return Ok(outcome);
            }
        }
    }

    /// The cause, what to do about it, and steamcmd's own words.
    fn sentence(&self, failure: &Failure) -> String {
        let advice = failure.cause.advice(self.account.is_some());
        let meaning = match failure.cause {
            Cause::DiskFull => format!("the disk is full: {}", self.room()),
            cause => cause.meaning().to_owned(),
        };
        format!("{meaning}: {advice} ({})", failure.detail)
    }

    /// The passes from `from` on, then the proof.
    fn attempt(&mut self, from: Pass) -> Result<Attempt> {
        let mut is_new = false;
        for &pass in from.and_later() {
            if pass == Pass::Windows && from == Pass::Prime && self.game.is_begun() {
                // What is a Linux server stays one, unless Steam insists.
                continue;
            }
            let before = self.game.stamp();
            let (outcome, heard) = match self.guarded(pass)? {
                (outcome, _) if ended(outcome) => return Ok(Attempt::Ended(outcome)),
                ran => ran,
            };
            match after(pass, outcome.code, &heard) {
                Verdict::Good(success) => {
                    is_new = success == Some(Success::UpToDate) || self.game.stamp() != before;
                    if success.is_some() && outcome.code != 0 {
                        let words =
                            format!("{pass}: exit code {} after its success; the manifest decides", outcome.code);
                        self.stage.say(Stream::Stderr, &words);
                    }
                }
                Verdict::Failed(failure) => return Ok(Attempt::Failed(failure, outcome.code)),
            }
        }
        let proven = self.game.prove().and_then(|build| match is_new {
            true => Ok(build),
            false => Err(format!("{} is older than this run", self.game.manifest().display())),
        });
        Ok(match proven {
            Ok(build) => Attempt::Installed(build),
            Err(detail) => Attempt::Failed(Failure { cause: Cause::NoProof, detail, from: Pass::Linux }, 1),
        })
    }

    /// One pass. While Windows files may lie in the installation, that is written down there; a windows pass that came
    /// to nothing has changed nothing.
    fn guarded(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let is_new = pass == Pass::Windows && self.game.mark_unfinished()?;
        let before = is_new.then(|| self.game.work());
        let ran = self.pass(pass)?;
        if before.is_some_and(|before| self.game.work() == before) {
            self.game.mark_finished()?;
        }
        Ok(ran)
    }

    /// One run of steamcmd, or more where it updates itself.
    fn pass(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let mut ran = self.steamcmd(pass)?;
        for _ in 0..RESTARTS {
            if ended(ran.0) || ran.0.code != RESTART || ran.1 != Heard::default() {
                break;
            }
            ran = self.steamcmd(pass)?;
        }
        Ok(ran)
    }

    /// One run of steamcmd, each line passed on.
    fn steamcmd(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let home = self.root.join("steam");
        let mut argv = vec![self.steamcmd.clone().into_os_string()];
        argv.extend(pass.arguments(&self.game.directory, self.account.as_deref()));
        let environment = [
            ("HOME", home.as_os_str()),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ref()),
            ("LANG", "C.UTF-8".as_ref()),
            ("TERM", "dumb".as_ref()),
        ];
        let spec = Spec {
            argv,
            env: environment.iter().map(|(name, value)| (name.into(), (*value).to_owned())).collect(),
            cwd: home.clone(),
            terminal: Terminal::Pty,
            first_signal: Signal::SIGTERM,
            line_limit: LINE_LIMIT,
        };
        let mut heard = Heard::default();
        let game = &self.game;
        let silence = Silence { limit: self.silence, work: &mut || game.work() };
        let ran = self.stage.run_watched(&spec, silence, &mut |_, line| {
            heard.line(line);
            process::Pass::On
        });
        let (mut outcome, hung) = ran.map_err(|error| Error::unavailable(format!("{error}; set LEFT4ME_STEAMCMD")))?;
        if hung && outcome.tree == Tree::Empty {
            heard.hung(self.silence.as_secs());
            // For what follows it ended by itself: nobody asked for the end of the installation.
            outcome.ended_by = EndedBy::Exit;
        }
        Ok((outcome, heard))
    }

    /// How much room there is, and where.
    fn room(&self) -> String {
        let directory = &self.game.directory;
        let free = statvfs(directory).or_else(|_| statvfs(self.root)).map_or_else(
            |errno| errno.desc().to_owned(),
            |disk| format!("{} MiB free", disk.blocks_available().saturating_mul(disk.fragment_size()) / (1024 * 1024)),
        );
        format!("{free} in {}", directory.display())
    }

    /// Removes what steamcmd would go on with.
    fn clear(&mut self) -> Result<()> {
        for name in ["downloading", "temp"] {
            let path = self.game.directory.join("steamapps").join(name);
            match fs::remove_dir_all(&path) {
                Ok(()) => self.stage.say(Stream::Stderr, &format!("removed {}", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether nothing more may be started after `outcome`.
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

fn executable(steamcmd: &Path) -> Result<()> {
    let why = match fs::metadata(steamcmd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist",
        Err(_) => "cannot be looked at",
        Ok(found) if !found.is_file() => "is not a file",
        Ok(_) if access(steamcmd, AccessFlags::X_OK).is_err() => "is not executable",
        Ok(_) => return Ok(()),
    };
    Err(Error::unavailable(format!("steamcmd: {} {why}: install it there or set LEFT4ME_STEAMCMD", steamcmd.display())))
}

/// Whose turn it is.
enum Turn {
    Mine(Flock<File>),
    /// The client went away, or had us end, while we waited.
    Ended(Outcome),
}

/// One steamcmd at a time per user: two of them damage each other's state. The one before may still be ending, when its
/// worker died: so long this one waits.
fn lock(stage: &mut Stage, root: &Path, patience: Duration) -> Result<Turn> {
    let path = root.join("steam/.left4me-install.lock");
    // steamcmd can exchange it: a FIFO that is waited for would hold this process and the queue.
    let flags = files::NO_FOLLOW.bits();
    let file = fs::OpenOptions::new().create(true).append(true).custom_flags(flags).open(&path)?.into_parts().0;
    let mut file = untrusted_file::require_regular(file).map_err(|error| Error::from(error).within(path.display()))?;
    let until = Instant::now() + patience;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Turn::Mine(lock)),
            Err((file, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < until => file,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let words = format!("another installation is under way: it holds {}", path.display());
                return Err(Error::conflict(words));
            }
            Err((_, errno)) => {
                return Err(Error::failed(format!("cannot lock {}: {}", path.display(), errno.desc())));
            }
        };
        if let Some(outcome) = stage.pause(LOCK_PAUSE) {
            return Ok(Turn::Ended(outcome));
        }
    }
}

/// Changing a lower layer under a mounted overlay is undefined in the kernel's own words.
fn refuse_while_mounted(root: &Path) -> Result<()> {
    // The kernel tells mount points without symbolic links.
    let runtime = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()).join("runtime");
    let instance = |mount: mounts::Mount| {
        let below = mount.point.strip_prefix(&runtime).ok()?.as_os_str().as_bytes();
        let name = below.strip_suffix(b"/merged")?;
        (mount.kind == "overlay").then(|| String::from_utf8_lossy(name).into_owned())
    };
    let mut mounted: Vec<String> = mounts::all()?.into_iter().filter_map(instance).collect();
    mounted.dedup();
    if mounted.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(format!("the game is in use by server {}: stop it first, or use update", mounted.join(", "))))
}
