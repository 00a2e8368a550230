//! The data on the screen, read in one transaction.

use std::collections::HashMap;

use rusqlite::Connection;

use super::log::Log;
use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::job_rows::JobRow;
use crate::db::logs::{self, Line};
use crate::db::monitor::{self, Busy, ServerRow, Tasks};
use crate::db::queue::{self, Pause};
use crate::db::{cancellations, conditions, jobs};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::steam;

/// Maximum number of running jobs, and of queued jobs, on the screen; the others are counted.
const JOBS: u32 = 100;
/// Counting stops here: to count 100,000 jobs takes longer than all other queries.
const COUNTED: u32 = 1000;
/// Maximum number of finished jobs on the screen,
const ENDED: u32 = 20;
/// picked from this many of the latest.
const ENDED_AMONG: u32 = 200;
/// Number of lines to print, counted from the end are searched for an installation's percentage.
const PROGRESS_WITHIN: u32 = 50;

/// The progress of a running job.
#[derive(Clone, Debug, Default)]
pub struct JobProgress {
    pub tasks: Tasks,
    /// steamcmd's percentage and phase.
    pub steam: Option<(f64, String)>,
    /// Who cancels it, and why.
    pub cancelled: Option<String>,
}

/// The database at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether the queue is paused, by whom and why.
    pub pause: Option<Pause>,
    /// Number of queued jobs, at most [`COUNTED`].
    pub queued: i64,
    /// Number of jobs that are running or being cancelled.
    pub live: i64,
    pub servers: Vec<ServerRow>,
    /// Who plays on servers that run, in words, or that it is not known.
    pub occupied: HashMap<ServerId, String>,
    /// The job of each server that has one.
    pub busy: HashMap<ServerId, Busy>,
    /// The running jobs, then the finished ones, latest first.
    pub jobs: Vec<JobRow>,
    /// The progress of the running jobs.
    pub progress: HashMap<JobId, JobProgress>,
    /// The head of the queue.
    pub queue: Vec<JobRow>,
    /// The job whose log is shown.
    pub selected: Option<JobRow>,
    /// The last lines of that log.
    pub tail: Vec<Line>,
}

impl Snapshot {
    /// Reads everything but the tail of a log; see [`Snapshot::read_tail`]. `now` is in unix ms.
    pub fn read(connection: &Connection, now: i64) -> Result<Self> {
        let (queued, live) = monitor::counts(connection, COUNTED)?;
        let mut running = monitor::live(connection, JOBS)?;
        let mut progress = HashMap::new();
        for job in &running {
            progress.insert(job.id, progress_of(connection, job)?);
        }

        running.extend(monitor::ended(connection, ENDED, ENDED_AMONG)?);
        let mut busy = HashMap::new();
        for job in monitor::busy(connection)? {
            busy.entry(job.server).or_insert(job);
        }

        Ok(Self {
            pause: queue::pause(connection)?,
            queued,
            live,
            servers: monitor::servers(connection)?,
            occupied: conditions::occupied(connection, now)?.into_iter().collect(),
            busy,
            jobs: running,
            progress,
            queue: monitor::queued(connection, JOBS)?,
            selected: None,
            tail: Vec::new(),
        })
    }

    /// Reads the last `lines` lines of a job's log.
    pub fn read_tail(
        &mut self,
        connection: &Connection,
        job: Option<JobId>,
        lines: u16,
    ) -> Result<()> {
        self.selected = job.and_then(|id| self.job(id)).cloned();
        if let Some(job) = &self.selected {
            self.tail = logs::before(connection, job.id, i64::MAX, lines.into())?;
        }
        Ok(())
    }

    /// Finds a job that is on the screen.
    pub fn job(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.iter().chain(&self.queue).find(|job| job.id == id)
    }

    /// The number of queued jobs as text: `12`, or `1000+`.
    pub fn waiting(&self) -> String {
        let more = if self.queued >= COUNTED.into() {
            "+"
        } else {
            ""
        };
        format!("{}{more}", self.queued)
    }

    /// Finds a server.
    pub fn server(&self, id: ServerId) -> Option<&ServerRow> {
        self.servers.iter().find(|server| server.id == id)
    }

    /// Whether a job is queued that waits for no condition.
    pub fn has_ready(&self) -> bool {
        self.queue.iter().any(|job| job.waiting.is_none())
    }

    /// How many servers have drifted from their desired state.
    pub fn drifted(&self) -> usize {
        self.servers
            .iter()
            .filter(|server| server.drift.is_some())
            .count()
    }

    pub fn server_ids(&self) -> Vec<ServerId> {
        self.servers.iter().map(|server| server.id).collect()
    }

    pub fn job_ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.id).collect()
    }

    pub fn queue_ids(&self) -> Vec<JobId> {
        self.queue.iter().map(|job| job.id).collect()
    }
}

fn progress_of(connection: &Connection, job: &JobRow) -> Result<JobProgress> {
    let tasks = monitor::tasks(connection, job.id)?;
    let mut progress = JobProgress {
        tasks,
        ..JobProgress::default()
    };

    if job.operation.parse().is_ok_and(Operation::is_exclusive) {
        let last = logs::before(connection, job.id, i64::MAX, PROGRESS_WITHIN)?;
        let found = last
            .iter()
            .rev()
            .find_map(|line| steam::progress(&line.line));
        progress.steam = found.map(|found| (found.percent, found.phase.to_owned()));
    }

    if job.state == JobState::Cancelling {
        // The cancellation of the job, not of one of its tasks.
        let all = cancellations::of_job(connection, job.id)?;
        let of_job = all
            .into_iter()
            .rfind(|cancellation| cancellation.task_id.is_none());
        progress.cancelled = of_job.map(|cancellation| match cancellation.reason.as_str() {
            "" => cancellation.requested_by,
            why => format!("{}: {why}", cancellation.requested_by),
        });
    }

    Ok(progress)
}

/// Loads the visible page of a job's log.
pub fn read_log(connection: &Connection, log: &mut Log, height: u16) -> Result<()> {
    log.state = jobs::state(connection, log.job)?.0;
    log.read(connection, height)
}
