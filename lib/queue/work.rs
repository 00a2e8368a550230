//! The input of a task, and its result.

use crate::base::Result;
use crate::base::builds::GameFiles;
use crate::base::names::{InstanceName, JobId, ServerId, TaskId};
use crate::domain::blueprint::Spec;
use crate::domain::build::Builds;
use crate::domain::operation::Operation;
use crate::domain::stale::Stale;
use crate::domain::task::{TaskKind, TaskState};
use crate::domain::update::UpdateOptions;
use crate::host::builds::BuildState;
use crate::host::units::Observed;

/// A task to run, with its input.
#[derive(Clone, Debug)]
pub struct Work {
    pub job: JobId,
    pub task: TaskId,
    pub operation: Option<Operation>,
    /// What was asked of an update or rollback.
    pub options: UpdateOptions,
    /// What to do, or the unknown word from its row.
    pub kind: Result<TaskKind, String>,
    /// The server to work on.
    pub server: Option<ServerId>,
    /// For tasks that write its files, or start or stop it: the blueprint of the server, read when
    /// the task started.
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
    /// For a start: whether its game answered before, so that it should answer again.
    pub answered: bool,
    /// For `use-build`: the builds that were rejected.
    pub rejected: Vec<u64>,
    /// For `remove-builds`: the servers that neither run nor should.
    pub stopped: Vec<InstanceName>,
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
    /// Whether the server's game answered, as a stop task found it; none if it was not asked.
    pub answered: Option<bool>,
    /// Whether the server was up, as a stop task found it.
    pub was_up: Option<bool>,
    /// It failed because the worker is stopping: that says nothing about its server.
    pub interrupted: bool,
    /// The state of the server, if it was read.
    pub observed: Option<(ServerId, Observed)>,
    /// The builds of the game, as a check found them or an installation left them.
    pub builds: Option<Builds>,
    /// The stale files of the server, if they were searched for or there can be none.
    pub stale: Option<Box<(ServerId, Stale)>>,
    /// Which build each instance uses, after a task about builds.
    pub state_of_builds: Option<Box<BuildState>>,
    /// The game files on which the server came up.
    pub came_up: Option<GameFiles>,
    /// The build on which the server did not come up.
    pub failed_build: Option<u64>,
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
            answered: None,
            was_up: None,
            interrupted: false,
            observed: None,
            builds: None,
            stale: None,
            state_of_builds: None,
            came_up: None,
            failed_build: None,
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
