//! What the journal says of a cancellation besides its steps: its beginning, what each signal led
//! to, a later --force, and the end of a job that was cancelled before any worker had it.

use std::time::Duration;

use crate::base::names::{CancellationId, JobId, TaskId};
use crate::db::cancellations::Cancellation;
use crate::db::runners::Runner;

/// An entry.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The worker takes it up.
    Begun(Cancellation),
    /// --force was added while it was under way.
    Escalated(Cancellation),
    /// What a signal led to.
    Signal(Signal),
}

/// A signal that a command got, and what it led to.
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

/// When the signals of a cancellation were sent, unix ms.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The job.
    pub job: JobId,
    /// The cancellation.
    pub cancellation: CancellationId,
    /// The first signal.
    pub at: i64,
    /// Whether the first one was SIGKILL already.
    pub is_kill: bool,
    /// How long a command has to obey.
    pub grace: Duration,
    /// Whether --force was given, from the start or later.
    pub force: bool,
    /// When --force was added.
    pub escalated_at: Option<i64>,
}

impl Sent {
    /// When a command that did not obey got SIGKILL: the grace was over, or --force came.
    fn kill_at(&self) -> i64 {
        let over = self.at.saturating_add(i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX));
        self.escalated_at.map_or(over, |at| at.min(over))
    }

    /// Whether a grace was over before its command had ended, and no --force had come until
    /// then. `closed`: the connections of those that did not answer were closed.
    #[must_use]
    pub fn has_timed_out(&self, ended: &[Runner], closed: bool, now: i64) -> bool {
        let forced = |at: i64| self.force && self.escalated_at.is_none_or(|since| since <= at);
        ended.iter().any(|runner| match runner.ended_by.as_deref() {
            Some("kill") => !forced(runner.ended_at.unwrap_or(now)),
            Some("lost") => closed && !forced(now),
            _ => false,
        })
    }
}

impl Entry {
    /// Tells the journal.
    pub fn tell(&self) {
        match self {
            Entry::Begun(record) => {
                let what = format!("cancelling {} {}", subject(record), by(record));
                about(record, &format!("{what}; it was {}", record.previous_state));
            }
            Entry::Escalated(record) => {
                about(record, &format!("cancelling {}: --force was added, what still runs is killed", subject(record)));
            }
            Entry::Signal(signal) => signal.tell(),
        }
    }
}

/// A job, or a task of it, that was cancelled before any worker had it.
pub fn before_execution(record: &Cancellation) {
    about(record, &format!("{} was cancelled before execution {}", subject(record), by(record)));
}

fn subject(record: &Cancellation) -> String {
    let task = record.task_id.map_or_else(String::new, |task| format!("task {task} of "));
    format!("{task}job {}", record.job_id)
}

fn by(record: &Cancellation) -> String {
    let force = if record.force { ", with --force" } else { "" };
    format!("{}{force}", super::told::by(&record.requested_by, &record.reason))
}

fn about(record: &Cancellation, message: &str) {
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
    fn tell(&self) {
        let Self { job, task, command, unit, signal, outcome, duration_ms, .. } = self;
        let message = format!("cancelling job {job}: {signal} to {command}: {outcome} after {duration_ms} ms");
        let (job_id, task_id, cancellation_id) = (job.0, task.0, self.cancellation.0);
        let (unit, pid) = (unit.as_deref(), self.pid);
        if *outcome == ENDED {
            tracing::info!(job_id, task_id, cancellation_id, unit, pid, signal, outcome, duration_ms, "{message}");
        } else {
            tracing::warn!(job_id, task_id, cancellation_id, unit, pid, signal, outcome, duration_ms, "{message}");
        }
    }
}

/// The command ended by it.
const ENDED: &str = "ended";

/// The signals that a command got which a cancellation ended, in their order.
#[must_use]
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
        command: runner.words(),
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
            vec![signal("SIGTERM", "ignored", sent.at, kill_at), signal("SIGKILL", last, kill_at, ended_at)]
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
    fn each_signal_has_its_outcome_and_its_duration() {
        let of = |ended_by, tree, sent: Sent| {
            let told = signals(&runner(ended_by, tree), &sent, 20_000).into_iter();
            told.map(|one| (one.signal, one.outcome, one.duration_ms)).collect::<Vec<_>>()
        };
        let empty = Some("empty");
        let asked = || sent(false, None);
        assert_eq!(of("terminate", empty, asked()), [("SIGTERM", "ended", 10_200)]);
        assert_eq!(of("kill", empty, asked()), [("SIGTERM", "ignored", 10_000), ("SIGKILL", "ended", 200)]);
        assert_eq!(of("kill", empty, sent(true, None)), [("SIGKILL", "ended", 10_200)]);
        let escalated = sent(true, Some(4000));
        assert_eq!(of("kill", empty, escalated), [("SIGTERM", "ignored", 3000), ("SIGKILL", "ended", 7200)]);
        assert_eq!(of("kill", Some("left"), asked())[1], ("SIGKILL", "not ended", 200));
        assert_eq!(of("lost", None, asked()), [("SIGTERM", "no answer", 10_200)]);
    }

    #[test]
    fn a_grace_that_is_over_is_no_force_and_a_force_is_no_grace_that_is_over() {
        let killed = [runner("terminate", Some("empty")), runner("kill", Some("empty"))];
        assert!(sent(false, None).has_timed_out(&killed, false, 20_000));
        assert!(!sent(true, None).has_timed_out(&killed, false, 20_000));
        assert!(!sent(true, Some(4000)).has_timed_out(&killed, false, 20_000));
        assert!(sent(true, Some(11_300)).has_timed_out(&killed, false, 20_000), "the kill came before the force");
        assert!(!sent(false, None).has_timed_out(&killed[..1], false, 20_000));
        assert!(sent(false, None).has_timed_out(&[runner("lost", None)], true, 20_000));
    }
}
