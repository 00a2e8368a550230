//! One worker per file: a flock beside the database. The kernel lets it go when the worker dies, however it dies.

use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::base::{Error, Result, files};

/// The lock, held until it is dropped.
pub struct Lock {
    _file: Flock<std::fs::File>,
}

/// Takes the lock of the database at `path`.
///
/// # Errors
/// 4 when another worker has it, with its pid.
pub fn take(path: &Path) -> Result<Lock> {
    let mut name = path.as_os_str().to_owned();
    name.push("-worker.lock");
    let file = files::open_shared(Path::new(&name))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            // The pid is only for the message of whoever comes second.
            let written =
                file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
            if let Err(error) = written {
                tracing::debug!(%error, "the lock file does not take our pid");
            }
            Ok(Lock { _file: file })
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let whose = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => format!(" (pid {pid})"),
                _ => String::new(),
            };
            Err(Error::conflict(format!("another worker{whose} serves {} already; this one leaves", path.display())))
        }
        Err((_, error)) => Err(Error::from(std::io::Error::from(error)).within("the worker's lock")),
    }
}
