//! What a tick decided: tasks to start, jobs that began and ended, changes to report.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::events::NewEvent;
use crate::db::{observations, servers};
use crate::queue::active::{ActiveJob, ActiveTask};
use crate::queue::journal::{Finished, Started};
use crate::queue::observe::{self, Cause, StateReport};
use crate::queue::work::Work;

/// The result of a tick.
#[derive(Debug, Default)]
pub struct TickResult {
    /// Tasks to start now.
    pub begin: Vec<Work>,
    /// Jobs that were claimed.
    pub started: Vec<Started>,
    /// Jobs that ended.
    pub finished: Vec<Finished>,
    /// What happened to servers, to be reported.
    pub reports: Vec<StateReport>,
    /// Servers to poll once more: a poll saw a change while their job was active.
    pub recheck: Vec<ServerId>,
}

impl TickResult {
    /// Judges the servers of a job again after its end.
    pub fn leave_servers(&mut self, tx: &Connection, job: &ActiveJob, now: i64) -> Result<()> {
        for server in job.all_servers() {
            if job.leaves_stopped(server) {
                let words = format!(
                    "job {} ({}) ended before it started this server again: `left4me-job enqueue \
                    start --server {server}` does",
                    job.id,
                    job.operation
                        .as_ref()
                        .map_or_else(Clone::clone, ToString::to_string)
                );

                servers::set_last_error(tx, server, Some(&words), now)?;
            }

            self.reports.extend(observe::settle(
                tx,
                server,
                &Cause::Job(job.id, &job.requested_by),
                now,
            )?);

            if observations::take_missed(tx, server)? {
                self.recheck.push(server);
            }
        }

        Ok(())
    }
}

/// An event about a job, or one of its tasks.
pub fn event<'a>(
    job: &'a ActiveJob,
    kind: &'a str,
    task: Option<&ActiveTask>,
    detail: &'a str,
) -> NewEvent<'a> {
    let server = task.map_or_else(|| job.only_server(), |task| task.server);

    NewEvent {
        kind,
        actor: &job.requested_by,
        job: Some(job.id),
        task: task.map(|task| task.id),
        server,
        detail,
        ..NewEvent::default()
    }
}
