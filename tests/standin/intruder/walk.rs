//! What can be written and connected to, looked for in the whole tree that is seen.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{AccessFlags, access};

/// Prints it, sorted. Below a directory that can be written nothing more is looked at.
pub fn all() {
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from("/")];
    while let Some(path) = next.pop() {
        let Ok(kind) = fs::symlink_metadata(&path).map(|found| found.file_type()) else {
            continue;
        };
        // What systemd-nspawn, which plays the machine, keeps for itself.
        if kind.is_symlink() || path.starts_with("/run/host") {
            continue;
        }
        if kind.is_socket() {
            found.extend(connects(&path).then(|| format!("can connect {}", path.display())));
        } else if !(kind.is_dir() || is_special(&path)) {
            let written = access(&path, AccessFlags::W_OK).is_ok();
            found.extend(written.then(|| format!("can write {}", path.display())));
        } else if kind.is_dir() && access(&path, AccessFlags::W_OK).is_ok() {
            found.push(format!("can write {}/", path.display()));
        }

        let below = kind.is_dir() && access(&path, AccessFlags::W_OK).is_err();
        if below && !is_process(&path) {
            next.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
    }

    let data = fs::read_dir("/var/lib/left4me")
        .into_iter()
        .flatten()
        .flatten();
    found.extend(data.map(|entry| format!("can see {}", entry.file_name().display())));
    found.sort();
    found.iter().for_each(|line| println!("{line}"));
}

/// Processes, ourselves among them: what a process can do to itself is its own affair.
fn is_process(path: &Path) -> bool {
    path.strip_prefix("/proc").is_ok_and(|below| {
        let first = below
            .iter()
            .next()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        first.starts_with(|c: char| c.is_ascii_digit()) || ["self", "thread-self"].contains(&first)
    })
}

/// The terminals and the random numbers that every program has.
fn is_special(path: &Path) -> bool {
    let names = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];
    path.parent() == Some(Path::new("/dev")) && names.iter().any(|name| path.ends_with(name))
        || path == Path::new("/dev/pts/ptmx")
        || is_process(path)
}

/// Whether it can be connected to, with any type of socket. Nothing is sent.
fn connects(path: &Path) -> bool {
    let Ok(address) = UnixAddr::new(path) else {
        return false;
    };
    [SockType::Stream, SockType::Datagram, SockType::SeqPacket]
        .into_iter()
        .any(|kind| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let Ok(ours) = socket(AddressFamily::Unix, kind, flags, None) else {
                return false;
            };
            use std::os::fd::AsRawFd as _;
            matches!(
                connect(ours.as_raw_fd(), &address),
                Ok(()) | Err(Errno::EAGAIN)
            )
        })
}
