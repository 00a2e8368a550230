//! The texts about a cancellation in rows, events and the journal.

use crate::base::names::{JobId, ServerId, TaskId};
use crate::db::runners::Runner;
use crate::domain::cancellation::TaskOutcome;
use crate::domain::task::TaskState;
use crate::queue::active::ActiveJob;

/// `by anna: match tonight`, or `by anna` without a reason.
pub fn by(who: &str, why: &str) -> String {
    if why.is_empty() {
        format!("by {who}")
    } else {
        format!("by {who}: {why}")
    }
}

pub fn end_of_task(by: &str, cause: Option<TaskId>) -> String {
    match cause {
        None => format!("cancelled {by}"),
        Some(task) => format!("goes with task {task}, which was cancelled {by}"),
    }
}

/// Names the servers that a cancelled job stopped and did not start again, with the command that
/// starts them. Empty when there is none.
pub fn left_stopped(job: &ActiveJob) -> String {
    let servers = job
        .all_servers()
        .into_iter()
        .filter(|&id| job.leaves_stopped(id));
    let left: Vec<String> = servers.map(|id| id.to_string()).collect();
    if left.is_empty() {
        return String::new();
    }

    let options = left
        .iter()
        .map(|id| format!(" --server {id}"))
        .collect::<String>();
    format!(
        "; it left server {} stopped: `left4me-job enqueue start{options}` starts what it stopped",
        left.join(", ")
    )
}

/// `2 cancelled, 1 skipped`
pub fn settled(outcomes: &[TaskOutcome]) -> String {
    let count = |state| {
        outcomes
            .iter()
            .filter(|outcome| outcome.end == state)
            .count()
    };
    let (cancelled, skipped) = (count(TaskState::Cancelled), count(TaskState::Skipped));
    match (cancelled, skipped) {
        (0, 0) => "no task was left to cancel".to_owned(),
        (cancelled, 0) => format!("{cancelled} cancelled"),
        (cancelled, skipped) => format!("{cancelled} cancelled, {skipped} skipped"),
    }
}

/// `; job 12 starts server 1, 2 again`: what the cancelled job has stopped.
pub fn started_again(servers: &[ServerId], by: JobId) -> String {
    let names: Vec<String> = servers.iter().map(ServerId::to_string).collect();
    let servers = if names.len() == 1 {
        "server"
    } else {
        "servers"
    };
    format!("; job {by} starts {servers} {} again", names.join(", "))
}

/// The problem with the end of a command, if there is one.
pub fn trouble(runner: &Runner) -> Option<String> {
    match (runner.ended_by.as_deref(), runner.tree.as_deref()) {
        (_, Some("left")) => Some(runner.unkillable()),
        (Some("lost"), None) => Some(format!("{} did not say how it ended", runner.message())),
        _ => None,
    }
}

/// `2 commands ended, 1 of them killed`, or `1 of 2 commands ended` when one is not known to have.
pub fn ended(runners: &[Runner]) -> String {
    let known: Vec<&Runner> = runners
        .iter()
        .filter(|runner| trouble(runner).is_none())
        .collect();
    let is_killed = |runner: &&&Runner| runner.ended_by.as_deref() == Some("kill");
    let killed = known.iter().filter(is_killed).count();

    if known.len() < runners.len() {
        let killed = if killed == 0 {
            String::new()
        } else {
            format!(", {killed} of them killed")
        };

        return format!(
            "{} of {} commands ended{killed}",
            known.len(),
            runners.len()
        );
    }

    match (known.len(), killed) {
        (0, _) => "no command had to be ended".to_owned(),
        (1, 0) => "1 command ended".to_owned(),
        (1, _) => "1 command killed".to_owned(),
        (all, 0) => format!("{all} commands ended"),
        (all, killed) => format!("{all} commands ended, {killed} of them killed"),
    }
}
