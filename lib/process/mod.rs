//! The only place that spawns: one foreign command at a time, its lines passed on, its whole tree ended.
//!
//! A [`Stage`] belongs to one request, whether it came over a socket or from a person's terminal. Everything that may
//! happen to a command (output, a control line, a hangup, a signal to us, a deadline) is waited for in its one poll
//! loop. What is decided, is decided in [`ladder`] (how a tree is ended) and [`lines`] (what a line is): both are
//! pure and take the time as a parameter. Imports base and wire only.

mod again;
mod ask;
pub mod cgroup;
pub mod door;
pub mod ladder;
pub mod lines;
pub mod mounts;
mod peer;
mod silence;
mod spawn;
mod stage;
mod tree;
pub mod unit_group;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

pub use again::{again_as, again_reading};
pub use ask::{journalctl, systemctl};
pub use peer::Peer;
pub use silence::Silence;
pub use stage::{Pass, Stage};

use crate::wire::{EndedBy, Tree};

/// What a command's input and output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Output on a terminal of its own, 512 columns wide so that nothing wraps, without output processing. All output
    /// is stdout; standard input is empty, so that a prompt has its answer at once.
    Pty,
    /// Two pipes; standard input is empty.
    Pipes,
}

/// One command: everything it gets is named here, nothing is inherited.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program by absolute path, then its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its input and output.
    pub terminal: Terminal,
    /// How it is asked to end: SIGTERM, or SIGINT for a game.
    pub first_signal: Signal,
    /// The longest line of its output that is passed on whole, in characters: [`crate::wire::LINE_LIMIT`], unless it is
    /// no text for people.
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

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; 128+n when signal n ended it.
    pub code: i32,
    /// Which rung of the ladder was needed.
    pub ended_by: EndedBy,
    /// Whether any process of it is left.
    pub tree: Tree,
}

impl Outcome {
    /// An end by itself with nothing left.
    #[must_use]
    pub fn exit(code: i32) -> Self {
        Self { code, ended_by: EndedBy::Exit, tree: Tree::Empty }
    }

    /// Whether the command ended by itself, with code 0, and left nothing.
    #[must_use]
    pub fn succeeded(self) -> bool {
        self == Self::exit(0)
    }
}
