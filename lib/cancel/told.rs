//! The words in which rows, events and the journal tell of a cancellation.

use crate::base::names::{CancellationId, JobId, TaskId};
use crate::db::runners::Runner;
use crate::domain::cancellation::{Fate, Step};
use crate::domain::task::TaskState;
use crate::queue::live::LiveJob;

/// `by anna: match tonight`, or `by anna` when she did not say why.
pub fn by(who: &str, why: &str) -> String {
    if why.is_empty() { format!("by {who}") } else { format!("by {who}: {why}") }
}

/// Why a task ended.
pub fn end_of_task(by: &str, cause: Option<TaskId>) -> String {
    match cause {
        None => format!("cancelled {by}"),
        Some(task) => format!("goes with task {task}, which was cancelled {by}"),
    }
}

/// Which servers a cancelled job stopped and did not start again, and the command that does; empty when there is none.
pub fn left_stopped(job: &LiveJob) -> String {
    let left: Vec<String> =
        job.all_servers().into_iter().filter(|&id| job.leaves_stopped(id)).map(|id| id.to_string()).collect();
    if left.is_empty() {
        return String::new();
    }
    let options = left.iter().map(|id| format!(" --server {id}")).collect::<String>();
    format!("; it left server {} stopped: `left4me-job enqueue start{options}` starts what it stopped", left.join(", "))
}

/// `2 cancelled, 1 skipped`
pub fn settled(fates: &[Fate]) -> String {
    let count = |state| fates.iter().filter(|fate| fate.end == state).count();
    let (cancelled, skipped) = (count(TaskState::Cancelled), count(TaskState::Skipped));
    match (cancelled, skipped) {
        (0, 0) => "no task was left to cancel".to_owned(),
        (cancelled, 0) => format!("{cancelled} cancelled"),
        (cancelled, skipped) => format!("{cancelled} cancelled, {skipped} skipped"),
    }
}

/// What did not go well with the end of a command.
pub fn trouble(runner: &Runner) -> Option<String> {
    match (runner.ended_by.as_deref(), runner.tree.as_deref()) {
        (_, Some("left")) => Some(runner.undying()),
        (Some("lost"), None) => Some(format!("{} did not say how it ended", runner.words())),
        _ => None,
    }
}

/// `2 commands ended, 1 of them killed`, or `1 of 2 commands ended` when one is not known to have.
pub fn ended(runners: &[Runner]) -> String {
    let well: Vec<&Runner> = runners.iter().filter(|runner| trouble(runner).is_none()).collect();
    let killed = well.iter().filter(|runner| runner.ended_by.as_deref() == Some("kill")).count();
    if well.len() < runners.len() {
        let killed = if killed == 0 { String::new() } else { format!(", {killed} of them killed") };
        return format!("{} of {} commands ended{killed}", well.len(), runners.len());
    }
    match (well.len(), killed) {
        (0, _) => "no command had to be ended".to_owned(),
        (1, 0) => "1 command ended".to_owned(),
        (1, _) => "1 command killed".to_owned(),
        (all, 0) => format!("{all} commands ended"),
        (all, killed) => format!("{all} commands ended, {killed} of them killed"),
    }
}

/// A step that is over, for the journal.
#[derive(Clone, Debug)]
pub struct StepTold {
    pub(super) job: JobId,
    pub(super) task: Option<TaskId>,
    pub(super) cancellation: CancellationId,
    pub(super) step: Step,
    pub(super) ok: bool,
    pub(super) detail: String,
    pub(super) signal: Option<&'static str>,
    pub(super) duration_ms: i64,
}

impl StepTold {
    /// Whether it was the last step.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.step == Step::Finish
    }

    /// Tells the journal: what went wrong at warning, all else at info.
    pub fn tell(&self) {
        let Self { job, step, detail, duration_ms, .. } = self;
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
