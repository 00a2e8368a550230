//! What the screen shows, read in one transaction.

use std::collections::HashMap;

use rusqlite::Connection;

use super::log::Log;
use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::logs::{self, Line};
use crate::db::monitor::{self, Busy, JobRow, ServerRow, Tasks};
use crate::db::queue::{self, Pause};
use crate::db::{cancellations, jobs};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::steam;

/// So many jobs that run, and so many that wait, are shown; the others are counted.
const JOBS: u32 = 100;
/// Jobs are counted up to this number: counting 100,000 of them takes longer than all else.
const COUNTED: u32 = 1000;
/// So many jobs that have ended are shown,
const ENDED: u32 = 20;
/// found among so many.
const ENDED_AMONG: u32 = 200;
/// In so many of the last lines an installation's percentage is looked for.
const PROGRESS_WITHIN: u32 = 50;

/// How far a job that runs is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Its tasks.
    pub tasks: Tasks,
    /// What steamcmd says: percent and what it does.
    pub steam: Option<(f64, String)>,
    /// Who is cancelling it, and why.
    pub cancelled: Option<String>,
}

/// The database at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether the queue is paused, by whom and why.
    pub pause: Option<Pause>,
    /// How many jobs wait; see [`Snapshot::waiting`].
    pub queued: i64,
    /// How many jobs run or are being cancelled.
    pub live: i64,
    /// All servers.
    pub servers: Vec<ServerRow>,
    /// The job that a server has.
    pub busy: HashMap<ServerId, Busy>,
    /// The jobs that run, then those that have ended, the last one first.
    pub jobs: Vec<JobRow>,
    /// How far those are that run.
    pub progress: HashMap<JobId, Progress>,
    /// The head of the queue.
    pub queue: Vec<JobRow>,
    /// The job whose log is shown,
    pub selected: Option<JobRow>,
    /// and its last lines.
    pub tail: Vec<Line>,
}

impl Snapshot {
    /// Reads all but the tail of a log: which one is for [`Snapshot::read_tail`].
    ///
    /// # Errors
    /// 69 when the database cannot be read.
    pub fn read(connection: &Connection) -> Result<Self> {
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
            busy,
            jobs: running,
            progress,
            queue: monitor::queued(connection, JOBS)?,
            selected: None,
            tail: Vec::new(),
        })
    }

    /// Reads the last `lines` lines of a job's log.
    ///
    /// # Errors
    /// 69 when the database cannot be read.
    pub fn read_tail(&mut self, connection: &Connection, job: Option<JobId>, lines: u16) -> Result<()> {
        self.selected = job.and_then(|id| self.job(id)).cloned();
        if let Some(job) = &self.selected {
            self.tail = logs::before(connection, job.id, i64::MAX, lines.into())?;
        }
        Ok(())
    }

    /// A job that is shown.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.iter().chain(&self.queue).find(|job| job.id == id)
    }

    /// How many jobs wait, for people.
    #[must_use]
    pub fn waiting(&self) -> String {
        let more = if self.queued >= COUNTED.into() { "+" } else { "" };
        format!("{}{more}", self.queued)
    }

    /// How many servers are not what they shall be.
    #[must_use]
    pub fn drifted(&self) -> usize {
        self.servers.iter().filter(|server| server.drift.is_some()).count()
    }

    /// The servers' ids, in their order.
    #[must_use]
    pub fn server_ids(&self) -> Vec<ServerId> {
        self.servers.iter().map(|server| server.id).collect()
    }

    /// The ids of the jobs that run or have ended, in their order.
    #[must_use]
    pub fn job_ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.id).collect()
    }

    /// The ids of the jobs that wait, in their order.
    #[must_use]
    pub fn queue_ids(&self) -> Vec<JobId> {
        self.queue.iter().map(|job| job.id).collect()
    }
}

fn progress_of(connection: &Connection, job: &JobRow) -> Result<Progress> {
    let tasks = monitor::tasks(connection, job.id)?;
    let mut progress = Progress { tasks, ..Progress::default() };
    if job.operation.parse().is_ok_and(Operation::is_exclusive) {
        let last = logs::before(connection, job.id, i64::MAX, PROGRESS_WITHIN)?;
        let told = last.iter().rev().find_map(|line| steam::progress(&line.line));
        progress.steam = told.map(|told| (told.percent, told.phase.to_owned()));
    }
    if job.state == JobState::Cancelling {
        let asked = cancellations::of_job(connection, job.id)?.into_iter().rfind(|asked| asked.task_id.is_none());
        progress.cancelled = asked.map(|asked| match asked.reason.as_str() {
            "" => asked.requested_by,
            why => format!("{}: {why}", asked.requested_by),
        });
    }
    Ok(progress)
}

/// A job's whole log, one page of it.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn read_log(connection: &Connection, log: &mut Log, height: u16) -> Result<()> {
    log.state = jobs::state(connection, log.job)?.0;
    log.read(connection, height)
}
