//! A job's states, and how its outcome follows from its tasks.

use crate::base::words::words;
use crate::domain::task::TaskState;

words! {
    /// The states of a job. Terminal states are final: no transition leaves them.
    pub enum JobState ("a job state") {
        /// Accepted, waiting to start.
        Queued = "queued",
        /// A worker runs it.
        Running = "running",
        /// A worker is ending it.
        Cancelling = "cancelling",
        Succeeded = "succeeded",
        Failed = "failed",
        /// A user cancelled it.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Whether the job has ended; such a state is final.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled
        )
    }

    /// Whether a transition to `next` is allowed.
    pub fn may_become(self, next: JobState) -> bool {
        use JobState::{Cancelled, Cancelling, Failed, Queued, Running, Succeeded};
        matches!(
            (self, next),
            (Queued, Running | Cancelled)
                | (Running, Succeeded | Failed | Cancelled | Cancelling)
                | (Cancelling, Cancelled)
        )
    }
}

/// The outcome of a job whose tasks have all ended: failed if a task failed, else succeeded if any
/// succeeded, else cancelled. A job without tasks succeeds.
pub fn outcome(tasks: &[TaskState]) -> JobState {
    if tasks.contains(&TaskState::Failed) {
        JobState::Failed
    } else if tasks.contains(&TaskState::Succeeded) || tasks.is_empty() {
        JobState::Succeeded
    } else {
        JobState::Cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_transition_leaves_a_terminal_state_and_every_state_can_end() {
        for from in JobState::ALL {
            let next: Vec<_> = JobState::ALL
                .into_iter()
                .filter(|&to| from.may_become(to))
                .collect();
            assert_eq!(next.is_empty(), from.is_terminal(), "{from}");
            assert!(
                from.is_terminal() || from.may_become(JobState::Cancelled),
                "{from}"
            );
        }

        assert!(!JobState::Queued.may_become(JobState::Succeeded));
        assert!(!JobState::Cancelling.may_become(JobState::Failed));
    }

    #[test]
    fn a_job_fails_with_any_task_and_is_cancelled_only_when_nothing_succeeded() {
        use TaskState::{Cancelled, Failed, Skipped, Succeeded};
        assert_eq!(outcome(&[Succeeded, Failed, Cancelled]), JobState::Failed);
        assert_eq!(
            outcome(&[Succeeded, Cancelled, Skipped]),
            JobState::Succeeded
        );

        assert_eq!(outcome(&[Cancelled, Skipped]), JobState::Cancelled);
        assert_eq!(outcome(&[]), JobState::Succeeded);
    }
}
