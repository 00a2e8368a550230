//! What a task is given to run, and what it hands back at its end.

use crate::base::Result;
use crate::base::names::{JobId, ServerId, TaskId};
use crate::domain::blueprint::Spec;
use crate::domain::operation::Operation;
use crate::domain::task::{TaskKind, TaskState};
use crate::host::units::Observed;

/// A task that is about to run, with all it needs to know.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its job.
    pub job: JobId,
    /// Its row.
    pub task: TaskId,
    /// The job's operation.
    pub operation: Option<Operation>,
    /// What to do; the word itself when this program does not know it.
    pub kind: Result<TaskKind, String>,
    /// On which server.
    pub server: Option<ServerId>,
    /// For `initialize` and `stop`: what the server is made of, read when the task started.
    pub spec: Option<Result<Spec>>,
    /// For a `stop` of an update: the server shall run, whatever it does now.
    pub wanted: bool,
    /// For `install-runtime`: all servers and their names, to say whose overlay is in the way.
    pub names: Vec<(ServerId, String)>,
    /// For `start-if-ran`: what the stop task of the same server found.
    pub was_running: Option<bool>,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its job.
    pub job: JobId,
    /// Its row.
    pub task: TaskId,
    /// A terminal state.
    pub state: TaskState,
    /// 0 on success.
    pub exit_code: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// What a stop task found.
    pub was_running: Option<bool>,
    /// What the server is now, when it was looked at.
    pub observed: Option<(ServerId, Observed)>,
}

impl Ended {
    /// A task that succeeded, so far.
    #[must_use]
    pub fn succeeded(job: JobId, task: TaskId) -> Self {
        Self { job, task, state: TaskState::Succeeded, exit_code: 0, error: None, was_running: None, observed: None }
    }

    /// A task that failed before it could begin.
    #[must_use]
    pub fn failed(job: JobId, task: TaskId, error: String) -> Self {
        Self { state: TaskState::Failed, exit_code: 1, error: Some(error), ..Self::succeeded(job, task) }
    }
}
