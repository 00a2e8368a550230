//! The journal's lines about a cancellation: its beginning, its steps, the outcome of each signal,
//! a later --force, and a job that was cancelled while it was queued.

use std::time::Duration;

use crate::base::journal::info_or_warn;
use crate::base::names::{CancellationId, JobId, TaskId};
use crate::cancel::messages;
use crate::db::cancellations::Cancellation;
use crate::db::runners::Runner;
use crate::domain::cancellation::Step;

/// A message for the journal.
#[derive(Clone, Debug)]
pub enum JournalMessage {
    /// The worker began with the cancellation.
    Begun(Cancellation),
    /// --force was added while it was under way.
    Escalated(Cancellation),
    /// A signal and its outcome.
    Signal(Signal),
    Step(FinishedStep),
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
    fn log(&self) {
        let Self {
            job,
            step,
            detail,
            duration_ms,
            ..
        } = self;

        let failed = if self.ok { "" } else { " failed" };
        info_or_warn!(
            !self.ok,
            job_id = job.0,
            task_id = self.task.map(|id| id.0),
            cancellation_id = self.cancellation.0,
            step = step.as_str(),
            signal = self.signal,
            duration_ms,
            "cancelling job {job}: {step}{failed}: {detail}"
        );
    }
}

/// A signal that was sent to a command, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    job: JobId,
    task: TaskId,
    cancellation: CancellationId,
    command: String,
    unit: Option<String>,
    pid: Option<i64>,
    signal: &'static str,
    outcome: &'static str,
    duration_ms: i64,
}

/// What is known about the signals that a cancellation sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub job: JobId,
    pub cancellation: CancellationId,
    /// When the first signal was sent, unix ms.
    pub at: i64,
    /// Whether the first signal was SIGKILL.
    pub is_kill: bool,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Whether --force was given, from the start or later.
    pub force: bool,
    /// When --force was added, unix ms.
    pub escalated_at: Option<i64>,
}

impl Sent {
    /// When a command that ignored SIGTERM got SIGKILL: at the end of the grace, or when --force
    /// was added.
    fn kill_at(&self) -> i64 {
        let grace = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        let grace_end = self.at.saturating_add(grace);
        self.escalated_at.map_or(grace_end, |at| at.min(grace_end))
    }

    /// Whether a command outlived its grace without --force. `closed`: the connections of the
    /// commands that did not answer were closed.
    pub fn has_timed_out(&self, ended: &[Runner], closed: bool, now: i64) -> bool {
        let forced = |at: i64| self.force && self.escalated_at.is_none_or(|since| since <= at);
        ended.iter().any(|runner| match runner.ended_by.as_deref() {
            Some("kill") => !forced(runner.ended_at.unwrap_or(now)),
            Some("lost") => closed && !forced(now),
            _ => false,
        })
    }
}

impl JournalMessage {
    /// Whether the cancellation ends with it.
    pub fn is_last(&self) -> bool {
        matches!(self, JournalMessage::Step(step) if step.step == Step::Finish)
    }

    /// Writes it to the journal.
    pub fn log(&self) {
        match self {
            JournalMessage::Begun(record) => {
                let what = format!("cancelling {} {}", subject(record), by(record));
                log(record, &format!("{what}; it was {}", record.previous_state));
            }
            JournalMessage::Escalated(record) => {
                let what = subject(record);
                log(
                    record,
                    &format!("cancelling {what}: --force was added: running commands are killed"),
                );
            }
            JournalMessage::Signal(signal) => signal.log(),
            JournalMessage::Step(step) => step.log(),
        }
    }
}

/// Logs the cancellation of a queued job, or of a task of it.
pub fn log_queued(record: &Cancellation) {
    log(
        record,
        &format!(
            "{} was cancelled before execution {}",
            subject(record),
            by(record)
        ),
    );
}

fn subject(record: &Cancellation) -> String {
    let task = record
        .task_id
        .map_or_else(String::new, |task| format!("task {task} of "));
    format!("{task}job {}", record.job_id)
}

fn by(record: &Cancellation) -> String {
    let force = if record.force { ", with --force" } else { "" };
    format!(
        "{}{force}",
        messages::by(&record.requested_by, &record.reason)
    )
}

fn log(record: &Cancellation, message: &str) {
    tracing::info!(
        job_id = record.job_id.0,
        task_id = record.task_id.map(|id| id.0),
        cancellation_id = record.id.0,
        requested_by = record.requested_by,
        reason = record.reason,
        force = record.force,
        previous_state = record.previous_state,
        "{message}"
    );
}

impl Signal {
    fn log(&self) {
        let Self {
            job,
            task,
            command,
            unit,
            signal,
            outcome,
            duration_ms,
            ..
        } = self;

        let message = format!(
            "cancelling job {job}: {signal} to {command}: {outcome} after {duration_ms} ms"
        );
        info_or_warn!(
            *outcome != ENDED,
            job_id = job.0,
            task_id = task.0,
            cancellation_id = self.cancellation.0,
            unit = unit.as_deref(),
            pid = self.pid,
            signal,
            outcome,
            duration_ms,
            "{message}"
        );
    }
}

/// The outcome of a signal that ended the command.
const ENDED: &str = "ended";

/// The signals that a cancelled command got, in order.
pub fn signals(runner: &Runner, sent: &Sent, now: i64) -> Vec<Signal> {
    let ended_at = runner.ended_at.unwrap_or(now).max(sent.at);
    let last = match (runner.ended_by.as_deref(), runner.tree.as_deref()) {
        (_, Some("left")) => "not ended",
        (Some("lost"), _) => "no answer",
        _ => ENDED,
    };

    let signal = |signal, outcome, from: i64, to: i64| Signal {
        job: sent.job,
        task: runner.task_id,
        cancellation: sent.cancellation,
        command: runner.message(),
        unit: runner.unit.clone(),
        pid: runner.pid,
        signal,
        outcome,
        duration_ms: (to - from).max(0),
    };

    let killed = runner.ended_by.as_deref() == Some("kill");
    match (sent.is_kill, killed) {
        (true, _) => vec![signal("SIGKILL", last, sent.at, ended_at)],
        (false, false) => vec![signal("SIGTERM", last, sent.at, ended_at)],
        (false, true) => {
            let kill_at = sent.kill_at().clamp(sent.at, ended_at);
            vec![
                signal("SIGTERM", "ignored", sent.at, kill_at),
                signal("SIGKILL", last, kill_at, ended_at),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(ended_by: &str, tree: Option<&str>) -> Runner {
        Runner {
            id: 1,
            task_id: TaskId(3),
            verb: "install".to_owned(),
            unit: None,
            pid: None,
            cgroup: None,
            started_at: 0,
            ended_at: Some(11_200),
            exit_code: None,
            ended_by: Some(ended_by.to_owned()),
            tree: tree.map(str::to_owned),
        }
    }

    fn sent(force: bool, escalated_at: Option<i64>) -> Sent {
        Sent {
            job: JobId(7),
            cancellation: CancellationId(1),
            at: 1000,
            is_kill: force && escalated_at.is_none(),
            grace: Duration::from_secs(10),
            force,
            escalated_at,
        }
    }

    #[test]
    fn each_signal_has_an_outcome_and_a_duration() {
        let of = |ended_by, tree, sent: Sent| {
            let signals = signals(&runner(ended_by, tree), &sent, 20_000).into_iter();
            signals
                .map(|one| (one.signal, one.outcome, one.duration_ms))
                .collect::<Vec<_>>()
        };

        let empty = Some("empty");
        let gentle = || sent(false, None);

        assert_eq!(
            of("terminate", empty, gentle()),
            [("SIGTERM", "ended", 10_200)]
        );

        assert_eq!(
            of("kill", empty, gentle()),
            [("SIGTERM", "ignored", 10_000), ("SIGKILL", "ended", 200)]
        );

        assert_eq!(
            of("kill", empty, sent(true, None)),
            [("SIGKILL", "ended", 10_200)]
        );

        let escalated = sent(true, Some(4000));
        assert_eq!(
            of("kill", empty, escalated),
            [("SIGTERM", "ignored", 3000), ("SIGKILL", "ended", 7200)]
        );

        assert_eq!(
            of("kill", Some("left"), gentle())[1],
            ("SIGKILL", "not ended", 200)
        );

        assert_eq!(
            of("lost", None, gentle()),
            [("SIGTERM", "no answer", 10_200)]
        );
    }

    #[test]
    fn a_timeout_is_the_end_of_the_grace_without_force() {
        let killed = [
            runner("terminate", Some("empty")),
            runner("kill", Some("empty")),
        ];

        assert!(sent(false, None).has_timed_out(&killed, false, 20_000));
        assert!(!sent(true, None).has_timed_out(&killed, false, 20_000));
        assert!(!sent(true, Some(4000)).has_timed_out(&killed, false, 20_000));
        assert!(
            sent(true, Some(11_300)).has_timed_out(&killed, false, 20_000),
            "the kill came before the force"
        );

        assert!(!sent(false, None).has_timed_out(&killed[..1], false, 20_000));
        assert!(sent(false, None).has_timed_out(&[runner("lost", None)], true, 20_000));
    }
}
