//! Writes the start and the end of jobs to the journal.

use crate::base::journal::info_or_warn;
use crate::base::names::JobId;
use crate::domain::job::JobState;
use crate::queue::active::ActiveJob;

/// A job that a worker has claimed.
#[derive(Clone, Debug)]
pub struct Started {
    job: JobId,
    operation: String,
    requested_by: String,
}

/// A job that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    pub job: JobId,
    pub state: JobState,
    /// The operation; empty if its row cannot be read.
    operation: String,
    exit_code: i64,
    /// Why it failed or was cancelled.
    why: Option<String>,
}

impl Started {
    pub fn of(job: &ActiveJob) -> Self {
        Self {
            job: job.id,
            operation: job.operation_name().to_owned(),
            requested_by: job.requested_by.clone(),
        }
    }

    /// Writes it to the journal.
    pub fn log(&self) {
        let Self {
            job,
            operation,
            requested_by,
        } = self;

        tracing::info!(
            job_id = job.0,
            operation,
            requested_by,
            "job {job} started: {operation}, for {requested_by}"
        );
    }
}

impl Finished {
    /// For this job, with its end.
    pub fn of(job: &ActiveJob, state: JobState, exit_code: i64, why: Option<String>) -> Self {
        Self {
            job: job.id,
            state,
            operation: job.operation_name().to_owned(),
            exit_code,
            why,
        }
    }

    /// For a job whose rows cannot be read.
    pub fn unreadable(job: JobId, why: String) -> Self {
        Self {
            job,
            state: JobState::Failed,
            operation: String::new(),
            exit_code: 1,
            why: Some(why),
        }
    }

    /// Writes it to the journal: a failure as a warning, everything else as info.
    pub fn log(&self) {
        let Self {
            job,
            state,
            operation,
            exit_code,
            why,
        } = self;

        let why = why.as_deref().unwrap_or_default();
        let message = if why.is_empty() {
            format!("job {job} {state}")
        } else {
            format!("job {job} {state}: {why}")
        };

        info_or_warn!(
            *state == JobState::Failed,
            job_id = job.0,
            operation,
            state = state.as_str(),
            exit_code,
            "{message}"
        );
    }
}
