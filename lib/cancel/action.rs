//! What the worker does for a cancellation outside the transaction, once that is committed.

use crate::base::names::{CancellationId, JobId, TaskId};
use crate::cancel::cleaner::CleanUp;
use crate::cancel::journal::JournalMessage;
use crate::domain::cancellation::Step;
use crate::wire::Cancel;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// End the commands of these tasks.
    EndCommands {
        job: JobId,
        tasks: Vec<TaskId>,
        /// How urgently.
        how: Cancel,
        /// A line for the job's log.
        message: String,
    },
    /// Close the connections of these tasks: their commands did not end in time.
    CloseConnections(Vec<TaskId>),
    /// Clean up and verify, in a thread of its own. The report goes to
    /// [`super::tracker::Tracker::add_report`].
    CleanUp(CleanUp),
    /// Write to the journal.
    Log(JournalMessage),
    /// Write a finished step to the journal.
    LogStep(FinishedStep),
}

/// A finished step, for the journal.
#[derive(Clone, Debug)]
pub struct FinishedStep {
    pub(super) job: JobId,
    pub(super) task: Option<TaskId>,
    pub(super) cancellation: CancellationId,
    pub(super) step: Step,
    pub(super) ok: bool,
    pub(super) detail: String,
    pub(super) signal: Option<&'static str>,
    pub(super) duration_ms: i64,
}

impl FinishedStep {
    /// Whether it was the last step.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.step == Step::Finish
    }

    /// Writes it to the journal: a failed step as a warning, the others as info.
    pub fn log(&self) {
        let Self {
            job,
            step,
            detail,
            duration_ms,
            ..
        } = self;

        let (job_id, cancellation_id) = (job.0, self.cancellation.0);
        let task_id = self.task.map(|id| id.0);
        let signal = self.signal;
        let step_name = step.as_str();

        if self.ok {
            tracing::info!(
                job_id,
                task_id,
                cancellation_id,
                step = step_name,
                signal,
                duration_ms,
                "cancelling job {job}: {step}: {detail}"
            );
        } else {
            tracing::warn!(
                job_id,
                task_id,
                cancellation_id,
                step = step_name,
                signal,
                duration_ms,
                "cancelling job {job}: {step} failed: {detail}"
            );
        }
    }
}
