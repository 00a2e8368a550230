//! Checks the queue: whether it is paused, whether a worker serves it, and processes that could not
//! be killed.

use std::path::Path;

use super::Finding;
use super::finding::Advice;
use crate::base::names::JobId;
use crate::base::{Result, clock};
use crate::db::queue::Pause;
use crate::db::runners::Runner;
use crate::db::under_way::{self, UnderWay};
use crate::db::{Db, candidates, jobs, queue};
use crate::domain::operation::Operation;
use crate::queue::recover;

/// The worker starts queued jobs when it starts.
const SERVE: &str =
    "systemctl restart left4me-worker.socket && systemctl start left4me-worker.service";

/// How long a job that could start may wait, in ms. After that, no worker serves the queue.
const TIMEOUT: i64 = 120_000;

pub(super) fn check(path: &Path, now: i64) -> Vec<Finding> {
    // The checks of the database report its problems.
    read(path)
        .map(|found| judge(&found, now))
        .unwrap_or_default()
}

struct QueueFacts {
    pause: Option<Pause>,
    waiting: i64,
    live: i64,
    /// The first queued job, and when it was queued.
    first: Option<(JobId, i64)>,
    under_way: Vec<UnderWay>,
    unkillable: Vec<Runner>,
    nonsense: Vec<String>,
}

fn read(path: &Path) -> Result<QueueFacts> {
    Db::peek(path, |tx| {
        let (waiting, live) = jobs::counts(tx)?;
        let first = candidates::queued(tx, JobId(0), 1)?
            .first()
            .map(|job| jobs::get(tx, job.id))
            .transpose()?;

        Ok(QueueFacts {
            pause: queue::pause(tx)?,
            waiting,
            live,
            first: first.map(|job| (job.id, job.created_at)),
            under_way: under_way::all(tx)?,
            unkillable: recover::unkillable(tx)?,
            nonsense: recover::invalid_rows(tx)?,
        })
    })
}

fn judge(found: &QueueFacts, now: i64) -> Vec<Finding> {
    let check = "queue";
    let QueueFacts { waiting, live, .. } = found;
    let text = format!("{waiting} waiting, {live} under way");
    let mut findings = vec![match (&found.pause, found.first) {
        (Some(pause), _) => {
            let why = pause
                .reason
                .as_deref()
                .filter(|why| !why.is_empty())
                .map_or(String::new(), |why| format!(": {why}"));
            let since = clock::span(now - pause.paused_at);
            let text = format!("paused by {} {since} ago{why}; {text}", pause.paused_by);
            Finding::warn(check, text, Advice::run("left4me-job resume"))
        }
        (None, Some((job, since)))
            if *live == 0 && found.unkillable.is_empty() && (now - since).abs() > TIMEOUT =>
        {
            let waits = match now > since {
                true => format!("waits for {}", clock::span(now - since)),
                false => "was accepted before the clock was set back".to_owned(),
            };

            let text = format!("no worker takes job {job}, which {waits}; {text}");
            let advice = Advice::root(SERVE).after("see the findings about the worker");
            Finding::fail(check, text, advice)
        }
        _ => Finding::ok(check, text),
    }];

    findings.extend(found.under_way.iter().filter_map(|job| overdue(job, now)));
    findings.extend(found.unkillable.iter().map(unkillable));

    let advice = Advice::root("systemctl restart left4me-worker.service")
        .after("no left4me of this version writes such a row: see who can write the database")
        .and("the worker settles it when it starts");
    findings.extend(
        found
            .nonsense
            .iter()
            .map(|row| Finding::warn("process", row.clone(), advice.clone())),
    );

    findings
}

/// Reports a job that runs longer than its kind usually does. It blocks its servers, and an
/// installation blocks the whole queue.
fn overdue(job: &UnderWay, now: i64) -> Option<Finding> {
    let age = job.overdue(now)?;
    let id = job.id;
    let (word, limit) = match job.operation {
        Some(operation) => (operation.as_str(), operation.overdue_after()),
        None => ("another operation", Operation::Start.overdue_after()),
    };

    let text = format!(
        "job {id} ({word}) has run for {}; its kind takes {} at most",
        clock::span(age),
        clock::span(limit)
    );

    let advice = Advice::run(format!(
        "left4me-job cancel {id} --reason 'it takes too long'"
    ))
    .after(format!(
        "`left4me-job logs {id} --follow` shows what it waits for"
    ))
    .and("which ends it");

    Some(Finding::warn("job", text, advice))
}

/// Reports a process that could not be killed and blocks what it works on.
fn unkillable(runner: &Runner) -> Finding {
    let advice = "it waits in the kernel, for a disk or network file system mostly: mend that, or \
                 reboot; the queue goes on by itself then";
    Finding::warn(
        "process",
        format!("{}: jobs for the same servers wait", runner.unkillable()),
        advice,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn judged(pause: Option<Pause>, live: i64, waits_since: i64) -> Finding {
        let found = QueueFacts {
            pause,
            waiting: 1,
            live,
            first: Some((JobId(7), waits_since)),
            under_way: Vec::new(),
            unkillable: Vec::new(),
            nonsense: Vec::new(),
        };

        judge(&found, 1_000_000).swap_remove(0)
    }

    #[test]
    fn a_job_that_runs_for_longer_than_its_kind_is_told_with_what_to_do() {
        let job = |operation, started_at| UnderWay {
            id: JobId(7),
            operation: Some(operation),
            started_at,
        };

        let now = 12_000_000;
        assert_eq!(overdue(&job(Operation::Update, 2_000_000), now), None);
        let finding = overdue(&job(Operation::Update, 1_000_000), now).unwrap();
        assert!(
            finding.severity == Severity::Warn
                && finding
                    .found
                    .contains("job 7 (update) has run for 3 h 3 min")
        );

        assert!(finding.advice.unwrap().contains("left4me-job cancel 7"));
        assert!(overdue(&job(Operation::Stop, 11_000_000), now).is_some());
    }

    #[test]
    fn a_queue_that_is_paused_or_that_nobody_serves_is_told() {
        assert_eq!(
            judged(None, 0, 990_000).severity,
            Severity::Ok,
            "it has just come"
        );

        assert_eq!(
            judged(None, 1, 0).severity,
            Severity::Ok,
            "it waits for one that is under way"
        );

        let stuck = judged(None, 0, 400_000);
        assert!(
            stuck.severity == Severity::Fail && stuck.found.contains("job 7"),
            "{stuck:?}"
        );

        let back = judged(None, 0, 4_600_000);
        assert!(
            back.severity == Severity::Fail && back.found.contains("before the clock was set back"),
            "{back:?}"
        );

        let pause = Pause {
            paused_at: 400_000,
            paused_by: "anna".to_owned(),
            reason: Some("disk".to_owned()),
        };

        let paused = judged(Some(pause), 0, 400_000);

        assert!(
            paused.severity == Severity::Warn
                && paused.found.contains("by anna 10 min 0 s ago: disk"),
            "{paused:?}"
        );
    }
}
