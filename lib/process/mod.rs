//! The only module that spawns processes. It runs one foreign command at a time, relays its lines,
//! and ends its whole process tree.
//!
//! A [`Supervisor`] serves one request, from a socket or from a terminal. Its poll loop waits for
//! everything that can happen to a command: output, a control line, a hangup, a signal to this
//! process, a deadline. The decisions are in [`escalation`] (how a tree is ended) and [`lines`]
//! (what a line is); both are pure and take the time as a parameter. What several programs read of the
//! host is here too: mounts, control groups, the game files.

mod ask;
pub mod cgroup;
pub mod escalation;
pub mod game_files;
pub mod getent;
pub mod handshake;
pub mod lines;
pub mod link;
pub mod mounts;
pub mod overlay_mounts;
mod peer;
mod reexec;
mod running;
mod silence;
mod spawn;
mod supervisor;
mod tree;
pub mod unit_group;
pub mod watchdog;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

pub use ask::{journalctl, systemctl};
pub use peer::Peer;
pub use reexec::{reexec_as, reexec_with_input};
pub use running::Relay;
pub use silence::Silence;
pub use supervisor::Supervisor;

use crate::wire::{Cancel, EndedBy, Tree};

/// A command's input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Output on a terminal of its own, 512 columns wide so that nothing wraps, without output
    /// processing. All output is stdout. Standard input is empty, so that a prompt does not wait.
    Pty,
    /// Two pipes; standard input is empty.
    Pipes,
}

/// One command. It inherits nothing but what is named here.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program by absolute path, then its arguments.
    pub argv: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    pub terminal: Terminal,
    /// The signal that ends it before SIGKILL: SIGTERM, or SIGINT for a game.
    pub first_signal: Signal,
    /// The longest line of its output that is relayed whole, in characters:
    /// [`crate::wire::LINE_LIMIT`], unless the output is no text for people.
    pub line_limit: usize,
}

impl fmt::Display for Spec {
    /// The command line, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.argv.iter().enumerate() {
            let separator = if i == 0 { "" } else { " " };
            write!(f, "{separator}{}", word.to_string_lossy())?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; 128+n when signal n ended it.
    pub code: i32,
    /// Which step of the kill escalation ended it.
    pub ended_by: EndedBy,
    /// Whether a process of it is left.
    pub tree: Tree,
}

impl Outcome {
    /// A normal end with nothing left.
    pub fn exit(code: i32) -> Self {
        Self {
            code,
            ended_by: EndedBy::Exit,
            tree: Tree::Empty,
        }
    }

    /// The end of what was cancelled and left nothing: as if the first signal had ended it.
    pub fn cancelled(how: Cancel) -> Self {
        let (signal, ended_by) = match how {
            Cancel::Terminate => (Signal::SIGTERM, EndedBy::Terminate),
            Cancel::Kill => (Signal::SIGKILL, EndedBy::Kill),
        };
        Self {
            code: 128 + signal as i32,
            ended_by,
            tree: Tree::Empty,
        }
    }

    /// Whether the command ended normally, with code 0, and left nothing.
    pub fn succeeded(self) -> bool {
        self == Self::exit(0)
    }
}
