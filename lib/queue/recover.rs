//! What a worker does first, once it holds the lock: whoever ran the live jobs is dead. They are ended, never run
//! again by themselves; their servers are looked at anew; and nothing of theirs may still run when the queue goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::Result;
use crate::base::names::{JobId, ServerId};
use crate::db::events::{self, NewEvent};
use crate::db::{Db, jobs, logs, runners, servers, tasks};
use crate::domain::job::JobState;
use crate::process::mounts;
use crate::wire::Stream;

/// The line that a job gets whose worker died.
const WHY: &str = "the worker that ran this job died; it was not run again: `left4me-job retry` does that";

/// How often a control group is looked at while its processes end.
const LOOK: Duration = Duration::from_millis(20);

/// What was found and mended.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The jobs and what they became.
    pub jobs: Vec<(JobId, JobState)>,
    /// Their servers, to be looked at anew.
    pub servers: Vec<ServerId>,
    /// Control groups of commands that may still be ending.
    pub control_groups: Vec<String>,
}

/// Ends what a dead worker left: running -> failed, cancelling -> cancelled, with a line that says why.
///
/// # Errors
/// 69 when the database cannot be written.
pub fn recover(db: &mut Db, now: i64) -> Result<Recovered> {
    db.write(|tx| {
        let mut recovered = Recovered { control_groups: runners::open_control_groups(tx)?, ..Recovered::default() };
        runners::end_all_open(tx, now)?;
        for job in jobs::live_candidates(tx)? {
            recovered.servers.extend(tasks::started_servers(tx, job.id)?);
            for server in tasks::running_servers(tx, job.id)? {
                servers::set_last_error(tx, server, Some(WHY), now)?;
            }
            tasks::abandon(tx, job.id, "the worker died", now)?;
            logs::append(tx, job.id, now, Stream::Stderr, &format!("left4me: {WHY}"))?;
            let Some(state) = jobs::recover(tx, job.id, WHY, now)? else { continue };
            let kind = format!("job.{state}");
            let event = NewEvent {
                kind: &kind,
                actor: "left4me-worker",
                job: Some(job.id),
                detail: WHY,
                ..NewEvent::default()
            };
            events::add(tx, now, &event)?;
            recovered.jobs.push((job.id, state));
        }
        recovered.servers.sort_unstable();
        recovered.servers.dedup();
        Ok(recovered)
    })
}

/// Waits until no process is left in the control groups of a dead worker's commands. Its connections are closed, so
/// runner and helper are ending them by the ladder. Gives those that are still there after `patience`.
pub fn wait_for_the_dead(control_groups: &[String], patience: Duration, mut meanwhile: impl FnMut()) -> Vec<String> {
    let deadline = Instant::now() + patience;
    let mut left: Vec<String> = control_groups.to_vec();
    loop {
        left.retain(|group| is_populated(group));
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        meanwhile();
        std::thread::park_timeout(LOOK);
    }
}

/// Whether the unit's control group has a process. `group` is as in /proc/PID/cgroup: the command's own group, below
/// its unit's.
fn is_populated(group: &str) -> bool {
    let unit = Path::new(group).ancestors().find(|path| path.extension().is_some_and(|end| end == "service"));
    let Some(unit) = unit.and_then(|path| path.strip_prefix("/").ok()) else { return false };
    // Not always /sys/fs/cgroup: a hybrid host has the unified tree beside the old ones.
    let tree = mounts::all().ok().and_then(|all| all.into_iter().find(|mount| mount.kind == "cgroup2"));
    let Some(tree) = tree else { return false };
    let events = tree.point.join(unit).join("cgroup.events");
    fs_err::read_to_string(events).is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
}
