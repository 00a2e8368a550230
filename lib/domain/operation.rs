//! The operations that a job can carry out.

use crate::base::words::words;
use crate::domain::server::DesiredState;

words! {
    /// An operation on no, one or many servers.
    pub enum Operation ("an operation") {
        /// Installs the game's files; refused while any overlay is mounted.
        Install = "install",
        /// Downloads and publishes another build if Steam has one, while servers run, and restarts
        /// those that run an older one.
        Update = "update",
        /// Makes a kept build the current one again, and restarts the servers that run another one.
        Rollback = "rollback",
        /// Asks Steam which build of the game is published.
        Check = "check",
        /// Writes a server's settings and configuration layer.
        Initialize = "initialize",
        /// Initializes, then enables and starts.
        Start = "start",
        /// Stops and disables.
        Stop = "stop",
        /// Stops, initializes, starts.
        Restart = "restart",
        /// Deletes what the game wrote, and initializes again.
        Reset = "reset",
        /// Removes a server's files; its row stays.
        Delete = "delete",
    }
}

impl Operation {
    /// Whether the operation changes the game files, which all servers share. Such an operation
    /// runs alone.
    pub fn is_exclusive(self) -> bool {
        matches!(
            self,
            Operation::Install | Operation::Update | Operation::Rollback
        )
    }

    /// Whether the operation is about the game files, which all servers share: it takes no server,
    /// and only an admin may request it.
    pub fn is_shared(self) -> bool {
        self.is_exclusive() || self == Operation::Check
    }

    /// Whether the operation brings another build to the servers.
    pub fn rolls_out(self) -> bool {
        matches!(self, Operation::Update | Operation::Rollback)
    }

    /// Whether the operation stops a server before it writes what the server starts with.
    pub fn stops_first(self) -> bool {
        self.rolls_out() || matches!(self, Operation::Restart | Operation::Reset)
    }

    /// Whether the operation ends the game of players, so that its job can wait for them.
    pub fn takes_condition(self) -> bool {
        !matches!(
            self,
            Operation::Install | Operation::Check | Operation::Initialize | Operation::Start
        )
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
