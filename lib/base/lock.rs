//! A flock beside the database, so that at most one worker and one poller run per database; and one of
//! a directory. The kernel releases it when the holder dies, however it dies.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::base::{Error, Result, files};

/// Time between two attempts to take a lock that is held.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A lock, held until dropped.
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock of `role` for the database at `path`.
///
/// Fails with the holder's pid if the lock is held.
pub fn take(path: &Path, role: &str) -> Result<Lock> {
    wait(path, role, Duration::ZERO)
}

/// As [`take`], but waits up to `timeout` for the holder.
///
/// Fails with the holder's pid if the lock is still held.
pub fn wait(path: &Path, role: &str, timeout: Duration) -> Result<Lock> {
    let lock_path = file_of(path, role);
    let mut file =
        files::open_shared(&lock_path).map_err(|error| unusable(&lock_path, role, error))?;
    let deadline = Instant::now() + timeout;

    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                return Ok(Lock {
                    _file: with_pid(lock),
                });
            }
            Err((taken, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = taken,
            Err((taken, Errno::EWOULDBLOCK)) => return Err(busy(path, role, taken)),
            Err((_, error)) => {
                return Err(
                    Error::from(std::io::Error::from(error)).within(format!("the {role}'s lock"))
                );
            }
        }

        std::thread::park_timeout(RETRY_INTERVAL);
    }
}

/// Explains that the lock file is not ours.
fn unusable(lock_path: &Path, role: &str, error: std::io::Error) -> Error {
    if error.kind() != ErrorKind::InvalidInput {
        return error.into();
    }
    Error::unavailable(format!(
        "the {role}'s lock {} cannot be used: {error}; remove it",
        lock_path.display()
    ))
}

/// Waits for the lock of a directory (flock(2) on itself), which several programs change.
///
/// Fails with the directory's name when it cannot be opened.
pub fn directory(path: &Path) -> Result<Flock<File>> {
    let failed = |error: std::io::Error| Error::from(error).within(path.display());
    let opened = File::open(path).map_err(failed)?;
    Flock::lock(opened, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
}

fn file_of(path: &Path, role: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("-{role}.lock"));
    PathBuf::from(name)
}

/// Whether the lock of `role` is held. It is read from /proc/locks, because an attempt to take the
/// lock would hold it for a moment, and a worker that starts in that moment would exit. None if it
/// is unknown.
pub fn is_held(path: &Path, role: &str) -> Option<bool> {
    let inode = match fs_err::symlink_metadata(file_of(path, role)) {
        Ok(file) => file.ino(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    let locks = fs_err::read_to_string("/proc/locks").ok()?;
    Some(locks.lines().any(|line| is_flock_on(line, inode)))
}

/// A line is `3: FLOCK  ADVISORY  WRITE 1234 08:02:10044015 0 EOF`, or `3: -> FLOCK …` for a
/// waiter. The device is not compared: on btrfs and overlayfs it differs from stat's.
fn is_flock_on(line: &str, inode: u64) -> bool {
    let mut words = line.split_whitespace().skip(1);
    words.next() == Some("FLOCK")
        && words
            .nth(3)
            .and_then(|place| place.rsplit(':').next())
            .and_then(|number| number.parse().ok())
            == Some(inode)
}

/// Writes our pid into the lock file, for the message of the next process.
fn with_pid(mut file: Flock<File>) -> Flock<File> {
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::debug!(%error, "cannot write the pid to the lock file");
    }
    file
}

fn busy(path: &Path, role: &str, mut file: File) -> Error {
    let mut pid = String::new();
    let holder = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!(" (pid {pid})")
        }
        _ => String::new(),
    };

    Error::conflict(format!(
        "another {role}{holder} serves {} already; this one exits",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_from_take_to_drop_and_checking_does_not_take_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        assert_eq!(
            is_held(&path, "worker"),
            Some(false),
            "there is no lock file yet"
        );

        let lock = take(&path, "worker").unwrap();
        assert_eq!(is_held(&path, "worker"), Some(true));
        assert_eq!(is_held(&path, "poller"), Some(false));

        drop(lock);
        assert_eq!(is_held(&path, "worker"), Some(false));
        assert!(take(&path, "worker").is_ok());
    }

    #[test]
    fn a_link_or_fifo_as_lock_file_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("x.db-worker.lock")).unwrap();
        nix::unistd::mkfifo(
            &dir.path().join("x.db-poller.lock"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();

        for role in ["worker", "poller"] {
            let error = take(&path, role).err().expect("refused");
            assert_eq!(error.exit.code(), 69);
            assert!(
                error.to_string().contains(&format!("x.db-{role}.lock")),
                "{error}"
            );
        }
    }

    #[test]
    fn only_a_granted_flock_counts() {
        assert!(is_flock_on(
            "1: FLOCK  ADVISORY  WRITE 26541 fe:00:10044015 0 EOF",
            10_044_015
        ));

        assert!(!is_flock_on(
            "1: FLOCK  ADVISORY  WRITE 26541 fe:00:10044015 0 EOF",
            44_015
        ));

        assert!(!is_flock_on(
            "1: -> FLOCK  ADVISORY  WRITE 26541 fe:00:10044015 0 EOF",
            10_044_015
        ));

        assert!(!is_flock_on(
            "2: POSIX  ADVISORY  WRITE 1 fe:00:10044015 0 EOF",
            10_044_015
        ));

        assert!(!is_flock_on("", 0) && !is_flock_on("1: FLOCK", 0));
    }
}
