//! Checks the three sockets: files, owners and modes, and whether a socket unit listens there.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Finding;
use super::files::{io_finding, owned};
use super::finding::{Advice, quoted};
use super::units::Units;
use crate::base::config::CommandSockets;
use crate::base::users::LEFT4ME;

pub(super) fn check(
    worker: &Path,
    sockets: &CommandSockets,
    units: Option<&Units>,
) -> Vec<Finding> {
    vec![
        socket("worker", worker, "root", 0o660, units),
        socket("helper", &sockets.helper_socket, LEFT4ME, 0o600, units),
        socket("runner", &sockets.runner_socket, LEFT4ME, 0o600, units),
        socket(
            "publisher",
            &sockets.publisher_socket,
            LEFT4ME,
            0o600,
            units,
        ),
    ]
}

/// Checks only the files of the sockets, for callers that cannot see owners. It does not connect,
/// because that would start a unit.
pub(super) fn files(worker: &Path, sockets: &CommandSockets) -> Vec<Finding> {
    [
        ("worker", worker),
        ("helper", &sockets.helper_socket),
        ("runner", &sockets.runner_socket),
        ("publisher", &sockets.publisher_socket),
    ]
    .into_iter()
    .map(|(name, path)| match file(name, path) {
        Ok(_) => Finding::ok(
            format!("socket {name}"),
            format!("{} is there", path.display()),
        ),
        Err(finding) => *finding,
    })
    .collect()
}

fn file(name: &str, path: &Path) -> Result<Metadata, Box<Finding>> {
    let check = format!("socket {name}");
    let start = Advice::root(restart(name));
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => Ok(found),
        Ok(found) if found.is_dir() => {
            let advice = Advice::root(format!("rmdir {} && {}", quoted(path), restart(name)));
            Err(Box::new(Finding::fail(
                check,
                format!("{} is a directory", path.display()),
                advice,
            )))
        }
        Ok(_) => Err(Box::new(Finding::fail(
            check,
            format!("{} is not a socket", path.display()),
            start,
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Box::new(Finding::fail(
            check,
            format!("{} is missing", path.display()),
            start,
        ))),
        Err(error) => Err(Box::new(io_finding(&check, path, &error))),
    }
}

fn restart(name: &str) -> String {
    format!("systemctl restart left4me-{name}.socket")
}

fn socket(name: &str, path: &Path, user: &str, mode: u32, units: Option<&Units>) -> Finding {
    let check = format!("socket {name}");
    if let Some(finding) = elsewhere(name, path, units) {
        return finding;
    }

    let found = match file(name, path) {
        Ok(found) => found,
        Err(finding) => return *finding,
    };

    let finding = owned(&check, path, &found, user, LEFT4ME, mode);
    if finding.advice.is_some() {
        return Finding::fail(check, finding.found, Advice::root(restart(name)));
    }

    // The worker's socket takes datagrams: if a program listens, another kind of connection fails
    // with EPROTOTYPE. The check of the services asks the other two.
    let no_listener = name == "worker"
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);

    if no_listener {
        return Finding::fail(
            check,
            format!("nothing listens on {}", path.display()),
            Advice::root(restart(name)),
        );
    }

    finding
}

/// Reports that the settings and the socket unit name different paths. A restart does not fix that.
fn elsewhere(name: &str, path: &Path, units: Option<&Units>) -> Option<Finding> {
    let unit = format!("left4me-{name}.socket");
    let listen = &units?.get(&unit)?.listen;
    if listen.is_empty() || listen.iter().any(|(at, _)| Path::new(at) == path) {
        return None;
    }

    let at = listen
        .iter()
        .map(|(at, _)| at.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let setting = format!("LEFT4ME_{}_SOCKET", name.to_uppercase());
    let found = format!(
        "{setting} is {}, and {unit} listens at {at}",
        path.display()
    );

    let advice = format!(
        "make them the same: the setting, or `systemctl edit {unit}`, then as root: {}",
        restart(name)
    );

    Some(Finding::fail(format!("socket {name}"), found, advice))
}
