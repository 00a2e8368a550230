//! The verb `install`: steamcmd on a terminal, first a windows pass, then a linux pass, again where that may help, and
//! success only when the manifest proves it.

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

use super::Settings;
use crate::base::{Error, Exit, Result, files, plain};
use crate::domain::steam::{ATTEMPTS, Heard, MANIFEST_LIMIT, Pass, Staging, Verdict, after, prove};
use crate::process::{self, Outcome, Spec, Stage, Terminal, mounts};
use crate::wire::{EndedBy, LINE_LIMIT, Stream, Tree};

/// One installation.
struct Install<'a> {
    stage: &'a mut Stage,
    root: &'a Path,
    steamcmd: PathBuf,
}

/// What one attempt came to.
enum Attempt {
    Installed(u64),
    /// Somebody asked for the end, or something is left that cannot be ended.
    Ended(Outcome),
    Failed {
        why: String,
        code: i32,
        from: Pass,
        staging: Staging,
    },
    GivenUp(Error),
}

/// How much longer than the grace a dying steamcmd may hold the lock.
const LOCK_MARGIN: Duration = Duration::from_secs(6);
/// What proves an installation.
const MANIFEST: &str = "appmanifest_222860.acf";
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Installs or updates the game in ROOT/installation.
///
/// # Errors
/// Exit 69 without steamcmd, 4 while an overlay is mounted or another steamcmd runs; steamcmd's own code, or 1, when
/// every attempt failed.
pub(super) fn run(stage: &mut Stage, settings: &Settings) -> Result<Outcome> {
    let root = settings.paths.root.as_path();
    let steamcmd = settings.steamcmd.clone().unwrap_or_else(|| root.join("steam/steamcmd.sh"));
    executable(&steamcmd)?;
    let _lock = match lock(stage, root, settings.grace.duration() + LOCK_MARGIN)? {
        Turn::Mine(lock) => lock,
        Turn::Ended(outcome) => return Ok(outcome),
    };
    refuse_while_mounted(root)?;
    let mut install = Install { stage, root, steamcmd };
    let (first, _) = install.steamcmd(Pass::Prime)?;
    if ended(first) {
        return Ok(first);
    }
    let mut from = Pass::Windows;
    for attempt in 1.. {
        let (why, code) = match install.attempt(from)? {
            Attempt::Installed(build) => {
                install.link_libraries()?;
                install
                    .stage
                    .say(Stream::Stderr, &format!("installed: build {build} in {}", install.directory().display()));
                return Ok(Outcome::exit(0));
            }
            Attempt::Ended(outcome) => return Ok(outcome),
            Attempt::GivenUp(error) => return Err(error),
            Attempt::Failed { why, code, from: next, staging } => {
                install.clear(staging)?;
                from = next;
                (why, code)
            }
        };
        if attempt == ATTEMPTS {
            return Err(Error::new(foreign(code), format!("given up after {ATTEMPTS} attempts: {why}")));
        }
        let wait = Duration::from_secs(settings.steam_retry_seconds.into());
        let words = format!("attempt {attempt} of {ATTEMPTS} failed: {why}; the next one in {} s", wait.as_secs());
        install.stage.say(Stream::Stderr, &words);
        if let Some(outcome) = install.stage.pause(wait) {
            return Ok(outcome);
        }
    }
    Err(Error::failed("no attempt was made"))
}

impl Install<'_> {
    fn directory(&self) -> PathBuf {
        self.root.join("installation")
    }

    /// The passes from `from` on, then the proof.
    fn attempt(&mut self, from: Pass) -> Result<Attempt> {
        for pass in [Pass::Windows, Pass::Linux] {
            if (from, pass) == (Pass::Linux, Pass::Windows) {
                continue;
            }
            let (outcome, heard) = self.steamcmd(pass)?;
            if ended(outcome) {
                return Ok(Attempt::Ended(outcome));
            }
            match after(pass, outcome.code, &heard) {
                Verdict::Good => {}
                Verdict::Again { why, from, staging } => {
                    return Ok(Attempt::Failed { why, code: outcome.code, from, staging });
                }
                Verdict::DiskFull { why } => return Ok(Attempt::GivenUp(self.disk_full(&why, outcome.code))),
            }
        }
        let manifest = self.directory().join("steamapps").join(MANIFEST);
        Ok(match read_manifest(&self.directory()).and_then(|text| prove(&text)) {
            Ok(build) => Attempt::Installed(build),
            Err(why) => Attempt::Failed {
                why: format!("steamcmd reports success, but {} does not prove it: {why}", manifest.display()),
                code: 1,
                from: Pass::Windows,
                staging: Staging::Keep,
            },
        })
    }

    /// One run of steamcmd, each line passed on.
    fn steamcmd(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let home = self.root.join("steam");
        let mut argv = vec![self.steamcmd.clone().into_os_string()];
        argv.extend(pass.arguments(&self.directory()));
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
        let outcome = self.stage.run(&spec, &mut |_, line| {
            heard.line(line);
            process::Pass::On
        });
        let outcome = outcome.map_err(|error| Error::unavailable(format!("{error}; set LEFT4ME_STEAMCMD")))?;
        Ok((outcome, heard))
    }

    fn disk_full(&self, why: &str, code: i32) -> Error {
        let directory = self.directory();
        let free = statvfs(&directory).or_else(|_| statvfs(self.root)).map_or_else(
            |errno| errno.desc().to_owned(),
            |disk| format!("{} MiB free", disk.blocks_available().saturating_mul(disk.fragment_size()) / (1024 * 1024)),
        );
        Error::new(foreign(code), format!("no room in {} ({free}): make room there; {why}", directory.display()))
    }

    /// Removes what steamcmd would go on with.
    fn clear(&mut self, staging: Staging) -> Result<()> {
        if staging == Staging::Keep {
            return Ok(());
        }
        for name in ["downloading", "temp"] {
            let path = self.directory().join("steamapps").join(name);
            match fs::remove_dir_all(&path) {
                Ok(()) => self.stage.say(Stream::Stderr, &format!("removed {}", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The server looks for Steam's client library below $HOME/.steam; without it, it never reaches the master list.
    fn link_libraries(&mut self) -> Result<()> {
        let steam = self.root.join("steam");
        fs::create_dir_all(steam.join(".steam"))?;
        for (name, directory) in [("sdk32", "linux32"), ("sdk64", "linux64")] {
            let (link, target) = (steam.join(".steam").join(name), steam.join(directory));
            match fs::read_link(&link) {
                Ok(found) if found == target => continue,
                Ok(_) => fs::remove_file(&link)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    self.stage.say(Stream::Stderr, &format!("{} is no link: left as it is", link.display()));
                    continue;
                }
            }
            fs::os::unix::fs::symlink(&target, &link)?;
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
    let flags = files::SAFELY.bits();
    let file = fs::OpenOptions::new().create(true).append(true).custom_flags(flags).open(&path)?.into_parts().0;
    let mut file = plain::regular(file).map_err(|error| Error::from(error).within(path.display()))?;
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

fn read_manifest(installation: &Path) -> Result<String, String> {
    let read = plain::read(installation, &["steamapps", MANIFEST], MANIFEST_LIMIT.saturating_add(1));
    let bytes = read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        _ => error.to_string(),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
