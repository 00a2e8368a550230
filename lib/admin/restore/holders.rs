//! Finds processes that have the database open. left4me's own programs are ended, because they
//! would show old data. Any other program is an error: the admin has to end it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::base::{Error, Result, output};

/// How long a program may take to exit after SIGTERM.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

struct Holder {
    pid: i32,
    program: PathBuf,
}

impl Holder {
    fn is_ours(&self) -> bool {
        let name = self
            .program
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        // After an upgrade, the program's file is deleted.
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let is_there = self.program.starts_with("/usr/bin")
            || self.program.starts_with("/usr/libexec/left4me");
        is_there && (name == "left4me" || name == "l4d2ctl" || name.starts_with("left4me-"))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} (pid {})",
            output::printable(&self.program.display().to_string()),
            self.pid
        )
    }
}

/// Ends left4me's programs that have the database open.
///
/// Fails if another program has it open, or if a program does not exit.
pub(super) fn end(database: &Path) -> Result<()> {
    let Ok(found) = database.symlink_metadata() else {
        return Ok(());
    };
    let file = (found.dev(), found.ino());
    let begun = Instant::now();
    let mut signalled = Vec::new();

    loop {
        let holders = holders(file);
        let Some(first) = holders.first() else {
            return Ok(());
        };
        if let Some(other) = holders.iter().find(|holder| !holder.is_ours()) {
            return Err(in_the_way(other));
        }
        if begun.elapsed() > EXIT_TIMEOUT {
            return Err(in_the_way(first));
        }

        for holder in &holders {
            if !signalled.contains(&holder.pid) {
                output::line(&format!("{holder} has the database open: ending it"))?;
                // It may have exited already.
                kill(Pid::from_raw(holder.pid), Signal::SIGTERM).ok();
                signalled.push(holder.pid);
            }
        }

        std::thread::sleep(CHECK_INTERVAL);
    }
}

fn in_the_way(holder: &Holder) -> Error {
    Error::unavailable(format!(
        "{holder} has the database open: end it, then run this again; nothing was restored"
    ))
}

fn holders(file: (u64, u64)) -> Vec<Holder> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own);
    pids.filter(|pid| has_open(*pid, file))
        .map(|pid| Holder {
            pid,
            program: std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default(),
        })
        .collect()
}

/// A process that has exited has nothing open.
fn has_open(pid: i32, file: (u64, u64)) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    descriptors
        .filter_map(|entry| entry.path().metadata().ok())
        .any(|found| (found.dev(), found.ino()) == file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_left4mes_own_programs_are_ended() {
        let is_ours = |program: &str| {
            Holder {
                pid: 1,
                program: PathBuf::from(program),
            }
            .is_ours()
        };

        for ours in [
            "/usr/bin/left4me-job",
            "/usr/bin/left4me",
            "/usr/libexec/left4me/left4me-web (deleted)",
        ] {
            assert!(is_ours(ours), "{ours}");
        }

        for other in [
            "/usr/bin/sqlite3",
            "/home/eve/left4me-job",
            "/usr/bin/python3.11",
            "",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_process_with_the_file_open_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = file.path().metadata().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(has_open(pid, (found.dev(), found.ino())));
        assert!(!has_open(pid, (found.dev(), found.ino() + 1)));
    }
}
