//! Task kinds and states, and which pending task may run.

use crate::base::words::words;

words! {
    /// What a task does: one host operation.
    pub enum TaskKind ("a task kind") {
        /// Asks Steam which build is published, through the runner.
        CheckBuild = "check-build",
        /// Runs steamcmd through the runner.
        InstallRuntime = "install-runtime",
        /// Makes what is installed a build that servers can take, through the publisher.
        PublishBuild = "publish-build",
        /// Makes a kept build the current one, through the publisher.
        UseBuild = "use-build",
        /// Removes the builds that nobody needs, through the publisher.
        RemoveBuilds = "remove-builds",
        /// Writes a server's settings and layer.
        Initialize = "initialize",
        /// Enables and starts a server's unit.
        Start = "start",
        /// Enables and starts a server's unit if this job's stop task found it running.
        StartIfRan = "start-if-ran",
        /// Disables and stops a server's unit.
        Stop = "stop",
        /// Empties a server's upper layer.
        PurgeUpper = "purge-upper",
        /// Removes the files of a server's upper layer that hide newer game files.
        PurgeStale = "purge-stale",
        /// Removes a server's instance and runtime directories.
        PurgeInstance = "purge-instance",
    }
}

impl TaskKind {
    /// Whether the task can change the state of the server's unit.
    pub fn changes_unit(self) -> bool {
        use TaskKind::{
            CheckBuild, Initialize, InstallRuntime, PublishBuild, RemoveBuilds, UseBuild,
        };
        !matches!(
            self,
            CheckBuild | InstallRuntime | PublishBuild | UseBuild | RemoveBuilds | Initialize
        )
    }

    /// Whether the helper does it for many servers over one connection. It bounds how many it works
    /// on at once, so these tasks of a job take one worker slot together.
    pub fn is_batched(self) -> bool {
        matches!(
            self,
            TaskKind::Start | TaskKind::StartIfRan | TaskKind::Stop
        )
    }
}

words! {
    /// The states of a task.
    pub enum TaskState ("a task state") {
        /// Waits for its dependencies or a free slot.
        Pending = "pending",
        /// Its host operation is running.
        Running = "running",
        /// Its host operation is being ended.
        Cancelling = "cancelling",
        Succeeded = "succeeded",
        Failed = "failed",
        /// A user cancelled it.
        Cancelled = "cancelled",
        /// It never ran, because a dependency did not succeed.
        Skipped = "skipped",
    }
}

impl TaskState {
    /// Whether the task has ended; such a state is final.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped
        )
    }

    /// Whether a transition to `next` is allowed.
    pub fn may_become(self, next: TaskState) -> bool {
        use TaskState::{Cancelled, Cancelling, Failed, Pending, Running, Skipped, Succeeded};
        matches!(
            (self, next),
            (Pending, Running | Cancelled | Skipped)
                | (Running, Succeeded | Failed | Cancelled | Cancelling)
                | (Cancelling, Cancelled)
        )
    }
}

words! {
    /// What a task needs of another one before it may run.
    pub enum Needs ("a kind of dependency") {
        /// Its success; otherwise this task is skipped.
        Success = "success",
        /// Its end, with any outcome: a failed install must not leave the servers down that it stopped.
        End = "end",
    }
}

/// What to do with a pending task, given the states of its dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Wait: a dependency has not ended.
    Wait,
    /// Run it.
    Ready,
    /// Skip it: it can never run.
    Skip,
}

/// Decides about a pending task.
pub fn readiness(dependencies: &[(Needs, TaskState)]) -> Readiness {
    let hopeless = |&(needs, state): &(Needs, TaskState)| {
        needs == Needs::Success && state.is_terminal() && state != TaskState::Succeeded
    };

    if dependencies.iter().any(hopeless) {
        Readiness::Skip
    } else if dependencies.iter().all(|(_, state)| state.is_terminal()) {
        Readiness::Ready
    } else {
        Readiness::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_transition_leaves_a_terminal_state_and_every_state_can_end() {
        for from in TaskState::ALL {
            let next: Vec<_> = TaskState::ALL
                .into_iter()
                .filter(|&to| from.may_become(to))
                .collect();
            assert_eq!(next.is_empty(), from.is_terminal(), "{from}");
        }

        assert!(!TaskState::Running.may_become(TaskState::Skipped));
    }

    #[test]
    fn every_kind_parses_from_its_own_word() {
        for kind in TaskKind::ALL {
            assert_eq!(TaskKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(TaskKind::parse("rm -rf"), None);
    }

    #[test]
    fn a_task_runs_when_what_it_needs_has_come_and_is_skipped_when_it_cannot_come() {
        use TaskState::{Failed, Pending, Running, Skipped, Succeeded};
        assert_eq!(readiness(&[]), Readiness::Ready);
        assert_eq!(
            readiness(&[(Needs::Success, Succeeded), (Needs::Success, Running)]),
            Readiness::Wait
        );

        assert_eq!(
            readiness(&[(Needs::Success, Failed), (Needs::Success, Pending)]),
            Readiness::Skip
        );

        assert_eq!(readiness(&[(Needs::Success, Skipped)]), Readiness::Skip);
        assert_eq!(readiness(&[(Needs::End, Failed)]), Readiness::Ready);
        assert_eq!(readiness(&[(Needs::End, Pending)]), Readiness::Wait);
    }
}
