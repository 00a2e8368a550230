//! The jobs that a worker runs, as it remembers them between turns.

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

/// A task of a job that this worker runs.
#[derive(Clone, Debug)]
pub struct LiveTask {
    /// Its row.
    pub id: TaskId,
    /// What it does; the word itself when this program does not know it.
    pub kind: Result<TaskKind, String>,
    /// On which server.
    pub server: Option<ServerId>,
    /// Its state.
    pub state: TaskState,
    /// 0 on success.
    pub exit_code: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// What a stop task found.
    pub was_running: Option<bool>,
    /// It was cancelled, and for those that depend on it it counts as succeeded.
    pub waived: bool,
    /// A cancellation is about it: it does not begin any more.
    pub blocked: bool,
    /// It is being cancelled, and its thread has ended.
    pub ended: bool,
    /// Nobody waits for its thread any longer, which has not ended: it may still work on what the task is about.
    pub abandoned: bool,
    /// Who cancelled it, and why.
    pub cancelled_by: Option<(String, String)>,
    /// Positions within the job, and what is needed of them.
    pub after: Vec<(Needs, usize)>,
}

/// A job that this worker runs.
#[derive(Clone, Debug)]
pub struct LiveJob {
    /// Its row.
    pub id: JobId,
    /// The operation; the word itself when this program does not know it.
    pub operation: Result<Operation, String>,
    /// Its targets.
    pub servers: Vec<ServerId>,
    /// Who asked for it.
    pub requested_by: String,
    /// Its plan.
    pub tasks: Vec<LiveTask>,
    /// How many cancellations of it, or of its tasks, are under way: it does not end before they have.
    pub cancellations: usize,
}

impl LiveTask {
    /// Whether its operation is under way, and takes a slot.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Cancelling)
    }

    /// Whether its thread goes on though nobody waits for it.
    #[must_use]
    pub fn is_left_behind(&self) -> bool {
        self.abandoned && !self.ended
    }

    /// What it is for those that depend on it: nothing begins beside a thread that was left behind.
    fn as_seen_by_dependents(&self) -> TaskState {
        match (self.is_left_behind(), self.waived) {
            (true, _) => TaskState::Cancelling,
            (false, true) => TaskState::Succeeded,
            (false, false) => self.state,
        }
    }
}

impl LiveJob {
    /// Reads a job with its tasks.
    ///
    /// # Errors
    /// 3 when there is none; 1 or 69 when its rows cannot be read.
    pub fn load(connection: &Connection, id: JobId) -> Result<Self> {
        let job = jobs::get(connection, id)?;
        let positions: Vec<TaskId> = job.tasks.iter().map(|task| task.id).collect();
        let position = |id: &TaskId| positions.iter().position(|other| other == id);
        let tasks = job
            .tasks
            .iter()
            .map(|task| LiveTask {
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

    /// What is to be done with a task; none when it is not pending, or must not begin any more.
    #[must_use]
    pub fn readiness(&self, task: usize) -> Option<Readiness> {
        let task = self.tasks.get(task).filter(|task| task.state == TaskState::Pending && !task.blocked)?;
        let states: Vec<_> = task
            .after
            .iter()
            .filter_map(|&(needs, at)| Some((needs, self.tasks.get(at)?.as_seen_by_dependents())))
            .collect();
        Some(readiness(&states))
    }

    /// Its targets and, for an update, those that it stopped and started.
    #[must_use]
    pub fn all_servers(&self) -> BTreeSet<ServerId> {
        self.servers.iter().copied().chain(self.tasks.iter().filter_map(|task| task.server)).collect()
    }

    /// Whether the job stopped this server, which ran, and did not start it again.
    #[must_use]
    pub fn leaves_stopped(&self, server: ServerId) -> bool {
        let tasks = self.tasks.iter().filter(|task| task.server == Some(server));
        let facts: Vec<Facts<'_>> = tasks
            .map(|task| Facts {
                kind: task.kind.as_ref().map_or_else(String::as_str, |kind| kind.as_str()),
                state: task.state,
                error: task.error.as_deref(),
                was_running: task.was_running,
            })
            .collect();

        outcome::is_left_stopped(&facts)
    }

    /// Its server, when it has one only.
    #[must_use]
    pub fn only_server(&self) -> Option<ServerId> {
        if let [one] = self.servers[..] { Some(one) } else { None }
    }

    /// What a thread of it that was left behind still works on.
    #[must_use]
    pub fn left_behind(&self) -> Vec<(TaskId, Candidate)> {
        let left = self.tasks.iter().filter(|task| task.is_left_behind());
        left.map(|task| {
            let servers = task.server.into_iter().collect::<Vec<_>>();
            (task.id, Candidate { id: self.id, exclusive: servers.is_empty(), servers })
        })
        .collect()
    }

    /// Its tasks as cancelling needs to know them.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        self.tasks.iter().map(|task| Known { state: task.state, after: task.after.clone() }).collect()
    }

    /// The position of a task.
    #[must_use]
    pub fn position(&self, id: TaskId) -> Option<usize> {
        self.tasks.iter().position(|task| task.id == id)
    }
}
