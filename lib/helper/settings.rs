//! Reads instances/ID/instance.env, which initialize writes as left4me. For root the file is
//! untrusted: it is opened by descriptor, must be a regular file with the right owner and size, and
//! every value goes through its own parser.

use std::fs::File;
use std::io::Read as _;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::Uid;

use super::directory::{Directory, Opened, unusable};
use crate::base::names::{BadName, InstanceName};
use crate::base::{Error, Result};
use crate::domain::launch::{self, Argument};
use crate::domain::{env_file, launch_upgrade};

/// The largest instance.env that is read, in bytes. It has room for the paths of all layers that a
/// mount can take. The kernel accepts half of it as one value.
const FILE_LIMIT: u64 = 256 * 1024;

/// Settings that became configuration lines with the upgrade. A server may lack them until left4me
/// starts it the next time.
const MAY_BE_MISSING: [&str; 2] = ["hostname", "rcon_password"];

/// The settings in instance.env.
#[derive(Debug)]
pub(super) struct Settings {
    pub port: u16,
    /// Launch arguments after left4me's own.
    pub arguments: Vec<Argument>,
    /// The paths of the lower layers as written in the file, the topmost first.
    pub layers: Vec<String>,
}

/// Reads and checks the settings of `server`.
///
/// Fails with 3 if the server was not initialized; 1 for a file that initialize did not write, and
/// for a value that is refused.
pub(super) fn read(root: &Directory, server: &InstanceName) -> Result<Settings> {
    let instances = root.enter("instances")?;
    let path = instances.path.join(server.as_str()).join("instance.env");
    let file = path.display();
    let missing = || Error::not_found(format!("{file} does not exist: initialize server {server}"));
    let Opened::Open(instance) = instances.find(server.as_str())? else {
        return Err(missing());
    };
    let Some(text) = open(&instances, &instance, server)? else {
        return Err(missing());
    };

    let bad = |what: String| Error::failed(format!("{file} {what}: initialize server {server}"));
    let value = |name| env_file::value(&text, name).ok_or_else(|| bad(format!("has no {name}")));
    let port = value("L4D2_PORT")?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| bad("has an L4D2_PORT that is no port".to_owned()))?;
    let words = env_file::split(&env_file::value(&text, "L4D2_ARGS").unwrap_or_default());
    let arguments = arguments(server, words).map_err(|why| bad(format!("is refused ({why})")))?;
    let layers = value(env_file::LAYERS)?
        .split(':')
        .map(str::to_owned)
        .collect();

    Ok(Settings {
        port,
        arguments,
        layers,
    })
}

/// Parses the arguments and checks them together. Arguments for srcds_run, from an older version,
/// are converted as the upgrade converts a blueprint, so that the server starts at boot and after a
/// crash.
///
/// Fails for an argument that is refused, and for a setting that must not get lost: a server
/// without its password is open to everybody.
fn arguments(server: &InstanceName, words: Vec<String>) -> Result<Vec<Argument>, BadName> {
    let words = match launch_upgrade::convert(&words, &[]) {
        None => words,
        Some(converted) => {
            if let Some(line) = converted
                .config
                .iter()
                .find(|line| !MAY_BE_MISSING.iter().any(|name| is_of(line, name)))
            {
                let name = line.split(' ').next().unwrap_or_default();
                return Err(BadName::new(format!(
                    "'+{name}' and its value would be lost"
                )));
            }

            for change in &converted.changes {
                tracing::warn!("server {server} starts as an older left4me described it: {change}");
            }

            converted.arguments
        }
    };

    let mut arguments: Vec<Argument> = words
        .iter()
        .map(|word| word.parse())
        .collect::<Result<_, BadName>>()?;

    // The limits apply to the arguments of a blueprint. initialize adds a map if there is none.
    let given = arguments.len().saturating_sub(2);
    if launch::words(&arguments[..given]).eq(arguments.iter().map(Argument::as_str)) {
        arguments.truncate(given);
    }

    launch::check(&arguments)?;
    Ok(arguments)
}

/// Whether a configuration line sets `name`.
fn is_of(line: &str, name: &str) -> bool {
    line.split(' ')
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case(name))
}

/// The text of the file; none if nothing has this name.
pub(super) fn open(
    instances: &Directory,
    instance: &Directory,
    server: &InstanceName,
) -> Result<Option<String>> {
    let path = instance.path.join("instance.env");
    let refused = |why: &str| {
        Error::failed(format!(
            "{} {why}: initialize server {server}",
            path.display()
        ))
    };

    // O_NONBLOCK: a FIFO in its place must not block root.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = match openat(instance, "instance.env", flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return Err(refused("is a symbolic link")),
        Err(errno) => return Err(unusable(&path, errno)),
    };

    let found = fstat(&fd).map_err(|errno| unusable(&path, errno))?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(refused("is not a regular file"));
    }

    // The owner of instances/ also owns everything in it.
    if Uid::from_raw(found.st_uid) != instances.owner()? {
        return Err(refused(&format!("belongs to user id {}", found.st_uid)));
    }

    if found.st_nlink != 1 {
        return Err(refused("has a second name elsewhere"));
    }

    let mut bytes = Vec::new();
    File::from(fd)
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(refused(&format!("is longer than {FILE_LIMIT} bytes")));
    }

    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| refused("is not text"))
}
