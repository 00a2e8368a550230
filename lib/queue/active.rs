//! The active jobs, as the worker remembers them between ticks.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId, TaskId};
use crate::db::events::{self, NewEvent};
use crate::db::jobs;
use crate::domain::cancellation::Known;
use crate::domain::operation::Operation;
use crate::domain::outcome::{self, Facts};
use crate::domain::plan::Plan;
use crate::domain::schedule::Candidate;
use crate::domain::task::{Needs, Readiness, TaskKind, TaskState, readiness};
use crate::domain::update::UpdateOptions;

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
    /// Whether the server's game answered, as a stop task found it.
    pub answered: Option<bool>,
    /// The end of the worker has interrupted it.
    pub interrupted: bool,
    pub cancel: CancelPhase,
    /// The tasks that it depends on, by position in the job, each with the condition.
    pub after: Vec<(Needs, usize)>,
}

/// What a cancellation has done to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelPhase {
    /// No cancellation affects it.
    None,
    /// It must not start; if it runs, its command is being ended.
    Ending,
    /// Its thread, if it had one, has ended.
    Ended,
    /// Its thread has not ended, but the worker no longer waits for it. The thread may still work
    /// on the task's server or files.
    Abandoned {
        /// Whether it becomes `Waived` when its thread ends.
        waived: bool,
    },
    /// It counts as succeeded for tasks that depend on it.
    Waived,
}

/// A job that this worker runs.
#[derive(Clone, Debug)]
pub struct ActiveJob {
    pub id: JobId,
    /// The operation, or the unknown word from its row.
    pub operation: Result<Operation, String>,
    pub servers: Vec<ServerId>,
    pub requested_by: String,
    /// What was asked of an update or rollback.
    pub options: UpdateOptions,
    /// The update or rollback for which this restart waited.
    pub roll_of: Option<JobId>,
    pub tasks: Vec<ActiveTask>,
    /// Who cancelled the job or the first of its tasks, and why.
    pub cancelled_by: Option<(String, String)>,
    /// How many cancellations of the job or its tasks are in progress. The job does not end before
    /// they do.
    pub cancellations: usize,
}

impl ActiveTask {
    /// Whether it is in progress and takes a slot.
    pub fn is_running(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Cancelling)
    }

    pub fn is_batched(&self) -> bool {
        self.kind.as_ref().is_ok_and(|kind| kind.is_batched())
    }

    pub fn kind_name(&self) -> &str {
        match &self.kind {
            Ok(kind) => kind.as_str(),
            Err(word) => word,
        }
    }

    /// A cancellation begins: it must not start.
    pub fn block(&mut self) {
        if self.cancel == CancelPhase::None {
            self.cancel = CancelPhase::Ending;
        }
    }

    /// A cancellation has settled it. `waived`: it counts as succeeded for tasks that depend on it.
    pub fn settle(&mut self, waived: bool) {
        self.cancel = match self.cancel {
            CancelPhase::Abandoned { .. } => CancelPhase::Abandoned { waived },
            _ if waived => CancelPhase::Waived,
            _ => CancelPhase::Ended,
        };
    }

    /// Its thread has ended. False if no cancellation affects it: then its own outcome counts.
    pub fn end_thread(&mut self) -> bool {
        self.cancel = match self.cancel {
            CancelPhase::None => return false,
            CancelPhase::Ending | CancelPhase::Abandoned { waived: false } => CancelPhase::Ended,
            CancelPhase::Abandoned { waived: true } => CancelPhase::Waived,
            settled => settled,
        };
        true
    }

    /// Its state for tasks that depend on it. No task starts beside an abandoned thread.
    fn as_seen_by_dependents(&self) -> TaskState {
        match self.cancel {
            CancelPhase::Abandoned { .. } => TaskState::Cancelling,
            CancelPhase::Waived => TaskState::Succeeded,
            _ => self.state,
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
                answered: task.answered,
                interrupted: false,
                cancel: if task.waived {
                    CancelPhase::Waived
                } else {
                    CancelPhase::None
                },
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
            options: job.options,
            roll_of: job.roll_of,
            tasks,
            cancelled_by: None,
            cancellations: 0,
        })
    }

    /// Adds tasks that were inserted into its plan, with these ids.
    pub fn append(&mut self, plan: &Plan, ids: &[TaskId]) {
        let first = self.tasks.len();
        let added = plan.tasks.iter().zip(ids).map(|(task, &id)| ActiveTask {
            id,
            kind: Ok(task.kind),
            server: task.server,
            state: TaskState::Pending,
            exit_code: 0,
            error: None,
            was_running: None,
            answered: None,
            interrupted: false,
            cancel: CancelPhase::None,
            after: task
                .after
                .iter()
                .map(|&(at, needs)| (needs, first + at))
                .collect(),
        });
        self.tasks.extend(added);
    }

    /// The update or rollback whose restarts it carries out: itself, or the one for which it waited.
    pub fn roll(&self) -> Option<JobId> {
        let rolls_out = self.operation.as_ref().is_ok_and(|one| one.rolls_out());
        match rolls_out && !self.options.in_place {
            true => Some(self.id),
            false => self.roll_of,
        }
    }

    /// Whether an end of the job, whatever it is, must leave no server down that it stopped.
    pub fn starts_again(&self) -> bool {
        self.operation.as_ref().is_ok_and(|one| one.rolls_out()) || self.roll_of.is_some()
    }

    /// What to do with a task. None if it is not pending or must not start.
    pub fn readiness(&self, task: usize) -> Option<Readiness> {
        let task = self
            .tasks
            .get(task)
            .filter(|task| task.state == TaskState::Pending && task.cancel == CancelPhase::None)?;
        let states: Vec<_> = task
            .after
            .iter()
            .filter_map(|&(needs, at)| Some((needs, self.tasks.get(at)?.as_seen_by_dependents())))
            .collect();
        Some(readiness(&states))
    }

    /// Its targets, and for an update also the servers that it stops and starts.
    pub fn all_servers(&self) -> BTreeSet<ServerId> {
        self.servers
            .iter()
            .copied()
            .chain(self.tasks.iter().filter_map(|task| task.server))
            .collect()
    }

    /// Whether the job stopped this server, which was running, and did not start it again.
    pub fn leaves_stopped(&self, server: ServerId) -> bool {
        let tasks = self.tasks.iter().filter(|task| task.server == Some(server));
        let facts: Vec<Facts<'_>> = tasks
            .map(|task| Facts {
                kind: task.kind_name(),
                state: task.state,
                error: task.error.as_deref(),
                was_running: task.was_running,
            })
            .collect();

        outcome::is_left_stopped(&facts)
    }

    pub fn operation_name(&self) -> &str {
        match &self.operation {
            Ok(operation) => operation.as_str(),
            Err(word) => word,
        }
    }

    /// Its server, if it has exactly one.
    pub fn only_server(&self) -> Option<ServerId> {
        events::only_server(&self.servers)
    }

    /// An event about it, or about one of its tasks.
    pub fn event<'a>(
        &'a self,
        kind: &'a str,
        task: Option<&ActiveTask>,
        detail: &'a str,
    ) -> NewEvent<'a> {
        NewEvent {
            job: Some(self.id),
            task: task.map(|task| task.id),
            server: task.map_or_else(|| self.only_server(), |task| task.server),
            ..NewEvent::new(kind, &self.requested_by, detail)
        }
    }

    /// The tasks whose threads the worker no longer waits for, and what they may still work on.
    pub fn abandoned(&self) -> Vec<(TaskId, Candidate)> {
        let is_abandoned =
            |task: &&ActiveTask| matches!(task.cancel, CancelPhase::Abandoned { .. });
        let works_on = |task: &ActiveTask| Candidate {
            id: self.id,
            exclusive: task.server.is_none() && task.kind != Ok(TaskKind::CheckBuild),
            asks: task.kind == Ok(TaskKind::CheckBuild),
            servers: task.server.into_iter().collect(),
        };

        let tasks = self.tasks.iter().filter(is_abandoned);
        tasks.map(|task| (task.id, works_on(task))).collect()
    }

    /// Its tasks in the form that cancellation needs.
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
    pub fn position(&self, id: TaskId) -> Option<usize> {
        self.tasks.iter().position(|task| task.id == id)
    }
}
