//! A job's outcome for each of its servers. Pure: it follows from the tasks.

use serde::Serialize;

use crate::base::names::ServerId;
use crate::base::words::words;
use crate::domain::task::TaskState;

words! {
    /// A job's outcome for one server.
    pub enum Outcome ("an outcome") {
        /// None of its tasks has started.
        Pending = "pending",
        /// Its tasks are running.
        Running = "running",
        /// Every task is done.
        Succeeded = "succeeded",
        Failed = "failed",
        /// It ran before the job, which stopped it and ended before starting it again.
        LeftStopped = "left-stopped",
        /// Cancelled, or an earlier task did not succeed.
        Cancelled = "cancelled",
    }
}

impl Outcome {
    pub fn message(&self) -> &'static str {
        match self {
            Outcome::Pending => "not begun",
            Outcome::Running => "under way",
            Outcome::Succeeded => "done",
            Outcome::Failed => "failed",
            Outcome::LeftStopped => "left stopped",
            Outcome::Cancelled => "not done",
        }
    }
}

/// A server and a job's outcome for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerOutcome {
    pub server: ServerId,
    pub outcome: Outcome,
    /// The reason, if it did not succeed.
    pub error: Option<String>,
}

/// What the rules need to know of a task.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The word of its kind.
    pub kind: &'a str,
    pub state: TaskState,
    /// Why it failed or was skipped.
    pub error: Option<&'a str>,
    /// For a stop task: whether the server ran.
    pub was_running: Option<bool>,
}

/// The outcome of the server that has these tasks.
pub fn of(server: ServerId, tasks: &[Facts<'_>]) -> ServerOutcome {
    let with = |outcome, error: Option<String>| ServerOutcome {
        server,
        outcome,
        error,
    };

    let first = |state: TaskState| tasks.iter().find(|task| task.state == state);
    if is_left_stopped(tasks) {
        return with(
            Outcome::LeftStopped,
            Some("it ran before, and was not started again".to_owned()),
        );
    }

    if let Some(task) = first(TaskState::Failed) {
        return with(
            Outcome::Failed,
            Some(format!(
                "{}: {}",
                task.kind,
                task.error.unwrap_or("no reason is known")
            )),
        );
    }

    let is_live = |task: &Facts<'_>| !task.state.is_terminal();
    if tasks.iter().any(is_live) {
        let begun = tasks.iter().any(|task| task.state != TaskState::Pending);
        return with(
            if begun {
                Outcome::Running
            } else {
                Outcome::Pending
            },
            None,
        );
    }

    let undone = first(TaskState::Cancelled).or_else(|| first(TaskState::Skipped));
    match undone {
        Some(task) => with(
            Outcome::Cancelled,
            task.error.map(|error| format!("{}: {error}", task.kind)),
        ),
        None => with(Outcome::Succeeded, None),
    }
}

/// Whether the job stopped the server while it ran, and did not start it again.
pub fn is_left_stopped(tasks: &[Facts<'_>]) -> bool {
    let stopped = tasks
        .iter()
        .any(|task| task.state == TaskState::Succeeded && task.was_running == Some(true));
    let given_up = |task: &Facts<'_>| {
        task.kind.starts_with("start")
            && matches!(task.state, TaskState::Cancelled | TaskState::Skipped)
    };

    stopped && tasks.iter().any(given_up)
}

/// Whether the server is down for the job: the job stopped it while it ran, and has not started it
/// again.
pub fn is_down_for(tasks: &[Facts<'_>]) -> bool {
    let done = |task: &&Facts<'_>| task.state == TaskState::Succeeded;
    let mut done = tasks.iter().filter(done);
    let stopped = done.any(|task| task.was_running == Some(true));
    stopped && !done.any(|task| task.kind.starts_with("start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kind: &str, state: TaskState) -> Facts<'_> {
        Facts {
            kind,
            state,
            error: None,
            was_running: None,
        }
    }

    #[test]
    fn a_server_is_down_for_a_job_from_its_stop_to_its_start() {
        use TaskState::{Cancelled, Failed, Pending, Running, Succeeded};

        let with = |was_running, start| {
            let stop = Facts {
                was_running: Some(was_running),
                ..task("stop", Succeeded)
            };
            is_down_for(&[
                stop,
                task("initialize", Succeeded),
                task("start-if-ran", start),
            ])
        };
        for start in [Pending, Running, Failed, Cancelled] {
            assert!(with(true, start) && !with(false, start), "{start}");
        }
        assert!(!with(true, Succeeded));
        assert!(!is_down_for(&[
            task("stop", Running),
            task("start", Pending)
        ]));
    }

    #[test]
    fn each_server_of_a_job_ends_as_its_tasks_do() {
        use TaskState::{Cancelled, Failed, Pending, Running, Skipped, Succeeded};

        let stop = |state, was_running| Facts {
            was_running: Some(was_running),
            ..task("stop", state)
        };

        let failed = Facts {
            error: Some("signal 11"),
            ..task("start", Failed)
        };

        for (tasks, outcome) in [
            (
                vec![task("initialize", Pending), task("start", Pending)],
                Outcome::Pending,
            ),
            (
                vec![task("initialize", Succeeded), task("start", Pending)],
                Outcome::Running,
            ),
            (
                vec![task("initialize", Succeeded), task("start", Running)],
                Outcome::Running,
            ),
            (
                vec![task("initialize", Succeeded), task("start", Succeeded)],
                Outcome::Succeeded,
            ),
            (vec![task("initialize", Succeeded), failed], Outcome::Failed),
            (
                vec![stop(Succeeded, true), task("start-if-ran", Cancelled)],
                Outcome::LeftStopped,
            ),
            (
                vec![
                    stop(Succeeded, true),
                    task("initialize", Failed),
                    task("start", Skipped),
                ],
                Outcome::LeftStopped,
            ),
            (
                vec![stop(Succeeded, false), task("start-if-ran", Cancelled)],
                Outcome::Cancelled,
            ),
            (
                vec![stop(Cancelled, true), task("start-if-ran", Cancelled)],
                Outcome::Cancelled,
            ),
            (vec![stop(Succeeded, true), failed], Outcome::Failed),
        ] {
            assert_eq!(of(ServerId(1), &tasks).outcome, outcome, "{tasks:?}");
        }

        assert_eq!(
            of(ServerId(1), &[failed]).error.as_deref(),
            Some("start: signal 11")
        );
    }
}
