//! Runs left4me-link once, for `left4me fleet`: the program with the network carries out one request.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use crate::base::{Error, Result, users};
use crate::wire::link::{Administer, Administered};

const INSTALLED: &str = "/usr/libexec/left4me/left4me-link";

/// The user of left4me-link.
const USER: &str = "left4me-link";

/// Has one request carried out. Root's process becomes left4me-link's user: it has the network, and
/// nothing else of root's.
///
/// Fails with 69 when the engine does not answer, or refuses.
pub fn administer(request: &Administer) -> Result<Administered> {
    let program = program();
    let line = serde_json::to_vec(request)
        .map_err(|error| Error::failed(format!("the request to left4me-link: {error}")))?;
    let failed = |why: &dyn std::fmt::Display| {
        Error::unavailable(format!("{} did not answer: {why}", program.display()))
    };

    #[expect(
        clippy::disallowed_methods,
        reason = "lib/process/ is the only place that spawns"
    )]
    let mut command = Command::new(&program);
    command
        .arg("--administer")
        .env_clear()
        .env("LEFT4ME_ENV_FILE", "/dev/null")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if geteuid().is_root()
        && let Ok((uid, gid)) = users::ids(USER)
    {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }

    let mut child = command.spawn().map_err(|error| failed(&error))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&line).map_err(|error| failed(&error))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    match serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))? {
        Administered::Failed { why } => Err(Error::unavailable(why)),
        answer => Ok(answer),
    }
}

/// The installed one; in a checkout, the one beside this program.
fn program() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("left4me-link")));
    match beside {
        Some(beside) if beside.exists() => beside,
        _ => Path::new(INSTALLED).to_owned(),
    }
}
