//! Runs this same program again as another user. A program that root has started then keeps root's
//! rights only where it needs them: the part that reads other users' files has none.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid};

use crate::base::{Error, Result};

/// Runs this program with `arguments` as `owner`, without supplementary groups. It inherits no
/// environment, and no descriptor but standard error; its standard output is `output`. Returns its
/// exit code; it has written its error messages to standard error.
pub fn reexec_as(owner: (Uid, Gid), arguments: &[OsString], output: File) -> Result<u8> {
    run(owner, arguments, Stdio::null(), output.into())
}

/// As [`reexec_as`], but it reads `input` and inherits standard output.
pub fn reexec_with_input(
    owner: (Uid, Gid),
    arguments: &[OsString],
    input: Option<File>,
) -> Result<u8> {
    run(
        owner,
        arguments,
        input.map_or_else(Stdio::null, Stdio::from),
        Stdio::inherit(),
    )
}

fn run(
    (user, group): (Uid, Gid),
    arguments: &[OsString],
    input: Stdio,
    output: Stdio,
) -> Result<u8> {
    #[expect(
        clippy::disallowed_methods,
        reason = "lib/process/ is the only place that spawns"
    )]
    let mut command = Command::new("/proc/self/exe");
    command
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(input)
        .stdout(output);

    // As root, the standard library drops the supplementary groups before it changes the user.
    let status = command.uid(user.as_raw()).gid(group.as_raw()).status();
    let status = status
        .map_err(|error| Error::from(error).within(format!("running this as user id {user}")))?;
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .ok_or_else(|| {
            let signal = status.signal().unwrap_or_default();
            Error::failed(format!(
                "the part of it that ran as user id {user} was ended by signal {signal}"
            ))
        })
}
