//! Cancellation rules: its steps and states, and which tasks of the job end how. Pure: no I/O.

use crate::base::names::BadName;
use crate::base::visible::visible;
use crate::base::words::words;
use crate::domain::task::{Needs, TaskState};

/// The longest reason, in characters.
pub const REASON_LIMIT: usize = 1000;

/// Parses a cancellation's reason: one line of at most [`REASON_LIMIT`] characters, without control
/// characters.
pub fn reason(text: &str) -> Result<String, BadName> {
    match &*visible(text.trim()) {
        "" => Err(BadName::new("the reason is empty".to_owned())),
        text if text.chars().count() > REASON_LIMIT => Err(BadName::new(format!(
            "the reason is too long: at most {REASON_LIMIT} characters are allowed"
        ))),
        text if text.contains(char::is_control) => Err(BadName::new(
            "the reason must be one line without control characters".to_owned(),
        )),
        text => Ok(text.to_owned()),
    }
}

words! {
    /// The steps of a cancellation, in order.
    pub enum Step ("a step of a cancellation") {
        /// No further task of the job starts.
        Block = "block",
        /// Lists the running, pending and ended tasks.
        Identify = "identify",
        /// Ends the running commands, in parallel.
        Terminate = "terminate",
        /// Records the tasks' states.
        Settle = "settle",
        /// Removes temporary files.
        Clean = "clean",
        /// Verifies that no process is left, and reads the servers' states.
        Verify = "verify",
        /// Records the job's end.
        Finish = "finish",
    }
}

words! {
    /// The state of a step.
    pub enum StepState ("a state of a step") {
        /// Not begun.
        Pending = "pending",
        /// It is under way.
        Running = "running",
        /// Completed without an error.
        Succeeded = "succeeded",
        /// Ended with an error.
        Failed = "failed",
    }
}

impl StepState {
    /// The state of a step that has begun.
    pub fn of(finished_at: Option<i64>, ok: Option<bool>) -> Self {
        match (finished_at, ok) {
            (None, _) => StepState::Running,
            (Some(_), Some(false)) => StepState::Failed,
            (Some(_), _) => StepState::Succeeded,
        }
    }
}

words! {
    /// The state of a cancellation.
    pub enum Progress ("a state of a cancellation") {
        /// Recorded, not begun.
        Requested = "requested",
        /// Its steps are under way.
        Running = "running",
        Completed = "completed",
        /// A process, a file or a state could not be ended, removed or read; the record says which.
        Failed = "failed",
    }
}

impl Progress {
    /// Whether the cancellation has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Progress::Completed | Progress::Failed)
    }
}

/// What a cancellation applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The job with all its tasks.
    Job,
    /// The task at this position of the plan, and with `cascade` the tasks that depend on it.
    Task {
        /// Its position in the plan.
        at: usize,
        /// Whether its dependents are cancelled too.
        cascade: bool,
    },
}

/// What the rules need to know of a task.
#[derive(Clone, Debug)]
pub struct Known {
    pub state: TaskState,
    /// The positions that it depends on, and what it needs of each.
    pub after: Vec<(Needs, usize)>,
}

/// How a cancellation settles one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOutcome {
    /// Its position in the plan.
    pub at: usize,
    /// Cancelled; skipped when it never ran and only depends on another one that ends.
    pub end: TaskState,
    /// The task whose end causes this one's.
    pub caused_by: Option<usize>,
}

/// The tasks that a cancellation settles, and how. Tasks that have ended keep their state.
///
/// With `cascade` a task takes its own dependents with it, and then every task that needs the
/// *success* of one of those. A task that needs only the end of one of those still runs: cancelling
/// the stop of one server skips an update's install and that server's start, but the other servers
/// start again.
pub fn outcomes(tasks: &[Known], scope: Scope) -> Vec<TaskOutcome> {
    let live = |at: usize| tasks.get(at).is_some_and(|task| !task.state.is_terminal());
    let Scope::Task {
        at: target,
        cascade,
    } = scope
    else {
        let all = (0..tasks.len()).filter(|&at| live(at));
        return all
            .map(|at| TaskOutcome {
                at,
                end: TaskState::Cancelled,
                caused_by: None,
            })
            .collect();
    };

    let mut outcomes = Vec::new();
    if live(target) {
        outcomes.push(TaskOutcome {
            at: target,
            end: TaskState::Cancelled,
            caused_by: None,
        });
    }

    if !cascade || outcomes.is_empty() {
        return outcomes;
    }

    // Dependencies point to earlier tasks, so one pass in the plan's order sees each cause before
    // its effects.
    for (at, task) in tasks.iter().enumerate().skip(target + 1) {
        let goes_too = |&(needs, on): &(Needs, usize)| {
            on == target
                || (needs == Needs::Success && outcomes.iter().any(|outcome| outcome.at == on))
        };
        if live(at) && task.after.iter().any(goes_too) {
            let end = if task.state == TaskState::Pending {
                TaskState::Skipped
            } else {
                TaskState::Cancelled
            };

            outcomes.push(TaskOutcome {
                at,
                end,
                caused_by: Some(target),
            });
        }
    }

    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::ServerId;
    use crate::domain::operation::Operation;
    use crate::domain::plan::{Plan, plan};
    use crate::domain::update::UpdateOptions;
    use proptest::prelude::*;

    fn update(servers: i64, states: &[TaskState]) -> Vec<Known> {
        let running: Vec<ServerId> = (1..=servers).map(ServerId).collect();
        let in_place = UpdateOptions {
            in_place: true,
            ..UpdateOptions::default()
        };
        known(&plan(Operation::Update, &[], &running, &in_place), states)
    }

    fn known(plan: &Plan, states: &[TaskState]) -> Vec<Known> {
        let states = states
            .iter()
            .copied()
            .chain(std::iter::repeat(TaskState::Pending));
        let after =
            |edges: &[(usize, Needs)]| edges.iter().map(|&(at, needs)| (needs, at)).collect();
        plan.tasks
            .iter()
            .zip(states)
            .map(|(task, state)| Known {
                state,
                after: after(&task.after),
            })
            .collect()
    }

    fn ends(outcomes: &[TaskOutcome]) -> Vec<(usize, TaskState)> {
        outcomes
            .iter()
            .map(|outcome| (outcome.at, outcome.end))
            .collect()
    }

    #[test]
    fn a_cancelled_stop_takes_the_install_and_its_own_start_and_the_others_come_back() {
        use TaskState::{Cancelled, Running, Skipped, Succeeded};
        // Tasks: check 0, stop 1 2 3, install 4, initialize 5 7 9, start 6 8 10.
        let tasks = update(3, &[Succeeded, Succeeded, Running, Running]);
        let outcomes = outcomes(
            &tasks,
            Scope::Task {
                at: 2,
                cascade: true,
            },
        );

        assert_eq!(
            ends(&outcomes),
            [(2, Cancelled), (4, Skipped), (7, Skipped), (8, Skipped)]
        );
        assert!(
            outcomes[1..]
                .iter()
                .all(|outcome| outcome.caused_by == Some(2))
        );
    }

    #[test]
    fn a_cancelled_check_takes_the_whole_update_and_without_cascade_nothing() {
        use TaskState::{Cancelled, Running, Skipped};
        let tasks = update(1, &[Running]);
        let ended = |cascade| ends(&outcomes(&tasks, Scope::Task { at: 0, cascade }));
        assert_eq!(
            ended(true),
            [
                (0, Cancelled),
                (1, Skipped),
                (2, Skipped),
                (3, Skipped),
                (4, Skipped)
            ]
        );
        assert_eq!(ended(false), [(0, Cancelled)]);
    }

    #[test]
    fn a_cancelled_install_takes_the_starts_and_without_cascade_none() {
        use TaskState::{Cancelled, Running, Skipped, Succeeded};

        let tasks = update(2, &[Succeeded, Succeeded, Succeeded, Running]);
        let all = outcomes(
            &tasks,
            Scope::Task {
                at: 3,
                cascade: true,
            },
        );

        let [four, five, six, seven] = [4, 5, 6, 7].map(|at| (at, Skipped));
        assert_eq!(ends(&all), [(3, Cancelled), four, five, six, seven]);

        let one = outcomes(
            &tasks,
            Scope::Task {
                at: 3,
                cascade: false,
            },
        );

        assert_eq!(ends(&one), [(3, Cancelled)]);
        assert_eq!(
            ends(&outcomes(&tasks, Scope::Job)),
            [3, 4, 5, 6, 7].map(|at| (at, Cancelled))
        );

        assert_eq!(
            outcomes(
                &tasks,
                Scope::Task {
                    at: 0,
                    cascade: true
                }
            ),
            [],
            "it has ended"
        );

        assert_eq!(
            outcomes(
                &tasks,
                Scope::Task {
                    at: 99,
                    cascade: true
                }
            ),
            []
        );
    }

    #[test]
    fn a_reason_is_a_line_of_words() {
        assert_eq!(reason("  match tonight ").unwrap(), "match tonight");
        for bad in ["", "   ", "a\nb", "a\u{1b}[0m", &"x".repeat(100_000)] {
            assert!(reason(bad).is_err(), "{bad:.20}");
        }
    }

    proptest! {
        #[test]
        fn only_live_tasks_are_touched_and_who_runs_is_never_skipped(
            shape in proptest::collection::vec((0_usize..7, proptest::collection::vec((0_usize..20, prop::bool::ANY), 0..4)), 1..20),
            target in 0_usize..20, cascade in prop::bool::ANY,
        ) {
            let tasks: Vec<Known> = shape.iter().enumerate().map(|(at, (state, after))| Known {
                state: TaskState::ALL[*state],
                after: after.iter().filter(|(on, _)| *on < at)
                    .map(|&(on, success)| (if success { Needs::Success } else { Needs::End }, on)).collect(),
            }).collect();

            for scope in [Scope::Job, Scope::Task { at: target, cascade }] {
                let outcomes = outcomes(&tasks, scope);
                for outcome in &outcomes {
                    let state = tasks[outcome.at].state;
                    prop_assert!(!state.is_terminal());
                    prop_assert!(outcome.end == TaskState::Cancelled || state == TaskState::Pending);
                }

                let mut positions: Vec<_> = outcomes.iter().map(|outcome| outcome.at).collect();
                positions.dedup();
                prop_assert_eq!(positions.len(), outcomes.len(), "each once, in order");
                if scope == Scope::Job {
                    prop_assert_eq!(outcomes.len(), tasks.iter().filter(|task| !task.state.is_terminal()).count());
                }
            }
        }
    }
}
