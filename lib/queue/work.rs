//! The input of a task, and its result.

use crate::base::Result;
use crate::base::names::{JobId, ServerId, TaskId};
use crate::domain::blueprint::Spec;
use crate::domain::build::Builds;
use crate::domain::operation::Operation;
use crate::domain::stale::Stale;
use crate::domain::task::{TaskKind, TaskState};
use crate::host::units::Observed;

/// A task to run, with its input.
#[derive(Clone, Debug)]
pub struct Work {
    pub job: JobId,
    pub task: TaskId,
    pub operation: Option<Operation>,
    /// What to do, or the unknown word from its row.
    pub kind: Result<TaskKind, String>,
    /// The server to work on.
    pub server: Option<ServerId>,
    /// For `initialize` and `stop`: the blueprint of the server, read when the task started.
    pub spec: Option<Result<Spec>>,
    /// For a `stop` of an update: the server should be running, whatever its actual state.
    pub should_run: bool,
    /// For `install-runtime`: the names of all servers, for a message about mounted overlays.
    pub names: Vec<(ServerId, String)>,
    /// For `start-if-ran`: whether the server was running, as the stop task of the same server
    /// found it.
    pub was_running: Option<bool>,
    /// For a start: the build on which the server last came up.
    pub last_build: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Ended {
    pub job: JobId,
    pub task: TaskId,
    pub state: TaskState,
    /// Its exit code, 0 on success.
    pub exit_code: i64,
    pub error: Option<String>,
    /// Whether the server was running, as a stop task found it.
    pub was_running: Option<bool>,
    /// The state of the server, if it was read.
    pub observed: Option<(ServerId, Observed)>,
    /// The builds of the game, as a check found them.
    pub builds: Option<Builds>,
    /// The stale files of the server, if they were searched for or there can be none.
    pub stale: Option<(ServerId, Stale)>,
}

impl Ended {
    /// A task that has succeeded so far.
    pub fn succeeded(job: JobId, task: TaskId) -> Self {
        Self {
            job,
            task,
            state: TaskState::Succeeded,
            exit_code: 0,
            error: None,
            was_running: None,
            observed: None,
            builds: None,
            stale: None,
        }
    }

    /// A task that failed before it could start.
    pub fn failed(job: JobId, task: TaskId, error: String) -> Self {
        Self {
            state: TaskState::Failed,
            exit_code: 1,
            error: Some(error),
            ..Self::succeeded(job, task)
        }
    }
}
