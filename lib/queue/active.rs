//! The active jobs, as the worker remembers them between ticks.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId, TaskId};
use crate::db::jobs;
use crate::domain::cancellation::Known;
use crate::domain::operation::Operation;
use crate::domain::outcome::{self, Facts};
use crate::domain::schedule::Candidate;
use crate::domain::task::{Needs, Readiness, TaskKind, TaskState, readiness};

/// A task of an active job.
#[derive(Clone, Debug)]
pub struct ActiveTask {
    pub id: TaskId,
    /// What it does, or the unknown word from its row.
    pub kind: Result<TaskKind, String>,
    /// The server that it works on.
    pub server: Option<ServerId>,
    pub state: TaskState,
    /// Its exit code, 0 on success.
    pub exit_code: i64,
    pub error: Option<String>,
    /// Whether the server was running, as a stop task found it.
    pub was_running: Option<bool>,
    /// It was cancelled, and counts as succeeded for tasks that depend on it.
    pub waived: bool,
    /// It is being cancelled and must not start.
    pub blocked: bool,
    /// It is being cancelled, and its thread has ended.
    pub ended: bool,
    /// Its thread has not ended, but the worker no longer waits for it. The thread may still work
    /// on the task's server or files.
    pub abandoned: bool,
    /// Who cancelled it, and why.
    pub cancelled_by: Option<(String, String)>,
    /// The tasks that it depends on, by position in the job, each with the condition.
    pub after: Vec<(Needs, usize)>,
}

/// A job that this worker runs.
#[derive(Clone, Debug)]
pub struct ActiveJob {
    pub id: JobId,
    /// The operation, or the unknown word from its row.
    pub operation: Result<Operation, String>,
    pub servers: Vec<ServerId>,
    pub requested_by: String,
    pub tasks: Vec<ActiveTask>,
    /// How many cancellations of the job or its tasks are in progress. The job does not end before
    /// they do.
    pub cancellations: usize,
}

impl ActiveTask {
    /// Whether it is in progress and takes a slot.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Cancelling)
    }

    /// Whether its thread continues although the worker no longer waits for it.
    #[must_use]
    pub fn is_left_behind(&self) -> bool {
        self.abandoned && !self.ended
    }

    /// Its state for tasks that depend on it. No task starts beside a thread that was left behind.
    fn as_seen_by_dependents(&self) -> TaskState {
        match (self.is_left_behind(), self.waived) {
            (true, _) => TaskState::Cancelling,
            (false, true) => TaskState::Succeeded,
            (false, false) => self.state,
        }
    }
}

impl ActiveJob {
    /// Reads a job with its tasks.
    ///
    /// Fails with 3 if there is no such job; 1 or 69 if its rows cannot be read.
    pub fn load(connection: &Connection, id: JobId) -> Result<Self> {
        let job = jobs::get(connection, id)?;
        let positions: Vec<TaskId> = job.tasks.iter().map(|task| task.id).collect();
        let position = |id: &TaskId| positions.iter().position(|other| other == id);
        let tasks = job
            .tasks
            .iter()
            .map(|task| ActiveTask {
                id: task.id,
                kind: TaskKind::parse(&task.kind).ok_or_else(|| task.kind.clone()),
                server: task.server,
                state: task.state,
                exit_code: 0,
                error: None,
                was_running: task.was_running,
                waived: task.waived,
                blocked: false,
                ended: false,
                abandoned: false,
                cancelled_by: None,
                after: task
                    .depends_on
                    .iter()
                    .zip(&task.needs)
                    .filter_map(|(id, &needs)| Some((needs, position(id)?)))
                    .collect(),
            })
            .collect();

        Ok(Self {
            id,
            operation: job.operation.parse().map_err(|_| job.operation.clone()),
            servers: job.servers,
            requested_by: job.requested_by,
            tasks,
            cancellations: 0,
        })
    }

    /// What to do with a task. None if it is not pending or must not start.
    #[must_use]
    pub fn readiness(&self, task: usize) -> Option<Readiness> {
        let task = self
            .tasks
            .get(task)
            .filter(|task| task.state == TaskState::Pending && !task.blocked)?;
        let states: Vec<_> = task
            .after
            .iter()
            .filter_map(|&(needs, at)| Some((needs, self.tasks.get(at)?.as_seen_by_dependents())))
            .collect();
        Some(readiness(&states))
    }

    /// Its targets, and for an update also the servers that it stops and starts.
    #[must_use]
    pub fn all_servers(&self) -> BTreeSet<ServerId> {
        self.servers
            .iter()
            .copied()
            .chain(self.tasks.iter().filter_map(|task| task.server))
            .collect()
    }

    /// Whether the job stopped this server, which was running, and did not start it again.
    #[must_use]
    pub fn leaves_stopped(&self, server: ServerId) -> bool {
        let tasks = self.tasks.iter().filter(|task| task.server == Some(server));
        let facts: Vec<Facts<'_>> = tasks
            .map(|task| Facts {
                kind: task
                    .kind
                    .as_ref()
                    .map_or_else(String::as_str, |kind| kind.as_str()),
                state: task.state,
                error: task.error.as_deref(),
                was_running: task.was_running,
            })
            .collect();

        outcome::is_left_stopped(&facts)
    }

    /// Its server, if it has exactly one.
    #[must_use]
    pub fn only_server(&self) -> Option<ServerId> {
        if let [one] = self.servers[..] {
            Some(one)
        } else {
            None
        }
    }

    /// What threads that were left behind still work on.
    #[must_use]
    pub fn left_behind(&self) -> Vec<(TaskId, Candidate)> {
        let left = self.tasks.iter().filter(|task| task.is_left_behind());
        left.map(|task| {
            let servers = task.server.into_iter().collect::<Vec<_>>();
            (
                task.id,
                Candidate {
                    id: self.id,
                    exclusive: servers.is_empty(),
                    servers,
                },
            )
        })
        .collect()
    }

    /// Its tasks in the form that cancellation needs.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        self.tasks
            .iter()
            .map(|task| Known {
                state: task.state,
                after: task.after.clone(),
            })
            .collect()
    }

    /// The position of a task.
    #[must_use]
    pub fn position(&self, id: TaskId) -> Option<usize> {
        self.tasks.iter().position(|task| task.id == id)
    }
}
