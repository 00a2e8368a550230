//! A tick under way, and what it decided: tasks to start, jobs that began and ended, changes to
//! report.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::events::{self, NewEvent};
use crate::db::{observations, servers, tasks};
use crate::domain::plan::Plan;
use crate::domain::task::TaskState;
use crate::queue::active::ActiveJob;
use crate::queue::journal::{Finished, Started};
use crate::queue::observe::{self, Cause, StateReport};
use crate::queue::work::Work;
use crate::queue::{give_up, start_again};

/// A tick under way. The jobs are a copy: they replace the scheduler's memory after the commit.
pub struct Tick<'t> {
    pub tx: &'t Connection,
    /// Unix ms.
    pub now: i64,
    pub jobs: Vec<ActiveJob>,
    pub result: TickResult,
}

/// The result of a tick.
#[derive(Debug, Default)]
pub struct TickResult {
    pub to_start: Vec<Work>,
    pub started: Vec<Started>,
    pub finished: Vec<Finished>,
    /// What happened to servers, to be reported.
    pub reports: Vec<StateReport>,
    /// Servers to poll once more: a poll saw a change while their job was active.
    pub recheck: Vec<ServerId>,
}

impl Tick<'_> {
    pub fn job(&mut self, id: JobId) -> Option<&mut ActiveJob> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// Adds an event in this transaction.
    pub fn add_event(&self, event: &NewEvent<'_>) -> Result<()> {
        events::add(self.tx, self.now, event)
    }

    /// Adds tasks to a job that runs.
    pub fn append(&mut self, job: usize, plan: &Plan) -> Result<()> {
        let job = &mut self.jobs[job];
        let ids = tasks::insert_plan(self.tx, job.id, plan)?;
        job.append(plan, &ids);
        Ok(())
    }

    /// Records that a task was skipped.
    pub fn skipped(&mut self, job: usize, task: usize, why: &str) -> Result<()> {
        let skipped = &mut self.jobs[job].tasks[task];
        skipped.state = TaskState::Skipped;
        skipped.error = Some(why.to_owned());
        self.add_end_event(&self.jobs[job], task)
    }

    /// Adds the event for the end of a task.
    pub fn add_end_event(&self, job: &ActiveJob, at: usize) -> Result<()> {
        let task = &job.tasks[at];
        let kind = format!("task.{}", task.state);
        let detail = match &task.error {
            Some(error) => format!("{}: {error}", task.kind_name()),
            None => task.kind_name().to_owned(),
        };
        self.add_event(&job.event(&kind, Some(task), &detail))
    }

    /// Judges the servers of a job again after its end. Gives the job that starts those again which
    /// it has stopped, and which they are.
    pub fn judge_servers(&mut self, job: &ActiveJob) -> Result<Option<(JobId, Vec<ServerId>)>> {
        let again = match job.starts_again() {
            true => start_again::start_again(self.tx, job.id, self.now)?,
            // Its own start that the end of the worker has interrupted.
            false if job.cancelled_by.is_none() => start_again::repeat(self.tx, job, self.now)?,
            false => None,
        };
        give_up::after(self.tx, job, self.now)?;
        let is_started = |server| {
            let mut servers = again.iter().flat_map(|(_, servers)| servers);
            servers.any(|one| *one == server)
        };

        for server in job.all_servers() {
            if job.leaves_stopped(server) && !is_started(server) {
                let error = format!(
                    "job {} ({}) ended before it started this server again: \
                     `left4me-job enqueue start --server {server}` does",
                    job.id,
                    job.operation_name()
                );

                servers::set_last_error(self.tx, server, Some(&error), self.now)?;
            }

            let cause = Cause::Job(job.id, &job.requested_by);
            let report = observe::judge_server(self.tx, server, &cause, self.now)?;
            self.result.reports.extend(report);

            if observations::take_missed(self.tx, server)? {
                self.result.recheck.push(server);
            }
        }

        Ok(again)
    }
}
