//! A job's page: what it is, its plan, how far it is, its log, who cancelled what.

use askama::Template;
use axum::response::Response;
use rusqlite::Connection;

use super::extract::{IsRefresh, PathId};
use super::frame::{Frame, page};
use super::parts::{self, Elapsed, took};
use crate::base::clock;
use crate::base::names::{JobId, ServerId, TaskId};
use crate::base::{Result, secret};
use crate::cancel::result::{self, CancelResult};
use crate::db::cancellations;
use crate::db::jobs::{self, Job};
use crate::db::logs::{self, Line};
use crate::db::queue::{self, Pause};
use crate::db::runners::{self, Runner};
use crate::db::servers::{self, Server};
use crate::db::tasks::{self, Task};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::outcome::{Outcome, ServerOutcome};
use crate::domain::server::ActualState;
use crate::domain::steam;
use crate::domain::task::{Needs, TaskState};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

/// So many of the log's last lines are in the page itself.
const LINES: u32 = 500;
/// So many cancellations and commands are shown: a job with more has been played with.
const MOST: usize = 50;

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    job: Job,
    took: Elapsed,
    servers: Vec<(ServerId, Option<String>)>,
    tasks: Vec<TaskLine>,
    outcomes: Vec<OutcomeLine>,
    cancellations: Vec<Cancelled>,
    runners: Vec<Runner>,
    pause: Option<Pause>,
    lines: Vec<Line>,
    /// While it installs: how far it is, as soon as steamcmd has told.
    progress: Option<Option<(String, String)>>,
    /// What can be cancelled by itself: number and words.
    live_tasks: Vec<(TaskId, String)>,
    can_retry: bool,
    /// The servers that are stopped for this update or rollback.
    down_for: Vec<ServerId>,
    key: String,
    /// Servers whose start is offered or may be again.
    watched: String,
}

/// A task of the plan.
struct TaskLine {
    id: TaskId,
    number: usize,
    kind: String,
    server: Option<(ServerId, String)>,
    state: TaskState,
    after: String,
    took: Elapsed,
    error: Option<String>,
    exit_code: Option<i64>,
}

/// How the job ended for a server.
struct OutcomeLine {
    id: ServerId,
    name: String,
    words: &'static str,
    error: Option<String>,
    /// It ran before, nothing of this job will start it any more, and it is down still.
    offer_start: bool,
}

impl OutcomeLine {
    /// Of each server, unless all went well, or there is one and the job says it itself.
    fn all(job: &Job, names: &[(ServerId, String)], down: &[ServerId]) -> Vec<Self> {
        let left = |one: &ServerOutcome| one.outcome == Outcome::LeftStopped;
        let is_told = job.server_outcomes.len() < 2 && !job.server_outcomes.iter().any(left);
        if is_told
            || job
                .server_outcomes
                .iter()
                .all(|one| one.outcome == Outcome::Succeeded)
        {
            return Vec::new();
        }
        let line = |one: &ServerOutcome| Self {
            id: one.server,
            name: parts::server_name(one.server, names),
            words: one.outcome.message(),
            error: one.error.clone(),
            offer_start: left(one) && down.contains(&one.server),
        };

        job.server_outcomes.iter().map(line).collect()
    }
}

/// A cancellation, and when it was asked for.
struct Cancelled {
    at: i64,
    scope: String,
    /// State, step, how long, what else.
    steps: Vec<(&'static str, String, Elapsed, Option<String>)>,
    told: CancelResult,
}

struct Loaded {
    job: Job,
    names: Vec<(ServerId, String)>,
    /// Servers that an ended job left stopped and that are stopped still.
    down: Vec<ServerId>,
    cancellations: Vec<Cancelled>,
    runners: Vec<Runner>,
    pause: Option<Pause>,
    lines: Vec<Line>,
    progress: Option<Option<(String, String)>>,
    exclusive: bool,
}

fn load(db: &Connection, viewer: &Viewer, id: JobId, again: bool, now: i64) -> Result<Loaded> {
    viewer.may_see_job(db, id)?;
    let job = jobs::get(db, id)?;
    let mut names: Vec<(ServerId, String)> = Vec::new();
    for (server, name) in job.servers.iter().zip(&job.server_names) {
        names.extend(name.as_ref().map(|name| (*server, name.clone())));
    }
    // An update has no servers of its own, its tasks have.
    if job.tasks.iter().any(|task| {
        task.server
            .is_some_and(|server| !job.servers.contains(&server))
    }) {
        names = servers::names(db)?;
    }

    let mut found = Vec::new();
    for record in cancellations::of_job(db, id)?.into_iter().rev().take(MOST) {
        let told = result::of(db, record.id)?;
        found.push(Cancelled::of(record.created_at, told, &job, now));
    }

    let mut runners = runners::of_job(db, id)?;
    runners.truncate(MOST);
    let mut down = Vec::new();
    for id in left_stopped(&job) {
        let is_down = |server: Server| {
            !matches!(
                server.actual_state,
                ActualState::Running | ActualState::Starting
            )
        };

        down.extend(servers::get(db, id)?.is_some_and(is_down).then_some(id));
    }

    let exclusive = job
        .operation
        .parse::<Operation>()
        .is_ok_and(Operation::is_exclusive);
    let installs = exclusive && matches!(job.state, JobState::Running | JobState::Cancelling);
    Ok(Loaded {
        // The log moves by itself.
        lines: if again {
            Vec::new()
        } else {
            logs::before(db, id, i64::MAX, LINES)?
        },
        progress: if installs {
            Some(progress(db, id)?)
        } else {
            None
        },
        exclusive,
        pause: queue::pause(db)?.filter(|_| job.state == JobState::Queued),
        cancellations: found,
        runners,
        names,
        down,
        job,
    })
}

/// Servers that the job stopped and, now that it has ended, will not start again.
fn left_stopped(job: &Job) -> impl Iterator<Item = ServerId> + '_ {
    let ended = job.state.is_terminal();
    let left = job
        .server_outcomes
        .iter()
        .filter(move |one| ended && one.outcome == Outcome::LeftStopped);
    left.map(|one| one.server)
}

impl Cancelled {
    fn of(at: i64, told: CancelResult, job: &Job, now: i64) -> Self {
        let number = |task: TaskId| {
            job.tasks
                .iter()
                .position(|other| other.id == task)
                .map(|at| at + 1)
        };

        let scope = match told.task.map(number) {
            None => "The whole job".to_owned(),
            Some(None) => "One task".to_owned(),
            Some(Some(number)) => format!("Task {number}"),
        };

        let steps = told.steps.iter().map(|step| {
            let took = took(step.started_at, step.finished_at, now);
            (
                step.state.as_str(),
                step.step.to_string(),
                took,
                step.detail.clone(),
            )
        });

        Self {
            at,
            scope,
            steps: steps.collect(),
            told,
        }
    }
}

pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<JobId>,
    IsRefresh(again): IsRefresh,
) -> Result<Response, Failure> {
    let (requester, now) = (viewer.clone(), clock::now_ms());
    let loaded = app
        .store
        .read(move |db| load(db, &requester, id, again, now))
        .await?;
    let Loaded {
        job,
        names,
        down,
        cancellations,
        runners,
        pause,
        lines,
        progress,
        exclusive,
    } = loaded;

    let tasks: Vec<TaskLine> = (1..)
        .zip(&job.tasks)
        .map(|(number, task)| task_line(number, task, &job, &names, now))
        .collect();
    let rolls_out = job
        .operation
        .parse::<Operation>()
        .is_ok_and(Operation::rolls_out);
    let live_tasks = tasks
        .iter()
        .filter(|task| matches!(task.state, TaskState::Pending | TaskState::Running));
    page(&JobPage {
        frame: Frame::of(viewer.clone(), format!("Job #{id}: {}", job.operation)).within("servers"),
        took: took(job.started_at, job.finished_at, now),
        servers: job
            .servers
            .iter()
            .copied()
            .zip(job.server_names.iter().cloned())
            .collect(),
        live_tasks: live_tasks.map(|task| (task.id, task.message())).collect(),
        can_retry: job.state.is_terminal() && (viewer.is_admin || !exclusive),
        down_for: if rolls_out {
            tasks::down_for(&job.tasks)
        } else {
            Vec::new()
        },
        key: secret::random()?,
        tasks,
        watched: parts::ids(left_stopped(&job)),
        outcomes: OutcomeLine::all(&job, &names, &down),
        cancellations,
        progress,
        runners,
        pause,
        lines,
        job,
    })
}

impl TaskLine {
    fn message(&self) -> String {
        let server = self
            .server
            .as_ref()
            .map_or_else(String::new, |(_, name)| format!(" of {name}"));
        format!("Task {}: {}{server}", self.number, self.kind)
    }
}

fn task_line(
    number: usize,
    task: &Task,
    job: &Job,
    names: &[(ServerId, String)],
    now: i64,
) -> TaskLine {
    let place = |id: TaskId| {
        job.tasks
            .iter()
            .position(|other| other.id == id)
            .map_or(0, |at| at + 1)
    };

    let after: Vec<String> = task
        .depends_on
        .iter()
        .zip(&task.needs)
        .map(|(&id, needs)| match needs {
            Needs::Success => place(id).to_string(),
            Needs::End => format!("{} (however it ends)", place(id)),
        })
        .collect();
    TaskLine {
        id: task.id,
        number,
        kind: task.kind.clone(),
        server: task
            .server
            .map(|server| (server, parts::server_name(server, names))),
        state: task.state,
        after: after.join(", "),
        took: took(task.started_at, task.finished_at, now),
        error: task.error.clone(),
        exit_code: task.exit_code.filter(|code| *code != 0),
    }
}

/// How far this job is, in percent and words, by what steamcmd said last in its log; none when it
/// has not said it lately.
pub(super) fn progress(db: &Connection, id: JobId) -> Result<Option<(String, String)>> {
    Ok(logs::last_progress(db, id)?.and_then(|line| progress_words(&line)))
}

/// A line of steamcmd's in percent and words. log.js says the same.
fn progress_words(line: &str) -> Option<(String, String)> {
    let last = steam::progress(line)?;
    let size = |bytes: u64| parts::bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
    let words = match last.total {
        0 => last.phase.to_owned(),
        total => format!("{}, {} of {}", last.phase, size(last.done), size(total)),
    };
    Some((format!("{:.1}", last.percent), words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_steamcmd_is_is_told_in_percent_and_sizes() {
        let told = |line: &str| progress_words(line);
        let (percent, words) =
            told("Update state (0x61) downloading, progress: 45.32 (4831838208 / 10737418240)")
                .unwrap();
        assert_eq!(
            (percent.as_str(), words.as_str()),
            ("45.3", "downloading, 4.5 GiB of 10 GiB")
        );

        let unknown = told("Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)").unwrap();
        assert_eq!(
            (unknown.0.as_str(), unknown.1.as_str()),
            ("0.0", "reconfiguring")
        );

        assert_eq!(told("something else"), None);
    }
}
