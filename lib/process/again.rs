//! This same program once more, as another user: a program that root has started keeps root's rights for a descriptor
//! of its own, and whatever reads what others wrote has none of them.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid};

use crate::base::{Error, Result};

/// Runs this program with `arguments` as `user` and without supplementary groups. It inherits no environment and no
/// descriptor but standard error; its standard output is `output`. Gives its exit code; what it complained of stands on
/// standard error already.
///
/// # Errors
/// 1 when it cannot be started, or a signal ended it.
pub fn again_as(owner: (Uid, Gid), arguments: &[OsString], output: File) -> Result<u8> {
    run(owner, arguments, Stdio::null(), output.into())
}

/// As [`again_as`], but it reads `input`, and prints where this program does.
///
/// # Errors
/// As [`again_as`].
pub fn again_reading(owner: (Uid, Gid), arguments: &[OsString], input: Option<File>) -> Result<u8> {
    run(owner, arguments, input.map_or_else(Stdio::null, Stdio::from), Stdio::inherit())
}

fn run((user, group): (Uid, Gid), arguments: &[OsString], input: Stdio, output: Stdio) -> Result<u8> {
    #[expect(clippy::disallowed_methods, reason = "lib/process/ is the only place that spawns")]
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).env_clear().current_dir("/").stdin(input).stdout(output);
    // As root, the standard library takes the supplementary groups away before it changes the user.
    let status = command.uid(user.as_raw()).gid(group.as_raw()).status();
    let status = status.map_err(|error| Error::from(error).within(format!("running this as user id {user}")))?;
    status.code().and_then(|code| u8::try_from(code).ok()).ok_or_else(|| {
        let signal = status.signal().unwrap_or_default();
        Error::failed(format!("the part of it that ran as user id {user} was ended by signal {signal}"))
    })
}
