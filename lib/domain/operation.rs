//! The operations that a job can carry out.

use std::fmt;
use std::str::FromStr;

use crate::base::names::{BadName, shown};
use crate::domain::server::DesiredState;

/// An operation on no, one or many servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Installs the game's files; refused while any overlay is mounted.
    Install,
    /// Stops the running servers, installs, and starts them again.
    Update,
    /// Writes a server's settings and configuration layer.
    Initialize,
    /// Initializes, then enables and starts.
    Start,
    /// Stops and disables.
    Stop,
    /// Stops, initializes, starts.
    Restart,
    /// Deletes what the game wrote, and initializes again.
    Reset,
    /// Removes a server's files; its row stays.
    Delete,
}

impl Operation {
    /// All operations, in the order in which help texts list them.
    pub const ALL: [Operation; 8] = [
        Operation::Install,
        Operation::Update,
        Operation::Initialize,
        Operation::Start,
        Operation::Stop,
        Operation::Restart,
        Operation::Reset,
        Operation::Delete,
    ];

    /// The word in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Install => "install",
            Operation::Update => "update",
            Operation::Initialize => "initialize",
            Operation::Start => "start",
            Operation::Stop => "stop",
            Operation::Restart => "restart",
            Operation::Reset => "reset",
            Operation::Delete => "delete",
        }
    }

    /// Whether the operation changes the game files, which all servers share. Such an operation
    /// takes no server and runs alone.
    pub fn is_exclusive(self) -> bool {
        matches!(self, Operation::Install | Operation::Update)
    }

    /// A job that runs for longer than this, in ms, is overdue. An installation downloads 9 GB,
    /// which takes two hours at 10 Mbit/s, and may wait for Steam. Every other operation ends
    /// within minutes, even for many servers at once.
    pub fn overdue_after(self) -> i64 {
        if self.is_exclusive() {
            3 * 3_600_000
        } else {
            15 * 60_000
        }
    }

    /// The desired state that the servers get when the job is accepted; none leaves it unchanged.
    pub fn desired_state(self) -> Option<DesiredState> {
        match self {
            Operation::Start | Operation::Restart => Some(DesiredState::Running),
            Operation::Stop | Operation::Delete => Some(DesiredState::Stopped),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Operation::ALL
            .into_iter()
            .find(|operation| operation.as_str() == text)
            .ok_or_else(|| {
                let known = Operation::ALL.map(Operation::as_str).join(", ");
                BadName::new(format!(
                    "'{}' is not an operation: one of {known}",
                    shown(text)
                ))
            })
    }
}
