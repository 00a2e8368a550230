//! Collects the kernel's messages about overlayfs, which say more than an errno.
//!
//! There are two sources, because each one alone is silent on many hosts. From Linux 6.5 on
//! overlayfs answers the process that configures a mount with fsopen(2) (`invalfc` in its
//! params.c), also in a container. Its warnings, and before 6.5 all messages, are in the kernel's
//! log.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_string, fsopen};

/// How many records are read at most: others may write to the log meanwhile.
const MOST: usize = 1000;

/// The kernel's log from a certain moment on.
pub(super) struct KernelLog(Option<File>);

impl KernelLog {
    /// Opens the log at its end. Stays empty if the log cannot be read: a container has none of its
    /// own, and a sandbox may hide it.
    pub(super) fn from_now() -> Self {
        let mut options = fs_err::OpenOptions::new();
        let opened = options
            .read(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
            .open("/dev/kmsg");
        let log = opened
            .ok()
            .map(File::from)
            .and_then(|mut log| log.seek(SeekFrom::End(0)).is_ok().then_some(log));
        Self(log)
    }

    /// The messages of overlayfs since then.
    pub(super) fn overlayfs(&mut self) -> Vec<String> {
        let Some(log) = &mut self.0 else {
            return Vec::new();
        };
        let mut said = Vec::new();

        let mut record = [0_u8; 8192];
        for _ in 0..MOST {
            match log.read(&mut record) {
                Ok(length) if length > 0 => said.extend(message(&record[..length])),
                // A record was overwritten before it could be read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                _ => break,
            }
        }

        said
    }
}

/// The text of a record if it is from overlayfs: `4,812,90155,-;overlayfs: upper fs needs to
/// support d_type.`
fn message(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let line = text.split_once(';')?.1.lines().next()?;
    let said = line
        .strip_prefix("overlayfs: ")
        .or_else(|| line.strip_prefix("overlay: "))?;
    // Lines such as `...falling back to index=off` say only what the kernel does about it.
    (!said.starts_with("...")).then(|| said.trim_end_matches('.').to_owned())
}

/// Configures an overlay with `options` without mounting it. If the kernel refuses, gives its
/// messages.
pub(super) fn configure(options: &[(&str, &str)]) -> Result<(), (Errno, Vec<String>)> {
    let failed = |errno: rustix::io::Errno| Errno::from_raw(errno.raw_os_error());
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| (failed(errno), Vec::new()))?;
    let mut set = options
        .iter()
        .map(|(key, value)| fsconfig_set_string(&context, *key, *value));
    let made = set
        .try_for_each(|set| set)
        .and_then(|()| fsconfig_create(&context));

    made.map_err(|errno| {
        let mut said = Vec::new();
        let mut line = [0_u8; 1024];
        while let Ok(length) = nix::unistd::read(&context, &mut line)
            && length > 0
        {
            said.extend(message_text(&line[..length]));
        }
        (failed(errno), said)
    })
}

/// Parses a message such as `e overlay: filesystem on upper not supported as upperdir`.
fn message_text(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let (_, said) = text.trim_end().split_once(' ')?;
    Some(said.strip_prefix("overlay: ").unwrap_or(said).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_overlayfs_says_is_taken_from_the_kernels_log() {
        let said = |record: &str| message(record.as_bytes());
        assert_eq!(
            said("4,812,90155,-;overlayfs: upper fs needs to support d_type.\n SUBSYSTEM=x\n")
                .as_deref(),
            Some("upper fs needs to support d_type")
        );

        assert_eq!(
            said("3,1,2,-;overlay: filesystem on 'upper' not supported\n").as_deref(),
            Some("filesystem on 'upper' not supported")
        );

        for other in [
            "6,1,2,-;EXT4-fs (loop0): mounted filesystem\n",
            "4,1,2,-;overlayfs: ...falling back to xino=off.\n",
            "",
            "no record",
            "6,1,2,-;",
        ] {
            assert_eq!(said(other), None, "{other}");
        }

        assert_eq!(
            message_text(b"e overlay: No changes allowed\n").as_deref(),
            Some("No changes allowed")
        );

        assert_eq!(message_text(b"e"), None);
    }
}
