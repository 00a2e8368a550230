//! One worker, and one poller at a time, per file: a flock beside the database. The kernel lets it go when its holder
//! dies, however it dies.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::base::{Error, Result, files};

/// While another one holds the lock, it is tried this often.
const LOOK: Duration = Duration::from_millis(5);

/// The lock, held until it is dropped.
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock of `role` for the database at `path`.
///
/// # Errors
/// 4 when another one has it, with its pid.
pub fn take(path: &Path, role: &str) -> Result<Lock> {
    wait(path, role, Duration::ZERO)
}

/// As [`take`], but waits up to `patience` for another one to be done.
///
/// # Errors
/// 4 when another one has it still, with its pid.
pub fn wait(path: &Path, role: &str, patience: Duration) -> Result<Lock> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("-{role}.lock"));
    let mut file = files::open_shared(Path::new(&name))?;
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Lock { _file: signed(lock) }),
            Err((taken, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = taken,
            Err((taken, Errno::EWOULDBLOCK)) => return Err(busy(path, role, taken)),
            Err((_, error)) => {
                return Err(Error::from(std::io::Error::from(error)).within(format!("the {role}'s lock")));
            }
        }
        std::thread::park_timeout(LOOK);
    }
}

/// With our pid in it, for the message of whoever comes second.
fn signed(mut file: Flock<File>) -> Flock<File> {
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::debug!(%error, "the lock file does not take our pid");
    }
    file
}

fn busy(path: &Path, role: &str, mut file: File) -> Error {
    let mut pid = String::new();
    let whose = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => format!(" (pid {pid})"),
        _ => String::new(),
    };
    Error::conflict(format!("another {role}{whose} serves {} already; this one leaves", path.display()))
}
